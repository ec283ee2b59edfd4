//! `pbx events`.

use pbx_core::time::{Timestamp, parse_duration};
use serde_json::Value;

use super::{
    Session,
    args::ListArgs,
    client::typed,
    failure::Failure,
    render::{now, say, say_json},
};
use crate::store::Event;

pub(super) async fn events(
    session: &Session,
    follow: bool,
    since: Option<&str>,
    list: &ListArgs,
) -> Result<(), Failure> {
    let since = since.map(moment).transpose()?.map(|at| at.to_string());
    let extra: Vec<(&str, &str)> = since.iter().map(|since| ("since", since.as_str())).collect();
    if !follow {
        return session
            .watched(&list.watch, || async {
                let listed = session.list("/api/security/events", list, &[], None, &extra).await?;
                if session.json {
                    say_json(&listed.json());
                    return Ok(());
                }
                // The newest last, as in a log.
                listed.items.iter().rev().try_for_each(|item| line(session, item))?;
                listed.rest().into_iter().for_each(say);
                Ok(())
            })
            .await;
    }
    // The stream is opened first, so that nothing falls between the list and it; what comes twice is left out.
    let mut stream = session.client.stream("/api/events").await?;
    let mut last = 0;
    if since.is_some() || !list.filter.is_empty() {
        let listed = session.list("/api/security/events", list, &[], None, &extra).await?;
        for item in listed.items.iter().rev() {
            last = last.max(item["id"].as_i64().unwrap_or(0));
            line(session, item)?;
        }
    }
    while let Some((name, data)) = stream.next().await? {
        if name == "lost" {
            eprintln!("pbx: {} events were too fast to be shown", data["lost"]);
            continue;
        }
        let id = data["id"].as_i64().unwrap_or(0);
        if id == 0 || id > last {
            line(session, &data)?;
        }
    }
    Err(Failure::NoDaemon("the daemon ended".to_owned()))
}

fn line(session: &Session, item: &Value) -> Result<(), Failure> {
    if session.json {
        say(item);
        return Ok(());
    }
    let event: Event = typed(item.clone())?;
    let interface = event.interface.map(|name| format!(" [{name}]")).unwrap_or_default();
    say(format!("{}  {:<9} {}{interface}", event.at, event.kind.as_str(), event.message));
    Ok(())
}

/// A span before now, a day or a time.
pub(super) fn moment(text: &str) -> Result<Timestamp, Failure> {
    if let Ok(span) = parse_duration(text) {
        return Ok(now().saturating_sub(span));
    }
    text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()).map_err(|_| {
        Failure::Usage(format!("{text} is neither a span (1h), a day (2026-01-31) nor a time (2026-01-31T12:00:00Z)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_or_a_time() {
        assert_eq!(moment("2026-01-31T12:00:00Z").unwrap().to_string(), "2026-01-31T12:00:00Z");
        assert_eq!(moment("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00Z");
        let hour = now().saturating_since(moment("1h").unwrap()).as_secs();
        assert!((3599..=3601).contains(&hour));
        assert_eq!(moment("yesterday").unwrap_err().code(), 2);
    }
}
