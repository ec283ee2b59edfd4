//! Judges the output of `firewall-cmd --list-all-zones`, zone by active zone. Rich rules and
//! services other than SIP's are not looked up: their ports count as perhaps open.

use super::ports::{Ports, range};
use super::{Finding, Needed, State, Tool};

const ALL: (u16, u16) = (0, u16::MAX);

/// What is known of a zone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Zone<'a> {
    name: &'a str,
    active: bool,
    target: &'a str,
    ports: Vec<&'a str>,
    services: Vec<&'a str>,
    rich_rules: bool,
}

/// The needed ports that an active zone does not let in for everybody.
pub(super) fn judge(zones: &str, needed: &[Needed]) -> Vec<Finding> {
    let active = parse(zones).into_iter().filter(|zone| zone.active);
    let found = active.flat_map(|zone| {
        let findings = needed.iter().filter_map(|one| Some(finding(&zone, one, state(&zone, one)?)));
        findings.collect::<Vec<_>>()
    });
    found.collect()
}

fn finding(zone: &Zone<'_>, needed: &Needed, state: State) -> Finding {
    let name = zone.name;
    let message = match state {
        State::Closed => format!("firewalld lets nobody reach {needed} in the zone {name}"),
        _ => format!("firewalld may keep {needed} closed in the zone {name}; its rules are not all read here"),
    };
    let port = format!("{}/{}", needed.ports("-"), needed.transport);
    let command = format!("firewall-cmd --permanent --zone={name} --add-port={port} && firewall-cmd --reload");
    Finding { tool: Tool::Firewalld, state, needed: Some(needed.clone()), message, command: Some(command) }
}

fn state(zone: &Zone<'_>, needed: &Needed) -> Option<State> {
    let mut ports = Ports::of(needed);
    let transport = needed.transport.to_string();
    let listed = zone.ports.iter().filter_map(|port| port.split_once('/'));
    let listed = listed.filter(|(_, of)| *of == transport);
    ports.open(&listed.filter_map(|(port, _)| range(port, '-')).collect::<Vec<_>>());
    for service in &zone.services {
        match *service {
            "sip" => ports.open(&[(5060, 5060)]),
            "sips" => ports.open(&[(5061, 5061)]),
            // Present in the zones as they come; none of them is ours.
            "ssh" | "dhcpv6-client" | "mdns" | "cockpit" | "samba-client" => {}
            _ => ports.open_perhaps(&[ALL]),
        }
    }
    if zone.target == "ACCEPT" {
        ports.open_rest();
    }
    if zone.rich_rules {
        ports.open_perhaps(&[ALL]);
    }
    ports.state()
}

fn parse(text: &str) -> Vec<Zone<'_>> {
    let mut zones: Vec<Zone<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let (name, marks) = line.split_once(' ').unwrap_or((line, ""));
            let active = marks.contains("active");
            zones.push(Zone { name, active, ..Zone::default() });
            continue;
        }
        let Some(zone) = zones.last_mut() else {
            continue;
        };
        let (key, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        match key {
            "target" => zone.target = value.trim(),
            "ports" => zone.ports = value.split_ascii_whitespace().collect(),
            "services" => zone.services = value.split_ascii_whitespace().collect(),
            _ => zone.rich_rules |= key.starts_with("rule "),
        }
    }
    zones
}

#[cfg(test)]
mod tests {
    use super::super::Transport::{Tcp, Udp};
    use super::super::ports::needed;
    use super::*;

    const ZONES: &str = "\
block
  target: %%REJECT%%
  ports: 
docker (active)
  target: ACCEPT
  interfaces: docker0
  services: 
  ports: 

public (default, active)
  target: default
  icmp-block-inversion: no
  interfaces: eth0
  services: dhcpv6-client sip ssh
  ports: 8887/tcp 45000-64999/udp
  rich rules: 
";

    #[test]
    fn active_zones_are_judged_by_their_ports_and_services() {
        let table = [
            (Tcp, 8887, 8887, None),
            (Udp, 8887, 8887, Some(State::Closed)),
            (Udp, 45000, 64999, None),
            (Udp, 5060, 5060, None),
            (Tcp, 5061, 5061, Some(State::Closed)),
        ];
        for (transport, first, last, expected) in table {
            let one = needed(transport, first, last);
            let found = judge(ZONES, std::slice::from_ref(&one));
            assert_eq!(found.first().map(|finding| finding.state), expected, "{one}");
        }
    }

    #[test]
    fn the_command_names_the_zone() {
        let found = judge(ZONES, &[needed(Udp, 7000, 7001)]);
        let expected = "firewall-cmd --permanent --zone=public --add-port=7000-7001/udp && firewall-cmd --reload";
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].command.as_deref(), Some(expected));
    }

    #[test]
    fn rich_rules_leave_doubt() {
        let zones = format!("{ZONES}\trule family=\"ipv4\" source address=\"192.0.2.0/24\" accept\n");
        let found = judge(&zones, &[needed(Udp, 7000, 7000)]);
        assert_eq!(found[0].state, State::MayBeClosed);
    }
}
