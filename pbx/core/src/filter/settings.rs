//! Settings → kernel words.

use std::net::IpAddr;

use pbx_ebpf::abi::{
    interfaces::{self, Interface, Rule},
    ports,
    settings::{self as abi, OnLink},
};

use crate::{
    address::Prefix,
    settings::{
        Enforcement, FilterSettings, GuardSettings, KnownSettings, Level1Settings, Level2Settings, ManualSettings,
        MediaSettings, NetworkSettings, PolicingSettings, Scope, Settings,
    },
};

/// What the settings are in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projected {
    /// `SETTINGS`, but for the short lengths, which the rules' tables write.
    pub thresholds: abi::Settings,
    /// Enforcement word of every attached interface.
    pub enforcement: u64,
    /// The protected and media words of `PORTS`, by element.
    pub ports: Vec<(u64, u64)>,
    /// Budget of a known source, packets a second.
    pub known_budget: u32,
    /// On-link IPv6 networks for which there was no place.
    pub left_out: usize,
}

/// Projects the settings. `transports` are the ports of the open transports: they are protected whether
/// `filter.protected_ports` names them or not. `connected` are the networks of the machine's own interfaces, after the
/// configured ones; those that do not fit are left out (their IPv6 sources are then judged by /64).
pub fn project(settings: &Settings, transports: &[u16], connected: &[Prefix]) -> Projected {
    // No `..` below: a new setting has to be thought of here.
    // What `sip` and `calls` say never reaches the kernel.
    let Settings { filter, guard, network, sip: _, calls: _ } = settings;
    let NetworkSettings { local_networks, external_address: _ } = network;
    let FilterSettings { mode, protected_ports, media_ports, sample_rate, web_ports: _, default_deny: _ } = filter;
    let GuardSettings {
        manual: ManualSettings { enforcement: manual },
        level1: Level1Settings { enforcement: level1, packets: packets1, block_time: time1 },
        level2: Level2Settings { enforcement: level2, packets: packets2, block_time: time2 },
        media: MediaSettings { enforcement: media },
        scope,
        known: KnownSettings { budget },
        tcp: PolicingSettings { packets: tcp },
        fragments: PolicingSettings { packets: fragments },
        new_sources,
        // The detectors of the daemon: their blocks carry all that the kernel has to know.
        period: _,
        authentication: _,
        accounts: _,
        challenges: _,
        enumeration: _,
        malformed: _,
        agents: _,
        scanner: _,
        provisioning: _,
        web: _,
        repeat: _,
        spread: _,
    } = guard;

    let mut thresholds = abi::Settings {
        level1: u64::from(packets1.get()),
        level1_block: nanoseconds(time1.get()),
        level2: u64::from(packets2.get()),
        level2_block: nanoseconds(time2.get()),
        tcp: u64::from(tcp.get()),
        fragments: u64::from(fragments.get()),
        new_sources: u64::from(new_sources.get()),
        sample_mask: u64::from(sample_rate.one_in()).wrapping_sub(1),
        flags: if *scope == Scope::All { abi::SCOPE_ALL } else { 0 },
        ..abi::Settings::default()
    };
    let networks: Vec<OnLink> = local_networks.iter().chain(connected.iter()).filter_map(on_link).collect();
    let left_out = networks.len().saturating_sub(abi::ONLINK);
    for (slot, network) in thresholds.onlink.iter_mut().zip(networks) {
        *slot = network;
        thresholds.onlink_used += 1;
    }

    let rules = [
        (Rule::Manual, *manual),
        (Rule::Level1, *level1),
        (Rule::Level2, *level2),
        (Rule::Media, *media),
        (Rule::Police, Enforcement::Enforce),
        (Rule::Detect, Enforcement::Enforce),
    ];
    let enforcement =
        rules.iter().fold(0, |word, (rule, wanted)| Interface::with(word, *rule, switch(wanted.under(*mode))));

    let mut words = vec![(0u64, 0u64); ports::ELEMENTS as usize];
    for port in protected_ports.iter().chain(transports.iter().copied()) {
        words[usize::from(port >> 6)].0 |= 1 << (port & 63);
    }
    for port in media_ports.iter() {
        words[usize::from(port >> 6)].1 |= 1 << (port & 63);
    }
    let known_budget = packets1.get().saturating_mul(budget.get()).min(MOST_KNOWN);
    Projected { thresholds, enforcement, ports: words, known_budget, left_out }
}

/// The window words of known sources count up to 2^26.
const MOST_KNOWN: u32 = 60_000_000;

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1)
}

fn switch(enforcement: Enforcement) -> interfaces::Enforcement {
    match enforcement {
        Enforcement::Off => interfaces::Enforcement::Off,
        Enforcement::Monitor => interfaces::Enforcement::Monitor,
        Enforcement::Enforce => interfaces::Enforcement::Enforce,
    }
}

fn on_link(prefix: &Prefix) -> Option<OnLink> {
    let IpAddr::V6(addr) = prefix.addr() else { return None };
    let mask = if prefix.len() == 0 { 0 } else { u128::MAX << (128 - u32::from(prefix.len())) };
    let (network, halves) = (addr.to_bits(), |word: u128| ((word >> 64) as u64, word as u64));
    let ((hi, lo), (mask_hi, mask_lo)) = (halves(network), halves(mask));
    Some(OnLink { hi, lo, mask_hi, mask_lo })
}
