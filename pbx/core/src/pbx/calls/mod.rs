//! Calls in the core: what becomes of an INVITE, of what belongs to a call, and of time that passes. The state is in
//! [`crate::call`] and [`crate::dialog`]; here it is moved, and what is said goes out.

mod answer;
mod begin;
mod branch;
mod early;
mod end;
mod hunt;
mod offer;
mod ports;
mod refer;
mod ring;
mod say;
mod time;
mod within;

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
    sync::Arc,
};

use siphasher::sip::SipHasher13;

use self::ports::Ports;
use super::{Output, Pbx, Stored};
use crate::{
    call::{
        CallId, LegKind, Record, Seen, SeenLeg,
        course::Call,
        leg::{Leg, LegKey, Media},
    },
    directory::ExtensionId,
    media::{self, Session, Stats},
    moment::Moment,
    registrar::{Binding, StoredBinding},
    slab::Slab,
    time::Timestamp,
    timer::Timers,
    transaction::{ClientId, ServerId},
    wire::sip::Message,
};

pub(in crate::pbx) use say::ack_of;

/// The time by both clocks.
pub(super) type Now = (Moment, Timestamp);

/// A request of a phone's and the transaction in which it is answered.
type Of<'a> = (ServerId, &'a Arc<Message<Box<[u8]>>>);

/// What a request of ours was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The INVITE that rings a phone.
    Invite,
    /// An offer within the dialog, by INVITE.
    Reinvite,
    /// The same, or a sign of life, by UPDATE.
    Update,
    /// The end of a leg.
    Bye,
    /// PRACK, NOTIFY, INFO: nothing depends on the answer.
    Other,
}

/// What is due.
#[derive(Clone, Copy, Debug)]
enum Due {
    Leg(LegKey),
    /// Nobody answered in time.
    Ring(CallId),
    /// The relay has not said what went through a call that ended.
    Closing(CallId),
}

/// A record whose call has ended, and whose legs' media are not known yet.
#[derive(Debug)]
struct Closing {
    record: Record,
    waits: usize,
}

/// All calls.
#[derive(Debug)]
pub(super) struct Calls {
    calls: BTreeMap<CallId, Call>,
    legs: Slab<Leg>,
    /// Legs by our own tags, which nobody outside chose.
    tags: HashMap<u64, LegKey, BuildHasherDefault<SipHasher13>>,
    clients: BTreeMap<ClientId, (LegKey, Asked)>,
    /// INVITEs that wait for our answer.
    servers: BTreeMap<ServerId, LegKey>,
    timers: Timers<Due>,
    ports: Ports,
    next_call: u64,
    next_media: u64,
    /// Legs of each extension that has any.
    of: BTreeMap<ExtensionId, usize>,
    /// Of these, the callers' own: the calls that an extension began and is in. Others' calls take nothing from it.
    began: BTreeMap<ExtensionId, usize>,
    /// Media that ended in the relay's hands, and whose they were.
    ending: BTreeMap<media::LegId, (CallId, usize)>,
    closing: BTreeMap<CallId, Closing>,
    draining: bool,
}

impl Calls {
    pub(super) fn new(wall: Timestamp) -> Self {
        let millis = u64::try_from(wall.as_millis()).unwrap_or(0);
        Self {
            calls: BTreeMap::new(),
            legs: Slab::new(),
            tags: HashMap::default(),
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            timers: Timers::new(),
            ports: Ports::default(),
            // A thousand calls a millisecond would have to be made to meet the next run's.
            next_call: millis << 10,
            next_media: 0,
            of: BTreeMap::new(),
            began: BTreeMap::new(),
            ending: BTreeMap::new(),
            closing: BTreeMap::new(),
            draining: false,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// Bytes, as overload counts them.
    pub(super) fn memory_used(&self) -> u64 {
        const LEG: u64 = size_of::<Leg>() as u64 + 4096;
        const CALL: u64 = size_of::<Call>() as u64 + 2048;
        self.legs.len() as u64 * LEG + (self.calls.len() + self.closing.len()) as u64 * CALL
    }

    fn leg(&self, key: LegKey) -> Option<&Leg> {
        self.legs.get(key.0)
    }

    fn leg_mut(&mut self, key: LegKey) -> Option<&mut Leg> {
        self.legs.get_mut(key.0)
    }

    fn insert_leg(&mut self, leg: Leg) -> LegKey {
        let (tag, extension, kind) = (leg.tag, leg.extension, leg.kind);
        let key = LegKey(self.legs.insert(leg));
        self.tags.insert(tag, key);
        *self.of.entry(extension).or_default() += 1;
        if kind == LegKind::Caller {
            *self.began.entry(extension).or_default() += 1;
        }
        key
    }

    /// Nothing is left of a leg.
    fn remove_leg(&mut self, key: LegKey) {
        let Some(leg) = self.legs.remove(key.0) else { return };
        self.tags.remove(&leg.tag);
        if let Some((timer, _)) = leg.timer {
            self.timers.cancel(timer);
        }
        take_one(&mut self.of, leg.extension);
        if leg.kind == LegKind::Caller {
            take_one(&mut self.began, leg.extension);
        }
    }

    /// A leg is another call's from now on, in which it called nobody.
    fn join_leg(&mut self, key: LegKey, call: CallId, place: usize) {
        let Some(leg) = self.legs.get_mut(key.0) else { return };
        let before = std::mem::replace(&mut leg.kind, LegKind::Transfer);
        (leg.call, leg.place) = (call, place);
        if before == LegKind::Caller {
            take_one(&mut self.began, leg.extension);
        }
    }

    /// The timer of a leg stands at its next deadline.
    fn retime(&mut self, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key.0) else { return };
        match (leg.timer, leg.due()) {
            (Some((_, set)), Some(at)) if set == at => {}
            (Some((timer, _)), Some(at)) => {
                self.timers.reset(timer, at);
                leg.timer = Some((timer, at));
            }
            (None, Some(at)) => leg.timer = Some((self.timers.set(at, Due::Leg(key)), at)),
            (Some((timer, _)), None) => {
                self.timers.cancel(timer);
                leg.timer = None;
            }
            (None, None) => {}
        }
    }

    /// The other leg of the conversation that a leg is in.
    fn other(&self, key: LegKey) -> Option<LegKey> {
        let call = self.calls.get(&self.leg(key)?.call)?;
        match (call.near == key, call.far) {
            (true, far) => far,
            (false, Some(far)) if far == key => Some(call.near),
            _ => None,
        }
    }
}

impl Pbx {
    /// Every call that goes on, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = Seen> {
        self.calls.calls.iter().map(|(id, call)| self.seen(*id, call))
    }

    /// One of them.
    pub fn call(&self, id: CallId) -> Option<Seen> {
        self.calls.calls.get(&id).map(|call| self.seen(id, call))
    }

    /// How many there are, and how many were refused for want of a media port.
    pub fn call_counts(&self) -> (usize, u64) {
        (self.calls.calls.len(), self.calls.ports.refused())
    }

    /// What is kept for calls: calls, legs, requests of ours, INVITEs that wait for our answer, timers, media that end;
    /// and all transactions. None of it is left when no call goes on and some minutes have passed.
    pub fn call_usage(&self) -> [usize; 7] {
        let Calls { calls, legs, clients, servers, timers, ending, .. } = &self.calls;
        let transactions = self.layer.usage().transactions;
        [calls.len(), legs.len(), clients.len(), servers.len(), timers.len(), ending.len(), transactions]
    }

    /// Whether calls go on, or what went through the last ones is not known yet.
    pub fn is_closing(&self) -> bool {
        !(self.calls.calls.is_empty() && self.calls.closing.is_empty())
    }

    /// From now on no call begins; those that there are go on.
    pub fn drain(&mut self) {
        self.calls.draining = true;
    }

    fn seen(&self, id: CallId, call: &Call) -> Seen {
        let legs = call.legs().filter_map(|key| self.calls.leg(key)).map(|leg| SeenLeg {
            media: leg.media.as_ref().map_or(media::LegId(u64::MAX), |media| media.id),
            kind: leg.kind,
            number: Arc::clone(&leg.number),
            state: leg.word(),
            call_id: String::from_utf8_lossy(leg.dialog.call_id()).into(),
            protocol: leg.flow.protocol,
            remote: leg.flow.remote,
            pair: leg.media.as_ref().map(|media| media.pair),
            codec: codec(leg.media.as_ref()),
        });
        Seen {
            id,
            tenant: call.record.tenant,
            caller: call.record.caller,
            caller_number: Arc::clone(&call.record.caller_number),
            dialled: Arc::clone(&call.record.dialled),
            callee_number: Arc::clone(&call.record.callee_number),
            started: call.record.started,
            answered: call.record.answered,
            legs: legs.collect(),
        }
    }

    /// Pairs of ports that the relay has made ready.
    pub(super) fn pairs_ready(&mut self, pairs: Vec<media::Pair>) {
        self.calls.ports.supply(pairs);
    }

    /// Asks the relay for pairs when few are left.
    pub(super) fn want_pairs(&mut self) {
        if let Some(wanted) = self.calls.ports.wanted() {
            self.outputs.push_back(Output::Media(media::Command::Wanted(wanted)));
        }
    }

    /// The relay says what went through a leg that ended.
    pub(super) fn leg_ended(&mut self, leg: media::LegId, stats: Stats) {
        let Some((id, place)) = self.calls.ending.remove(&leg) else { return };
        let media = |record: &mut Record| {
            if let Some(leg) = record.legs.get_mut(place) {
                leg.media = Some(stats);
            }
        };
        if let Some(call) = self.calls.calls.get_mut(&id) {
            return media(&mut call.record);
        }
        let Some(closing) = self.calls.closing.get_mut(&id) else { return };
        media(&mut closing.record);
        closing.waits -= 1;
        if closing.waits == 0 {
            self.close_record(id);
        }
    }

    /// A phone registered from elsewhere: its legs are there as well.
    pub(in crate::pbx) fn phone_moved(&mut self, binding: &StoredBinding) {
        if !self.calls.of.contains_key(&binding.extension) {
            return;
        }
        let Some(flow) = self.registrar.binding(binding.id).and_then(Binding::flow) else { return };
        let moves = |leg: &Leg| leg.binding == Some(binding.id) && leg.flow != flow;
        let legs = self.calls.calls.values().flat_map(Call::legs);
        let keys: Vec<LegKey> = legs.filter(|key| self.calls.leg(*key).is_some_and(moves)).collect();
        keys.into_iter().for_each(|key| self.moved(key, flow));
    }

    /// All that is ever known of a call is known.
    fn close_record(&mut self, id: CallId) {
        if let Some(Closing { record, .. }) = self.calls.closing.remove(&id) {
            self.outputs.push_back(Output::Store(Stored::Call(Box::new(record))));
        }
    }

    /// Media for a new leg; none: no pair is free.
    fn new_media(&mut self, group: u64) -> Option<Media> {
        let pair = self.calls.ports.take()?;
        self.calls.next_media += 1;
        // Half of a 64-bit number: some phones read it into a signed one (RFC 3264 §5: it fits 63 bits).
        let session = Session::new(self.random.next() >> 2);
        Some(Media::new(media::LegId(self.calls.next_media), group, pair, session))
    }

    /// Media for a new leg whose phone will be told of them.
    fn open_media(&mut self, group: u64) -> Option<Media> {
        let mut media = self.new_media(group)?;
        self.announce(&mut media);
        Some(media)
    }

    /// The relay hears of ports long before a phone does: the filter opens them a moment later, and a phone may speak
    /// as soon as it knows them.
    fn announce(&mut self, media: &mut Media) {
        if !std::mem::replace(&mut media.told, true) {
            self.outputs.push_back(Output::Media(media::Command::Set(self.unconnected(media))));
        }
    }

    /// Ends a leg's media, wherever the leg is in its course.
    fn close_media(&mut self, key: LegKey) {
        let Some(leg) = self.calls.leg_mut(key) else { return };
        let (id, place) = (leg.call, leg.place);
        leg.peer = None;
        if let Some(media) = leg.media.take() {
            self.release(&media, id, place);
        }
    }

    /// Gives media back to the relay; ports of which nobody was told are free at once.
    fn release(&mut self, media: &Media, id: CallId, place: usize) {
        if !media.told {
            return self.calls.ports.put_back(media.pair);
        }
        self.calls.ending.insert(media.id, (id, place));
        if let Some(closing) = self.calls.closing.get_mut(&id) {
            closing.waits += 1;
        }
        self.outputs.push_back(Output::Media(media::Command::Close(media.id)));
    }
}

/// One fewer of an extension's.
fn take_one(counts: &mut BTreeMap<ExtensionId, usize>, extension: ExtensionId) {
    if let Some(count) = counts.get_mut(&extension) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&extension);
        }
    }
}

/// The codec of a leg, for people.
fn codec(media: Option<&Media>) -> Arc<str> {
    media.and_then(Media::codec).map_or_else(|| "".into(), |codec| codec.to_string().into())
}
