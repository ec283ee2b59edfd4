//! Looking for somebody who answers: where a number leads, who rings, and who is next when nobody does.

use std::sync::Arc;

use super::{Now, Pbx, say};
use crate::{
    call::{
        CallId, EndedBy, LegKind,
        course::Purpose,
        leg::{LegKey, State},
    },
    directory::{Extension, Forwarding},
    registrar::StoredBinding,
    routing::{Route, route},
    transport::Flow,
};

/// What becomes of a number.
pub(super) enum Next {
    /// Its phones ring.
    Rings,
    /// It leads elsewhere.
    Forward(Arc<str>, Arc<Extension>),
    /// Nowhere: status and reason.
    Over(u16, String),
}

impl Pbx {
    /// Looks for whoever has `number`, for the hunt that the call has; follows forwards that need no phone.
    pub(super) fn hunt(&mut self, id: CallId, number: Arc<str>, at: Now) {
        match self.lead(id, &number, at) {
            Next::Rings => {}
            Next::Over(status, why) => self.hunt_over(id, status, &why, at),
            Next::Forward(to, by) => self.forward(id, to, &by, at),
        }
    }

    /// Follows a forward, once more for this call; so it comes back here [`Forwarding::MOST`] times at most.
    fn forward(&mut self, id: CallId, to: Arc<str>, by: &Arc<Extension>, at: Now) {
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
