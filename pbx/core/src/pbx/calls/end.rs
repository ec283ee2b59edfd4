//! How calls end: both sides are told, every port is given back, the record is whole.

use std::{sync::Arc, time::Duration};

use super::{Asked, Closing, Due, Now, Pbx};
use crate::{
    call::{
        CallId, Disposition, EndedBy, LegKind, Record,
        cause::q850,
        course::{Call, Purpose},
        leg::{Exchange, Leg, LegKey, State},
    },
    moment::Moment,
    pbx::{Output, Stored},
    wire::sip::Method,
};

/// How long the relay may take to say what went through a leg.
const PATIENCE: Duration = Duration::from_secs(5);
/// Why a leg ends whose other side hung up (RFC 3326 §2; Q.850: normal call clearing).
pub(super) const CLEARING: &str = "Q.850;cause=16";

impl Pbx {
    /// An administrator ends a call; whether there was one.
    pub fn hang_up(&mut self, id: CallId, at: Now) -> bool {
        let is_there = self.calls.calls.contains_key(&id);
        self.end_call(id, EndedBy::Administrator, 480, "ended by an administrator", at);
        self.settle(at);
        is_there
    }

    /// Every call ends: the daemon does.
    pub fn hang_up_all(&mut self, at: Now) {
        for id in self.calls.calls.keys().copied().collect::<Vec<_>>() {
            self.end_call(id, EndedBy::System, 503, "the daemon was stopped", at);
        }
        self.settle(at);
    }

    /// Ends a call. `status` is what a caller is told whose call was not answered.
    pub(super) fn end_call(&mut self, id: CallId, by: EndedBy, status: u16, why: &str, at: Now) {
        let Some(mut call) = self.calls.calls.remove(&id) else { return };
        let (now, wall) = at;
        let mut record_of_leg = |pbx: &mut Self, key: LegKey, status: u16| {
            if let Some(leg) = pbx.calls.leg(key) {
                end_row(&mut call.record, leg.place, &leg.number, status, wall);
            }
        };
        if let Some(hunt) = call.hunt.take() {
            if let Some(timer) = hunt.timer {
                self.calls.timers.cancel(timer);
            }
            for key in hunt.branches {
                record_of_leg(self, key, 487);
                self.cancel_branch(key, None, at);
            }
            if let Purpose::Transfer(referral) = hunt.purpose {
                self.notify(referral, 487, true, now);
            }
        }
        for key in [Some(call.near), call.far].into_iter().flatten() {
            let answered = self.calls.leg(key).is_some_and(|leg| leg.is_confirmed());
            record_of_leg(self, key, if answered { 200 } else { status });
            self.end_leg(key, status, now);
        }
        self.finish_record(id, call, by, status, why, at);
    }

    /// Ends one leg, as its course demands.
    pub(super) fn end_leg(&mut self, key: LegKey, status: u16, now: Moment) {
        let Some(leg) = self.calls.leg(key) else { return };
        match &leg.state {
            State::Incoming { id, invite, .. } => {
                let (id, invite) = (*id, Arc::clone(invite));
                self.calls.servers.remove(&id);
                self.answer_within((id, &invite), key, status, now, |reply| match status {
                    503 => reply.header("Retry-After", "5").finish(),
                    _ => reply.finish(),
                });
                self.close_media(key);
                self.calls.remove_leg(key);
            }
            State::Confirmed => self.bye(key, CLEARING, now),
            State::Outgoing { .. } | State::Cancelled | State::Ended => {}
        }
    }

    /// Ends an answered leg: at once, or when its ACK has come (RFC 3261 §15).
    pub(super) fn bye(&mut self, key: LegKey, reason: &str, now: Moment) {
        self.refuse_exchange(key, now);
        self.close_media(key);
        let Some(leg) = self.calls.leg_mut(key) else { return };
        leg.state = State::Ended;
        (leg.session, leg.again, leg.align, leg.exchange) = (None, None, false, Exchange::Idle);
        if leg.success.is_some() {
            leg.ends = true;
            return self.calls.retime(key);
        }
        self.send_bye(key, reason, now);
    }

    /// Sends the BYE; without room for it, nothing is left of the leg.
    pub(super) fn send_bye(&mut self, key: LegKey, reason: &str, now: Moment) {
        let sent = self.request_within(key, Method::Bye, Asked::Bye, now, |request| match reason {
            "" => request.finish(),
            reason => request.header("Reason", reason).finish(),
        });
        match sent {
            Some(_) => {
                if let Some(leg) = self.calls.leg_mut(key) {
                    leg.success = None;
                }
                self.calls.retime(key);
            }
            None => self.calls.remove_leg(key),
        }
    }

    /// A phone hung up.
    pub(super) fn hung_up(&mut self, key: LegKey, at: Now) {
        let Some(leg) = self.calls.leg(key) else { return };
        if matches!(leg.state, State::Outgoing { .. } | State::Cancelled) {
            // Whoever is called declines and does not hang up (RFC 3261 §15): its INVITE still waits for that.
            return;
        }
        let (id, kind) = (leg.call, leg.kind);
        let by = if kind == LegKind::Caller { EndedBy::Caller } else { EndedBy::Callee };
        let Some(call) = self.calls.calls.get_mut(&id) else { return self.calls.remove_leg(key) };
        let transfers = call.hunt.as_ref().is_some_and(|hunt| matches!(hunt.purpose, Purpose::Transfer(_)));
        if call.near != key && call.far != Some(key) {
            return self.calls.remove_leg(key);
        }
        if transfers && call.far == Some(key) {
            // The transferor leaves; whoever it transferred waits for the other phone.
            call.far = None;
            return self.leave(key, at);
        }
        let other = self.calls.other(key);
        if let Some(other) = other.filter(|other| self.calls.leg(*other).is_some_and(Leg::is_joining))
            && let Some(call) = self.calls.calls.get_mut(&id)
        {
            // The same from its other call: whom it consulted is being asked to join the first one.
            (call.near, call.far) = (other, None);
            return self.leave(key, at);
        }
        if matches!(self.calls.leg(key).map(|leg| &leg.state), Some(State::Incoming { .. })) {
            // It gave up with a BYE instead of a CANCEL (RFC 3261 §15.1.2).
            return self.end_call(id, by, 487, "", at);
        }
        self.leave(key, at);
        self.end_call(id, by, 200, "", at);
    }

    /// Nothing is left of a leg whose phone hung up.
    fn leave(&mut self, key: LegKey, at: Now) {
        self.note_end(key, 200, at);
        self.refuse_exchange(key, at.0);
        self.close_media(key);
        self.calls.remove_leg(key);
    }

    /// The row of a leg that ends.
    pub(super) fn note_end(&mut self, key: LegKey, status: u16, (_, wall): Now) {
        let Some(leg) = self.calls.legs.get(key.0) else { return };
        if let Some(call) = self.calls.calls.get_mut(&leg.call) {
            end_row(&mut call.record, leg.place, &leg.number, status, wall);
        }
    }

    fn finish_record(&mut self, id: CallId, call: Call, by: EndedBy, status: u16, why: &str, (now, wall): Now) {
        let mut record = call.record;
        let status = if call.answered.is_some() { 200 } else { status };
        record.ended = Some(wall);
        record.billed = call.answered.map_or(Duration::ZERO, |answered| now.since(answered));
        record.disposition = match status {
            200 => Disposition::Answered,
            486 | 600 => Disposition::Busy,
            487 => Disposition::Cancelled,
            408 | 480 | 603 if record.ringing.is_some() && by != EndedBy::Administrator => Disposition::NoAnswer,
            _ => Disposition::Failed,
        };
        record.status = status;
        record.cause = q850(status);
        record.ended_by = Some(by);
        record.why = why.into();
        record.legs.iter_mut().for_each(|leg| {
            leg.ended.get_or_insert(wall);
        });
        self.outputs.push_back(Output::Store(Stored::Call(Box::new(record.clone()))));
        let waits = self.calls.ending.values().filter(|(of, _)| *of == id).count();
        if waits > 0 {
            self.calls.closing.insert(id, Closing { record, waits });
            self.calls.timers.set(now + PATIENCE, Due::Closing(id));
        }
    }

    /// The relay did not say in time what went through.
    pub(super) fn closing_over(&mut self, id: CallId) {
        if self.calls.closing.contains_key(&id) {
            self.calls.ending.retain(|_, (of, _)| *of != id);
            self.close_record(id);
        }
    }
}

/// Ends the row at `place`, unless that has happened, or is another leg's.
fn end_row(record: &mut Record, place: usize, number: &str, status: u16, wall: crate::time::Timestamp) {
    if let Some(row) = record.legs.get_mut(place).filter(|row| &*row.number == number && row.ended.is_none()) {
        row.ended = Some(wall);
        if row.status == 0 {
            row.status = status;
        }
    }
}
