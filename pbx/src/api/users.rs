//! `/users`, `/extension_numbers`, `/tenants` and `/registrations`.

use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    Api, ApiError,
    extract::{Body, OptionalBody, Query, Raw},
    identity::Caller,
};
use crate::ops::{
    AddExtension, AddTenant, ExtensionAnswer, ExtensionsImported, How, ImportExtensions, ListOptions, OpError, Page,
    PingView, RegistrationView, SetPassword, TenantAnswer, TenantView, UpdateExtension, UpdateTenant, User, UserStatus,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    update: bool,
    dry_run: bool,
    tenant: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<User>>, ApiError> {
    Ok(Json(api.operations.extensions(&options).await?))
}

pub(super) async fn create(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<AddExtension>,
) -> Result<Json<ExtensionAnswer>, ApiError> {
    Ok(Json(api.operations.add_extension(&context, request).await?))
}

pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<User>, ApiError> {
    Ok(Json(api.operations.extension(&id).await?))
}

pub(super) async fn by_number(
    State(api): State<Api>,
    Path(number): Path<String>,
    Query(Options { tenant, .. }): Query<Options>,
) -> Result<Json<User>, ApiError> {
    Ok(Json(api.operations.extension_of(&number, tenant.as_deref()).await?))
}

pub(super) async fn update(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    Body(update): Body<UpdateExtension>,
) -> Result<Json<ExtensionAnswer>, ApiError> {
    Ok(Json(api.operations.update_extension(&context, &id, update).await?))
}

pub(super) async fn destroy(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<ExtensionAnswer>, ApiError> {
    Ok(Json(api.operations.remove_extension(&context, &id, how).await?))
}

pub(super) async fn set_password(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    OptionalBody(request): OptionalBody<SetPassword>,
) -> Result<Json<ExtensionAnswer>, ApiError> {
    Ok(Json(api.operations.set_extension_password(&context, &id, request).await?))
}

pub(super) async fn status(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<UserStatus>, ApiError> {
    Ok(Json(api.operations.user_status(&id).await?))
}

pub(super) async fn destroy_status(
    State(api): State<Api>,
    Caller(context): Caller,
    Path((id, instance)): Path<(String, String)>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<RegistrationView>, ApiError> {
    Ok(Json(api.operations.drop_registration_of(&context, Some(&id), &instance, how).await?))
}

pub(super) async fn export(
    State(api): State<Api>,
    Query(Options { tenant, .. }): Query<Options>,
) -> Result<Response, ApiError> {
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"users.csv\""),
    ];
    Ok((headers, api.operations.export_extensions(tenant.as_deref())?).into_response())
}

pub(super) async fn import(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(Options { update, dry_run, .. }): Query<Options>,
    Raw(bytes): Raw,
) -> Result<Json<ExtensionsImported>, ApiError> {
    let text = String::from_utf8(bytes.into()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        OpError::usage(format!("the list is not text: byte {at} is no UTF-8 (save it as \"CSV UTF-8\")"))
    })?;
    Ok(Json(api.operations.import_extensions(&context, ImportExtensions { text, update, dry_run }).await?))
}

pub(super) async fn registrations(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<RegistrationView>>, ApiError> {
    Ok(Json(api.operations.registrations(&options).await?))
}

pub(super) async fn destroy_registration(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<RegistrationView>, ApiError> {
    Ok(Json(api.operations.drop_registration(&context, &id, how).await?))
}

pub(super) async fn ping_registration(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
) -> Result<Json<PingView>, ApiError> {
    Ok(Json(api.operations.ping_registration(&context, &id).await?))
}

pub(super) async fn tenants(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<TenantView>>, ApiError> {
    Ok(Json(api.operations.tenants(&options)?))
}

pub(super) async fn create_tenant(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<AddTenant>,
) -> Result<Json<TenantAnswer>, ApiError> {
    Ok(Json(api.operations.add_tenant(&context, request).await?))
}

pub(super) async fn show_tenant(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<TenantView>, ApiError> {
    Ok(Json(api.operations.tenant(&id)?))
}

pub(super) async fn update_tenant(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    Body(update): Body<UpdateTenant>,
) -> Result<Json<TenantAnswer>, ApiError> {
    Ok(Json(api.operations.update_tenant(&context, &id, update).await?))
}

pub(super) async fn destroy_tenant(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<TenantAnswer>, ApiError> {
    Ok(Json(api.operations.remove_tenant(&context, &id, how).await?))
}
