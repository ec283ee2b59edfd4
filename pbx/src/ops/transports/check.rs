//! What an administrator wrote about a transport, checked field by field. Stores nothing, opens nothing.

use pbx_core::{
    auth::Algorithm,
    lockout::Surroundings,
    settings::Settings,
    transport::{Protocol, TransportId},
};

use crate::{
    ops::{
        OpError,
        accounts::{Accounts, NO_VERIFICATION, shown},
    },
    store::StoredTransport,
};

/// Transports; each has sockets and threads of its own.
const MOST: usize = 32;

pub(super) fn protocol(text: &str) -> Result<Protocol, OpError> {
    text.trim().parse().map_err(|error| OpError::usage(format!("protocol: {error}")))
}

pub(super) fn port(field: &str, port: u32) -> Result<u16, OpError> {
    match u16::try_from(port) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(OpError::usage(format!("{field}: {port} is no port (1 to 65535)"))),
    }
}

pub(super) fn algorithms(texts: &[String]) -> Result<Vec<Algorithm>, OpError> {
    let mut algorithms = Vec::new();
    for text in texts {
        let algorithm = text.trim().parse().map_err(|error| OpError::usage(format!("algorithms: {error}")))?;
        if algorithms.contains(&algorithm) {
            return Err(OpError::usage(format!("algorithms: {algorithm} is there twice")));
        }
        algorithms.push(algorithm);
    }
    if algorithms.is_empty() {
        return Err(OpError::usage("algorithms: at least one of md5 and sha256, or nobody can register"));
    }
    Ok(algorithms)
}

pub(super) fn verification(text: &str) -> Result<String, OpError> {
    if text.trim().eq_ignore_ascii_case(NO_VERIFICATION) {
        return Ok(NO_VERIFICATION.to_owned());
    }
    Err(OpError::usage(format!(
        "verification: not yet: {} would ask phones for certificates, and {NO_VERIFICATION} is all that there is",
        shown(text)
    )))
}

/// Whether a transport fits the others and the media ports.
pub(super) fn fits(new: &StoredTransport, accounts: &Accounts, settings: &Settings) -> Result<(), OpError> {
    if accounts.transport(new.id).is_none() && accounts.transports().count() >= MOST {
        return Err(OpError::full(format!("there are {MOST} transports, which is all that fit")));
    }
    let datagrams = |protocol| protocol == Protocol::Udp;
    let other = accounts.transports().find(|other| {
        other.id != new.id && other.port == new.port && datagrams(other.protocol) == datagrams(new.protocol)
    });
    if let Some(other) = other {
        return Err(OpError::usage(format!(
            "port: {} is the port of another transport ({} {}): choose another one, or remove that",
            new.port, other.protocol, other.port
        )));
    }
    let media = &settings.filter.media_ports;
    if media.contains(new.port) {
        return Err(OpError::usage(format!(
            "port: {} is one of the ports that calls use (filter.media_ports {media}): choose another one",
            new.port
        )));
    }
    Ok(())
}

/// Whether sshd has a port to itself. The filter protects the ports of transports from floods, whatever the protocol:
/// whoever it blocks for one could not administer the machine any more.
pub(super) fn leaves_ssh(port: u16, accounts: &Accounts, surroundings: &Surroundings) -> Result<(), OpError> {
    // Where a stream transport listens, sshd does not.
    let own = accounts.transports().any(|one| one.port == port && one.protocol != Protocol::Udp);
    if own || !surroundings.ssh_ports.contains(&port) {
        return Ok(());
    }
    Err(OpError::usage(format!(
        "port: sshd listens on {port}, and whom the filter blocks at a transport's port it would keep from ssh as well: \
         choose another one, or move sshd first (`Port` in sshd_config)"
    )))
}

/// Whether settings leave the transports' ports alone.
pub(in crate::ops) fn leaves_ports(settings: &Settings, accounts: &Accounts) -> Result<(), OpError> {
    let media = &settings.filter.media_ports;
    match accounts.transports().find(|transport| media.contains(transport.port)) {
        Some(transport) => Err(OpError::usage(format!(
            "filter.media_ports: {} is the port of the {} transport: leave it out, or move that (`pbx transport set`)",
            transport.port, transport.protocol
        ))),
        None => Ok(()),
    }
}

pub(super) fn id(text: &str) -> Option<TransportId> {
    text.parse().ok().map(TransportId)
}
