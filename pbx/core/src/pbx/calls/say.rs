//! What calls say: requests within their dialogs, the INVITE that rings a phone, and answers. Each names the address
//! that its peer reaches us by, and nothing of the other side.

use std::{net::SocketAddr, sync::LazyLock};

use super::{Asked, Calls, Pbx};
use crate::{
    call::leg::{LegKey, Media, State},
    dialog::{Dialog, MIN_SE},
    gate::{ALLOWED, hex},
    media::{self, Us, candidate, event, payloads},
    moment::Moment,
    pbx::Output,
    transaction::{Bytes, ClientId, ServerId},
    transport::Flow,
    wire::{
        sdp::Direction,
        sip::{Message, Method, Name, Origin, Reply, Request},
    },
};

/// The media type of offers and answers.
pub(super) const SDP: &str = "application/sdp";
/// What we say that we can do.
pub(super) const SUPPORTED: &str = "replaces, timer";
/// Why a phone stops ringing when another one was quicker (RFC 3326 §2).
pub(super) const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

impl Pbx {
    /// The address by which the peer of a flow reaches us.
    pub(super) fn us(&self, flow: &Flow) -> SocketAddr {
        self.reach.advertised(flow.transport, flow.local, flow.remote.ip())
    }

    /// Our Contact for the peer of a flow.
    pub(super) fn contact(&self, flow: &Flow) -> String {
        let us = self.us(flow);
        let protocol = flow.protocol.token().to_ascii_lowercase();
        format!("<sip:{us};transport={protocol}>")
    }

    pub(super) fn branch(&mut self) -> String {
        format!("z9hG4bK{}", text(&hex(self.random.next())))
    }

    /// Sends a request within a leg's dialog: `write` adds headers and the end. Nothing when there is no leg, or the
    /// transactions are at their limit.
    pub(super) fn request_within(
        &mut self,
        key: LegKey,
        method: Method<'_>,
        asked: Asked,
        now: Moment,
        write: impl FnOnce(Request<'_>),
    ) -> Option<ClientId> {
        let branch = self.branch();
        let flow = self.calls.leg(key)?.flow;
        let us = self.us(&flow);
        let mut out = self.buffer();
        let leg = self.calls.leg_mut(key)?;
        let number = leg.dialog.next_cseq();
        let via = (flow.protocol.token(), us, &*branch);
        write(leg.dialog.request(&mut out, method, number, 70, via).header("User-Agent", "pbx"));
        Some(self.send_asked(key, method, asked, &branch, out, now)?.0)
    }

    /// Hands a request to its transaction: that, and the request as it goes out.
    pub(super) fn send_asked(
        &mut self,
        key: LegKey,
        method: Method<'_>,
        asked: Asked,
        branch: &str,
        out: Vec<u8>,
        now: Moment,
    ) -> Option<(ClientId, Bytes)> {
        let flow = self.calls.leg(key)?.flow;
        let bytes = Bytes::from(&out[..]);
        self.scratch = out;
        let transaction = self.keys.client(method.text(), branch.as_bytes());
        let client = self.layer.send_request(transaction, flow, bytes.clone(), now).ok()?;
        self.calls.clients.insert(client, (key, asked));
        Some((client, bytes))
    }

    /// Sends the ACK of a 2xx to an INVITE of `cseq` (RFC 3261 §13.2.2.4), and keeps it for when that comes again.
    pub(super) fn acknowledge(&mut self, key: LegKey, cseq: u32) {
        let branch = self.branch();
        let Some(flow) = self.calls.leg(key).map(|leg| leg.flow) else { return };
        let us = self.us(&flow);
        let mut out = self.buffer();
        if let Some(leg) = self.calls.leg_mut(key) {
            leg.dialog.request(&mut out, Method::Ack, cseq, 70, (flow.protocol.token(), us, &*branch)).finish();
            let bytes = Bytes::from(&out[..]);
            leg.acknowledged = Some((cseq, bytes.clone()));
            self.outputs.push_back(Output::Send { flow, bytes, owner: None });
        }
        self.scratch = out;
    }

    /// Begins an answer to a leg's INVITE, UPDATE or other request; `write` adds headers and the end. Nothing when
    /// whoever asked waits no more.
    pub(super) fn answer_within(
        &mut self,
        (id, message): (ServerId, &Message<Box<[u8]>>),
        key: LegKey,
        status: u16,
        now: Moment,
        write: impl FnOnce(Reply<'_, '_, Box<[u8]>>),
    ) -> Option<Bytes> {
        let leg = self.calls.leg(key)?;
        let (tag, remote) = (hex(leg.tag), leg.flow.remote);
        let mut out = self.buffer();
        write(Reply::start(&mut out, message, status, remote, Some(&tag)));
        let bytes = Bytes::from(&out[..]);
        self.scratch = out;
        self.layer.respond(id, status, bytes.clone(), now).ok()?;
        Some(bytes)
    }

    /// Answers with a status and nothing else.
    pub(super) fn say(&mut self, of: (ServerId, &Message<Box<[u8]>>), key: LegKey, status: u16, now: Moment) {
        self.answer_within(of, key, status, now, |reply| reply.finish());
    }

    /// The SDP of a leg's media, written by `write` into a new buffer.
    pub(super) fn describe(&mut self, key: LegKey, write: impl FnOnce(&mut Media, &mut Vec<u8>, Us)) -> Vec<u8> {
        let mut body = Vec::new();
        let Some(flow) = self.calls.leg(key).map(|leg| leg.flow) else { return body };
        let ip = self.us(&flow).ip();
        if let Some(media) = self.calls.leg_mut(key).and_then(|leg| leg.media.as_mut()) {
            let us = Us { ip, pair: media.pair };
            write(media, &mut body, us);
        }
        body
    }

    /// What a leg's phone was told last, as it was.
    pub(super) fn described_again(&mut self, key: LegKey) -> Vec<u8> {
        self.describe(key, |media, out, _| {
            media.session.repeat(out);
        })
    }

    /// Tells the relay how a leg is now.
    pub(super) fn tell_media(&mut self, key: LegKey) {
        let Some(leg) = self.calls.leg(key) else { return };
        let Some(media) = &leg.media else { return };
        let peer = leg.peer.and_then(|peer| self.calls.leg(peer)?.media.as_ref());
        let remote = self.remote_of(&leg.flow, media, peer);
        let peer = peer.map(|peer| peer.id);
        let leg = media::Leg { remote, peer, local: leg.flow.local.ip().to_canonical(), ..self.unconnected(media) };
        self.outputs.push_back(Output::Media(media::Command::Set(leg)));
        if let Some(media) = self.calls.leg_mut(key).and_then(|leg| leg.media.as_mut()) {
            media.told = true;
        }
    }

    /// The relay, and so the filter, hears of a phone's next ports before the phone does: it will speak to them from where
    /// it is, and `to` hears it at once.
    pub(super) fn announce_move(&mut self, key: LegKey, to: LegKey, media: &mut Media) {
        let Some(flow) = self.calls.leg(key).map(|leg| leg.flow) else { return };
        let peer = self.calls.leg(to).and_then(|leg| leg.media.as_ref());
        let (remote, peer) = (self.remote_of(&flow, media, peer), peer.map(|peer| peer.id));
        let leg = media::Leg { remote, peer, local: flow.local.ip().to_canonical(), ..self.unconnected(media) };
        self.outputs.push_back(Output::Media(media::Command::Set(leg)));
        media.told = true;
    }

    /// Where a phone is, and what it may send and is sent by its peer, as far as both are described.
    fn remote_of(&self, flow: &Flow, media: &Media, peer: Option<&Media>) -> Option<media::Remote> {
        let theirs = media.theirs.as_ref()?;
        let source = flow.remote.ip().to_canonical();
        let [rtp, rtcp] = [theirs.rtp, theirs.rtcp].map(|described| candidate(described, source));
        if self.is_ours(flow, rtp) || self.is_ours(flow, rtcp) {
            return None;
        }
        let takes = peer.and_then(|peer| peer.theirs.as_ref());
        Some(media::Remote {
            rtp,
            rtcp,
            signalling: source,
            mux: theirs.mux,
            epoch: media.epoch,
            sends: theirs.direction.sends(),
            receives: theirs.direction.receives(),
            formats: takes.map(|takes| payloads(media.session.formats(), &takes.formats)).unwrap_or_default(),
            event: event(&theirs.formats),
        })
    }

    /// Whether what a phone describes as its own is a port of the appliance's: what is sent there would go round without
    /// end.
    fn is_ours(&self, flow: &Flow, described: SocketAddr) -> bool {
        let external = [self.reach.external_v4.map(Into::into), self.reach.external_v6.map(Into::into)];
        let own = [Some(flow.local.ip().to_canonical()), Some(self.us(flow).ip())];
        if !own.into_iter().chain(external).any(|own| own == Some(described.ip())) {
            return false;
        }
        // A phone may run on the same machine; only a port that a leg holds is ours.
        let mut held = self.calls.legs.iter().filter_map(|leg| leg.media.as_ref()).map(|media| media.pair);
        held.any(|pair| [pair.rtp, pair.rtcp()].contains(&described.port()))
    }

    /// A leg that hears nobody.
    pub(super) fn unconnected(&self, media: &Media) -> media::Leg {
        let local = std::net::Ipv4Addr::UNSPECIFIED.into();
        media::Leg { id: media.id, group: media.group, pair: media.pair, local, remote: None, peer: None }
    }

    /// Two legs hear each other.
    pub(super) fn connect(&mut self, one: LegKey, other: LegKey) {
        for (key, peer) in [(one, other), (other, one)] {
            if let Some(leg) = self.calls.leg_mut(key) {
                leg.peer = Some(peer);
            }
        }
        self.tell_media(one);
        self.tell_media(other);
    }

    /// The SDP of an offer to a leg: what its peer may be sent, in the direction that is asked for.
    pub(super) fn offer_body(&mut self, key: LegKey, formats: &[crate::wire::sdp::Format], way: Direction) -> Vec<u8> {
        self.describe(key, |media, out, us| {
            let mux = media.theirs.as_ref().is_some_and(|theirs| theirs.mux);
            media.ours = way;
            media.session.offer(out, us, formats, way, mux, None);
        })
    }
}

/// Ends an answer with a description, if there is one.
pub(super) fn finish(reply: Reply<'_, '_, Box<[u8]>>, body: &[u8]) {
    match body.is_empty() {
        true => reply.finish(),
        false => reply.finish_with(SDP, body),
    }
}

/// Whether the body of a message is said to be an offer or an answer.
pub(super) fn is_sdp(message: &Message<Box<[u8]>>) -> bool {
    message.content_type().is_some_and(|kind| kind.eq_ignore_ascii_case(SDP.as_bytes()))
}

/// The methods that a leg takes: `Allow` of every INVITE of ours, and of every 2xx to one.
pub(super) fn allow() -> &'static str {
    static ALLOW: LazyLock<String> = LazyLock::new(|| {
        let taken = ALLOWED.iter().filter(|method| **method != Method::Register);
        taken.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    });
    &ALLOW
}

/// `Session-Expires` and `Min-SE` of a request of ours.
pub(super) fn session_headers<'o>(request: Request<'o>, seconds: u32, refresher: Option<&str>) -> Request<'o> {
    let request = match refresher {
        Some(refresher) => request.header_fmt("Session-Expires", format_args!("{seconds};refresher={refresher}")),
        None => request.header_fmt("Session-Expires", format_args!("{seconds}")),
    };
    request.header_fmt("Min-SE", format_args!("{MIN_SE}"))
}

/// The ACK of a final answer other than 2xx to `invite` (RFC 3261 §17.1.1.3).
pub(in crate::pbx) fn ack_of<B: AsRef<[u8]>>(invite: &[u8], response: &Message<B>) -> Bytes {
    follow(invite, Method::Ack, response.value(Name::To), None)
}

/// The CANCEL of `invite` (RFC 3261 §9.1).
pub(super) fn cancel_of(invite: &[u8], reason: Option<&str>) -> Bytes {
    follow(invite, Method::Cancel, None, reason)
}

/// A request of the same transaction as an INVITE of ours.
fn follow(invite: &[u8], method: Method<'_>, to: Option<&[u8]>, reason: Option<&str>) -> Bytes {
    let Ok(invite) = Message::parse(invite, Origin::Stream) else { return Bytes::default() };
    let crate::wire::sip::StartLine::Request { uri, .. } = invite.start_line() else { return Bytes::default() };
    let mut out = Vec::with_capacity(512);
    let mut request = Request::start(&mut out, method, uri);
    for (name, value) in [
        (Name::Via, invite.value(Name::Via)),
        (Name::MaxForwards, Some(&b"70"[..])),
        (Name::From, invite.value(Name::From)),
        (Name::To, to.or_else(|| invite.value(Name::To))),
        (Name::CallId, invite.value(Name::CallId)),
        (Name::Route, invite.value(Name::Route)),
        (Name::Reason, reason.map(str::as_bytes)),
    ] {
        if let Some(value) = value {
            request = request.header(name.text(), value);
        }
    }
    let number = invite.cseq().map_or(1, |cseq| cseq.number);
    request.header_fmt("CSeq", format_args!("{number} {method}")).finish();
    out.into()
}

/// Hexadecimal digits as text.
pub(super) fn text(hex: &[u8; 16]) -> &str {
    std::str::from_utf8(hex).unwrap_or_default()
}

/// A name between quotes (RFC 3261 §25.1 quoted-string); nothing of it can end them.
pub(super) fn quoted(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for char in name.chars().filter(|char| !char.is_control()) {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

/// A dialog that we begin with a phone: `local` and `remote` are URIs in brackets, with names.
pub(super) fn new_dialog(
    call_id: &str,
    tag: u64,
    local: &str,
    remote: &str,
    target: &str,
    path: Option<&str>,
) -> Dialog {
    let local = format!("{local};tag={}", text(&hex(tag)));
    let routes = path.unwrap_or_default();
    Dialog::begin(call_id.as_bytes(), local.as_bytes(), remote.as_bytes(), target.as_bytes(), routes.as_bytes())
}

impl Calls {
    /// The INVITE of a leg that still rings, and its transaction.
    pub(super) fn ringing(&self, key: LegKey) -> Option<(ClientId, Bytes)> {
        match &self.leg(key)?.state {
            State::Outgoing { client, invite, .. } => Some((*client, invite.clone())),
            _ => None,
        }
    }
}
