//! Judges the output of `ufw status verbose`. Application profiles (`OpenSSH`) are not looked up:
//! their ports count as perhaps open.

use super::ports::{Ports, range};
use super::{Finding, Needed, State, Tool, Transport};

const ALL: (u16, u16) = (0, u16::MAX);

/// Whether ufw is at work at all.
pub(super) fn is_active(status: &str) -> bool {
    status.lines().any(|line| line.trim() == "Status: active")
}

/// The needed ports that are not open to everybody.
pub(super) fn judge(status: &str, needed: &[Needed]) -> Vec<Finding> {
    needed.iter().filter_map(|one| Some(finding(one, state(status, one)?))).collect()
}

fn finding(needed: &Needed, state: State) -> Finding {
    let message = match state {
        State::Closed => format!("ufw lets nobody reach {needed}"),
        _ => format!("ufw lets {needed} in under conditions only; it may be closed for others"),
    };
    let command = format!("ufw allow {}/{}", needed.ports(":"), needed.transport);
    Finding { tool: Tool::Ufw, state, needed: Some(needed.clone()), message, command: Some(command) }
}

fn state(status: &str, needed: &Needed) -> Option<State> {
    let mut ports = Ports::of(needed);
    for line in status.lines().filter(|line| !line.contains("(v6)")) {
        apply(line, needed.transport, &mut ports);
    }
    let default = status.lines().find_map(|line| line.trim().strip_prefix("Default: "));
    if default.is_some_and(|default| default.starts_with("allow (incoming)")) {
        ports.open_rest();
    }
    ports.state()
}

/// `5060/udp   ALLOW IN   Anywhere`
fn apply(line: &str, transport: Transport, ports: &mut Ports) {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let is_action = |word: &&str| matches!(*word, "ALLOW" | "DENY" | "REJECT" | "LIMIT");
    let Some(at) = words.iter().position(is_action) else {
        return;
    };
    let (to, action) = (&words[..at], words[at]);
    let mut from = &words[at + 1..];
    match from.first() {
        Some(&("OUT" | "FWD")) => return,
        Some(&"IN") => from = &from[1..],
        _ => {}
    }
    let Some(ranges) = destination(to, transport) else {
        return;
    };
    let for_all = from.first() == Some(&"Anywhere") && from.len() == 1 && to.len() == 1;
    match action {
        "ALLOW" if for_all && ranges.sure => ports.open(&ranges.ports),
        "ALLOW" | "LIMIT" => ports.open_perhaps(&ranges.ports),
        _ if for_all && ranges.sure => ports.close(&ranges.ports),
        _ => {}
    }
}

struct Destination {
    ports: Vec<(u16, u16)>,
    sure: bool,
}

/// The ports meant by the column `To`; none if they are another transport's.
fn destination(to: &[&str], transport: Transport) -> Option<Destination> {
    let sure = |ports| Some(Destination { ports, sure: true });
    for word in to {
        let (list, of) = word.split_once('/').map_or((*word, None), |(list, of)| (list, Some(of)));
        let ports: Option<Vec<_>> = list.split(',').map(|text| range(text, ':')).collect();
        match (ports, of) {
            (Some(_), Some(of)) if of != transport.to_string() => return None,
            (Some(ports), _) => return sure(ports),
            (None, _) => {}
        }
    }
    match to {
        ["Anywhere"] => sure(vec![ALL]),
        ["Anywhere/tcp"] => (transport == Transport::Tcp).then(|| sure(vec![ALL])).flatten(),
        ["Anywhere/udp"] => (transport == Transport::Udp).then(|| sure(vec![ALL])).flatten(),
        _ => Some(Destination { ports: vec![ALL], sure: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::needed;
    use super::*;

    const STATUS: &str = "\
Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     LIMIT IN    Anywhere
5060/udp                   ALLOW IN    Anywhere
8887,8888/tcp              ALLOW IN    Anywhere
45000:64999/udp            ALLOW IN    Anywhere
5061                       ALLOW IN    Anywhere
5065/tcp                   ALLOW IN    198.51.100.0/24
5063/tcp on eth1           ALLOW IN    Anywhere
8885/tcp                   DENY IN     Anywhere
8889/tcp                   ALLOW OUT   Anywhere
10443/tcp (v6)             ALLOW IN    Anywhere (v6)
";

    #[test]
    fn each_port_is_judged_by_the_rules_for_it() {
        use Transport::{Tcp, Udp};
        let table = [
            (Udp, 5060, 5060, None),
            (Tcp, 5060, 5060, Some(State::Closed)),
            (Tcp, 8887, 8888, None),
            (Tcp, 8887, 8889, Some(State::Closed)),
            (Udp, 45000, 64999, None),
            (Udp, 45000, 65000, Some(State::Closed)),
            (Tcp, 5061, 5061, None),
            (Udp, 5061, 5061, None),
            (Tcp, 5065, 5065, Some(State::MayBeClosed)),
            (Tcp, 5063, 5063, Some(State::MayBeClosed)),
            (Tcp, 22, 22, Some(State::MayBeClosed)),
            (Tcp, 8885, 8885, Some(State::Closed)),
            (Tcp, 10443, 10443, Some(State::Closed)),
        ];
        for (transport, first, last, expected) in table {
            let one = needed(transport, first, last);
            assert_eq!(state(STATUS, &one), expected, "{one}");
        }
    }

    #[test]
    fn an_application_profile_leaves_doubt() {
        let status = format!("{STATUS}PBX                        ALLOW IN    Anywhere\n");
        let one = needed(Transport::Tcp, 7000, 7000);
        assert_eq!(state(&status, &one), Some(State::MayBeClosed));
    }

    #[test]
    fn a_default_of_allow_opens_what_no_rule_closes() {
        let status = STATUS.replace("deny (incoming)", "allow (incoming)");
        assert_eq!(state(&status, &needed(Transport::Tcp, 7000, 7000)), None);
        let closed = needed(Transport::Tcp, 8885, 8885);
        assert_eq!(state(&status, &closed), Some(State::Closed));
    }

    #[test]
    fn the_command_opens_the_whole_range() {
        let found = judge("Status: active\n", &[needed(Transport::Udp, 45000, 64999)]);
        assert_eq!(found[0].command.as_deref(), Some("ufw allow 45000:64999/udp"));
        assert!(is_active("Status: active\n") && !is_active("Status: inactive\n"));
    }
}
