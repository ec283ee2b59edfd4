//! `pbx transport`.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    Session,
    args::{CertificateFiles, Change, ListArgs, Transport, TransportOptions},
    ask::confirm,
    block::read,
    client::{encoded, query, typed},
    failure::Failure,
    render::{Columns, left, number, say, say_json},
};
use crate::ops::{
    AddTransport, CertificateView, Did, SetCertificate, TransportAnswer, TransportState, TransportStatusView,
    TransportView, UpdateTransport,
};

pub(super) async fn run(session: &Session, command: Transport) -> Result<(), Failure> {
    match command {
        Transport::List(args) => session.watched(&args.watch, || list(session, &args)).await,
        Transport::Add { protocol, port, options, certificate, change } => {
            let TransportOptions { external_port, algorithms, verification } = options;
            let (certificate, private_key) = pem(&certificate)?;
            let request = AddTransport {
                protocol,
                port,
                external_port: external_port.filter(|port| *port != 0),
                algorithms,
                verification,
                certificate,
                private_key,
                dry_run: change.dry_run,
            };
            answer(session, session.client.post("/api/transports", &request).await?)
        }
        Transport::Set { transport, port, options, change } => {
            let TransportOptions { external_port, algorithms, verification } = options;
            let request = UpdateTransport { port, external_port, algorithms, verification, dry_run: change.dry_run };
            let (id, _) = find(session, &transport).await?;
            answer(session, session.client.post(&format!("/api/transports/{id}"), &request).await?)
        }
        Transport::Remove { transport, yes, change } => remove(session, &transport, yes, change).await,
        Transport::Status { transport, watch } => {
            session.watched(&watch, || status(session, transport.as_deref())).await
        }
        Transport::Certificate { transport, files, self_signed, change } => {
            let (id, _) = find(session, &transport).await?;
            let path = format!("/api/transports/{id}/certificate");
            if files.certificate.is_none() && !self_signed {
                return certificate(session, session.client.get(&path).await?);
            }
            let (certificate, private_key) = pem(&files)?;
            let request = SetCertificate { certificate, private_key, dry_run: change.dry_run };
            answer(session, session.client.post(&path, &request).await?)
        }
    }
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/transports", args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["id", "protocol", "port", "external port", "algorithms", "verification"], &[2, 3]);
    for item in listed.items.iter().cloned() {
        let transport: TransportView = typed(item)?;
        let algorithms: Vec<&str> = transport.algorithms.iter().map(|one| one.name()).collect();
        table.row([
            transport.id.unwrap_or_default(),
            transport.protocol.to_string(),
            transport.port.to_string(),
            transport.external_port.map_or_else(|| "-".to_owned(), |port| port.to_string()),
            algorithms.join(","),
            transport.verification,
        ]);
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

fn answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let TransportAnswer { did, dry_run, notes, item } = typed(value)?;
    let would = if dry_run && did != Did::Unchanged { "would be " } else { "" };
    let what = match did {
        Did::Added => "open",
        Did::Updated => "changed",
        Did::Unchanged => "as it was",
        Did::Removed => "closed",
    };
    say(format!("{} {} {would}{what}", item.protocol, item.port));
    for note in notes {
        say(format!("  {note}"));
    }
    Ok(())
}

async fn remove(session: &Session, transport: &str, yes: bool, change: Change) -> Result<(), Failure> {
    let (id, found) = find(session, transport).await?;
    if !yes && !change.dry_run {
        let state: TransportStatusView = typed(session.client.get(&format!("/api/transports/{id}/status")).await?)?;
        let question = format!("Close {} {}, with {} connections?", found.protocol, found.port, state.connections);
        confirm(&question, "this closes a transport")?;
    }
    let how = json!({ "dry_run": change.dry_run });
    answer(session, session.client.post(&format!("/api/transports/{id}/destroy"), &how).await?)
}

async fn status(session: &Session, transport: Option<&str>) -> Result<(), Failure> {
    let ids = match transport {
        Some(transport) => vec![find(session, transport).await?.0],
        None => all(session).await?.into_iter().filter_map(|one| one.id).collect(),
    };
    let mut states = Vec::new();
    for id in ids {
        states.push(session.client.get(&format!("/api/transports/{}/status", encoded(&id))).await?);
    }
    if session.json {
        say_json(&json!({ "items": states }));
        return Ok(());
    }
    let mut table = Columns::new(&["transport", "state", "connections", "received", "sent", "dropped"], &[2, 3, 4]);
    let mut problems = Vec::new();
    for state in states {
        let state: TransportStatusView = typed(state)?;
        let dropped: Vec<String> =
            state.dropped.iter().map(|(reason, count)| format!("{reason} {}", number(*count))).collect();
        let name = format!("{} {}", state.protocol, state.port);
        problems.extend(state.problem.map(|problem| format!("{name}: {problem}")));
        table.row([
            name,
            if state.state == TransportState::Activated { "listening" } else { "CLOSED" }.to_owned(),
            number(state.connections),
            number(state.received),
            number(state.sent),
            dropped.join(", "),
        ]);
    }
    say(&table);
    problems.into_iter().for_each(say);
    Ok(())
}

/// Prints a certificate.
pub(super) fn certificate(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let CertificateView { certificate, subject, issuer, names, not_after, fingerprint, .. } = typed(value)?;
    match certificate {
        Some(chain) => {
            let lines = [
                ("subject", subject),
                ("issuer", issuer),
                ("names", (!names.is_empty()).then(|| names.join(", "))),
                ("until", not_after.map(|end| format!("{end} ({} left)", left(Some(end))))),
                ("SHA-256", fingerprint),
            ];
            // As `openssl` reads it: what stands before the first certificate is no part of it.
            for (name, text) in lines {
                text.into_iter().for_each(|text| say(format!("{name:<8} {text}")));
            }
            say(chain.trim_end());
        }
        None => say("it has no certificate yet: it is made when the transport is opened"),
    }
    Ok(())
}

/// Certificates and key as text.
pub(super) fn pem(files: &CertificateFiles) -> Result<(Option<String>, Option<String>), Failure> {
    let text = |path: &Path| {
        String::from_utf8(read(path)?).map_err(|_| {
            Failure::Usage(format!(
                "{} is not PEM: it is no text (`openssl x509 -inform der` converts)",
                path.display()
            ))
        })
    };
    Ok((files.certificate.as_deref().map(text).transpose()?, files.key.as_deref().map(text).transpose()?))
}

async fn all(session: &Session) -> Result<Vec<TransportView>, Failure> {
    let value = session.client.get(&format!("/api/transports{}", query(&[("top", "100")]))).await?;
    typed(value["items"].clone())
}

/// A transport by its id, or as `udp:5060`.
async fn find(session: &Session, text: &str) -> Result<(String, TransportView), Failure> {
    let named = |one: &TransportView| {
        one.id.as_deref() == Some(text) || format!("{}:{}", one.protocol, one.port).eq_ignore_ascii_case(text)
    };
    let found = all(session).await?.into_iter().find(named).and_then(|one| Some((encoded(one.id.as_deref()?), one)));
    found.ok_or_else(|| Failure::Answer {
        status: hyper::StatusCode::NOT_FOUND,
        errors: vec![crate::ops::OpError::not_found(format!(
            "there is no transport {text:.40}: write its id or protocol and port (udp:5060); `pbx transport list` shows all"
        ))],
    })
}
