//! `/security`: the filter, its settings, its explanations.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use pbx_core::{
    lockout::Surroundings,
    settings::{self, Enforcement},
};
use serde::{Deserialize, Serialize};

use super::{
    Api, ApiError,
    extract::{Body, OptionalBody, Query, Raw},
    identity::Caller,
};
use crate::{
    filter::{FilterStatus, Finding, InterfaceCounters, Talker},
    ops::{
        Explanation, PendingChange, SetSettings, SettingsAnswer, SettingsDiff, SettingsHow, SettingsView, Status,
        TestReport,
    },
};

/// A list without pages.
#[derive(Debug, Serialize)]
pub(super) struct Items<T> {
    items: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Top {
    #[serde(default = "ten")]
    limit: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct Explain {
    ip: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ProfileView {
    name: &'static str,
    help: &'static str,
    values: BTreeMap<&'static str, &'static str>,
}

/// What the filter is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeRequest {
    /// enforce, monitor or off.
    pub mode: Enforcement,
    /// Do it although connections are cut.
    #[serde(default)]
    pub force: bool,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Take it back unless somebody confirms it in that time (`2m`; 10 s to 1 h).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<String>,
}

/// Which settings go back to their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResetRequest {
    /// These; without it all but the filter's mode.
    pub keys: Option<Vec<String>>,
    /// Do it although connections are cut.
    pub force: bool,
    /// Only say what would change.
    pub dry_run: bool,
    /// As of [`ModeRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<String>,
}

/// What waits to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingAnswer {
    /// The change; nothing when none waits.
    pub pending: Option<PendingChange>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Diff {
    profile: Option<String>,
}

/// Options of a change that needs nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachRequest {
    /// Only say what would change.
    pub dry_run: bool,
}

const fn ten() -> usize {
    10
}

pub(super) async fn status(State(api): State<Api>) -> Result<Json<Status>, ApiError> {
    Ok(Json(api.operations.status().await?))
}

pub(super) async fn top(State(api): State<Api>, Query(top): Query<Top>) -> Result<Json<Items<Talker>>, ApiError> {
    Ok(Json(Items { items: api.operations.top(top.limit).await? }))
}

pub(super) async fn explain(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(explain): Query<Explain>,
) -> Result<Json<Explanation>, ApiError> {
    Ok(Json(api.operations.explain(&context, &explain.ip).await?))
}

pub(super) async fn stats(State(api): State<Api>) -> Result<Json<Items<InterfaceCounters>>, ApiError> {
    Ok(Json(Items { items: api.operations.counters().await? }))
}

pub(super) async fn doctor(State(api): State<Api>) -> Result<Json<Items<Finding>>, ApiError> {
    Ok(Json(Items { items: api.operations.doctor().await? }))
}

pub(super) async fn surroundings(State(api): State<Api>) -> Result<Json<Surroundings>, ApiError> {
    Ok(Json(api.operations.surroundings().await?))
}

pub(super) async fn settings(State(api): State<Api>) -> Json<SettingsView> {
    Json(api.operations.settings())
}

pub(super) async fn set_settings(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<SetSettings>,
) -> Result<Json<SettingsAnswer>, ApiError> {
    Ok(Json(api.operations.set_settings(&context, request).await?))
}

pub(super) async fn reset_settings(
    State(api): State<Api>,
    Caller(context): Caller,
    OptionalBody(request): OptionalBody<ResetRequest>,
) -> Result<Json<SettingsAnswer>, ApiError> {
    let ResetRequest { keys, force, dry_run, confirm_within } = request;
    let how = SettingsHow { force, dry_run, confirm_within };
    Ok(Json(api.operations.reset_settings(&context, keys, how).await?))
}

pub(super) async fn settings_diff(
    State(api): State<Api>,
    Query(diff): Query<Diff>,
) -> Result<Json<SettingsDiff>, ApiError> {
    Ok(Json(api.operations.settings_diff(diff.profile.as_deref())?))
}

pub(super) async fn pending(State(api): State<Api>) -> Json<PendingAnswer> {
    Json(PendingAnswer { pending: api.operations.pending_change() })
}

pub(super) async fn confirm(State(api): State<Api>, Caller(context): Caller) -> Result<Json<PendingChange>, ApiError> {
    Ok(Json(api.operations.confirm_settings(&context).await?))
}

pub(super) async fn roll_back(
    State(api): State<Api>,
    Caller(context): Caller,
) -> Result<Json<SettingsAnswer>, ApiError> {
    Ok(Json(api.operations.roll_settings_back(&context).await?))
}

pub(super) async fn profiles() -> Json<Items<ProfileView>> {
    let items = settings::profiles()
        .iter()
        .map(|profile| ProfileView {
            name: profile.name,
            help: profile.help,
            values: profile.values.iter().copied().collect(),
        })
        .collect();
    Json(Items { items })
}

pub(super) async fn apply_profile(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(name): Path<String>,
    OptionalBody(how): OptionalBody<SettingsHow>,
) -> Result<Json<SettingsAnswer>, ApiError> {
    Ok(Json(api.operations.apply_profile(&context, &name, how).await?))
}

pub(super) async fn mode(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(ModeRequest { mode, force, dry_run, confirm_within }): Body<ModeRequest>,
) -> Result<Json<SettingsAnswer>, ApiError> {
    let values = BTreeMap::from([("filter.mode".to_owned(), mode.to_string())]);
    let request = SetSettings { values, force, dry_run, confirm_within };
    Ok(Json(api.operations.set_settings(&context, request).await?))
}

pub(super) async fn attach(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(name): Path<String>,
    OptionalBody(request): OptionalBody<AttachRequest>,
) -> Result<Json<FilterStatus>, ApiError> {
    Ok(Json(api.operations.attach(&context, &name, true, request.dry_run).await?))
}

pub(super) async fn detach(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(name): Path<String>,
    OptionalBody(request): OptionalBody<AttachRequest>,
) -> Result<Json<FilterStatus>, ApiError> {
    Ok(Json(api.operations.attach(&context, &name, false, request.dry_run).await?))
}

pub(super) async fn test(State(api): State<Api>, Raw(capture): Raw) -> Result<Json<TestReport>, ApiError> {
    Ok(Json(api.operations.test_capture(capture.into()).await?))
}
