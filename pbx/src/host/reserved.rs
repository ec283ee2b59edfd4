//! The ports that the machine gives to nobody by chance (`net.ipv4.ip_local_reserved_ports`). What a program sends without
//! a port of its own leaves from a port that is not among them; so the answers to it never come to a port of calls.

use std::{fs, io};

use pbx_core::settings::Ports;

/// The name of the kernel's setting.
pub const SYSCTL: &str = "net.ipv4.ip_local_reserved_ports";
const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The reserved ports of the caller's network namespace.
pub fn reserved() -> io::Result<Ports> {
    parse(&fs::read_to_string(FILE)?)
}

/// Whether all of `ports` are reserved; if not, why that matters, and the command that helps.
pub fn covers(ports: &Ports) -> Result<(), Uncovered> {
    let (there, problem) = match reserved() {
        Ok(there) => (there, None),
        Err(error) => (Ports::default(), Some(format!("{FILE} cannot be read ({error})"))),
    };
    uncovered(ports, &there, problem)
}

/// Why packets to media ports can not be dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; `{command}` changes that until the next start of the machine, a file in /etc/sysctl.d for good")]
pub struct Uncovered {
    /// What is the matter.
    pub message: String,
    /// What helps now.
    pub command: String,
}

fn uncovered(ports: &Ports, there: &Ports, problem: Option<String>) -> Result<(), Uncovered> {
    let Some(range) = ports.beyond(there) else { return Ok(()) };
    let message = problem.unwrap_or_else(|| {
        format!(
            "the machine may use ports {range} of filter.media_ports for connections of its own, whose answers would be dropped: {SYSCTL} does not name them"
        )
    });
    // What others have reserved stays so.
    Err(Uncovered { message, command: format!("sysctl -w {SYSCTL}={}", there.with(ports)) })
}

fn parse(text: &str) -> io::Result<Ports> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Ports::default());
    }
    text.parse().map_err(|error| io::Error::other(format!("{text:.80}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Ports {
        parse(text).unwrap()
    }

    #[test]
    fn all_media_ports_have_to_be_reserved() {
        let media = ports("45000-64999");
        for there in ["45000-64999", "40000-65535", "5000,45000-50000,50001-64999\n"] {
            assert_eq!(uncovered(&media, &ports(there), None), Ok(()), "{there}");
        }
        for (there, missing, command) in [
            ("", "45000-64999", "=45000-64999`"),
            ("8080", "45000-64999", "=8080,45000-64999`"),
            ("45000-60999", "61000-64999", "=45000-64999`"),
            ("46000-64999", "45000-64999", "=45000-64999`"),
        ] {
            let error = uncovered(&media, &ports(there), None).unwrap_err().to_string();
            assert!(error.contains(missing) && error.contains(command), "{there}: {error}");
        }
    }

    #[test]
    fn this_machine_says_what_it_reserves() {
        reserved().unwrap();
    }
}
