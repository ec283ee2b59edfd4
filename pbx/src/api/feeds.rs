//! `/security/feeds`.

use axum::{
    Json,
    extract::{Path, State},
};

use super::{
    Api, ApiError,
    extract::{Body, OptionalBody, Query},
    identity::Caller,
};
use crate::ops::{AddFeed, FeedAnswer, FeedView, How, ListOptions, Page, RefreshFeed, UpdateFeed};

pub(super) async fn list(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<FeedView>>, ApiError> {
    Ok(Json(api.operations.feeds(&options).await?))
}

pub(super) async fn create(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<AddFeed>,
) -> Result<Json<FeedAnswer>, ApiError> {
    Ok(Json(api.operations.add_feed(&context, request).await?))
}

pub(super) async fn show(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<FeedView>, ApiError> {
    Ok(Json(api.operations.feed(&name).await?))
}

pub(super) async fn update(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(name): Path<String>,
    Body(update): Body<UpdateFeed>,
) -> Result<Json<FeedAnswer>, ApiError> {
    Ok(Json(api.operations.update_feed(&context, &name, update).await?))
}

pub(super) async fn destroy(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(name): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<FeedAnswer>, ApiError> {
    Ok(Json(api.operations.remove_feed(&context, &name, how).await?))
}

pub(super) async fn refresh(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(name): Path<String>,
    OptionalBody(request): OptionalBody<RefreshFeed>,
) -> Result<Json<FeedAnswer>, ApiError> {
    Ok(Json(api.operations.refresh_feed(&context, &name, request).await?))
}
