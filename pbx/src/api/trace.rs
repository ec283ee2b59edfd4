//! The live stream `/trace`. A GET that needs the role `Admin`: messages say who calls whom.

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
use crate::ops::{Messages, OpError};

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
