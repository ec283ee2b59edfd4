//! `/backups`: everything that the appliance knows, for administrators.

use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};

use super::{
    Api, ApiError,
    download::download,
    extract::{OptionalBody, Query},
    identity::Caller,
};
use crate::{
    backup::Stored,
    ops::{BackupAnswer, How, ListOptions, MakeBackup, Page},
};

pub(super) async fn list(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<Stored>>, ApiError> {
    Ok(Json(api.operations.backups(&context, &options)?))
}

pub(super) async fn create(
    State(api): State<Api>,
    Caller(context): Caller,
    OptionalBody(request): OptionalBody<MakeBackup>,
) -> Result<Json<BackupAnswer>, ApiError> {
    Ok(Json(api.operations.make_backup(&context, request).await?))
}

pub(super) async fn fetch(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let file = api.operations.open_backup(&context, &name).await?;
    download(file, "application/octet-stream", &name).await
}

pub(super) async fn destroy(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(name): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<BackupAnswer>, ApiError> {
    Ok(Json(api.operations.remove_backup(&context, &name, how).await?))
}
