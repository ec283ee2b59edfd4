//! `/security/events`, `/audit_logs` and the live stream `/events`.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{
        Response,
        sse::{self, KeepAlive, Sse},
    },
};
use pbx_core::time::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{
    broadcast::{Receiver, error::RecvError},
    mpsc,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};

use super::{Api, ApiError, connection::ended, download::download, extract::Query};
use crate::{
    ops::{ListOptions, Page},
    store::{AuditRow, Event, Verified},
};

/// Events on their way to one follower; the backlog proper is the broadcast channel's.
const IN_FLIGHT: usize = 16;
/// A comment goes out so often, so that a follower that went away is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
pub(super) struct Since {
    since: Option<Timestamp>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
    Query(Since { since }): Query<Since>,
) -> Result<Json<Page<Event>>, ApiError> {
    Ok(Json(api.operations.events(&options, since).await?))
}

pub(super) async fn audit_log(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<AuditRow>>, ApiError> {
    Ok(Json(api.operations.audit_log(&options).await?))
}

pub(super) async fn export_audit(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Response, ApiError> {
    download(api.operations.export_audit(&options)?, "text/csv; charset=utf-8", "audit_logs.csv").await
}

pub(super) async fn verify_audit(State(api): State<Api>) -> Result<Json<Verified>, ApiError> {
    Ok(Json(api.operations.verify_audit().await?))
}

/// What a live stream is made of.
pub(super) trait Source: Send + 'static {
    /// The next event, whenever it comes; none: there will be no more.
    fn next(&mut self) -> impl Future<Output = Option<sse::Event>> + Send;
}

/// Server-sent events from now on. A follower that is too slow gets an event `lost` with the number of those
/// it missed. The stream ends with the daemon.
pub(super) async fn follow(State(api): State<Api>) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    live(&api, api.operations.follow())
}

/// Sends what a source gives until it, the follower or the daemon ends; then the source is dropped.
pub(super) fn live<S: Source>(
    api: &Api,
    mut source: S,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>> + use<S>> {
    let mut ending = api.ending.clone();
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = source.next() => next,
                () = ended(&mut ending) => break,
                () = sender.closed() => break,
            };
            let Some(event) = next else { break };
            if sender.send(Ok(event)).await.is_err() {
                break;
            }
        }
    });
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

impl Source for Receiver<Arc<Event>> {
    async fn next(&mut self) -> Option<sse::Event> {
        match self.recv().await {
            Ok(event) => {
                let data = serde_json::to_string(event.as_ref()).unwrap_or_default();
                Some(sse::Event::default().id(event.id.to_string()).event(event.kind.as_str()).data(data))
            }
            Err(RecvError::Lagged(lost)) => {
                Some(sse::Event::default().event("lost").data(json!({ "lost": lost }).to_string()))
            }
            Err(RecvError::Closed) => None,
        }
    }
}
