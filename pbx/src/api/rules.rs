//! `/ip_filters` and `/security/blocks`.

use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use pbx_core::rule::Action;
use serde::{Deserialize, Serialize};

use super::{
    Api, ApiError,
    extract::{Body, OptionalBody, Query, Raw},
    identity::Caller,
};
use crate::ops::{
    AddRule, BlockEntry, BlockShown, How, ImportAnswer, ImportFormat, ImportRequest, IpFilter, ListOptions, OpError,
    Page, RemoveBlock, Removed, RuleAnswer, UpdateRule,
};

/// What to flush.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlushRequest {
    /// Which rules.
    pub target: Action,
    /// Rules.
    pub manual: bool,
    /// Blocks that the filter made.
    pub automatic: bool,
    /// Do it although connections are cut.
    pub force: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

impl Default for FlushRequest {
    fn default() -> Self {
        Self { target: Action::Block, manual: true, automatic: false, force: false, dry_run: false }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    force: bool,
    dry_run: bool,
    target: Option<Action>,
    format: ImportFormat,
}

#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DestroyByRange {
    cidr: String,
    target: Action,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<IpFilter>>, ApiError> {
    Ok(Json(api.operations.rules(&options).await?))
}

pub(super) async fn create(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<AddRule>,
) -> Result<Json<RuleAnswer>, ApiError> {
    Ok(Json(api.operations.add_rule(&context, request).await?))
}

pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<IpFilter>, ApiError> {
    Ok(Json(api.operations.rule(&id).await?))
}

pub(super) async fn update(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    Body(update): Body<UpdateRule>,
) -> Result<Json<RuleAnswer>, ApiError> {
    Ok(Json(api.operations.update_rule(&context, &id, update).await?))
}

pub(super) async fn destroy(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<RuleAnswer>, ApiError> {
    Ok(Json(api.operations.remove_rule(&context, &id, how).await?))
}

pub(super) async fn destroy_by_range(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(DestroyByRange { cidr, target, force, dry_run }): Body<DestroyByRange>,
) -> Result<Json<RuleAnswer>, ApiError> {
    Ok(Json(api.operations.remove_rule_of(&context, &cidr, target, How { force, dry_run }).await?))
}

pub(super) async fn export(State(api): State<Api>, Query(options): Query<Options>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"ip_filters.txt\""),
    ];
    (headers, api.operations.export(options.target)).into_response()
}

pub(super) async fn import(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(options): Query<Options>,
    Raw(bytes): Raw,
) -> Result<Json<ImportAnswer>, ApiError> {
    let text = String::from_utf8(bytes.into()).map_err(|error| {
        OpError::usage(format!("the list is not text: byte {} is no UTF-8", error.utf8_error().valid_up_to()))
    })?;
    let Options { force, dry_run, format, target: _ } = options;
    Ok(Json(api.operations.import(&context, ImportRequest { text, format, force, dry_run }).await?))
}

pub(super) async fn flush(
    State(api): State<Api>,
    Caller(context): Caller,
    OptionalBody(request): OptionalBody<FlushRequest>,
) -> Result<Json<ImportAnswer>, ApiError> {
    let FlushRequest { target, manual, automatic, force, dry_run } = request;
    let mut answer = ImportAnswer { dry_run, ..ImportAnswer::default() };
    if manual {
        answer = api.operations.flush(&context, target, How { force, dry_run }).await?;
    }
    if automatic {
        answer.automatic_removed = api.operations.remove_all_automatic(&context, dry_run).await?;
    }
    Ok(Json(answer))
}

pub(super) async fn blocks(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<BlockEntry>>, ApiError> {
    Ok(Json(api.operations.blocks(&options).await?))
}

pub(super) async fn show_blocks(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(Shown { address }): Query<Shown>,
) -> Result<Json<Page<BlockShown>>, ApiError> {
    Ok(Json(api.operations.show_blocks(&context, &address).await?))
}

pub(super) async fn remove_block(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<RemoveBlock>,
) -> Result<Json<Removed>, ApiError> {
    Ok(Json(api.operations.remove_block(&context, request).await?))
}
