//! What is loaded and where, and what the doctor finds.

use pbx_core::{
    rule::{MAX_ADDRESSES, MAX_PREFIXES},
    settings::Enforcement,
};
use pbx_ebpf::abi::{automatic, guard};

use super::{XdpFilter, tell};
use crate::{
    config::Attach,
    filter::{AttachState, FilterStatus, Finding, Severity, Usage},
    host::{Snapshot, clock, firewall},
};

pub(super) fn status(filter: &XdpFilter) -> FilterStatus {
    let automatic_used =
        filter.maps.blocks().map_or(0, |blocks| blocks.iter().filter(|(_, block)| !block.is_web_only()).count() as u64);
    let state = filter.state();
    let interfaces = state.interfaces.list();
    let mut not_enforced = Vec::new();
    if filter.mode == Attach::Off {
        not_enforced.push("nothing is filtered: attach = \"off\" in the configuration".to_owned());
    } else if !interfaces.iter().any(|i| matches!(i.attach, AttachState::Native | AttachState::Generic)) {
        not_enforced.push("no interface is filtered; `pbx firewall attach NAME` attaches one".to_owned());
    }
    for interface in interfaces.iter().filter(|i| i.attach == AttachState::Refused) {
        not_enforced.push(format!("{} is not filtered", interface.name));
    }
    match state.settings.filter.mode {
        Enforcement::Enforce => {}
        Enforcement::Monitor => not_enforced.push("mode is monitor: nothing is dropped".to_owned()),
        Enforcement::Off => not_enforced.push("mode is off: nothing is judged".to_owned()),
    }
    if let Some(open) = &state.open_media {
        not_enforced.push(super::media::in_words(Some(open)));
    }
    let counts = state.rules.counts();
    let usage = |table: &str, used: usize, limit: usize| Usage {
        table: table.to_owned(),
        used: used as u64,
        limit: limit as u64,
    };
    let now = clock::monotonic_coarse_ns();
    let calm_after = filter.maps.guard.load(2).saturating_add(guard::CALM);
    FilterStatus {
        loaded: true,
        problem: None,
        mode: state.settings.filter.mode,
        settings_revision: state.revision,
        interfaces,
        guard_active: filter.maps.guard.load(1) == 1 && now < calm_after,
        automatic_full: filter.maps.guard.load(3) == 1 && automatic_used >= u64::from(automatic::MAX),
        usage: vec![
            usage("IPv4 addresses", counts.addresses4, MAX_ADDRESSES),
            usage("IPv6 addresses", counts.addresses6, MAX_ADDRESSES),
            usage("IPv4 prefixes", counts.prefixes4, MAX_PREFIXES),
            usage("IPv6 prefixes", counts.prefixes6, MAX_PREFIXES),
            usage("automatic blocks", automatic_used as usize, automatic::MAX as usize),
        ],
        memory: filter.maps.bytes(),
        not_enforced,
    }
}

pub(super) fn doctor(filter: &XdpFilter) -> Vec<Finding> {
    let mut findings = tell::rule_findings(&filter.state().rules, "the kernel's tables are what the rules say");
    let mut say = |severity, subject: &str, message: String, advice: Option<&str>| {
        findings.push(Finding { severity, subject: subject.to_owned(), message, advice: advice.map(str::to_owned) });
    };
    let snapshot = Snapshot::read();
    {
        let state = filter.state();
        let projected = state.projected();
        if projected.left_out > 0 {
            let message =
                format!("{} on-link IPv6 networks are judged by /64: there is room for 32", projected.left_out);
            say(Severity::Warning, "settings", message, None);
        }
        if projected.shut_out > 0 && state.settings.filter.default_deny != Enforcement::Off {
            let message =
                format!("default deny shuts {} connected networks out: there is room for 32", projected.shut_out);
            say(Severity::Warning, "settings", message, Some("pbx guard set network.local_networks NETWORKS"));
        }
        match filter.maps.differing_settings(&projected, &state.interfaces.described()) {
            None => say(Severity::Ok, "settings", "the kernel has the settings".to_owned(), None),
            Some(what) => say(Severity::Error, "settings", what, Some("systemctl restart pbx")),
        }
        match &state.open_media {
            None if state.settings.guard.media.enforcement == Enforcement::Enforce => {
                say(Severity::Ok, "media ports", "those that no call holds are closed".to_owned(), None);
            }
            None => {}
            Some(open) => say(Severity::Warning, "media ports", open.message.clone(), Some(&open.command)),
        }
        for interface in state.interfaces.list() {
            let attached = matches!(interface.attach, AttachState::Native | AttachState::Generic);
            let program = |snapshot: &Snapshot| snapshot.link_named(&interface.name)?.xdp.map(|there| there.id);
            if let (true, Ok(snapshot)) = (attached, &snapshot)
                && program(snapshot) != Some(state.program)
            {
                let message = "the filter's program is not on it any more: somebody took it off".to_owned();
                let advice = format!("pbx firewall attach {}", interface.name);
                say(Severity::Error, &interface.name, message, Some(&advice));
                continue;
            }
            let (severity, message) = match interface.attach {
                AttachState::Native => (Severity::Ok, "filtered, native".to_owned()),
                AttachState::Generic => {
                    (Severity::Warning, interface.note.unwrap_or_else(|| "filtered, generic".to_owned()))
                }
                AttachState::Waiting | AttachState::Detached => (Severity::Warning, interface.note.unwrap_or_default()),
                AttachState::Refused => (Severity::Error, interface.note.unwrap_or_default()),
            };
            say(severity, &interface.name, message, None);
        }
        for (name, why) in &state.interfaces.left_alone {
            say(Severity::Ok, name, format!("left alone: {why}"), None);
        }
    }
    findings.extend(host_firewall(filter));
    findings
}

/// The ports that the appliance needs, compared with the host's own firewall.
fn host_firewall(filter: &XdpFilter) -> Vec<Finding> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Vec::new() };
    let ports = filter.state().settings.filter.clone();
    let mut needed = Vec::new();
    for range in ports.protected_ports.ranges() {
        for transport in [firewall::Transport::Udp, firewall::Transport::Tcp] {
            needed.push(firewall::Needed {
                transport,
                first: range.first,
                last: range.last,
                purpose: "signalling and web".to_owned(),
            });
        }
    }
    for range in ports.media_ports.ranges() {
        let transport = firewall::Transport::Udp;
        needed.push(firewall::Needed { transport, first: range.first, last: range.last, purpose: "media".to_owned() });
    }
    let report = runtime.block_on(firewall::inspect(&needed));
    if report.findings.is_empty() {
        return vec![Finding {
            severity: Severity::Ok,
            subject: "host firewall".to_owned(),
            message: "nothing of the host's own stands before the needed ports".to_owned(),
            advice: None,
        }];
    }
    let finding = |finding: firewall::Finding| Finding {
        severity: Severity::Warning,
        subject: "host firewall".to_owned(),
        message: finding.message,
        advice: finding.command,
    };
    report.findings.into_iter().map(finding).collect()
}
