//! Keys: how a message finds its transaction (RFC 3261 §17.1.3, §17.2.3). Their text comes from outside, so what is
//! kept is a keyed hash of it: 16 bytes whatever the length, and nobody outside can make two of them meet.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
    net::IpAddr,
};

use siphasher::sip128::{Hasher128, SipHasher13};

/// Makes keys. All that make keys for one [`super::Layer`] are copies of one.
#[derive(Clone, Copy)]
pub struct Keys {
    seed: [u8; 16],
}

/// Finds a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKey {
    digest: u128,
    pub(super) method: Method,
}

/// Finds a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKey {
    digest: u128,
    pub(super) method: Method,
}

/// The methods that transactions tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Invite,
    Ack,
    Cancel,
    Other,
}

/// What a peer older than RFC 3261, whose branch does not begin with `z9hG4bK`, is matched by (§17.2.3). All fields
/// as they were written. The To tag is not among them: an ACK carries ours, and the INVITE that it belongs to none.
#[derive(Clone, Copy, Debug)]
pub struct Fields2543<'a> {
    /// The request URI.
    pub request_uri: &'a [u8],
    /// The From tag; empty if there is none.
    pub from_tag: &'a [u8],
    /// The Call-ID.
    pub call_id: &'a [u8],
    /// The number in CSeq.
    pub cseq: u32,
    /// The topmost Via, whole.
    pub via: &'a [u8],
}

impl Keys {
    /// Keys under a secret of 16 random bytes, made when the daemon starts.
    pub const fn new(seed: [u8; 16]) -> Self {
        Self { seed }
    }

    /// The key of a request whose topmost Via has a branch with the magic cookie. `sent_by` is host and port as
    /// written. `source` is the address it came from, or `None` for a peer that sends from several: two phones behind
    /// two routers may well share a sent-by of `192.168.1.10`, and must not share a transaction if they are bad at
    /// branches, nor may a stranger who guessed a branch cancel what others have begun.
    pub fn server(&self, method: &[u8], branch: &[u8], sent_by: &[u8], source: Option<IpAddr>) -> ServerKey {
        let mut text = self.text(b's', source);
        text.field(branch);
        text.field_in_lower_case(sent_by);
        text.server_key(method)
    }

    /// The key of a request whose topmost Via has no branch, or one without the magic cookie. `source` as in
    /// [`Keys::server`].
    pub fn server_2543(&self, method: &[u8], fields: &Fields2543<'_>, source: Option<IpAddr>) -> ServerKey {
        let Fields2543 { request_uri, from_tag, call_id, cseq, via } = *fields;
        let mut text = self.text(b'o', source);
        for field in [request_uri, from_tag, call_id, via] {
            text.field(field);
        }
        text.0.write_u32(cseq);
        text.server_key(method)
    }

    /// The key of a request of ours, or of a response: the method in CSeq and the branch in the topmost Via.
    pub fn client(&self, method: &[u8], branch: &[u8]) -> ClientKey {
        let mut text = self.text(b'c', None);
        text.field(branch);
        let (digest, method) = text.finish(method);
        ClientKey { digest, method }
    }

    fn text(&self, kind: u8, source: Option<IpAddr>) -> Text {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        hasher.write_u8(kind);
        match source {
            None => hasher.write_u8(0),
            Some(IpAddr::V4(address)) => hasher.write(&[&[4], &address.octets()[..]].concat()),
            Some(IpAddr::V6(address)) => hasher.write(&[&[6], &address.octets()[..]].concat()),
        }
        Text(hasher)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

struct Text(SipHasher13);

impl Text {
    /// The length goes first, so that what ends one field cannot begin the next.
    fn field(&mut self, bytes: &[u8]) {
        self.0.write_usize(bytes.len());
        self.0.write(bytes);
    }

    fn field_in_lower_case(&mut self, bytes: &[u8]) {
        self.0.write_usize(bytes.len());
        for chunk in bytes.chunks(64) {
            let mut lower = [0; 64];
            let lower = &mut lower[..chunk.len()];
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            self.0.write(lower);
        }
    }

    fn server_key(self, method: &[u8]) -> ServerKey {
        let (digest, method) = self.finish(method);
        ServerKey { digest, method }
    }

    /// The names of INVITE, ACK and CANCEL stay out, for the last two find the first.
    fn finish(mut self, method: &[u8]) -> (u128, Method) {
        let kind = match method {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"CANCEL" => Method::Cancel,
            _ => Method::Other,
        };
        if kind == Method::Other {
            self.field(method);
        }
        (self.0.finish128().as_u128(), kind)
    }
}

/// A key in the layer's map.
pub(super) type Place = u128;

impl Method {
    /// What sets apart the transactions of one branch. An ACK has none of its own.
    const fn mark(self) -> Place {
        match self {
            Self::Invite | Self::Ack => 0,
            Self::Cancel => 1,
            Self::Other => 2,
        }
    }
}

impl ServerKey {
    pub(super) const fn place(self) -> Place {
        self.digest ^ self.method.mark()
    }

    /// Where the INVITE is that this CANCEL names.
    pub(super) const fn place_of_invite(self) -> Place {
        self.digest ^ Method::Invite.mark()
    }
}

impl ClientKey {
    pub(super) const fn place(self) -> Place {
        self.digest ^ self.method.mark()
    }
}

/// Where the CANCEL of the INVITE at `place` goes.
pub(super) const fn place_of_cancel(place: Place) -> Place {
    place ^ Method::Invite.mark() ^ Method::Cancel.mark()
}

/// Keys are hashes already: half of one is a good hash.
#[derive(Default)]
pub(super) struct Half(u64);

/// For maps of [`Place`]s.
pub(super) type BuildHalf = BuildHasherDefault<Half>;

impl Hasher for Half {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    fn write_u128(&mut self, place: u128) {
        self.0 = place as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys = Keys::new([7; 16]);
    const SOURCE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn place(method: &[u8], branch: &[u8], sent_by: &[u8]) -> Place {
        KEYS.server(method, branch, sent_by, SOURCE).place()
    }

    #[test]
    fn an_ack_finds_the_invite_and_other_methods_find_their_own() {
        let invite = place(b"INVITE", b"z9hG4bK1", b"a.example:5060");
        assert_eq!(place(b"ACK", b"z9hG4bK1", b"A.Example:5060"), invite);
        let cancel = KEYS.server(b"CANCEL", b"z9hG4bK1", b"a.example:5060", SOURCE);
        assert_eq!(cancel.place_of_invite(), invite);
        let register = place(b"REGISTER", b"z9hG4bK1", b"a.example:5060");
        let options = place(b"OPTIONS", b"z9hG4bK1", b"a.example:5060");
        let invite_in_lower_case = place(b"invite", b"z9hG4bK1", b"a.example:5060");
        let all = std::collections::BTreeSet::from([invite, cancel.place(), register, options, invite_in_lower_case]);
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn branch_sent_by_source_and_seed_all_count() {
        let key = |seed: u8, branch: &[u8], sent_by: &[u8], source| {
            Keys::new([seed; 16]).server(b"INVITE", branch, sent_by, source).place()
        };
        let six: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let keys = std::collections::BTreeSet::from([
            key(7, b"z9hG4bK1", b"a", SOURCE),
            key(8, b"z9hG4bK1", b"a", SOURCE),
            key(7, b"z9hG4bK1a", b"", SOURCE),
            key(7, b"z9hG4bK", b"1a", SOURCE),
            key(7, b"z9hG4bK1", b"a", None),
            key(7, b"z9hG4bK1", b"a", Some(six)),
            KEYS.client(b"INVITE", b"z9hG4bK1").place(),
        ]);
        assert_eq!(keys.len(), 7);
    }

    #[test]
    fn an_older_peer_is_matched_by_its_fields() {
        let fields =
            Fields2543 { request_uri: b"sip:a", from_tag: b"1", call_id: b"x", cseq: 1, via: b"SIP/2.0/UDP a" };
        let place = |method: &[u8], fields: &Fields2543<'_>| KEYS.server_2543(method, fields, SOURCE).place();
        let invite = place(b"INVITE", &fields);
        assert_eq!(place(b"ACK", &fields), invite);
        for other in [
            Fields2543 { request_uri: b"sip:b", ..fields },
            Fields2543 { from_tag: b"2", ..fields },
            Fields2543 { call_id: b"y", ..fields },
            Fields2543 { cseq: 2, ..fields },
            Fields2543 { via: b"SIP/2.0/UDP b", ..fields },
        ] {
            assert_ne!(place(b"INVITE", &other), invite);
        }
    }

    #[test]
    fn a_key_does_not_grow_with_its_text() {
        let long = vec![b'A'; 60_000];
        assert_ne!(place(b"INVITE", &long, &long), place(b"INVITE", &long, &long[1..]));
        assert_eq!(size_of::<ServerKey>(), 32);
    }
}
