//! `/sessions` (calls that go on) and `/cdrs` (records of calls). GETs that need the role `Admin`: they say who calls
//! whom.

use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;

use super::{
    Api, ApiError,
    download::download,
    extract::{OptionalBody, Query},
    identity::Caller,
};
use crate::ops::{CallView, CdrDetail, CdrView, ExportFormat, How, ListOptions, Page};

#[derive(Debug, Deserialize)]
pub(super) struct Format {
    #[serde(default)]
    format: ExportFormat,
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<CallView>>, ApiError> {
    Ok(Json(api.operations.calls(&context, &options).await?))
}

pub(super) async fn show(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
) -> Result<Json<CallView>, ApiError> {
    Ok(Json(api.operations.call(&context, &id).await?))
}

pub(super) async fn hang_up(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<CallView>, ApiError> {
    Ok(Json(api.operations.hang_up(&context, &id, how).await?))
}

pub(super) async fn cdrs(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<CdrView>>, ApiError> {
    Ok(Json(api.operations.cdrs(&context, &options).await?))
}

pub(super) async fn cdr(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
) -> Result<Json<CdrDetail>, ApiError> {
    Ok(Json(api.operations.cdr(&context, &id).await?))
}

pub(super) async fn export(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(options): Query<ListOptions>,
    Query(Format { format }): Query<Format>,
) -> Result<Response, ApiError> {
    let export = api.operations.export_cdrs(&context, &options, format)?;
    let (kind, name) = match format {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "cdrs.csv"),
        ExportFormat::Json => ("application/jsonl", "cdrs.jsonl"),
    };
    download(export, kind, name).await
}
