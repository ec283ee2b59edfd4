//! `pbx web`: the web server and its certificate.

use serde_json::Value;

use super::{
    Session,
    args::WebServer,
    client::typed,
    failure::Failure,
    render::{Columns, number, say, say_json},
    transport::{certificate, pem},
};
use crate::{
    api::WebStatus,
    ops::{CertificateAnswer, CertificateView, SetCertificate},
};

const CERTIFICATE: &str = "/api/web/certificate";

pub(super) async fn run(session: &Session, command: WebServer) -> Result<(), Failure> {
    match command {
        WebServer::Status(watch) => session.watched(&watch, || status(session)).await,
        WebServer::Certificate { files, self_signed, change } => {
            if files.certificate.is_none() && !self_signed {
                return certificate(session, session.client.get(CERTIFICATE).await?);
            }
            let (certificate, private_key) = pem(&files)?;
            let request = SetCertificate { certificate, private_key, dry_run: change.dry_run };
            answer(session, session.client.post(CERTIFICATE, &request).await?)
        }
    }
}

async fn status(session: &Session) -> Result<(), Failure> {
    let value = session.client.get("/api/web/status").await?;
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let WebStatus { addresses, connections, accepted, too_many, handshakes_failed } = typed(value)?;
    if addresses.is_empty() {
        say("there is no web server: name an address in `[web] listen` of the configuration file");
        return Ok(());
    }
    let mut table = Columns::new(&["address", "state"], &[]);
    for one in addresses {
        let state = match (one.listening, one.problem) {
            (true, _) => "listening".to_owned(),
            (false, Some(problem)) => format!("CLOSED: {problem}"),
            (false, None) => "starting".to_owned(),
        };
        table.row([format!("https://{}/", one.address), state]);
    }
    say(&table);
    say(format!(
        "{} connections, {} accepted; {} turned away, because there were too many; {} without TLS",
        number(connections),
        number(accepted),
        number(too_many),
        number(handshakes_failed)
    ));
    Ok(())
}

fn answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let CertificateAnswer { dry_run, notes, item } = typed(value)?;
    let CertificateView { subject, not_after, fingerprint, .. } = item;
    let would = if dry_run { "would present" } else { "presents" };
    say(format!("the web server {would} the certificate of {}", subject.unwrap_or_default()));
    for line in notes.into_iter().chain(not_after.map(|end| format!("until {end}"))) {
        say(format!("  {line}"));
    }
    fingerprint.into_iter().for_each(|text| say(format!("  SHA-256 {text}")));
    Ok(())
}
