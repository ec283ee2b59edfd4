//! Transfers (RFC 3515, RFC 3891, RFC 5589): a REFER is carried out here, and never passed on. Whoever is transferred
//! keeps its call with us; only whom it hears changes.

use std::sync::Arc;

use super::{Asked, Now, Of, Pbx, begin::dialable, offer, ring};
use crate::{
    call::{
        EndedBy, LegKind,
        course::{Hunt, Identity, Purpose, Referral},
        leg::{Join, Leg, LegKey, Offered},
    },
    media::payloads,
    moment::Moment,
    wire::{
        sdp::{Audio, Direction},
        sip::{Message, Method, Name, Replaces, reason, replaces_in},
    },
};

/// Transfers of one call at most: what goes in circles ends.
const MOST: u32 = 5;

impl Pbx {
    /// A phone wants the one that it talks to to talk to somebody else.
    pub(super) fn refer(&mut self, of: Of<'_>, key: LegKey, at: Now) {
        let (id, message) = of;
        let (now, _) = at;
        let Some((number, replaces)) = referred_to(message) else { return self.say((id, message), key, 400, now) };
        let Some(leg) = self.calls.leg(key) else { return };
        let (call_id, extension) = (leg.call, leg.extension);
        let confirmed = leg.is_confirmed();
        let Some(other) = self.calls.other(key).filter(|other| self.calls.leg(*other).is_some_and(Leg::is_confirmed))
        else {
            return self.say((id, message), key, 481, now);
        };
        let is_joining = self.calls.leg(other).is_some_and(Leg::is_joining);
        let Some(call) = self.calls.calls.get_mut(&call_id) else { return };
        if !confirmed || call.hunt.is_some() || is_joining {
            // One at a time.
            return self.say((id, message), key, 491, now);
        }
        if call.transfers >= MOST {
            return self.say((id, message), key, 482, now);
        }
        let consultation = match replaces {
            Some(value) => match self.consultation(&value, key) {
                Ok(leg) => Some(leg),
                Err(status) => return self.say((id, message), key, status, now),
            },
            None => None,
        };
        if let Some(call) = self.calls.calls.get_mut(&call_id) {
            call.transfers += 1;
        }
        let quiet = message.value(Name::ReferSub).is_some_and(|value| value.eq_ignore_ascii_case(b"false"));
        let cseq = message.cseq().map_or(1, |cseq| cseq.number);
        let referral = Referral { by: key, cseq, notify: !quiet };
        let contact = self.calls.leg(key).map(|leg| self.contact(&leg.flow)).unwrap_or_default();
        self.answer_within((id, message), key, 202, now, |reply| {
            let reply = reply.header("Contact", &contact);
            match quiet {
                true => reply.header("Refer-Sub", "false").finish(),
                false => reply.finish(),
            }
        });
        self.notify(referral, 100, false, now);
        if let Some(own) = consultation {
            if let Some(to) = self.calls.other(own).filter(|to| self.calls.leg(*to).is_some_and(Leg::is_confirmed)) {
                return self.join(other, to, [key, own], referral, at);
            }
            // Nobody has answered there yet: it becomes a blind transfer to the same number.
            if let Some(consulted) = self.calls.leg(own).map(|leg| leg.call) {
                self.end_call(consulted, EndedBy::Caller, 487, "transferred before it was answered", at);
            }
        }
        let shown = self.calls.leg(other).and_then(|leg| self.directory.extension_by_id(leg.extension)).cloned();
        if let Some(call) = self.calls.calls.get_mut(&call_id) {
            // The one that stays, and whose call it is then; and the transferor.
            (call.near, call.far) = (other, Some(key));
            if let Some(shown) = shown {
                call.shown = Identity::of(&shown);
            }
            call.hunt = Some(Hunt::new(Purpose::Transfer(referral), LegKind::Transfer, extension));
        }
        self.hunt(call_id, number, at);
    }

    /// The transferor's own leg in the call that `Replaces` names (RFC 3891 §3), or the status to refuse with.
    fn consultation(&self, value: &[u8], by: LegKey) -> Result<LegKey, u16> {
        let replaces = Replaces::parse(value).ok_or(400_u16)?;
        // The tags as the phone sees them, or as whoever it sends there would.
        let found = [(&replaces.to_tag, &replaces.from_tag), (&replaces.from_tag, &replaces.to_tag)]
            .into_iter()
            .find_map(|(ours, theirs)| {
                let key = self.leg_of(ours)?;
                let dialog = &self.calls.leg(key)?.dialog;
                let same = dialog.call_id() == &*replaces.call_id && dialog.remote_tag() == Some(&**theirs);
                same.then_some(key)
            });
        let key = found.ok_or(481_u16)?;
        let call = match (self.calls.leg(key), self.calls.leg(by)) {
            // Its own calls, and nobody else's.
            (Some(leg), Some(by_leg)) if leg.extension == by_leg.extension && leg.call != by_leg.call => leg.call,
            _ => return Err(403),
        };
        let hunt = self.calls.calls.get(&call).and_then(|call| call.hunt.as_ref());
        match hunt {
            // It is being transferred itself.
            Some(Hunt { purpose: Purpose::Transfer(_), .. }) => Err(491),
            _ => Ok(key),
        }
    }

    /// A transferor learns how it goes (RFC 3515 §2.4.5).
    pub(super) fn notify(&mut self, referral: Referral, status: u16, last: bool, now: Moment) {
        let Referral { by, cseq, notify } = referral;
        let talks = self.calls.leg(by).is_some_and(|leg| leg.is_confirmed());
        if !notify || !talks {
            return;
        }
        let Some(flow) = self.calls.leg(by).map(|leg| leg.flow) else { return };
        let contact = self.contact(&flow);
        let state = if last { "terminated;reason=noresource" } else { "active;expires=180" };
        let body = format!("SIP/2.0 {status} {}\r\n", reason(status));
        self.request_within(by, Method::Notify, Asked::Other, now, |request| {
            request
                .header("Contact", &contact)
                .header_fmt("Event", format_args!("refer;id={cseq}"))
                .header("Subscription-State", state)
                .finish_with("message/sipfrag;version=2.0", body.as_bytes());
        });
    }

    /// Somebody took a call that was transferred: it goes on there, and the transferor is let go.
    pub(super) fn transferred(&mut self, id: crate::call::CallId, to: LegKey, referral: Referral, at: Now) {
        let number = self.calls.leg(to).map(|leg| leg.number.clone());
        let Some(call) = self.calls.calls.get_mut(&id) else { return };
        let (near, from) = (call.near, call.far.replace(to));
        call.record.callee_number = number.unwrap_or_default();
        self.connect(near, to);
        self.notify(referral, 200, true, at.0);
        if let Some(from) = from {
            self.note_end(from, 200, at);
            self.bye(from, "", at.0);
        }
        self.realign(near, to, at.0);
        self.note_codec(id, to);
        self.store_call(id);
    }

    /// Nobody took it: the call is as it was.
    pub(super) fn transfer_failed(&mut self, id: crate::call::CallId, referral: Referral, status: u16, at: Now) {
        self.notify(referral, status, true, at.0);
        let Some(call) = self.calls.calls.get(&id) else { return };
        let (near, far) = (call.near, call.far);
        match far {
            Some(far) => self.connect(near, far),
            None => self.end_call(id, EndedBy::System, 200, "the transfer failed, and the transferor had left", at),
        }
    }

    /// A phone whose peer is another one now is asked anew, if it was on hold or they do not speak the same.
    fn realign(&mut self, near: LegKey, far: LegKey, now: Moment) {
        let media = |key| self.calls.leg(key).and_then(|leg: &Leg| leg.media.as_ref());
        let (Some(one), Some(other)) = (media(near), media(far)) else { return };
        let speaks = |from: &crate::call::leg::Media, to: &crate::call::leg::Media| {
            let Some(codec) = to.codec() else { return false };
            let takes: Vec<_> = to.theirs.iter().flat_map(|theirs| theirs.formats.iter().cloned()).collect();
            let all = payloads(from.session.formats(), &takes);
            let main = takes.iter().find(|format| format.codec.is_same(codec));
            main.is_some_and(|main| all.iter().any(|payload| payload.to == main.payload_type))
        };
        let talks = one.ours == Direction::SendRecv && other.ours == Direction::SendRecv;
        if !(talks && speaks(one, other) && speaks(other, one)) {
            self.agree_anew(near, now);
        }
    }

    /// An attended transfer: `to`, who talks to the transferor in another call, joins the call of `stays`.
    fn join(&mut self, stays: LegKey, to: LegKey, by: [LegKey; 2], referral: Referral, at: Now) {
        let (now, _) = at;
        let Some(call) = self.calls.leg(stays).map(|leg| leg.call) else { return };
        let formats = offer::what_can(self.calls.leg(stays)).unwrap_or_default();
        let ready = self.calls.leg(to).is_some_and(Leg::may_offer);
        let now_has = self.calls.leg(to).filter(|_| ready).and_then(|leg| leg.media.as_ref());
        let Some((session, theirs)) = now_has.map(|media| (media.session.clone(), media.theirs.clone())) else {
            return self.notify(referral, 503, true, now);
        };
        let Some(mut media) = self.new_media(call.0) else { return self.notify(referral, 503, true, now) };
        // The same session of the phone's, elsewhere.
        (media.session, media.theirs) = (session, theirs);
        let Some(flow) = self.calls.leg(to).map(|leg| leg.flow) else { return };
        let us = crate::media::Us { ip: self.us(&flow).ip(), pair: media.pair };
        let mut body = Vec::new();
        media.session.offer(&mut body, us, &formats, Direction::SendRecv, true, None);
        self.announce_move(to, stays, &mut media);
        if let Some(call) = self.calls.calls.get_mut(&call) {
            let mut hunt = Hunt::new(Purpose::Transfer(referral), LegKind::Transfer, crate::directory::ExtensionId(0));
            hunt.called = 1;
            (call.near, call.far, call.hunt) = (stays, Some(by[0]), Some(hunt));
        }
        let join = Join { media, call, to: stays, by };
        if !self.offer(to, Offered::Joined(Box::new(join.clone())), body, now) {
            self.not_joined(to, join, 503, at);
        }
    }

    /// The phone that is to join took the offer.
    pub(super) fn joined(&mut self, key: LegKey, join: Join, audio: Audio, at: Now) {
        let (now, wall) = at;
        let Join { mut media, call, to: stays, by: [transferor, own] } = join;
        let Some(consulted) = self.calls.leg(key).map(|leg| leg.call) else { return };
        if self.calls.leg(stays).is_none() || !self.calls.calls.contains_key(&call) {
            // Whom it was to hear has gone meanwhile.
            self.release(&media, call, usize::MAX);
            return self.end_call(consulted, EndedBy::System, 200, "the transfer came too late", at);
        }
        media.theirs = Some(audio);
        media.epoch += 1;
        // Out of the call with the transferor ...
        self.note_end(key, 200, at);
        self.close_media(key);
        // ... which may be somebody else by now.
        let left = self.calls.other(key).unwrap_or(own);
        if let Some(consulted) = self.calls.calls.get_mut(&consulted) {
            (consulted.near, consulted.far) = (left, None);
        }
        self.note_end(own, 200, at);
        let number = self.calls.leg(key).map(|leg| leg.number.clone()).unwrap_or_default();
        let remote = self.calls.leg(key).map(|leg| leg.flow.remote);
        self.end_call(consulted, EndedBy::Callee, 200, &format!("transferred into call {call}"), at);
        // ... and into the other one.
        let hunt = self.calls.calls.get_mut(&call).and_then(|call| call.hunt.take());
        let Some(entry) = self.calls.calls.get_mut(&call) else { return };
        let place = entry.record.legs.len();
        if let Some(remote) = remote {
            let mut row = ring::record_leg(LegKind::Transfer, &number, remote, wall);
            (row.answered, row.status) = (Some(wall), 200);
            entry.record.legs.push(row);
        }
        entry.record.callee_number = number;
        (entry.near, entry.far) = (stays, Some(key));
        self.calls.join_leg(key, call, place);
        if let Some(leg) = self.calls.leg_mut(key) {
            leg.media = Some(media);
        }
        self.connect(stays, key);
        if let Some(Purpose::Transfer(referral)) = hunt.map(|hunt| hunt.purpose) {
            self.notify(referral, 200, true, now);
        }
        self.note_end(transferor, 200, at);
        self.bye(transferor, "", now);
        self.realign(stays, key, now);
        self.note_codec(call, key);
        self.store_call(call);
    }

    /// The phone that was to join did not take the offer: both calls are as they were.
    pub(super) fn not_joined(&mut self, key: LegKey, join: Join, status: u16, at: Now) {
        let Join { media, call, .. } = join;
        self.release(&media, call, usize::MAX);
        let consulted = self.calls.leg_mut(key).map(|leg| {
            if let Some(kept) = &mut leg.media {
                // The version of its description goes on.
                kept.session = media.session;
            }
            leg.call
        });
        let left = consulted.filter(|id| self.calls.calls.get(id).is_some_and(|call| call.far.is_none()));
        let hunt = self.calls.calls.get_mut(&call).and_then(|call| call.hunt.take());
        if let Some(Purpose::Transfer(referral)) = hunt.map(|hunt| hunt.purpose) {
            self.transfer_failed(call, referral, status, at);
        }
        if let Some(left) = left {
            self.end_call(left, EndedBy::System, 200, "the transfer failed, and the transferor had left", at);
        }
    }
}

/// The number of `Refer-To`, and the `Replaces` in its URI.
fn referred_to(message: &Message<Box<[u8]>>) -> Option<(Arc<str>, Option<Vec<u8>>)> {
    let to = message.address(Name::ReferTo).ok()?;
    let uri = to.uri().ok().filter(|uri| uri.is_sip())?;
    let number = dialable(uri.user?);
    let replaces = uri.headers.and_then(replaces_in);
    (!number.is_empty()).then(|| (number.into(), replaces))
}
