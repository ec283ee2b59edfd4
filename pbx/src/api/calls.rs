//! `/sessions` (calls that go on) and `/cdrs` (records of calls). GETs that need the role `Admin`: they say who calls
//! whom.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Api, ApiError,
    extract::{OptionalBody, Query},
    identity::Caller,
};
use crate::ops::{CallView, CdrDetail, CdrView, ExportFormat, How, ListOptions, OpError, Page};

/// Pieces of an export on their way to whoever reads it.
const IN_FLIGHT: usize = 2;

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

/// Piece by piece, as fast as it is read. An export that goes wrong in the middle breaks off without an end.
pub(super) async fn export(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(options): Query<ListOptions>,
    Query(Format { format }): Query<Format>,
) -> Result<Response, ApiError> {
    let mut export = api.operations.export_cdrs(&context, &options, format)?;
    let (kind, name) = match format {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"cdrs.csv\""),
        ExportFormat::Json => ("application/jsonl", "attachment; filename=\"cdrs.jsonl\""),
    };
    let (sender, receiver) = mpsc::channel::<Result<Bytes, OpError>>(IN_FLIGHT);
    // An error that is there at once is an answer like every other.
    let mut next = export.next().await?;
    tokio::spawn(async move {
        while let Some(text) = next {
            if sender.send(Ok(text.into())).await.is_err() {
                return;
            }
            next = match export.next().await {
                Ok(next) => next,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
        }
    });
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}
