//! Settings → kernel words.

use std::net::IpAddr;

use pbx_ebpf::abi::{
    interfaces::{self, Interface, Rule},
    ports,
    settings::{self as abi, Network},
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
    /// Enforcement word of every attached interface, with the sampling that is set.
    pub enforcement: u64,
    /// The words of `PORTS` that settings decide, by element.
    pub ports: Vec<PortWords>,
    /// Budget of a known source, packets a second.
    pub known_budget: u32,
    /// On-link IPv6 networks for which there was no place.
    pub left_out: usize,
    /// Local networks for which there was no place: default deny shuts them out.
    pub shut_out: usize,
}

/// What 64 local ports are, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortWords {
    /// Protected.
    pub protected: u64,
    /// Media.
    pub media: u64,
    /// Web, which are protected as well.
    pub web: u64,
}

impl PortWords {
    /// Word of an element of `PORTS`, and what it is.
    pub const fn words(self) -> [(usize, u64); 3] {
        [(ports::PROTECTED, self.protected), (ports::MEDIA, self.media), (ports::WEB, self.web)]
    }
}

/// Projects the settings. `transports` are the ports of the open transports: they are protected whether
/// `filter.protected_ports` names them or not. `connected` are the networks of the machine's own interfaces, after the
/// configured ones; those that do not fit are left out (their IPv6 sources are then judged by /64). Where no local networks
/// are configured, the connected ones are what default deny lets in.
pub fn project(settings: &Settings, transports: &[u16], connected: &[Prefix]) -> Projected {
    // No `..` below: a new setting has to be thought of here.
    // What `sip` and `calls` say never reaches the kernel.
    let Settings { filter, guard, network, sip: _, calls: _, notify: _, retention: _ } = settings;
    let NetworkSettings { local_networks, external_address: _ } = network;
    let FilterSettings { mode, protected_ports, media_ports, sample_rate, web_ports, default_deny } = filter;
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
    let is_ipv6 = |prefix: &&Prefix| !prefix.is_ipv4();
    let networks: Vec<Network> =
        local_networks.iter().chain(connected.iter()).filter(is_ipv6).map(network_of).collect();
    let left_out = networks.len().saturating_sub(abi::ONLINK);
    for (slot, network) in thresholds.onlink.iter_mut().zip(networks) {
        *slot = network;
        thresholds.onlink_used += 1;
    }
    let local: Vec<Network> = if local_networks.is_empty() {
        connected.iter().map(network_of).collect()
    } else {
        local_networks.iter().map(network_of).collect()
    };
    let shut_out = local.len().saturating_sub(abi::LOCAL);
    for (slot, network) in thresholds.local.iter_mut().zip(local) {
        *slot = network;
        thresholds.local_used += 1;
    }

    let rules = [
        (Rule::Manual, *manual),
        (Rule::Level1, *level1),
        (Rule::Level2, *level2),
        (Rule::Media, *media),
        (Rule::Police, Enforcement::Enforce),
        // Each block says whether its detector only watched.
        (Rule::Detect, Enforcement::Enforce),
        (Rule::DefaultDeny, *default_deny),
    ];
    let enforcement =
        rules.iter().fold(0, |word, (rule, wanted)| Interface::with(word, *rule, switch(wanted.under(*mode))));
    let enforcement = Interface::with_sampling(enforcement, u64::from(sample_rate.one_in()));

    let mut words = vec![PortWords::default(); ports::ELEMENTS as usize];
    for port in protected_ports.iter().chain(transports.iter().copied()).chain(web_ports.iter()) {
        words[usize::from(port >> 6)].protected |= 1 << (port & 63);
    }
    for port in media_ports.iter() {
        words[usize::from(port >> 6)].media |= 1 << (port & 63);
    }
    for port in web_ports.iter() {
        words[usize::from(port >> 6)].web |= 1 << (port & 63);
    }
    let known_budget = packets1.get().saturating_mul(budget.get()).min(MOST_KNOWN);
    Projected { thresholds, enforcement, ports: words, known_budget, left_out, shut_out }
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

/// IPv4 as it is mapped into IPv6.
fn network_of(prefix: &Prefix) -> Network {
    let (addr, len) = match prefix.addr() {
        IpAddr::V4(addr) => (addr.to_ipv6_mapped(), prefix.len() + 96),
        IpAddr::V6(addr) => (addr, prefix.len()),
    };
    let mask = if len == 0 { 0 } else { u128::MAX << (128 - u32::from(len)) };
    let (network, halves) = (addr.to_bits() & mask, |word: u128| ((word >> 64) as u64, word as u64));
    let ((hi, lo), (mask_hi, mask_lo)) = (halves(network), halves(mask));
    Network { hi, lo, mask_hi, mask_lo }
}
