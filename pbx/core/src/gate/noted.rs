//! What a message says about its sender, for the guard: noted while the gate decides about it.

use std::net::IpAddr;

use super::{Gate, Tags};
use crate::{
    guard::{Account, What},
    settings::ScannerSettings,
    transport::Flow,
    wire::sip::{Fault, Malformed, Message, Method, Name, Uri},
};

/// What was noted of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// What its sender did; nothing: nothing worth telling.
    pub what: Option<What>,
    /// It has a forbidden User-Agent.
    pub agent: bool,
    /// It answers a nonce that was sent to this address: nobody else wrote it.
    pub sure: bool,
}

/// Points for what no telephone does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// From equals To, with a domain that is not served here.
    pub foreign_domain: u16,
    /// A request to an address, from beyond the local networks.
    pub bare_address: u16,
    /// A header that every request has is not there.
    pub missing_headers: u16,
    /// Credentials that were used before.
    pub reused_nonce: u16,
}

impl From<&ScannerSettings> for Points {
    fn from(settings: &ScannerSettings) -> Self {
        let ScannerSettings { foreign_domain, bare_address, missing_headers, reused_nonce, .. } = settings;
        // Points are a thousand at most.
        let points = |points: u32| u16::try_from(points).unwrap_or(u16::MAX);
        Self {
            foreign_domain: points(foreign_domain.get()),
            bare_address: points(bare_address.get()),
            missing_headers: points(missing_headers.get()),
            reused_nonce: points(reused_nonce.get()),
        }
    }
}

impl Tags {
    /// The Call-ID of a message as a number.
    pub fn call<B: AsRef<[u8]>>(&self, message: &Message<B>) -> u64 {
        self.number(b"call", message.value(Name::CallId).unwrap_or_default())
    }

    /// Whom a message is about, as a number.
    pub(super) fn target<B: AsRef<[u8]>>(&self, message: &Message<B>) -> u64 {
        let to = message.to().ok().and_then(|to| to.uri().ok()).and_then(|uri| uri.user);
        self.number(b"target", to.unwrap_or_default())
    }

    /// An account, by what credentials call it.
    pub(super) fn account(&self, tenant: crate::directory::TenantId, user: &[u8]) -> u64 {
        self.number(&tenant.0.to_be_bytes(), user)
    }

    /// What nonces for this address have in their lowest bits.
    pub(super) fn place(&self, addr: IpAddr) -> u64 {
        let bits = match addr.to_canonical() {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        self.number(b"place", &bits.to_be_bytes()) & Self::PLACE
    }

    /// The bits of a nonce's id that name an address: so few that ids still differ, so many that nobody guesses them.
    pub(super) const PLACE: u64 = 0xfff;
}

impl Gate<'_> {
    /// Points for what is odd about a request. Only what a telephone has no reason for: a phone may be set up with the
    /// appliance's address instead of its domain.
    pub(super) fn points<B: AsRef<[u8]>>(&self, flow: &Flow, message: &Message<B>, method: Method<'_>) -> u16 {
        let (Ok(from), Ok(to), Ok(target)) = (message.from(), message.to(), message.request_uri()) else { return 0 };
        let (Ok(from), Ok(to)) = (from.uri(), to.uri()) else { return 0 };
        let text = |uri: &Uri<'_>| std::str::from_utf8(uri.host.bytes()).unwrap_or_default().to_owned();
        let address = |uri: &Uri<'_>| uri.host.bytes().first().is_some_and(|first| b"[0123456789".contains(first));
        let mut points = 0;
        let same = from.user == to.user && from.host.bytes().eq_ignore_ascii_case(to.host.bytes());
        let elsewhere = !from.host.bytes().eq_ignore_ascii_case(target.host.bytes());
        if same && elsewhere && !self.directory.has_domain(&text(&from)) && !is_host(&from, flow.local.ip()) {
            points += self.points.foreign_domain;
        }
        // A phone registers at the address that somebody typed into it; nobody but a scanner calls one.
        let local = || self.local.iter().any(|network| network.contains(flow.remote.ip().to_canonical()));
        if method != Method::Register && address(&target) && !self.directory.has_domain(&text(&target)) && !local() {
            points += self.points.bare_address;
        }
        points
    }

    /// Points for how a message is broken.
    pub(super) const fn points_of(&self, fault: &Fault) -> u16 {
        match fault {
            Fault::Header(Malformed::Missing(_)) | Fault::NoVia => self.points.missing_headers,
            _ => 0,
        }
    }

    /// What wrong credentials say about their sender.
    pub(super) fn rejected<B: AsRef<[u8]>>(
        &self,
        message: &Message<B>,
        account: u64,
        name: &[u8],
        user_known: bool,
        answers: bool,
    ) -> What {
        What::Rejected { account: Account::new(account, name), user_known, answers, target: self.tags.target(message) }
    }
}

fn is_host(uri: &Uri<'_>, addr: IpAddr) -> bool {
    let host = std::str::from_utf8(uri.host.bytes()).unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.parse().is_ok_and(|host: IpAddr| host.to_canonical() == addr.to_canonical())
}
