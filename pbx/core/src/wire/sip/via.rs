//! `Via` (RFC 3261 §20.42): the way that a request came, and that its response goes back.

use std::net::SocketAddr;

use super::{
    Host, Params,
    scan::{all_token, decimal, find_outside, is_space, quotes_end, trim, trim_start},
};

/// The cookie that begins a branch which is a transaction's key (RFC 3261 §8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// One hop, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// All of it, without the commas around it.
    pub raw: &'a [u8],
    /// `UDP`, `TCP`, `TLS`, or what else was written behind `SIP/2.0/`.
    pub protocol: &'a [u8],
    /// `sent-by` as it was written: host and perhaps port.
    pub sent_by: &'a [u8],
    /// The host of `sent-by`.
    pub host: Host<'a>,
    /// The port of `sent-by`, when one is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
}

/// The parameter `rport` (RFC 3581 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rport {
    /// Not there.
    Absent,
    /// There without a value: the sender wants the answer where it sent from.
    Asked,
    /// There with a port; 0 when the value is none.
    Port(u16),
}

impl<'a> Via<'a> {
    /// The hop in `text`, one item of the list.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let raw = trim(text);
        let (name, rest) = until_slash(raw)?;
        let (version, rest) = until_slash(rest)?;
        let rest = trim_start(rest);
        let protocol_end = rest.iter().position(|byte| is_space(*byte))?;
        let (protocol, rest) = rest.split_at(protocol_end);
        let params = find_outside(rest, b';', false).unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at(params);
        let is_version = version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        // Another version is answered with 505 (RFC 3261 §21.5.7), and its Via tells where.
        if !name.eq_ignore_ascii_case(b"SIP") || version.is_empty() || !is_version || !all_token(protocol) {
            return None;
        }
        if !quotes_end(params) {
            return None;
        }
        let sent_by = trim(sent_by);
        let (host, port) = Host::with_port(sent_by)?;
        Some(Self { raw, protocol, sent_by, host, port, params: Params::new(params) })
    }

    /// The parameter `branch`.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.params.value(b"branch").filter(|branch| !branch.is_empty())
    }

    /// Whether the branch alone names the transaction (RFC 3261 §17.2.3): the cookie and something behind it.
    pub fn has_cookie(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > MAGIC_COOKIE.len() && branch[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE)
        })
    }

    /// The parameter `received`, as it was written.
    pub fn received(&self) -> Option<&'a [u8]> {
        self.params.value(b"received")
    }

    /// The parameter `rport`.
    pub fn rport(&self) -> Rport {
        match self.params.find(b"rport") {
            None => Rport::Absent,
            Some(param) => match param.value {
                None | Some([]) => Rport::Asked,
                Some(digits) => Rport::Port(decimal(digits).and_then(|port| port.try_into().ok()).unwrap_or(0)),
            },
        }
    }

    /// The parameter `ttl`.
    pub fn ttl(&self) -> Option<u8> {
        decimal(self.params.value(b"ttl")?)?.try_into().ok()
    }

    /// The parameter `maddr`, as it was written.
    pub fn maddr(&self) -> Option<&'a [u8]> {
        self.params.value(b"maddr")
    }

    /// Where the response to a datagram from `source` goes (RFC 3261 §18.2.2, RFC 3581 §4): to the source's address;
    /// to the source's port when the sender asked for that, else to the one it named. `maddr` is not followed: it
    /// would let anybody point our answers at anybody.
    pub fn answer_to(&self, source: SocketAddr) -> SocketAddr {
        match self.rport() {
            Rport::Absent => SocketAddr::new(source.ip(), self.port.filter(|port| *port != 0).unwrap_or(5060)),
            Rport::Asked | Rport::Port(_) => source,
        }
    }
}

/// What stands before the first slash, trimmed, and what behind it.
fn until_slash(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = memchr::memchr(b'/', text)?;
    Some((trim(&text[..slash]), &text[slash + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_via_with_everything_is_taken_apart() {
        let via = Via::parse(
            b" SIP / 2.0\r\n /  UDP 192.0.2.2 : 5062 ;branch=z9hG4bK390;rport;ttl=3; maddr=224.0.1.75;received=192.0.2.9 ",
        )
        .unwrap();
        assert_eq!(via.protocol, b"UDP");
        assert!(via.host.is("192.0.2.2"));
        assert_eq!(via.port, Some(5062));
        assert_eq!(via.branch(), Some(&b"z9hG4bK390"[..]));
        assert!(via.has_cookie());
        assert_eq!(via.rport(), Rport::Asked);
        assert_eq!(via.ttl(), Some(3));
        assert_eq!(via.maddr(), Some(&b"224.0.1.75"[..]));
        assert_eq!(via.received(), Some(&b"192.0.2.9"[..]));
    }

    #[test]
    fn an_ipv6_via_keeps_its_colons() {
        let via = Via::parse(b"SIP/2.0/TLS [2001:db8::9:1];branch=z9hG4bKas3;rport=99").unwrap();
        assert_eq!(via.host.ip(), Some("2001:db8::9:1".parse().unwrap()));
        assert_eq!(via.port, None);
        assert_eq!(via.rport(), Rport::Port(99));
        let via = Via::parse(b"SIP/2.0/UDP [::1]:5080;branch=z9hG4bK").unwrap();
        assert_eq!(via.port, Some(5080));
        assert!(!via.has_cookie());
    }

    #[test]
    fn what_is_no_via_is_refused() {
        for text in [
            &b""[..],
            b"SIP/2.0/UDP",
            b"SIP/2.0/UDP ",
            b"SIP/2.0 host",
            b"SIP//UDP host",
            b"HTTP/2.0/UDP host",
            b"SIP/2.0/UDP host:port",
            b"SIP/2.0/UDP host:70000",
            b"SIP/2.0/UDP [::1",
            b"SIP/2.0/UDP ho st",
            b"SIP/2.0/UDP ;branch=z9hG4bK1",
        ] {
            assert_eq!(Via::parse(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn an_answer_goes_to_the_source_when_the_sender_asked_for_it() {
        let source: SocketAddr = "198.51.100.7:32768".parse().unwrap();
        let to = |via: &[u8]| Via::parse(via).unwrap().answer_to(source).to_string();
        assert_eq!(to(b"SIP/2.0/UDP 10.0.0.1:5062;rport"), "198.51.100.7:32768");
        assert_eq!(to(b"SIP/2.0/UDP 10.0.0.1:5062"), "198.51.100.7:5062");
        assert_eq!(to(b"SIP/2.0/UDP 10.0.0.1;maddr=203.0.113.9"), "198.51.100.7:5060");
    }
}
