//! Offers within a dialog (RFC 3261 §14, RFC 3311): hold, resume, another codec, another address. What concerns the
//! other phone is offered to it; what does not is answered here.

use std::{sync::Arc, time::Duration};

use super::{Asked, Now, Of, Pbx, branch::BOTH, say};
use crate::{
    call::{
        EndedBy,
        course::Call,
        leg::{Exchange, Leg, LegKey, Offered},
    },
    dialog::{Repeat, SessionTimer},
    media::common,
    moment::Moment,
    transaction::{ClientId, ServerId},
    wire::{
        sdp::{Audio, Description, Direction, Format},
        sip::{Message, Method, Request},
    },
};

/// When an offer for which there was no room is tried again.
const NO_ROOM: Duration = Duration::from_secs(5);

/// What a phone can do, as far as it has said: its unanswered offer, or what was agreed on.
pub(super) fn what_can(leg: Option<&Leg>) -> Option<Vec<Format>> {
    let media = leg?.media.as_ref()?;
    let offered = media.offer.as_ref().and_then(|offer| offer.audio.as_ref());
    offered.or(media.theirs.as_ref()).map(|audio| audio.formats.clone())
}

/// The payload types of formats: two lists of one offer with the same types are the same.
pub(super) fn types(formats: &[Format]) -> Vec<u8> {
    formats.iter().map(|format| format.payload_type).collect()
}

impl Pbx {
    /// A re-INVITE or UPDATE came.
    pub(super) fn offered(&mut self, of: Of<'_>, key: LegKey, method: Method<'_>, at: Now) {
        let (id, message) = of;
        let (now, _) = at;
        let Some(leg) = self.calls.leg(key) else { return };
        let retry = match &leg.exchange {
            // Both offered at once (RFC 3261 §14.2).
            Exchange::Ours { .. } => Some(491),
            Exchange::Theirs { .. } | Exchange::InAck => Some(500),
            Exchange::Idle if leg.success.is_some() => Some(491),
            Exchange::Idle => None,
        };
        if let Some(status) = retry {
            self.answer_within((id, message), key, status, now, |reply| reply.header("Retry-After", "2").finish());
            return;
        }
        if message.body().is_empty() {
            return match method {
                // We offer, and the ACK answers.
                Method::Invite => {
                    let formats = what_can(self.calls.leg(key)).unwrap_or_default();
                    let body = self.offer_body(key, &formats, BOTH);
                    if self.accept(of, key, method, &body, now)
                        && let Some(leg) = self.calls.leg_mut(key)
                    {
                        leg.exchange = Exchange::InAck;
                    }
                }
                _ => {
                    self.accept(of, key, method, b"", now);
                }
            };
        }
        let offer = match Description::parse(message.body()) {
            _ if !say::is_sdp(message) => return self.say((id, message), key, 415, now),
            Ok(offer) => offer,
            Err(fault) => return self.say((id, message), key, fault.status(), now),
        };
        let Some(audio) = offer.audio.clone() else { return self.say((id, message), key, 488, now) };
        let Some(media) = self.calls.leg(key).and_then(|leg| leg.media.as_ref()) else {
            return self.say((id, message), key, 488, now);
        };
        let current = media.theirs.clone();
        let kept = current.as_ref().map(|current| common(&audio.formats, &current.formats)).unwrap_or_default();
        let same = current
            .as_ref()
            .is_some_and(|current| current.direction == audio.direction && kept.len() == current.formats.len());
        let other = self.calls.other(key).filter(|other| self.calls.leg(*other).is_some_and(Leg::is_confirmed));
        match other {
            Some(other) if !same => {
                if !self.calls.leg(other).is_some_and(Leg::may_offer) {
                    self.answer_within((id, message), key, 491, now, |reply| reply.finish());
                    return;
                }
                if self.offer_anew(other, Offered::Relayed(key), &audio.formats, audio.direction, now)
                    && let Some(leg) = self.calls.leg_mut(key)
                {
                    leg.exchange = Exchange::Theirs { id, message: Arc::clone(message), offer: Box::new(offer) };
                } else {
                    self.say((id, message), key, 500, now);
                }
            }
            // Only where its media are has changed, or nobody else is there to ask.
            _ if kept.is_empty() => self.say((id, message), key, 488, now),
            _ => {
                let way = audio.direction.reversed();
                self.settle_offer(of, key, method, (&offer, audio), &kept, way, now);
            }
        }
    }

    /// Answers a phone's offer, and takes over what it says; `false`: it waits no more, and nothing has changed.
    #[expect(clippy::too_many_arguments, reason = "an offer, its answer and whose they are")]
    fn settle_offer(
        &mut self,
        of: Of<'_>,
        key: LegKey,
        method: Method<'_>,
        (offer, audio): (&Description, Audio),
        formats: &[Format],
        way: Direction,
        now: Moment,
    ) -> bool {
        let before = self.calls.leg(key).and_then(|leg| leg.media.clone());
        let body = self.describe(key, |media, out, us| {
            media.session.answer(out, offer, us, formats, way);
            media.ours = way;
            media.theirs = Some(Audio { formats: common(formats, &audio.formats), ..audio });
            media.epoch += 1;
        });
        if !self.accept(of, key, method, &body, now) {
            if let Some(leg) = self.calls.leg_mut(key) {
                leg.media = before;
            }
            return false;
        }
        match self.calls.leg(key).and_then(|leg| leg.peer) {
            Some(peer) => self.connect(key, peer),
            None => self.tell_media(key),
        }
        true
    }

    /// 200 to an offer or a sign of life, by which what it says of the phone's Contact and of its signs of life is in
    /// force (RFC 6141 §4.3, RFC 4028 §9); whether it went out.
    fn accept(&mut self, of: Of<'_>, key: LegKey, method: Method<'_>, body: &[u8], now: Moment) -> bool {
        let (id, message) = of;
        let Some(leg) = self.calls.leg(key) else { return false };
        let contact = self.contact(&leg.flow);
        let agreed = leg.session.is_some().then(|| self.timer_for(message, now));
        let sent = self.answer_within((id, message), key, 200, now, |reply| {
            let reply =
                reply.header("Contact", &contact).header("Allow", say::allow()).header("Supported", say::SUPPORTED);
            let reply = match &agreed {
                Some(agreed) => agreed.headers(reply),
                None => reply,
            };
            say::finish(reply, body);
        });
        let (Some(bytes), Some(leg)) = (sent, self.calls.leg_mut(key)) else { return false };
        leg.dialog.refresh_target(message);
        leg.session = agreed.map(|agreed| agreed.timer);
        if let (Method::Invite, Ok(cseq)) = (method, message.cseq()) {
            leg.success = Some(Repeat::success(cseq.number, bytes, now));
        }
        self.calls.retime(key);
        true
    }

    /// Offers a phone these formats in this direction by INVITE; when that does not go out, nothing has changed.
    fn offer_anew(&mut self, key: LegKey, why: Offered, formats: &[Format], way: Direction, now: Moment) -> bool {
        let before = self.calls.leg(key).and_then(|leg| leg.media.clone());
        let body = self.offer_body(key, formats, way);
        let goes = self.offer(key, why, body, now);
        if let Some(leg) = self.calls.leg_mut(key).filter(|_| !goes) {
            leg.media = before;
        }
        goes
    }

    /// Offers something to a phone by INVITE; whether it went out.
    pub(super) fn offer(&mut self, key: LegKey, why: Offered, body: Vec<u8>, now: Moment) -> bool {
        let Some(flow) = self.calls.leg(key).map(|leg| leg.flow) else { return false };
        let contact = self.contact(&flow);
        let session = self.calls.leg(key).and_then(|leg| leg.session);
        let client = self.request_within(key, Method::Invite, Asked::Reinvite, now, |request| {
            let request = request.header("Contact", &contact).header("Allow", say::allow());
            timed(request.header("Supported", say::SUPPORTED), session).finish_with(say::SDP, &body);
        });
        let (Some(client), Some(leg)) = (client, self.calls.leg_mut(key)) else { return false };
        leg.exchange = Exchange::Ours { client, why };
        true
    }

    /// A sign of life: an UPDATE, or the last offer once more.
    pub(super) fn refresh(&mut self, key: LegKey, now: Moment) {
        let Some(leg) = self.calls.leg(key) else { return };
        let (ready, session, contact, can_update) =
            (leg.may_offer(), leg.session, self.contact(&leg.flow), leg.can_update);
        // Until there is an answer: what is being agreed on, or finds no room, may come to nothing.
        if let Some(session) = self.calls.leg_mut(key).and_then(|leg| leg.session.as_mut()) {
            session.postpone(now);
        }
        if !ready {
            return;
        }
        if !can_update {
            let body = self.described_again(key);
            self.offer(key, Offered::Refresh, body, now);
            return;
        }
        let client = self.request_within(key, Method::Update, Asked::Update, now, |request| {
            timed(request.header("Contact", &contact).header("Supported", say::SUPPORTED), session).finish();
        });
        if let (Some(client), Some(leg)) = (client, self.calls.leg_mut(key)) {
            leg.exchange = Exchange::Ours { client, why: Offered::Refresh };
        }
    }

    /// A leg agrees anew to what its peer says, as soon as it may.
    pub(super) fn agree_anew(&mut self, key: LegKey, now: Moment) {
        if let Some(leg) = self.calls.leg_mut(key) {
            leg.align = true;
        }
        self.align(key, now);
    }

    /// Both sides agree anew, when this leg has to and may.
    pub(super) fn align(&mut self, key: LegKey, now: Moment) {
        let ready = self.calls.leg(key).is_some_and(|leg| leg.align && leg.may_offer() && leg.again.is_none());
        let Some(other) = self.calls.other(key).filter(|_| ready) else { return };
        let Some(formats) = what_can(self.calls.leg(other)) else { return };
        let theirs = self.calls.leg(other).and_then(|leg| leg.media.as_ref()?.theirs.as_ref());
        let way = theirs.map_or(BOTH, |theirs| theirs.direction);
        let goes = self.offer_anew(key, Offered::Aligned, &formats, way, now);
        if let Some(leg) = self.calls.leg_mut(key) {
            leg.align = !goes;
            leg.again = (!goes).then(|| now + NO_ROOM);
        }
        self.calls.retime(key);
    }

    /// What became of an offer of ours; `message`: none came.
    pub(super) fn offer_response(
        &mut self,
        key: LegKey,
        client: ClientId,
        asked: Asked,
        message: Option<&Message<Box<[u8]>>>,
        code: u16,
        at: Now,
    ) {
        let (now, _) = at;
        let taken = (200..300).contains(&code);
        if let Some(message) = message.filter(|_| taken && asked == Asked::Reinvite) {
            let cseq = message.cseq().map_or(1, |cseq| cseq.number);
            if let Some(leg) = self.calls.leg_mut(key) {
                leg.dialog.refresh_target(message);
            }
            self.acknowledge(key, cseq);
        }
        let Some(leg) = self.calls.leg_mut(key) else { return };
        let exchange = std::mem::replace(&mut leg.exchange, Exchange::Idle);
        let why = match exchange {
            Exchange::Ours { client: ours, why } if ours == client => why,
            other => {
                leg.exchange = other;
                return;
            }
        };
        let id = leg.call;
        if let Some(message) = message.filter(|_| taken) {
            let session = self.agreed_timer(message, now);
            if let Some(leg) = self.calls.leg_mut(key).filter(|leg| leg.session.is_some()) {
                leg.session = Some(session);
            }
        }
        let audio = message.filter(|_| taken).and_then(|message| self.answer_in(key, message));
        if matches!(code, 408 | 481) {
            // There is nobody any more (RFC 3261 §12.2.1.2).
            if let Offered::Joined(join) = why {
                self.not_joined(key, *join, code, at);
            }
            return self.end_call(id, EndedBy::System, code, "a phone does not know the call any more", at);
        }
        if code == 491 && !matches!(why, Offered::Relayed(_) | Offered::Joined(_)) {
            // Both offered at once: we, who own the Call-ID or not, wait for a while (RFC 3261 §14.1).
            let wait = Duration::from_millis(2100 + self.random.next() % 1900);
            if let Some(leg) = self.calls.leg_mut(key) {
                leg.align |= matches!(why, Offered::Aligned);
                leg.again = Some(now + wait);
            }
            return self.calls.retime(key);
        }
        if !matches!(why, Offered::Joined(_))
            && let (Some(audio), Some(media)) = (&audio, self.calls.leg_mut(key).and_then(|leg| leg.media.as_mut()))
        {
            media.theirs = Some(audio.clone());
            media.epoch += 1;
        }
        match why {
            Offered::Refresh => {
                if audio.is_some() {
                    self.tell_media(key);
                }
                if !taken && message.is_some() {
                    self.alive(key, code, now);
                }
            }
            Offered::Aligned => {
                self.note_codec(id, key);
                if let Some(other) = self.calls.other(key) {
                    self.connect(key, other);
                }
            }
            Offered::Relayed(from) => self.relayed(from, key, audio, code, now),
            Offered::Joined(join) => match audio {
                Some(audio) => self.joined(key, *join, audio, at),
                None => self.not_joined(key, *join, if taken { 488 } else { code }, at),
            },
        }
        self.align(key, now);
        self.calls.retime(key);
    }

    /// A phone that refuses a sign of life gives one.
    fn alive(&mut self, key: LegKey, code: u16, now: Moment) {
        let Some(leg) = self.calls.leg_mut(key) else { return };
        // UPDATE was a promise that it does not keep: by INVITE next time.
        leg.can_update &= !matches!(code, 405 | 501);
        leg.session = leg.session.map(|session| SessionTimer::new(session.seconds, session.ours, now));
    }

    /// A phone takes back a re-INVITE that waits for the other phone (RFC 3261 §9.2), or its UPDATE has waited too long.
    pub(in crate::pbx) fn withdrawn(&mut self, invite: ServerId, now: Moment) {
        let waits = |key: &LegKey| {
            let exchange = self.calls.leg(*key).map(|leg| &leg.exchange);
            matches!(exchange, Some(Exchange::Theirs { id, .. }) if *id == invite)
        };
        let key = self.calls.calls.values().flat_map(Call::legs).find(waits);
        if let Some(key) = key {
            self.refuse_exchange(key, now);
        }
    }

    /// The other phone took an offer, or did not: whoever offered is answered.
    fn relayed(&mut self, from: LegKey, by: LegKey, audio: Option<Audio>, code: u16, now: Moment) {
        let Some(leg) = self.calls.leg_mut(from) else { return };
        let exchange = std::mem::replace(&mut leg.exchange, Exchange::Idle);
        let Exchange::Theirs { id, message, offer } = exchange else {
            leg.exchange = exchange;
            // It was withdrawn meanwhile: whoever took it is told how it is.
            if audio.is_some() {
                self.agree_anew(by, now);
            }
            return;
        };
        let method = message.method().and_then(Method::known).unwrap_or(Method::Invite);
        let agreed = audio
            .zip(offer.audio.clone())
            .map(|(answer, asked)| (common(&asked.formats, &answer.formats), answer.direction, asked));
        match agreed.filter(|(formats, ..)| !formats.is_empty()) {
            Some((formats, way, asked)) => {
                if !self.settle_offer((id, &message), from, method, (&offer, asked), &formats, way, now) {
                    // Whoever offered waits no more, and stays as it was; whoever took it is told.
                    return self.agree_anew(by, now);
                }
                self.connect(from, by);
                if let Some(call) = self.calls.leg(from).map(|leg| leg.call) {
                    self.note_codec(call, from);
                }
            }
            None => {
                let status = match code {
                    491 => 491,
                    200..=299 | 415 | 488 | 606 => 488,
                    _ => 500,
                };
                self.say((id, &message), from, status, now);
            }
        }
        self.align(from, now);
        self.calls.retime(from);
    }

    /// Whoever waits for what a leg is being asked, or offered something itself, is told that nothing comes of it.
    pub(super) fn refuse_exchange(&mut self, key: LegKey, now: Moment) {
        let Some(leg) = self.calls.leg_mut(key) else { return };
        match std::mem::replace(&mut leg.exchange, Exchange::Idle) {
            Exchange::Theirs { id, message, .. } => self.say((id, &message), key, 487, now),
            Exchange::Ours { client, why } => {
                // The phone, whose dialog ends, has to answer it in time or is not there any more.
                self.layer.give_up(client, now);
                match why {
                    Offered::Relayed(from) => self.relayed(from, key, None, 487, now),
                    Offered::Joined(join) => self.not_joined(key, *join, 487, (now, self.wall)),
                    Offered::Refresh | Offered::Aligned => {}
                }
            }
            Exchange::Idle | Exchange::InAck => {}
        }
    }
}

/// With the session interval that was agreed on, and who refreshes.
fn timed<'o>(request: Request<'o>, session: Option<SessionTimer>) -> Request<'o> {
    match session {
        Some(timer) => {
            // Whoever sends a request is its client.
            let refresher = if timer.ours { "uac" } else { "uas" };
            say::session_headers(request, timer.seconds, Some(refresher))
        }
        None => request,
    }
}
