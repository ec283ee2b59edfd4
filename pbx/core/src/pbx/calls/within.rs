//! Requests within the dialogs of calls: whose they are, and what becomes of them. Only from where the leg's messages
//! come, or with a proof (RFC 3261 §22).

use std::{sync::Arc, time::Duration};

use super::{Asked, Now, Of, Pbx, answer::same_flow};
use crate::{
    auth::Reuse,
    call::leg::{LegKey, State},
    dialog::Order,
    gate::{ALLOWED, Credential},
    media::{Command, dtmf},
    pbx::Incoming,
    transaction::{Holder, ServerId},
    wire::sip::Method,
};

impl Pbx {
    /// A request with a tag of ours, perhaps.
    pub(in crate::pbx) fn within(
        &mut self,
        id: ServerId,
        incoming: &Incoming<'_>,
        method: Method<'_>,
        credential: Option<Credential>,
        known: bool,
    ) {
        let message = incoming.message;
        let key = message.to().ok().and_then(|to| self.leg_of(to.tag()?));
        let Some(key) = key.filter(|key| self.calls.leg(*key).is_some_and(|leg| leg.dialog.owns(message))) else {
            return self.refuse(id, incoming, known);
        };
        let proved = self.proves(key, credential);
        let here = self.calls.leg(key).is_some_and(|leg| same_flow(&leg.flow, &incoming.flow));
        if !here && !proved {
            let tenant = self.calls.leg(key).and_then(|leg| self.directory.extension_by_id(leg.extension));
            return match tenant.map(|extension| extension.tenant) {
                Some(tenant) => self.challenge(id, incoming, method, tenant),
                None => self.refuse(id, incoming, known),
            };
        }
        let Ok(cseq) = message.cseq() else { return self.answer(id, incoming, 400) };
        let Some(leg) = self.calls.leg_mut(key) else { return };
        // One phone does not take the room of all with what it asks in its call; the end of one makes room.
        let holder = Holder(leg.extension.0);
        if method != Method::Bye && !self.layer.hold_for(id, holder) {
            self.overload.no_room(crate::overload::Class::InDialog);
            return self.layer.forget(id);
        }
        if leg.dialog.receive(cseq.number) == Order::Old {
            return self.answer(id, incoming, 500);
        }
        if !here {
            self.moved(key, incoming.flow);
        }
        let at = (incoming.now, incoming.wall);
        let message = Arc::new(message.borrowed().into_owned());
        self.carry_out_within((id, &message), key, method, at);
        self.calls.retime(key);
    }

    /// Whether a credential proves that the leg's phone sent a request. It is used up by that, wherever it came from:
    /// whoever copies it proves nothing.
    fn proves(&mut self, key: LegKey, credential: Option<Credential>) -> bool {
        let Some(credential) = credential else { return false };
        let Credential { extension, nonce_id, issued, nc, .. } = credential;
        let is_theirs = self.calls.leg(key).is_some_and(|leg| leg.extension == extension);
        self.replay.check(nonce_id, issued, nc) != Reuse::Replayed && is_theirs && self.holds(&credential)
    }

    /// A leg's phone is somewhere else: its media may be too.
    pub(super) fn moved(&mut self, key: LegKey, flow: crate::transport::Flow) {
        let Some(leg) = self.calls.leg_mut(key) else { return };
        leg.flow = flow;
        let Some(media) = &mut leg.media else { return };
        media.epoch += 1;
        if media.told {
            self.tell_media(key);
        }
    }

    fn carry_out_within(&mut self, of: Of<'_>, key: LegKey, method: Method<'_>, at: Now) {
        let (id, message) = of;
        let (now, _) = at;
        let state = self.calls.leg(key).map(|leg| &leg.state);
        let is_early = matches!(state, Some(State::Incoming { .. } | State::Outgoing { .. }));
        let is_over = matches!(state, Some(State::Ended | State::Cancelled));
        match method {
            Method::Bye => {
                self.say((id, message), key, 200, now);
                self.hung_up(key, at);
            }
            _ if is_over => self.say((id, message), key, 481, now),
            Method::Prack => {
                let status = if self.confirmed_early(key, message, now) { 200 } else { 481 };
                self.say((id, message), key, status, now);
            }
            Method::Options => {
                self.answer_within((id, message), key, 200, now, |reply| {
                    reply.allow(ALLOWED).header("Accept", super::say::SDP).finish();
                });
            }
            // The INVITE is not answered yet (RFC 3261 §14.2, RFC 3311 §5.2).
            Method::Invite | Method::Update if is_early => {
                self.answer_within((id, message), key, 500, now, |reply| reply.header("Retry-After", "2").finish());
            }
            Method::Invite | Method::Update => self.offered((id, message), key, method, at),
            Method::Info => self.info((id, message), key, at),
            // There is nobody yet whom it could transfer.
            Method::Refer if is_early => self.say((id, message), key, 491, now),
            Method::Refer => self.refer((id, message), key, at),
            _ => {
                self.answer_within((id, message), key, 405, now, |reply| reply.allow(ALLOWED).finish());
            }
        }
    }

    /// A digit by INFO goes on as a telephone event where the other phone takes those, else as it came.
    fn info(&mut self, of: Of<'_>, key: LegKey, (now, _): Now) {
        let message = of.1;
        let kind = message.content_type().unwrap_or_default();
        let Some((digit, duration)) = dtmf::of_info(kind, message.body()) else {
            let status = if message.body().is_empty() { 200 } else { 415 };
            self.answer_within((of.0, message), key, status, now, |reply| reply.finish());
            return;
        };
        self.say((of.0, message), key, 200, now);
        self.press(key, digit, duration, now);
    }

    /// The other phone hears a digit.
    fn press(&mut self, key: LegKey, digit: char, duration: Duration, now: crate::moment::Moment) {
        let Some(other) = self.calls.other(key) else { return };
        let Some(media) = self.calls.leg(other).and_then(|leg| leg.media.as_ref()) else { return };
        let takes = media.theirs.as_ref().and_then(|theirs| crate::media::event(&theirs.formats));
        if takes.is_some() {
            let leg = media.id;
            self.outputs.push_back(super::Output::Media(Command::Digit { leg, digit, duration }));
            return;
        }
        let mut body = Vec::new();
        dtmf::write_info(&mut body, digit, duration);
        self.request_within(other, Method::Info, Asked::Other, now, |request| {
            request.finish_with("application/dtmf-relay", &body);
        });
    }
}
