//! The REST API over the unix socket: names, verbs and shapes. Handlers are empty: extract, call an operation,
//! answer. GET reads and needs the role `View`, POST changes and needs `Admin`; so do
//! `/api/trace`, `/api/sessions` and `/api/cdrs`, which show who calls whom, and `/api/backups`, which have everything.

mod backups;
mod calls;
mod connection;
mod download;
mod error;
mod events;
mod extract;
mod feeds;
mod https;
mod identity;
mod listener;
mod notify;
mod rules;
mod security;
mod trace;
mod transports;
mod users;
mod web;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use tokio::sync::watch;

pub use self::{
    error::{ApiError, ErrorBody},
    https::{WebAddress, WebCounters, WebServer, WebStatus},
    identity::{ADMIN_GROUP, Authority, VIEW_GROUP, system_authority},
    listener::{Server, bind},
    rules::FlushRequest,
    security::{AttachRequest, ModeRequest, PendingAnswer, ResetRequest},
};
use crate::ops::Operations;

/// Bytes of an ordinary request.
const BODY: usize = 64 * 1024;
/// Bytes of a request with certificates, whose line ends JSON doubles.
const CERTIFICATE_BODY: usize = 256 * 1024;
/// Bytes of a list to import or a capture to test.
const LARGE_BODY: usize = 64 * 1024 * 1024;

/// What every handler has.
#[derive(Clone)]
pub struct Api {
    operations: Operations,
    /// How the web server is.
    web: Arc<WebCounters>,
    /// Turns true when the daemon ends; streams that would go on for ever end with it.
    ending: watch::Receiver<bool>,
}

/// The routes with their verbs, as a test walks them; a route that is missing here is not served.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/api/ip_filters"),
    ("POST", "/api/ip_filters"),
    ("GET", "/api/ip_filters/export"),
    ("POST", "/api/ip_filters/import"),
    ("POST", "/api/ip_filters/flush"),
    ("POST", "/api/ip_filters/destroy"),
    ("GET", "/api/ip_filters/{id}"),
    ("POST", "/api/ip_filters/{id}"),
    ("POST", "/api/ip_filters/{id}/destroy"),
    ("GET", "/api/security/status"),
    ("GET", "/api/security/top"),
    ("GET", "/api/security/events"),
    ("GET", "/api/security/explain"),
    ("GET", "/api/security/stats"),
    ("GET", "/api/security/doctor"),
    ("GET", "/api/security/surroundings"),
    ("GET", "/api/security/settings"),
    ("POST", "/api/security/settings"),
    ("POST", "/api/security/settings/reset"),
    ("GET", "/api/security/settings/diff"),
    ("GET", "/api/security/settings/pending"),
    ("POST", "/api/security/settings/pending/confirm"),
    ("POST", "/api/security/settings/pending/rollback"),
    ("GET", "/api/security/profiles"),
    ("POST", "/api/security/profiles/{name}"),
    ("POST", "/api/security/mode"),
    ("POST", "/api/security/interfaces/{name}/attach"),
    ("POST", "/api/security/interfaces/{name}/detach"),
    ("POST", "/api/security/test"),
    ("GET", "/api/security/blocks"),
    ("GET", "/api/security/blocks/show"),
    ("POST", "/api/security/blocks/remove"),
    ("GET", "/api/security/feeds"),
    ("POST", "/api/security/feeds"),
    ("GET", "/api/security/feeds/{name}"),
    ("POST", "/api/security/feeds/{name}"),
    ("POST", "/api/security/feeds/{name}/destroy"),
    ("POST", "/api/security/feeds/{name}/refresh"),
    ("GET", "/api/security/notify"),
    ("GET", "/api/security/notify/history"),
    ("POST", "/api/security/notify/mail"),
    ("POST", "/api/security/notify/webhook"),
    ("POST", "/api/security/notify/{target}/test"),
    ("POST", "/api/security/notify/{target}/enable"),
    ("POST", "/api/security/notify/{target}/disable"),
    ("POST", "/api/security/notify/{target}/destroy"),
    ("GET", "/api/users"),
    ("POST", "/api/users"),
    ("GET", "/api/users/export"),
    ("POST", "/api/users/import"),
    ("GET", "/api/users/{id}"),
    ("POST", "/api/users/{id}"),
    ("POST", "/api/users/{id}/destroy"),
    ("POST", "/api/users/{id}/extension_password"),
    ("GET", "/api/users/{id}/status"),
    ("POST", "/api/users/{id}/status/{instance_id}/destroy_status"),
    ("GET", "/api/extension_numbers/{number}"),
    ("GET", "/api/registrations"),
    ("POST", "/api/registrations/{id}/destroy"),
    ("POST", "/api/registrations/{id}/ping"),
    ("GET", "/api/tenants"),
    ("POST", "/api/tenants"),
    ("GET", "/api/tenants/{id}"),
    ("POST", "/api/tenants/{id}"),
    ("POST", "/api/tenants/{id}/destroy"),
    ("GET", "/api/transports"),
    ("POST", "/api/transports"),
    ("GET", "/api/transports/{id}"),
    ("POST", "/api/transports/{id}"),
    ("POST", "/api/transports/{id}/destroy"),
    ("GET", "/api/transports/{id}/status"),
    ("GET", "/api/transports/{id}/certificate"),
    ("POST", "/api/transports/{id}/certificate"),
    ("GET", "/api/sessions"),
    ("GET", "/api/sessions/{id}"),
    ("POST", "/api/sessions/{id}/destroy"),
    ("GET", "/api/cdrs"),
    ("GET", "/api/cdrs/export"),
    ("GET", "/api/cdrs/{id}"),
    ("GET", "/api/backups"),
    ("POST", "/api/backups"),
    ("GET", "/api/backups/{name}"),
    ("POST", "/api/backups/{name}/destroy"),
    ("GET", "/api/web/status"),
    ("GET", "/api/web/certificate"),
    ("POST", "/api/web/certificate"),
    ("GET", "/api/audit_logs"),
    ("GET", "/api/audit_logs/export"),
    ("GET", "/api/audit_logs/verify"),
    ("GET", "/api/event_logs"),
    ("GET", "/api/events"),
    ("GET", "/api/trace"),
    ("GET", "/api/trace/dropped"),
];

/// The whole API.
pub fn router(
    operations: Operations,
    authority: Authority,
    web: Arc<WebCounters>,
    ending: watch::Receiver<bool>,
) -> Router {
    let api = Api { operations, web, ending };
    let large = DefaultBodyLimit::max(LARGE_BODY);
    let certificates = DefaultBodyLimit::max(CERTIFICATE_BODY);
    Router::new()
        .route("/api/ip_filters", get(rules::list).post(rules::create))
        .route("/api/ip_filters/export", get(rules::export))
        .route("/api/ip_filters/import", post(rules::import).layer(large))
        .route("/api/ip_filters/flush", post(rules::flush))
        .route("/api/ip_filters/destroy", post(rules::destroy_by_range))
        .route("/api/ip_filters/{id}", get(rules::show).post(rules::update))
        .route("/api/ip_filters/{id}/destroy", post(rules::destroy))
        .route("/api/security/status", get(security::status))
        .route("/api/security/top", get(security::top))
        .route("/api/security/events", get(events::list))
        .route("/api/security/explain", get(security::explain))
        .route("/api/security/stats", get(security::stats))
        .route("/api/security/doctor", get(security::doctor))
        .route("/api/security/surroundings", get(security::surroundings))
        .route("/api/security/settings", get(security::settings).post(security::set_settings))
        .route("/api/security/settings/reset", post(security::reset_settings))
        .route("/api/security/settings/diff", get(security::settings_diff))
        .route("/api/security/settings/pending", get(security::pending))
        .route("/api/security/settings/pending/confirm", post(security::confirm))
        .route("/api/security/settings/pending/rollback", post(security::roll_back))
        .route("/api/security/profiles", get(security::profiles))
        .route("/api/security/profiles/{name}", post(security::apply_profile))
        .route("/api/security/mode", post(security::mode))
        .route("/api/security/interfaces/{name}/attach", post(security::attach))
        .route("/api/security/interfaces/{name}/detach", post(security::detach))
        .route("/api/security/test", post(security::test).layer(large))
        .route("/api/security/blocks", get(rules::blocks))
        .route("/api/security/blocks/show", get(rules::show_blocks))
        .route("/api/security/blocks/remove", post(rules::remove_block))
        .route("/api/security/feeds", get(feeds::list).post(feeds::create))
        .route("/api/security/feeds/{name}", get(feeds::show).post(feeds::update))
        .route("/api/security/feeds/{name}/destroy", post(feeds::destroy))
        .route("/api/security/feeds/{name}/refresh", post(feeds::refresh))
        .route("/api/security/notify", get(notify::show))
        .route("/api/security/notify/history", get(notify::history))
        .route("/api/security/notify/mail", post(notify::set_mail))
        .route("/api/security/notify/webhook", post(notify::set_webhook))
        .route("/api/security/notify/{target}/test", post(notify::test))
        .route("/api/security/notify/{target}/enable", post(notify::enable))
        .route("/api/security/notify/{target}/disable", post(notify::disable))
        .route("/api/security/notify/{target}/destroy", post(notify::destroy))
        .route("/api/users", get(users::list).post(users::create))
        .route("/api/users/export", get(users::export))
        .route("/api/users/import", post(users::import).layer(large))
        .route("/api/users/{id}", get(users::show).post(users::update))
        .route("/api/users/{id}/destroy", post(users::destroy))
        .route("/api/users/{id}/extension_password", post(users::set_password))
        .route("/api/users/{id}/status", get(users::status))
        .route("/api/users/{id}/status/{instance_id}/destroy_status", post(users::destroy_status))
        .route("/api/extension_numbers/{number}", get(users::by_number))
        .route("/api/registrations", get(users::registrations))
        .route("/api/registrations/{id}/destroy", post(users::destroy_registration))
        .route("/api/registrations/{id}/ping", post(users::ping_registration))
        .route("/api/tenants", get(users::tenants).post(users::create_tenant))
        .route("/api/tenants/{id}", get(users::show_tenant).post(users::update_tenant))
        .route("/api/tenants/{id}/destroy", post(users::destroy_tenant))
        .route("/api/transports", get(transports::list).post(transports::create).layer(certificates))
        .route("/api/transports/{id}", get(transports::show).post(transports::update))
        .route("/api/transports/{id}/destroy", post(transports::destroy))
        .route("/api/transports/{id}/status", get(transports::status))
        .route(
            "/api/transports/{id}/certificate",
            get(transports::certificate).post(transports::set_certificate).layer(certificates),
        )
        .route("/api/sessions", get(calls::list))
        .route("/api/sessions/{id}", get(calls::show))
        .route("/api/sessions/{id}/destroy", post(calls::hang_up))
        .route("/api/cdrs", get(calls::cdrs))
        .route("/api/cdrs/export", get(calls::export))
        .route("/api/cdrs/{id}", get(calls::cdr))
        .route("/api/backups", get(backups::list).post(backups::create))
        .route("/api/backups/{name}", get(backups::fetch))
        .route("/api/backups/{name}/destroy", post(backups::destroy))
        .route("/api/web/status", get(web::status))
        .route("/api/web/certificate", get(web::certificate).post(web::set_certificate).layer(certificates))
        .route("/api/audit_logs", get(events::audit_log))
        .route("/api/audit_logs/export", get(events::export_audit))
        .route("/api/audit_logs/verify", get(events::verify_audit))
        .route("/api/event_logs", get(events::list))
        .route("/api/events", get(events::follow))
        .route("/api/trace", get(trace::follow))
        .route("/api/trace/dropped", get(trace::follow_dropped))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_verb)
        .layer(middleware::from_fn_with_state(authority, identity::admit))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(api)
}

#[cfg(test)]
mod tests;
