//! What calls do when time passes: answers are repeated, phones stop ringing, silence ends calls.

use super::{Due, Now, Pbx};
use crate::{
    call::{EndedBy, leg::LegKey},
    dialog::Sign,
    pbx::Output,
};

impl Pbx {
    /// Does what is due.
    pub(in crate::pbx) fn calls_timeout(&mut self, at: Now) {
        // Once for each timer and no more, also should the clock stand at the end of time.
        for _ in 0..self.calls.timers.len() {
            let Some((_, due)) = self.calls.timers.pop_due(at.0) else { break };
            match due {
                Due::Leg(key) => {
                    if let Some(leg) = self.calls.leg_mut(key) {
                        leg.timer = None;
                    }
                    self.leg_due(key, at);
                    self.calls.retime(key);
                }
                Due::Ring(id) => self.nobody_answered(id, at),
                Due::Closing(id) => self.closing_over(id),
            }
        }
    }

    fn leg_due(&mut self, key: LegKey, at: Now) {
        let (now, _) = at;
        let Some(leg) = self.calls.leg_mut(key) else { return };
        let (id, flow) = (leg.call, leg.flow);
        if let Some(success) = leg.success.as_mut().filter(|success| now >= success.at()) {
            match success.due(now) {
                Ok(bytes) => {
                    let sends = bytes.map(|bytes| Output::Send { flow, bytes, owner: None });
                    self.outputs.extend(sends);
                }
                // RFC 3261 §13.3.1.4.
                Err(_) => {
                    leg.success = None;
                    if leg.ends {
                        return self.send_bye(key, "", now);
                    }
                    return self.end_call(id, EndedBy::System, 408, "a phone never acknowledged the answer", at);
                }
            }
        }
        let Some(leg) = self.calls.leg_mut(key) else { return };
        if let Some(reliable) = leg.reliable.as_mut()
            && let Some(waits) = reliable.waits.as_mut().filter(|waits| now >= waits.at())
        {
            match waits.due(now) {
                Ok(bytes) => {
                    let sends = bytes.map(|bytes| Output::Send { flow, bytes, owner: None });
                    self.outputs.extend(sends);
                }
                // RFC 3262 §3.
                Err(_) => {
                    reliable.waits = None;
                    return self.end_call(id, EndedBy::System, 504, "the caller never acknowledged that it rings", at);
                }
            }
        }
        let Some(leg) = self.calls.leg_mut(key) else { return };
        if leg.again.is_some_and(|again| now >= again) {
            leg.again = None;
            match leg.align {
                true => self.align(key, now),
                false => self.refresh(key, now),
            }
        }
        let Some(leg) = self.calls.leg_mut(key) else { return };
        match leg.session.as_mut().and_then(|session| session.due(now)) {
            Some(Sign::Refresh) => self.refresh(key, now),
            Some(Sign::Expired) => {
                self.end_call(id, EndedBy::System, 408, "a phone gave no sign of life for calls.session_time", at);
            }
            None => {}
        }
    }
}
