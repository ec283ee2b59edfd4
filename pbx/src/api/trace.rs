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

/// Server-sent events `message`, from now on, of the peers that `ip` names, as often as needed. A follower that is
/// too slow gets an event `lost` with the number of their messages that it missed.
pub(super) async fn follow(
    State(api): State<Api>,
    Caller(context): Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let mut peers = Vec::new();
    for (key, value) in pairs {
        if key != "ip" {
            return Err(
                OpError::usage(format!("{:.60}: unknown; only ip is taken", key.escape_debug().to_string())).into()
            );
        }
        peers.push(value);
    }
    let messages = api.operations.trace(&context, &peers).await?;
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
