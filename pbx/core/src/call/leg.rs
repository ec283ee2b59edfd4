//! A leg: one phone's dialog in a call, its media, and what is being agreed on. Data; the core moves it.

use std::sync::Arc;

use super::{CallId, LegKind};
use crate::{
    dialog::{Dialog, Repeat, SessionTimer},
    directory::ExtensionId,
    media::{self, Pair, Session},
    moment::Moment,
    registrar::BindingId,
    slab::SlotKey,
    timer::TimerKey,
    transaction::{Bytes, ClientId, ServerId},
    transport::Flow,
    wire::{
        sdp::{Audio, Codec, Description, Direction},
        sip::Message,
    },
};

/// A leg in the core's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LegKey(pub(crate) SlotKey);

/// A phone's side of a call.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) call: CallId,
    pub(crate) kind: LegKind,
    /// Its place in the record.
    pub(crate) place: usize,
    pub(crate) extension: ExtensionId,
    pub(crate) number: Arc<str>,
    pub(crate) flow: Flow,
    /// The registration that leads to the phone: where it moves, the leg goes.
    pub(crate) binding: Option<BindingId>,
    pub(crate) tag: u64,
    pub(crate) dialog: Dialog,
    pub(crate) state: State,
    pub(crate) media: Option<Media>,
    /// Whose media it hears.
    pub(crate) peer: Option<LegKey>,
    /// A 2xx, or a reliable provisional answer, that waits for its ACK or PRACK.
    pub(crate) success: Option<Repeat>,
    pub(crate) reliable: Option<Reliable>,
    /// The ACK of the last 2xx, for when that comes again.
    pub(crate) acknowledged: Option<(u32, Bytes)>,
    pub(crate) exchange: Exchange,
    /// A new offer goes out as soon as nothing else is being agreed on.
    pub(crate) align: bool,
    /// BYE as soon as the ACK is there (RFC 3261 §15).
    pub(crate) ends: bool,
    pub(crate) session: Option<SessionTimer>,
    /// When an offer that met another one is tried again (RFC 3261 §14.1).
    pub(crate) again: Option<Moment>,
    pub(crate) timer: Option<(TimerKey, Moment)>,
    /// What the phone said it can do.
    pub(crate) can_update: bool,
}

/// Where a leg is in its course.
#[derive(Debug)]
pub(crate) enum State {
    /// A phone called: its INVITE waits for its final answer.
    Incoming {
        id: ServerId,
        invite: Arc<Message<Box<[u8]>>>,
        /// The last provisional status that it was told; 183 had an answer to its offer.
        told: u16,
    },
    /// A phone is called.
    Outgoing {
        client: ClientId,
        /// As it was sent.
        invite: Bytes,
        /// The highest RSeq that was acknowledged (RFC 3262).
        rseq: u32,
        rang: bool,
        /// It was sent once more, because the phone wanted something else in it.
        retried: bool,
    },
    /// It was called and is not wanted any more: its final answer is waited for.
    Cancelled,
    /// Answered.
    Confirmed,
    /// A BYE was sent, and its answer is waited for.
    Ended,
}

/// A provisional answer that was sent reliably.
#[derive(Debug)]
pub(crate) struct Reliable {
    pub(crate) rseq: u32,
    pub(crate) waits: Option<Repeat>,
    /// There is more to tell then: a status, and whether media are heard.
    pub(crate) later: Option<(u16, bool)>,
}

/// What is being agreed on within the dialog: one offer at a time (RFC 3264 §4).
#[derive(Debug)]
pub(crate) enum Exchange {
    Idle,
    /// The phone's offer (re-INVITE or UPDATE) waits for the other phone.
    Theirs {
        id: ServerId,
        message: Arc<Message<Box<[u8]>>>,
        offer: Box<Description>,
    },
    /// Ours.
    Ours {
        client: ClientId,
        why: Offered,
    },
    /// Our offer went in a 2xx, and the answer comes in its ACK.
    InAck,
}

/// Why we offered.
#[derive(Debug)]
pub(crate) enum Offered {
    /// A sign of life.
    Refresh,
    /// The other phone offered something: it waits for the answer.
    Relayed(LegKey),
    /// Both sides have to agree anew.
    Aligned,
    /// The phone is to talk to somebody else, over new ports.
    Joined(Box<Join>),
}

/// An attended transfer under way, kept at the leg that is to move.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Its media from now on.
    pub(crate) media: Media,
    /// The call that it joins.
    pub(crate) call: CallId,
    /// Whom it will hear.
    pub(crate) to: LegKey,
    /// The transferor's two legs: in the call that is joined, and in its own.
    pub(crate) by: [LegKey; 2],
}

/// A leg's media.
#[derive(Clone, Debug)]
pub(crate) struct Media {
    pub(crate) id: media::LegId,
    pub(crate) group: u64,
    pub(crate) pair: Pair,
    pub(crate) session: Session,
    /// The direction in our last SDP.
    pub(crate) ours: Direction,
    /// What the phone last described, reduced to what was agreed on.
    pub(crate) theirs: Option<Audio>,
    /// The offer that waits for our answer.
    pub(crate) offer: Option<Box<Description>>,
    pub(crate) epoch: u32,
    /// Whether the relay knows it.
    pub(crate) told: bool,
}

impl Media {
    pub(crate) fn new(id: media::LegId, group: u64, pair: Pair, session: Session) -> Self {
        Self { id, group, pair, session, ours: Direction::SendRecv, theirs: None, offer: None, epoch: 0, told: false }
    }

    /// The codec that is spoken: the first that is no event.
    pub(crate) fn codec(&self) -> Option<&Codec> {
        let formats = &self.theirs.as_ref()?.formats;
        formats.iter().map(|format| &format.codec).find(|codec| !codec.is_event() && !codec.is_comfort_noise())
    }
}

impl Leg {
    /// The caller's leg of a call, at the beginning of its course; a leg that rings differs in what its maker says.
    pub(crate) fn new(
        call: CallId,
        extension: ExtensionId,
        number: Arc<str>,
        flow: Flow,
        (tag, dialog): (u64, Dialog),
        state: State,
    ) -> Self {
        Self {
            call,
            kind: LegKind::Caller,
            place: 0,
            extension,
            number,
            flow,
            binding: None,
            tag,
            dialog,
            state,
            media: None,
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
        }
    }

    /// When something is due.
    pub(crate) fn due(&self) -> Option<Moment> {
        let reliable = self.reliable.as_ref().and_then(|reliable| reliable.waits.as_ref());
        let repeats = [self.success.as_ref(), reliable].into_iter().flatten().map(Repeat::at);
        repeats.chain(self.session.as_ref().map(SessionTimer::at)).chain(self.again).min()
    }

    /// Whether the call was answered on this side, and goes on.
    pub(crate) const fn is_confirmed(&self) -> bool {
        matches!(self.state, State::Confirmed)
    }

    /// Whether a new offer may go out.
    pub(crate) fn may_offer(&self) -> bool {
        self.is_confirmed() && self.success.is_none() && matches!(self.exchange, Exchange::Idle)
    }

    /// Whether its phone is asked to talk to somebody else.
    pub(crate) const fn is_joining(&self) -> bool {
        matches!(self.exchange, Exchange::Ours { why: Offered::Joined(_), .. })
    }

    /// In a word, for people.
    pub(crate) fn word(&self) -> &'static str {
        match &self.state {
            State::Incoming { .. } | State::Outgoing { rang: false, .. } => "calling",
            State::Outgoing { rang: true, .. } => "ringing",
            State::Confirmed => {
                let theirs = self.media.as_ref().and_then(|media| media.theirs.as_ref());
                match theirs {
                    Some(theirs) if theirs.direction != Direction::SendRecv => "held",
                    _ => "talking",
                }
            }
            State::Cancelled | State::Ended => "ending",
        }
    }
}
