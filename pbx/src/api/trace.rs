//! The live streams `/trace` and `/trace/dropped`. GETs that need the role `Admin`: messages say who calls whom.

use std::convert::Infallible;

use axum::{
    extract::State,
    response::sse::{self, Sse},
};
use serde_json::json;
use tokio_stream::Stream;

use super::{
    Api, ApiError,
    events::{Source, live},
    extract::Query,
    identity::Caller,
};
use crate::ops::{DroppedPackets, Messages, OpError};

/// Server-sent events `message`, from now on, of the peers that `ip` names, as often as needed, and of
/// the one call that `call` names. A follower that is
/// too slow gets an event `lost` with the number of their messages that it missed.
pub(super) async fn follow(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let (mut peers, mut call) = (Vec::new(), None);
    for (key, value) in pairs {
        match key.as_str() {
            "ip" => peers.push(value),
            "call" if call.is_none() => call = Some(value),
            "call" => return Err(OpError::usage("call: one at a time").into()),
            _ => {
                let what = format!("{:.60}: unknown; only ip and call are taken", key.escape_debug().to_string());
                return Err(OpError::usage(what).into());
            }
        }
    }
    let messages = api.operations.trace(&context, &peers, call.as_deref()).await?;
    Ok(live(&api, messages))
}

/// Server-sent events `packet`, from now on, of packets that the filter drops: from the sources that `ip` and for the
/// reasons that `reason` names, as often as needed. `lost`: so many samples, of whatever packets, are not shown.
pub(super) async fn follow_dropped(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let (mut sources, mut reasons) = (Vec::new(), Vec::new());
    for (key, value) in pairs {
        match key.as_str() {
            "ip" => sources.push(value),
            "reason" => reasons.push(value),
            _ => {
                let what = format!("{:.60}: unknown; only ip and reason are taken", key.escape_debug().to_string());
                return Err(OpError::usage(what).into());
            }
        }
    }
    let packets = api.operations.trace_dropped(&context, &sources, &reasons).await?;
    Ok(live(&api, packets))
}

impl Source for DroppedPackets {
    async fn next(&mut self) -> Option<sse::Event> {
        Some(match DroppedPackets::next(self).await? {
            Ok(packet) => {
                let data = serde_json::to_string(&packet).unwrap_or_default();
                sse::Event::default().event("packet").data(data)
            }
            Err(lost) => sse::Event::default().event("lost").data(json!({ "lost": lost }).to_string()),
        })
    }
}

impl Source for Messages {
    async fn next(&mut self) -> Option<sse::Event> {
        Some(match Messages::next(self).await? {
            Ok(message) => {
                let data = serde_json::to_string(&message).unwrap_or_default();
                sse::Event::default().event("message").data(data)
            }
            Err(lost) => sse::Event::default().event("lost").data(json!({ "lost": lost }).to_string()),
        })
    }
}
