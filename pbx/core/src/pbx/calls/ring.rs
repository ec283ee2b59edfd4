//! The phones of an extension ring: a leg, a pair of ports and an INVITE for each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{Asked, Due, Now, Pbx, hunt::Next, offer, say};
use crate::{
    call::{
        CallId, LegKind, RecordLeg,
        leg::{Leg, LegKey, State},
    },
    dialog::MIN_SE,
    directory::Extension,
    media::usual,
    moment::Moment,
    registrar::StoredBinding,
    time::Timestamp,
    transport::Flow,
    wire::sip::{Method, Request},
};

/// What an INVITE of ours says beside what all say.
#[derive(Clone, Copy, Default)]
pub(super) struct Wishes {
    /// The phone answers provisionally only with PRACK (RFC 3262).
    pub(super) reliable: bool,
    /// The least session interval that the phone takes.
    pub(super) session: Option<u32>,
}

impl Pbx {
    pub(super) fn ring(
        &mut self,
        id: CallId,
        target: &Arc<Extension>,
        phones: Vec<(StoredBinding, Flow)>,
        at: Now,
    ) -> Next {
        let (now, _) = at;
        let breadth = self.calls.calls.get(&id).and_then(|call| call.breadth);
        let most = breadth.map_or(usize::MAX, |breadth| breadth as usize);
        let mut branches = Vec::new();
        let mut no_port = false;
        if let Some(hunt) = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.as_mut()) {
            // Among these the breadth is divided.
            hunt.called = phones.len().min(most);
        }
        for (binding, flow) in phones.into_iter().take(most) {
            match self.call_phone(id, target, &binding, flow, at) {
                Ok(key) => branches.push(key),
                Err(NotCalled::NoPort) => no_port = true,
                Err(NotCalled::Full) => {}
            }
        }
        if branches.is_empty() {
            let why = if no_port { "no media port is free: widen filter.media_ports" } else { "too many transactions" };
            return Next::Over(503, why.to_owned());
        }
        self.announce_near(id);
        let forwarding = &target.forwarding;
        let time = match forwarding.no_answer {
            Some(_) => Duration::from_secs(forwarding.no_answer_seconds.into()),
            None => self.call_settings.ring_time.get(),
        };
        let timer = self.calls.timers.set(now + time, Due::Ring(id));
        if let Some(hunt) = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.as_mut()) {
            hunt.target = Some(Arc::clone(target));
            hunt.called = branches.len();
            hunt.branches = branches;
            (hunt.best, hunt.heard, hunt.redirected) = (None, false, None);
            hunt.timer = Some(timer);
        }
        Next::Rings
    }

    /// The caller's ports, before it is told of them; a call that rings nobody needs none.
    fn announce_near(&mut self, id: CallId) {
        let Some(near) = self.calls.calls.get(&id).map(|call| call.near) else { return };
        let Some(mut media) = self.calls.leg_mut(near).and_then(|leg| leg.media.take()) else { return };
        self.announce(&mut media);
        if let Some(leg) = self.calls.leg_mut(near) {
            leg.media = Some(media);
        }
    }

    /// One phone rings: its leg, its media, its INVITE.
    fn call_phone(
        &mut self,
        id: CallId,
        target: &Arc<Extension>,
        binding: &StoredBinding,
        flow: Flow,
        (now, wall): Now,
    ) -> Result<LegKey, NotCalled> {
        let media = self.open_media(id.0).ok_or(NotCalled::NoPort)?;
        let (tag, unique) = (self.random.next(), self.random.next());
        let us = self.us(&flow);
        let Some(call) = self.calls.calls.get(&id) else { return Err(NotCalled::Full) };
        let kind = call.hunt.as_ref().map_or(LegKind::Branch, |hunt| hunt.kind);
        let place = call.record.legs.len();
        let host = self.host(target, us);
        let shown = &call.shown;
        let local = match shown.name.is_empty() {
            true => format!("<sip:{}@{host}>", shown.number),
            false => format!("{} <sip:{}@{host}>", say::quoted(&shown.name), shown.number),
        };
        let remote = format!("<sip:{}@{host}>", target.number);
        // The call's name in it: by that a trace finds the legs that come later.
        let call_id = format!("{}.{id}@{}", say::text(&crate::gate::hex(unique)), us.ip());
        let dialog = say::new_dialog(&call_id, tag, &local, &remote, &binding.contact, binding.path.as_deref());
        let number: Arc<str> = target.number.as_str().into();
        let row = record_leg(kind, &number, flow.remote, wall);
        let key = self.calls.insert_leg(Leg {
            kind,
            place,
            binding: Some(binding.id),
            media: Some(media),
            ..Leg::new(id, target.id, number, flow, (tag, dialog), State::Cancelled)
        });
        if let Some(call) = self.calls.calls.get_mut(&id) {
            call.record.legs.push(row);
        }
        if self.send_invite(key, Wishes::default(), now) {
            return Ok(key);
        }
        self.close_media(key);
        self.calls.remove_leg(key);
        Err(NotCalled::Full)
    }

    /// Sends a leg's INVITE with an offer of what the other side can do; whether it went out.
    pub(super) fn send_invite(&mut self, key: LegKey, wishes: Wishes, now: Moment) -> bool {
        let Some(leg) = self.calls.leg(key) else { return false };
        let (flow, id) = (leg.flow, leg.call);
        let Some(call) = self.calls.calls.get(&id) else { return false };
        let (near, max_forwards) = (call.near, call.max_forwards);
        let breadth = call.breadth.map(|breadth| (breadth / self.branches_of(id).max(1)).max(1));
        let formats = offer::what_can(self.calls.leg(near)).unwrap_or_else(usual);
        let ptime = self.calls.leg(near).and_then(|leg| leg.media.as_ref()?.offer.as_ref()?.audio.as_ref()?.ptime);
        let body = self.describe(key, |media, out, us| {
            media.session.offer(out, us, &formats, media.ours, true, ptime);
        });
        let (us, branch, contact) = (self.us(&flow), self.branch(), self.contact(&flow));
        let seconds = self.call_settings.session_time.seconds().max(wishes.session.unwrap_or(MIN_SE));
        let mut out = self.buffer();
        let Some(leg) = self.calls.leg_mut(key) else { return false };
        let number = leg.dialog.next_cseq();
        let via = (flow.protocol.token(), us, &*branch);
        let mut request: Request<'_> = leg.dialog.request(&mut out, Method::Invite, number, max_forwards, via);
        if let Some(breadth) = breadth {
            request = request.header_fmt("Max-Breadth", format_args!("{breadth}"));
        }
        let supported = if wishes.reliable { "replaces, timer, 100rel" } else { say::SUPPORTED };
        let request = request.header("Contact", &contact).header("Allow", say::allow()).header("Supported", supported);
        say::session_headers(request, seconds, None).header("User-Agent", "pbx").finish_with(say::SDP, &body);
        let sent = self.send_asked(key, Method::Invite, Asked::Invite, &branch, out, now);
        let Some((client, invite)) = sent else { return false };
        if let Some(leg) = self.calls.leg_mut(key) {
            let retried = wishes.reliable || wishes.session.is_some();
            leg.state = State::Outgoing { client, invite, rseq: 0, rang: false, retried };
        }
        true
    }

    fn branches_of(&self, id: CallId) -> u32 {
        let hunt = self.calls.calls.get(&id).and_then(|call| call.hunt.as_ref());
        hunt.map_or(1, |hunt| u32::try_from(hunt.called.max(1)).unwrap_or(u32::MAX))
    }

    /// The host of a tenant's URIs, as its phones know it.
    fn host(&self, extension: &Extension, us: SocketAddr) -> String {
        let domain = self.directory.tenant(extension.tenant).and_then(|tenant| tenant.domains.first().cloned());
        domain.unwrap_or_else(|| match us.ip() {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        })
    }
}

/// Why a phone was not called.
enum NotCalled {
    NoPort,
    Full,
}

/// A row of a record that begins.
pub(super) fn record_leg(kind: LegKind, number: &Arc<str>, remote: SocketAddr, wall: Timestamp) -> RecordLeg {
    RecordLeg {
        kind,
        number: Arc::clone(number),
        remote: remote.to_string().into(),
        started: wall,
        ringing: None,
        answered: None,
        ended: None,
        status: 0,
        codec: "".into(),
        media: None,
    }
}
