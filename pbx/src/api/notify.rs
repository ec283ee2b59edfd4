//! `/security/notify`.

use axum::{
    Json,
    extract::{Path, State},
};

use super::{
    Api, ApiError,
    extract::{Body, OptionalBody, Query},
    identity::Caller,
};
use crate::{
    ops::{Context, How, ListOptions, NotifyAnswer, NotifyView, Page, SetMail, SetWebhook},
    store::NotifyRow,
};

pub(super) async fn show(State(api): State<Api>) -> Result<Json<NotifyView>, ApiError> {
    Ok(Json(api.operations.notify().await?))
}

pub(super) async fn history(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<NotifyRow>>, ApiError> {
    Ok(Json(api.operations.notify_history(&options).await?))
}

pub(super) async fn set_mail(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<SetMail>,
) -> Result<Json<NotifyAnswer>, ApiError> {
    Ok(Json(api.operations.set_mail(&context, request).await?))
}

pub(super) async fn set_webhook(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<SetWebhook>,
) -> Result<Json<NotifyAnswer>, ApiError> {
    Ok(Json(api.operations.set_webhook(&context, request).await?))
}

pub(super) async fn test(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(target): Path<String>,
) -> Result<Json<NotifyAnswer>, ApiError> {
    Ok(Json(api.operations.test_notify(&context, &target).await?))
}

pub(super) async fn enable(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(target): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<NotifyAnswer>, ApiError> {
    switch(&api, &context, &target, true, how).await
}

pub(super) async fn disable(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(target): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<NotifyAnswer>, ApiError> {
    switch(&api, &context, &target, false, how).await
}

pub(super) async fn destroy(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(target): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<NotifyAnswer>, ApiError> {
    Ok(Json(api.operations.remove_notify(&context, &target, how).await?))
}

async fn switch(
    api: &Api,
    context: &Context,
    target: &str,
    on: bool,
    how: How,
) -> Result<Json<NotifyAnswer>, ApiError> {
    Ok(Json(api.operations.switch_notify(context, target, on, how).await?))
}
