//! What a phone that rings answers (RFC 3261 §13.2.2): it rings, it takes the call, it does not. The first that takes
//! it has it.

use std::sync::Arc;

use super::{Asked, Now, Pbx, begin::dialable, end::CLEARING, ring::Wishes, say};
use crate::{
    call::{
        course::Purpose,
        leg::{LegKey, State},
    },
    dialog::{MAX_SE, MIN_SE, SessionTimer},
    moment::Moment,
    transaction::{Bytes, ClientId},
    wire::{
        sdp::Direction,
        sip::{Contact, Message, Method, Name, Refresher},
    },
};

type Response = Message<Box<[u8]>>;

impl Pbx {
    /// A response to a request of a call; whether it was one.
    pub(in crate::pbx) fn call_response(&mut self, client: ClientId, message: &Response, code: u16, at: Now) -> bool {
        let Some((key, asked)) = self.calls.clients.get(&client).copied() else {
            return self.success_again(message, code, at.0);
        };
        if code >= 200 {
            self.calls.clients.remove(&client);
        }
        match asked {
            Asked::Invite => self.branch_response(key, message, code, at),
            Asked::Reinvite | Asked::Update if code >= 200 => {
                self.offer_response(key, client, asked, Some(message), code, at);
            }
            Asked::Bye if code >= 200 => self.calls.remove_leg(key),
            Asked::Reinvite | Asked::Update | Asked::Bye | Asked::Other => {}
        }
        true
    }

    /// A request of a call got no answer, or could not be sent.
    pub(in crate::pbx) fn call_unanswered(&mut self, client: ClientId, code: u16, at: Now) -> bool {
        let Some((key, asked)) = self.calls.clients.remove(&client) else { return false };
        match asked {
            Asked::Invite => match self.calls.leg(key).map(|leg| &leg.state) {
                Some(State::Outgoing { .. }) => self.branch_failed(key, code, at),
                _ => self.calls.remove_leg(key),
            },
            Asked::Reinvite | Asked::Update => self.offer_response(key, client, asked, None, code, at),
            Asked::Bye => self.calls.remove_leg(key),
            Asked::Other => {}
        }
        true
    }

    /// A 2xx that came again, for its ACK was lost; or that of another phone behind the same contact.
    fn success_again(&mut self, message: &Response, code: u16, now: Moment) -> bool {
        let (Ok(from), Ok(cseq)) = (message.from(), message.cseq()) else { return false };
        if !(200..300).contains(&code) || cseq.method != Method::Invite {
            return false;
        }
        let Some(key) = from.tag().and_then(|tag| self.leg_of(tag)) else { return false };
        let Some(leg) = self.calls.leg(key) else { return false };
        let tag = message.to().ok().and_then(|to| to.tag());
        if tag.is_some() && leg.dialog.remote_tag().is_some() && tag != leg.dialog.remote_tag() {
            self.end_other(key, message, cseq.number, now);
        } else if let Some((_, bytes)) = leg.acknowledged.as_ref().filter(|(number, _)| *number == cseq.number) {
            let (flow, bytes) = (leg.flow, bytes.clone());
            self.outputs.push_back(super::Output::Send { flow, bytes, owner: None });
        }
        true
    }

    /// A proxy rang several phones, and another one had taken the call before: acknowledged and ended (RFC 3261
    /// §13.2.2.4), out of a dialog of its own that nobody keeps.
    fn end_other(&mut self, key: LegKey, message: &Response, cseq: u32, now: Moment) {
        let Some((flow, mut dialog)) = self.calls.leg(key).map(|leg| (leg.flow, leg.dialog.clone())) else { return };
        let _ = dialog.answered(message);
        let (us, protocol) = (self.us(&flow), flow.protocol.token());
        let [ack, bye] = [self.branch(), self.branch()];
        let mut out = self.buffer();
        dialog.request(&mut out, Method::Ack, cseq, 70, (protocol, us, &*ack)).finish();
        self.outputs.push_back(super::Output::Send { flow, bytes: Bytes::from(&out[..]), owner: None });
        out.clear();
        let number = dialog.next_cseq();
        let request = dialog.request(&mut out, Method::Bye, number, 70, (protocol, us, &*bye));
        request.header("Reason", say::ELSEWHERE).finish();
        let transaction = self.keys.client(Method::Bye.text(), bye.as_bytes());
        // Without room for it the phone finds out by itself: nothing of its session is refreshed.
        let _ = self.layer.send_request(transaction, flow, Bytes::from(&out[..]), now);
        self.scratch = out;
    }

    fn branch_response(&mut self, key: LegKey, message: &Response, code: u16, at: Now) {
        let Some(leg) = self.calls.leg(key) else { return };
        match (&leg.state, code) {
            (State::Outgoing { .. }, 100) => {}
            (State::Outgoing { .. }, 101..=199) => self.rings(key, message, code, at),
            (State::Outgoing { .. }, 200..=299) => self.takes(key, message, at),
            (State::Outgoing { .. }, _) => self.declines(key, message, code, at),
            // It was quicker than our CANCEL, or answers it.
            (State::Cancelled, 200..=299) => self.end_late(key, message, at),
            (State::Cancelled, 300..) => self.calls.remove_leg(key),
            _ => {}
        }
    }

    /// Nobody wants it any more: acknowledged and ended.
    fn end_late(&mut self, key: LegKey, message: &Response, (now, _): Now) {
        let Some(leg) = self.calls.leg_mut(key) else { return };
        let _ = leg.dialog.answered(message);
        let cseq = message.cseq().map_or(1, |cseq| cseq.number);
        let is_elsewhere = self.calls.leg(key).is_some_and(|leg| self.calls.calls.contains_key(&leg.call));
        self.acknowledge(key, cseq);
        self.bye(key, if is_elsewhere { say::ELSEWHERE } else { CLEARING }, now);
    }

    /// A phone takes the call.
    fn takes(&mut self, key: LegKey, message: &Response, at: Now) {
        let (now, wall) = at;
        let Some(leg) = self.calls.leg_mut(key) else { return };
        let (id, place) = (leg.call, leg.place);
        let usable = leg.dialog.answered(message).is_ok() && leg.dialog.remote_tag().is_some();
        leg.state = State::Confirmed;
        leg.can_update = message.lists(Name::Allow, "UPDATE");
        let cseq = message.cseq().map_or(1, |cseq| cseq.number);
        let audio = self.answer_in(key, message);
        if let Some(media) = self.calls.leg_mut(key).and_then(|leg| leg.media.as_mut()) {
            media.theirs = audio.or(media.theirs.take());
        }
        self.acknowledge(key, cseq);
        let described = self.calls.leg(key).is_some_and(|leg| leg.media.as_ref().is_some_and(|m| m.theirs.is_some()));
        if !usable || !described {
            // It answered what nobody asked (RFC 3264 §6), or cannot be spoken to.
            self.bye(key, "SIP;cause=488;text=\"The answer does not fit the offer\"", now);
            return self.branch_gone(key, 488, at);
        }
        let session = self.agreed_timer(message, now);
        if let Some(leg) = self.calls.leg_mut(key) {
            leg.session = Some(session);
        }
        let codec = super::codec(self.calls.leg(key).and_then(|leg| leg.media.as_ref()));
        if let Some(call) = self.calls.calls.get_mut(&id) {
            if let Some(row) = call.record.legs.get_mut(place) {
                row.answered = Some(wall);
                row.status = 200;
                row.codec = codec;
            }
            if let Some(hunt) = &mut call.hunt {
                hunt.branches.retain(|branch| *branch != key);
                if let Some(timer) = hunt.timer.take() {
                    self.calls.timers.cancel(timer);
                }
            }
        }
        self.cancel_branches(id, Some(say::ELSEWHERE), at);
        let hunt = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.take());
        match hunt.map(|hunt| hunt.purpose) {
            Some(Purpose::Call) => self.answered(id, key, at),
            Some(Purpose::Transfer(referral)) => self.transferred(id, key, referral, at),
            None => self.bye(key, say::ELSEWHERE, now),
        }
        self.calls.retime(key);
    }

    /// A branch that answered is no use: the others may be.
    fn branch_gone(&mut self, key: LegKey, status: u16, at: Now) {
        let Some(id) = self.calls.leg(key).map(|leg| leg.call) else { return };
        self.note_end(key, status, at);
        let Some(hunt) = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.as_mut()) else { return };
        hunt.branches.retain(|branch| *branch != key);
        hunt.failed(status);
        if hunt.branches.is_empty() {
            self.hunt_over(id, status, "the phone's answer does not fit the offer", at);
        }
    }

    /// What the phone and we agreed on (RFC 4028 §7.2); a phone that knows no timers is asked by us.
    pub(super) fn agreed_timer(&self, response: &Response, now: Moment) -> SessionTimer {
        match response.session_expires().ok().flatten() {
            Some(expires) => {
                let ours = expires.refresher != Some(Refresher::Uas);
                SessionTimer::new(expires.seconds.clamp(MIN_SE, MAX_SE), ours, now)
            }
            None => SessionTimer::new(self.call_settings.session_time.seconds(), true, now),
        }
    }

    /// A phone does not take the call, or wants to be asked otherwise.
    fn declines(&mut self, key: LegKey, message: &Response, code: u16, at: Now) {
        let Some(leg) = self.calls.leg_mut(key) else { return };
        let id = leg.call;
        // Once a phone has rung, what it would be asked is part of that dialog.
        let retried = matches!(leg.state, State::Outgoing { retried: true, .. }) || leg.dialog.remote_tag().is_some();
        let wishes = match code {
            421 if message.lists(Name::Require, "100rel") => Some(Wishes { reliable: true, session: None }),
            422 => {
                message.seconds(Name::MinSe).ok().flatten().map(|min| Wishes { reliable: false, session: Some(min) })
            }
            _ => None,
        };
        if let Some(wishes) = wishes.filter(|wishes| !retried && wishes.session.is_none_or(|min| min <= MAX_SE))
            && self.send_invite(key, wishes, at.0)
        {
            return;
        }
        if let Some(hunt) = self.calls.calls.get_mut(&id).and_then(|call| call.hunt.as_mut()) {
            hunt.heard = true;
            if (300..400).contains(&code) && hunt.redirected.is_none() {
                hunt.redirected = redirected(message).map(Into::into);
            }
        }
        self.branch_failed(key, code, at);
    }

    /// The leg that has a tag of ours.
    pub(super) fn leg_of(&self, tag: &[u8]) -> Option<LegKey> {
        self.calls.tags.get(&number_of(tag)?).copied()
    }

    /// The caller's INVITE, to answer it.
    pub(super) fn invite_of(&self, key: LegKey) -> Option<Arc<Response>> {
        match &self.calls.leg(key)?.state {
            State::Incoming { invite, .. } => Some(Arc::clone(invite)),
            _ => None,
        }
    }
}

/// The number that a tag of ours is written for.
pub(super) fn number_of(tag: &[u8]) -> Option<u64> {
    let tag = std::str::from_utf8(tag).ok().filter(|tag| tag.len() == 16)?;
    u64::from_str_radix(tag, 16).ok()
}

/// The number that a phone sends the caller to.
fn redirected(message: &Response) -> Option<String> {
    let Some(Ok(Contact::Address(contact))) = message.contacts().next() else { return None };
    let number = dialable(contact.uri().ok()?.user?);
    (!number.is_empty()).then_some(number)
}

/// Both may send.
pub(super) const BOTH: Direction = Direction::SendRecv;
