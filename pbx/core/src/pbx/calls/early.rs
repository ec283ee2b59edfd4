//! A phone rings, and the caller hears it: provisional answers of both sides, reliable or not (RFC 3262), and media
//! before the answer.

use super::{Asked, Now, Pbx, say};
use crate::{
    call::{
        course::Purpose,
        leg::{LegKey, Reliable, State},
    },
    dialog::Repeat,
    media::common,
    moment::Moment,
    wire::{
        sdp::{Audio, Description},
        sip::{Message, Method, Name},
    },
};

type Response = Message<Box<[u8]>>;

impl Pbx {
    pub(super) fn rings(&mut self, key: LegKey, message: &Response, code: u16, (now, wall): Now) {
        let Some(leg) = self.calls.leg_mut(key) else { return };
        let (id, place, number) = (leg.call, leg.place, leg.number.clone());
        // What cannot be used of it is told again in the final answer.
        let _ = leg.dialog.answered(message);
        let State::Outgoing { rseq, rang, .. } = &mut leg.state else { return };
        let reliable = message.rseq().ok().flatten().filter(|_| message.lists(Name::Require, "100rel"));
        let is_new = match reliable {
            // In order, and each once (RFC 3262 §4).
            Some(number) => (*rseq == 0 || number == *rseq + 1).then(|| *rseq = number).is_some(),
            None => true,
        };
        if !is_new {
            return;
        }
        let first = code == 180 && !std::mem::replace(rang, true);
        if let Some(number) = reliable {
            let invite = message.cseq().map_or(1, |cseq| cseq.number);
            self.request_within(key, Method::Prack, Asked::Other, now, |request| {
                request.header_fmt("RAck", format_args!("{number} {invite} INVITE")).finish();
            });
        }
        let Some(call) = self.calls.calls.get_mut(&id) else { return };
        if let Some(row) = call.record.legs.get_mut(place).filter(|_| first) {
            row.ringing.get_or_insert(wall);
        }
        let Some(hunt) = &mut call.hunt else { return };
        hunt.heard = true;
        let alone = hunt.called == 1;
        let transfer = match hunt.purpose {
            Purpose::Call => None,
            Purpose::Transfer(referral) => Some(referral),
        };
        if first && transfer.is_none() {
            call.record.callee_number = number;
            call.record.ringing.get_or_insert(wall);
        }
        let near = call.near;
        let early = if alone { self.early(key, message) } else { false };
        match transfer {
            Some(referral) if first => self.notify(referral, 180, false, now),
            Some(_) => {}
            None => self.tell_ringing(near, code, early, now),
        }
    }

    /// An early answer of the only phone that rings: its media is heard. Whether there was one.
    fn early(&mut self, key: LegKey, message: &Response) -> bool {
        let Some(audio) = self.answer_in(key, message) else { return false };
        let Some(leg) = self.calls.leg_mut(key) else { return false };
        let Some(media) = &mut leg.media else { return false };
        media.theirs = Some(audio);
        let id = leg.call;
        let Some(near) = self.calls.calls.get(&id).map(|call| call.near) else { return false };
        // A caller who offered learns of the answer; one who talks already hears it at once.
        let can = match self.calls.leg(near).map(|leg| &leg.state) {
            Some(State::Incoming { .. }) => self.settle_answer(near, key).is_some(),
            Some(State::Confirmed) => true,
            _ => false,
        };
        if can {
            self.connect(near, key);
        }
        can
    }

    /// What can be used of the SDP of a response, as the answer to our offer.
    pub(super) fn answer_in(&self, key: LegKey, message: &Response) -> Option<Audio> {
        let body = Some(message.body()).filter(|body| say::is_sdp(message) && !body.is_empty())?;
        let description = Description::parse(body).ok()?;
        let media = self.calls.leg(key)?.media.as_ref()?;
        media.session.check(&description).ok().map(|accepted| accepted.audio)
    }

    /// Fixes what the caller is answered, out of its offer and of what the phone took; nothing if they have no codec
    /// in common, or the caller offered nothing. What it was told before stays.
    pub(super) fn settle_answer(&mut self, near: LegKey, far: LegKey) -> Option<Vec<u8>> {
        let theirs = self.calls.leg(far)?.media.as_ref()?.theirs.clone()?;
        let media = self.calls.leg(near)?.media.as_ref()?;
        let offer = media.offer.clone()?;
        let audio = offer.audio.clone()?;
        if media.theirs.is_some() {
            return Some(self.described_again(near));
        }
        let formats = common(&audio.formats, &theirs.formats);
        if formats.is_empty() {
            return None;
        }
        let way = theirs.direction.and(audio.direction.reversed());
        Some(self.describe(near, |media, out, us| {
            media.session.answer(out, &offer, us, &formats, way);
            media.ours = way;
            let agreed = common(&formats, &audio.formats);
            media.theirs = Some(Audio { formats: agreed, ..audio });
        }))
    }

    /// The caller hears that it rings, once for each status; reliably if it asked for that.
    pub(super) fn tell_ringing(&mut self, near: LegKey, code: u16, early: bool, now: Moment) {
        // 181 and 182 say of the other side what is not the caller's business.
        let status = if early { 183 } else { 180 };
        if code != 180 && !early {
            return;
        }
        let Some(leg) = self.calls.leg_mut(near) else { return };
        let State::Incoming { id, told, .. } = &mut leg.state else { return };
        if *told == status || (*told == 183 && status == 180) {
            return;
        }
        let (id, before) = (*id, std::mem::replace(told, status));
        if let Some(reliable) = leg.reliable.as_mut().filter(|reliable| reliable.waits.is_some()) {
            // One at a time (RFC 3262 §3): this one when the last one has arrived.
            reliable.later = Some((code, early));
            *told = before;
            return;
        }
        let rseq = leg.reliable.as_mut().map(|reliable| {
            reliable.rseq += 1;
            reliable.rseq
        });
        let body = match early {
            true => self.described_again(near),
            false => Vec::new(),
        };
        let Some(flow) = self.calls.leg(near).map(|leg| leg.flow) else { return };
        let contact = self.contact(&flow);
        let Some(invite) = self.invite_of(near) else { return };
        let cseq = invite.cseq().map_or(1, |cseq| cseq.number);
        let sent = self.answer_within((id, &invite), near, status, now, |reply| {
            let reply = reply.copy(Name::RecordRoute).header("Contact", &contact).header("Allow", say::allow());
            let reply = match rseq {
                Some(rseq) => reply.header("Require", "100rel").header_fmt("RSeq", format_args!("{rseq}")),
                None => reply,
            };
            say::finish(reply, &body);
        });
        if let (Some(_), Some(bytes)) = (rseq, sent)
            && let Some(Reliable { waits, .. }) = self.calls.leg_mut(near).and_then(|leg| leg.reliable.as_mut())
        {
            *waits = Some(Repeat::provisional(cseq, bytes, now));
            self.calls.retime(near);
        }
    }
}
