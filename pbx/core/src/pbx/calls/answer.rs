//! A call that is answered: the caller's 200, its ACK, and both hear each other (RFC 3261 §13.3.1.4).

use super::{Now, Pbx, branch::BOTH, offer, say};
use crate::{
    call::{
        CallId, EndedBy,
        leg::{Exchange, LegKey, State},
    },
    dialog::{MAX_SE, MIN_SE, Repeat, SessionTimer},
    media::common,
    moment::Moment,
    pbx::{Output, Stored},
    transport::Flow,
    wire::sip::{Message, Name, Refresher},
};

type Request = Message<Box<[u8]>>;

/// How long a session lasts, and who sees to it.
pub(super) struct Agreed {
    pub(super) timer: SessionTimer,
    /// The phone knows session timers.
    pub(super) supported: bool,
}

impl Pbx {
    /// Somebody took the call: the caller is told.
    pub(super) fn answered(&mut self, id: CallId, far: LegKey, at: Now) {
        let (now, wall) = at;
        let number = self.calls.leg(far).map(|leg| leg.number.clone());
        let Some(call) = self.calls.calls.get_mut(&id) else { return };
        let near = call.near;
        call.far = Some(far);
        call.record.callee_number = number.unwrap_or_default();
        let Some(invite) = self.invite_of(near) else { return };
        let Some(body) = self.final_body(near, far) else {
            return self.end_call(id, EndedBy::System, 488, "the phones have no codec in common", at);
        };
        if let Some(call) = self.calls.calls.get_mut(&id) {
            call.answered = Some(now);
            call.record.answered = Some(wall);
        }
        let Some(leg) = self.calls.leg_mut(near) else { return };
        let State::Incoming { id: server, .. } = leg.state else { return };
        let flow = leg.flow;
        leg.state = State::Confirmed;
        if let Some(reliable) = &mut leg.reliable {
            reliable.waits = None;
        }
        self.calls.servers.remove(&server);
        let agreed = self.timer_for(&invite, now);
        let contact = self.contact(&flow);
        let cseq = invite.cseq().map_or(1, |cseq| cseq.number);
        let sent = self.answer_within((server, &invite), near, 200, now, |reply| {
            let reply = reply
                .copy(Name::RecordRoute)
                .header("Contact", &contact)
                .header("Allow", say::allow())
                .header("Supported", say::SUPPORTED);
            agreed.headers(reply).finish_with(say::SDP, &body);
        });
        if let Some(leg) = self.calls.leg_mut(near) {
            leg.success = sent.map(|bytes| Repeat::success(cseq, bytes, now));
            leg.session = Some(agreed.timer);
        }
        self.calls.retime(near);
        self.connect(near, far);
        self.note_codec(id, near);
        self.store_call(id);
    }

    /// The SDP of the caller's 200: the answer to its offer, or our offer.
    fn final_body(&mut self, near: LegKey, far: LegKey) -> Option<Vec<u8>> {
        let (media, theirs) =
            (self.calls.leg(near)?.media.as_ref()?, self.calls.leg(far)?.media.as_ref()?.theirs.clone()?);
        let Some(offered) = media.offer.as_ref().and_then(|offer| offer.audio.as_ref()) else {
            let body = self.describe(near, |media, out, us| {
                media.session.offer(out, us, &theirs.formats, BOTH, true, None);
            });
            self.calls.leg_mut(near)?.exchange = Exchange::InAck;
            return Some(body);
        };
        let differs = media.theirs.is_some() && {
            let wanted = common(&offered.formats, &theirs.formats);
            offer::types(&wanted) != offer::types(media.session.formats())
        };
        let body = self.settle_answer(near, far)?;
        let leg = self.calls.leg_mut(near)?;
        // The phone that answered speaks otherwise than the one that was heard early: agreed on once there is the ACK.
        leg.align |= differs;
        if let Some(media) = &mut leg.media {
            media.offer = None;
        }
        Some(body)
    }

    /// What we tell a phone that began, or refreshes, a session (RFC 4028 §9).
    pub(super) fn timer_for(&self, request: &Request, now: Moment) -> Agreed {
        let ours = self.call_settings.session_time.seconds();
        let supported = request.lists(Name::Supported, "timer");
        let (seconds, refresher) = match request.session_expires().ok().flatten() {
            Some(asked) => {
                let least = request.seconds(Name::MinSe).ok().flatten().unwrap_or(MIN_SE);
                (asked.seconds.min(ours.max(least)).clamp(MIN_SE, MAX_SE), asked.refresher)
            }
            None => (ours, None),
        };
        let by_us = !supported || refresher == Some(Refresher::Uas);
        Agreed { timer: SessionTimer::new(seconds, by_us, now), supported }
    }

    /// An ACK of a 2xx of ours.
    pub(in crate::pbx) fn acknowledged(&mut self, message: &Request, flow: &Flow, at: Now) {
        let Some(key) = message.to().ok().and_then(|to| self.leg_of(to.tag()?)) else { return };
        let Some(leg) = self.calls.leg_mut(key).filter(|leg| leg.dialog.owns(message)) else { return };
        let Ok(cseq) = message.cseq() else { return };
        if leg.success.as_ref().is_none_or(|success| success.cseq != cseq.number) {
            return;
        }
        let waits = matches!(leg.exchange, Exchange::InAck);
        if waits && !same_flow(&leg.flow, flow) {
            // Whoever only guesses tags moves no media; the phone is asked again.
            return;
        }
        leg.success = None;
        let (id, ends) = (leg.call, leg.ends);
        if waits {
            leg.exchange = Exchange::Idle;
        }
        if ends {
            self.send_bye(key, "", at.0);
        } else if waits {
            match self.answer_in(key, message) {
                Some(audio) => {
                    let way = audio.direction;
                    let mut before = None;
                    if let Some(media) = self.calls.leg_mut(key).and_then(|leg| leg.media.as_mut()) {
                        before = media.theirs.replace(audio).map(|audio| audio.direction);
                        media.epoch += 1;
                    }
                    self.note_codec(id, key);
                    if let Some(other) = self.calls.other(key) {
                        self.connect(key, other);
                        if before.is_some_and(|before| before != way) {
                            // It holds, or resumes, without having offered that.
                            self.agree_anew(other, at.0);
                        }
                    }
                }
                None => self.end_call(id, EndedBy::System, 488, "the ACK has no answer that fits our offer", at),
            }
        }
        self.align(key, at.0);
        self.calls.retime(key);
    }

    /// A PRACK (RFC 3262 §3): the provisional answer has arrived. Whether there was one.
    pub(super) fn confirmed_early(&mut self, key: LegKey, message: &Request, now: Moment) -> bool {
        let Some(rack) = message.rack().ok().flatten() else { return false };
        let Some(reliable) = self.calls.leg_mut(key).and_then(|leg| leg.reliable.as_mut()) else { return false };
        // Also when the final answer was quicker, after which nobody waits for it.
        let is_last = rack.rseq > 0 && rack.rseq == reliable.rseq;
        let fits = is_last && reliable.waits.as_ref().is_none_or(|waits| waits.cseq == rack.cseq);
        if fits {
            reliable.waits = None;
            let later = reliable.later.take();
            self.calls.retime(key);
            if let Some((code, early)) = later {
                self.tell_ringing(key, code, early, now);
            }
        }
        fits
    }

    /// The record says what is spoken.
    pub(super) fn note_codec(&mut self, id: CallId, key: LegKey) {
        let Some(leg) = self.calls.leg(key) else { return };
        let (place, codec, number) = (leg.place, super::codec(leg.media.as_ref()), leg.number.clone());
        let Some(call) = self.calls.calls.get_mut(&id) else { return };
        let answered = call.record.answered;
        if let Some(row) = call.record.legs.get_mut(place).filter(|row| row.number == number) {
            row.codec = codec.clone();
            row.answered = row.answered.or(answered);
            row.status = 200;
        }
        call.record.codec = codec;
    }

    /// The record as it is now goes to the store.
    pub(super) fn store_call(&mut self, id: CallId) {
        if let Some(call) = self.calls.calls.get(&id) {
            self.outputs.push_back(Output::Store(Stored::Call(Box::new(call.record.clone()))));
        }
    }
}

impl Agreed {
    /// `Session-Expires`, and `Require` when the phone is to send the refreshes.
    pub(super) fn headers<'o, 'm>(
        &self,
        reply: crate::wire::sip::Reply<'o, 'm, Box<[u8]>>,
    ) -> crate::wire::sip::Reply<'o, 'm, Box<[u8]>> {
        let refresher = if self.timer.ours { "uas" } else { "uac" };
        let reply = reply.header_fmt("Session-Expires", format_args!("{};refresher={refresher}", self.timer.seconds));
        if self.supported { reply.header("Require", "timer") } else { reply }
    }
}

/// Whether a message came the way that a leg's messages come.
pub(super) fn same_flow(leg: &Flow, message: &Flow) -> bool {
    match leg.connection {
        Some(connection) => message.connection == Some(connection),
        None => leg.transport == message.transport && leg.remote == message.remote,
    }
}
