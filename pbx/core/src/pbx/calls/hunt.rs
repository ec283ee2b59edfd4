//! Looking for somebody who answers: where a number leads, who rings, and who is next when nobody does.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{Asked, Due, Now, Pbx, offer, say};
use crate::{
    call::{
        CallId, EndedBy, LegKind, RecordLeg,
        course::Purpose,
        leg::{Exchange, Leg, LegKey, State},
    },
    dialog::MIN_SE,
    directory::{Extension, Forwarding},
    media::usual,
    registrar::StoredBinding,
    routing::{Route, route},
    time::Timestamp,
    transport::Flow,
    wire::sip::{Method, Request},
};

/// What becomes of a number.
enum Next {
    /// Its phones ring.
    Rings,
    /// It leads elsewhere.
    Forward(Arc<str>, Arc<Extension>),
    /// Nowhere: status and reason.
    Over(u16, String),
}

/// What an INVITE of ours says beside what all say.
#[derive(Clone, Copy, Default)]
pub(super) struct Wishes {
    /// The phone answers provisionally only with PRACK (RFC 3262).
    pub(super) reliable: bool,
    /// The least session interval that the phone takes.
    pub(super) session: Option<u32>,
}

impl Pbx {
    /// Looks for whoever has `number`, for the hunt that the call has; follows forwards that need no phone.
    pub(super) fn hunt(&mut self, id: CallId, number: Arc<str>, at: Now) {
        let mut number = number;
        loop {
            match self.lead(id, &number, at) {
                Next::Rings => return,
                Next::Over(status, why) => return self.hunt_over(id, status, &why, at),
                Next::Forward(to, by) => {
                    if !self.may_forward(id, &by) {
                        return self.hunt_over(id, 482, "forwarded more often than a call may be", at);
                    }
                    number = to;
                }
            }
        }
    }

    /// Follows a forward, once more for this call.
    pub(super) fn forward(&mut self, id: CallId, to: Arc<str>, by: &Arc<Extension>, at: Now) {
        match self.may_forward(id, by) {
            true => self.hunt(id, to, at),
            false => self.hunt_over(id, 482, "forwarded more often than a call may be", at),
        }
    }

    fn may_forward(&mut self, id: CallId, by: &Arc<Extension>) -> bool {
        let Some(call) = self.calls.calls.get_mut(&id) else { return false };
        call.forwards += 1;
        if call.forwards > Forwarding::MOST {
            return false;
        }
        if let Some(hunt) = &mut call.hunt {
            // Whoever forwards pays: with its permissions.
            hunt.by = by.id;
            if hunt.kind == LegKind::Branch {
                hunt.kind = LegKind::Forward;
            }
        }
        true
    }

    fn lead(&mut self, id: CallId, number: &Arc<str>, at: Now) -> Next {
        let Some(call) = self.calls.calls.get(&id) else { return Next::Rings };
        let Some(hunt) = &call.hunt else { return Next::Rings };
        // Nobody else has answered what is transferred before that succeeds.
        let is_call = matches!(hunt.purpose, Purpose::Call);
        let emergency = self.emergency.contains(&**number);
        let target = match route(&self.directory, call.record.tenant, hunt.by, number, emergency) {
            Route::Extension(extension) => extension,
            Route::Nowhere(why) => return Next::Over(why.status(), why.to_string()),
        };
        let own = self.calls.leg(call.near).map(|leg| leg.flow);
        if let Some(call) = self.calls.calls.get_mut(&id).filter(|_| is_call) {
            call.record.callee_number = target.number.as_str().into();
        }
        let forwarding = &target.forwarding;
        if let Some(to) = &forwarding.always {
            return Next::Forward(to.as_str().into(), target);
        }
        if forwarding.do_not_disturb {
            return Next::Over(480, format!("{} does not want to be disturbed", target.number));
        }
        let phones: Vec<(StoredBinding, Flow)> = self
            .registrar
            .of(target.id)
            .filter_map(|binding| Some((binding.stored().clone(), binding.flow()?)))
            .collect();
        let is_own = |flow: &Flow| own.is_some_and(|own| own.transport == flow.transport && own.remote == flow.remote);
        let (own, phones): (Vec<_>, Vec<_>) = phones.into_iter().partition(|(_, flow)| is_own(flow));
        if phones.is_empty() {
            return match (&forwarding.offline, own.is_empty()) {
                (_, false) => Next::Over(486, "the phone called itself".to_owned()),
                (Some(to), true) => Next::Forward(to.as_str().into(), target),
                (None, true) => Next::Over(480, format!("no phone of {} can be reached", target.number)),
            };
        }
        self.ring(id, &target, phones, at)
    }

    fn ring(&mut self, id: CallId, target: &Arc<Extension>, phones: Vec<(StoredBinding, Flow)>, at: Now) -> Next {
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
            call: id,
            kind,
            place,
            extension: target.id,
            number,
            flow,
            binding: Some(binding.id),
            tag,
            dialog,
            state: State::Cancelled,
            media: Some(media),
            peer: None,
            success: None,
            reliable: None,
            acknowledged: None,
            exchange: Exchange::Idle,
            align: false,
            ends: false,
            session: None,
            again: None,
            timer: None,
            can_update: false,
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
    pub(super) fn send_invite(&mut self, key: LegKey, wishes: Wishes, now: crate::moment::Moment) -> bool {
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

    /// A branch is over: with what it answered, if it answered.
    pub(super) fn branch_failed(&mut self, key: LegKey, status: u16, at: Now) {
        let Some(id) = self.calls.leg(key).map(|leg| leg.call) else { return };
        self.note_end(key, status, at);
        self.close_media(key);
        self.calls.remove_leg(key);
        let Some(hunt) = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.as_mut()) else { return };
        let before = hunt.branches.len();
        hunt.branches.retain(|branch| *branch != key);
        if hunt.branches.len() == before {
            // It was given up before.
            return;
        }
        hunt.failed(status);
        if hunt.branches.is_empty() {
            self.round_over(id, at);
        } else if status >= 600 {
            // Whoever declines declines for all (RFC 3261 §16.7 step 5).
            self.cancel_branches(id, None, at);
            self.round_over(id, at);
        }
    }

    /// All phones of this round have declined.
    fn round_over(&mut self, id: CallId, at: Now) {
        let Some(hunt) = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.as_mut()) else { return };
        if let Some(timer) = hunt.timer.take() {
            self.calls.timers.cancel(timer);
        }
        let (best, heard) = (hunt.best.unwrap_or(480), hunt.heard);
        let (target, redirected) = (hunt.target.take(), hunt.redirected.take());
        let Some(target) = target else { return self.hunt_over(id, best, "", at) };
        let forwarding = &target.forwarding;
        let forward = match (redirected, best) {
            (Some(to), _) => Some(to),
            (None, 486 | 600) => forwarding.busy.as_deref().map(Into::into),
            (None, _) if !heard => forwarding.offline.as_deref().map(Into::into),
            (None, _) => None,
        };
        if let Some(to) = forward {
            return self.forward(id, to, &target, at);
        }
        let status = match best {
            // What a phone says of itself means nothing to who called us; nor is it the caller's to answer for.
            401 | 403 | 407 | 408 | 481 | 500..=599 => 480,
            300..=399 => 480,
            status => status,
        };
        self.hunt_over(id, status, "", at);
    }

    /// Nobody answered in time.
    pub(super) fn nobody_answered(&mut self, id: CallId, at: Now) {
        let Some(hunt) = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.as_mut()) else { return };
        hunt.timer = None;
        let target = hunt.target.take();
        self.cancel_branches(id, None, at);
        match target.as_ref().and_then(|target| target.forwarding.no_answer.as_deref()) {
            Some(to) => {
                let (to, by) = (to.into(), target.as_ref().map(Arc::clone));
                if let Some(by) = by {
                    self.forward(id, to, &by, at);
                }
            }
            None => self.hunt_over(id, 480, "nobody answered in time", at),
        }
    }

    /// The search is over, and nobody was found.
    pub(super) fn hunt_over(&mut self, id: CallId, status: u16, why: &str, at: Now) {
        let Some(call) = self.calls.calls.get_mut(&id) else { return };
        let Some(hunt) = call.hunt.take() else { return };
        if let Some(timer) = hunt.timer {
            self.calls.timers.cancel(timer);
        }
        for key in hunt.branches {
            self.cancel_branch(key, None, at);
        }
        match hunt.purpose {
            Purpose::Call => self.end_call(id, EndedBy::System, status, why, at),
            Purpose::Transfer(referral) => self.transfer_failed(id, referral, status, at),
        }
    }

    /// Stops the phones that ring.
    pub(super) fn cancel_branches(&mut self, id: CallId, reason: Option<&str>, at: Now) {
        let Some(hunt) = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.as_mut()) else { return };
        for key in std::mem::take(&mut hunt.branches) {
            self.cancel_branch(key, reason, at);
        }
    }

    /// Stops one phone that rings; its leg stays until it has said so.
    pub(super) fn cancel_branch(&mut self, key: LegKey, reason: Option<&str>, at: Now) {
        let Some((client, invite)) = self.calls.ringing(key) else { return };
        let cancel = say::cancel_of(&invite, reason);
        self.note_end(key, 487, at);
        self.close_media(key);
        match self.layer.cancel(client, cancel, at.0) {
            Ok(()) => {
                if let Some(leg) = self.calls.leg_mut(key) {
                    leg.state = State::Cancelled;
                }
            }
            // It has just ended by itself.
            Err(_) => {
                self.calls.clients.remove(&client);
                self.calls.remove_leg(key);
            }
        }
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
