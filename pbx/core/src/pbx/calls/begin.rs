//! An INVITE that begins a call: whose it is and whether it may, its record, its leg, and who is looked for.

use std::{sync::Arc, time::Duration};

use super::{Now, Pbx, branch::number_of, ring, say};
use crate::{
    call::{
        CallId, Disposition, EndedBy, LegKind, Record,
        cause::q850,
        course::{Call, Hunt, Identity, Purpose},
        leg::{Leg, Reliable, State},
    },
    dialog::{Dialog, MIN_SE},
    directory::Extension,
    gate::{Credential, hex},
    pbx::{Incoming, Output, Stored},
    transaction::ServerId,
    wire::{
        sdp::{Audio, Description},
        sip::{Message, Method, Name, Reply, unescaped},
    },
};

/// Characters of a number that are kept.
const LONGEST_NUMBER: usize = 64;

/// Why an INVITE makes no call.
struct Refused {
    status: u16,
    why: &'static str,
}

const fn refused(status: u16, why: &'static str) -> Refused {
    Refused { status, why }
}

impl Pbx {
    /// An INVITE outside a dialog, from an extension that proved to be it.
    pub(in crate::pbx) fn invite(&mut self, id: ServerId, incoming: &Incoming<'_>, credential: Credential) {
        let Some(extension) = self.directory.extension_by_id(credential.extension).cloned() else {
            return self.answer(id, incoming, 403);
        };
        let record = self.record(incoming, &extension);
        if let Err(Refused { status, why }) = self.try_invite(id, incoming, &extension, &record) {
            self.refuse_attempt(id, incoming, record, status, why);
        }
    }

    fn try_invite(
        &mut self,
        id: ServerId,
        incoming: &Incoming<'_>,
        extension: &Arc<Extension>,
        record: &Record,
    ) -> Result<(), Refused> {
        let message = incoming.message;
        let max_forwards = message.max_forwards().ok().flatten().unwrap_or(70);
        if max_forwards == 0 {
            return Err(refused(483, "Max-Forwards was 0"));
        }
        if self.comes_back(message) {
            return Err(refused(482, "the call came back to us that we had sent out"));
        }
        let breadth = match message.other("Max-Breadth").map(number) {
            Some(Some(0)) => return Err(refused(440, "Max-Breadth was 0")),
            Some(breadth) => breadth,
            None => None,
        };
        if self.calls.draining {
            return Err(refused(503, "the daemon is being stopped"));
        }
        if message.has(Name::Replaces) {
            return Err(refused(481, "Replaces names no call that this phone may take over"));
        }
        if self
            .calls
            .began
            .get(&extension.id)
            .is_some_and(|count| *count >= self.call_settings.per_extension.get() as usize)
        {
            return Err(refused(486, "the extension is in as many calls as calls.per_extension allows"));
        }
        if record.dialled.is_empty() {
            return Err(refused(484, "no number was dialled"));
        }
        let offer = offer(message)?;
        if let Ok(Some(seconds)) = message.seconds(Name::SessionExpires)
            && seconds < MIN_SE
            && message.lists(Name::Supported, "timer")
        {
            return Err(refused(422, "Session-Expires is too small"));
        }
        // That of every answer to it, and to its CANCEL (RFC 3261 §9.2); what comes with the ids of a call that goes on
        // is another one.
        let tag = number_of(&self.tags.of(message)).filter(|tag| !self.calls.tags.contains_key(tag));
        let tag = tag.unwrap_or_else(|| self.random.next());
        let dialog = Dialog::of_request(message, &hex(tag))
            .map_err(|_| refused(400, "Contact, From, To or Record-Route cannot be used"))?;
        let call = record.id;
        let Some(mut media) = self.new_media(call.0) else {
            return Err(refused(503, "no media port is free: widen filter.media_ports"));
        };
        media.offer = offer.map(Box::new);
        let binding = self.binding_of(extension.id, &incoming.flow);
        let needs_reliable = message.lists(Name::Require, "100rel");
        let state = State::Incoming { id, invite: Arc::new(message.borrowed().into_owned()), told: 0 };
        let number = Arc::clone(&record.caller_number);
        let leg = Leg {
            binding,
            media: Some(media),
            reliable: needs_reliable.then_some(Reliable { rseq: 0, waits: None, later: None }),
            can_update: message.lists(Name::Allow, "UPDATE"),
            ..Leg::new(call, extension.id, number, incoming.flow, (tag, dialog), state)
        };
        let near = self.calls.insert_leg(leg);
        self.calls.servers.insert(id, near);
        let mut record = record.clone();
        let row = ring::record_leg(LegKind::Caller, &record.caller_number, incoming.flow.remote, incoming.wall);
        record.legs.push(row);
        let shown = Identity { number: Arc::clone(&record.caller_number), name: Arc::clone(&record.caller_name) };
        self.outputs.push_back(Output::Store(Stored::Call(Box::new(record.clone()))));
        let dialled = Arc::clone(&record.dialled);
        let call = Call {
            record,
            answered: None,
            near,
            far: None,
            hunt: Some(Hunt::new(Purpose::Call, LegKind::Branch, extension.id)),
            forwards: 0,
            transfers: 0,
            max_forwards: max_forwards - 1,
            breadth,
            shown,
        };
        let id = call.record.id;
        self.calls.calls.insert(id, call);
        self.hunt(id, dialled, (incoming.now, incoming.wall));
        Ok(())
    }

    fn record(&mut self, incoming: &Incoming<'_>, extension: &Extension) -> Record {
        let id = CallId(self.calls.next_call);
        self.calls.next_call += 1;
        let user = incoming.message.request_uri().ok().and_then(|uri| uri.user).unwrap_or_default();
        let dialled: Arc<str> = dialable(user).into();
        let Identity { number, name } = Identity::of(extension);
        Record {
            id,
            tenant: extension.tenant,
            caller: extension.id,
            caller_number: number,
            caller_name: name,
            callee_number: Arc::clone(&dialled),
            dialled,
            started: incoming.wall,
            ringing: None,
            answered: None,
            ended: None,
            billed: Duration::ZERO,
            disposition: Disposition::Open,
            status: 0,
            cause: 0,
            ended_by: None,
            why: "".into(),
            codec: "".into(),
            legs: Vec::new(),
        }
    }

    /// An attempt that makes no leg: answered, and its record is whole at once.
    fn refuse_attempt(&mut self, id: ServerId, incoming: &Incoming<'_>, record: Record, status: u16, why: &str) {
        let mut out = self.buffer();
        let tag = self.tags.of(incoming.message);
        let reply = Reply::start(&mut out, incoming.message, status, incoming.flow.remote, Some(&tag));
        match status {
            503 => reply.header("Retry-After", "5").finish(),
            422 => reply.header_fmt("Min-SE", format_args!("{MIN_SE}")).finish(),
            415 => reply.header("Accept", say::SDP).finish(),
            _ => reply.finish(),
        }
        self.respond(id, status, out, incoming.now);
        let disposition = if status == 486 { Disposition::Busy } else { Disposition::Failed };
        self.outputs.push_back(Output::Store(Stored::Call(Box::new(Record {
            ended: Some(incoming.wall),
            disposition,
            status,
            cause: q850(status),
            ended_by: Some(EndedBy::System),
            why: why.into(),
            ..record
        }))));
    }

    /// Whether an INVITE of ours comes back by way of somebody else's proxy (RFC 5393 §4.2): one of its hops is ours.
    fn comes_back(&self, message: &Message<Box<[u8]>>) -> bool {
        message.vias().skip(1).flatten().filter_map(|via| via.branch()).any(|branch| {
            let key = self.keys.client(Method::Invite.text(), branch);
            self.layer.has_client(key)
        })
    }

    /// The registration that a phone made over the same flow.
    fn binding_of(
        &self,
        extension: crate::directory::ExtensionId,
        flow: &crate::transport::Flow,
    ) -> Option<crate::registrar::BindingId> {
        let same = |binding: &&crate::registrar::Binding| binding.flow().is_some_and(|own| own.remote == flow.remote);
        self.registrar.of(extension).find(same).map(|binding| binding.stored().id)
    }

    /// The caller gives up (RFC 3261 §9.2): its INVITE waits for nothing more.
    pub(in crate::pbx) fn cancelled(&mut self, invite: ServerId, at: Now) {
        let Some(key) = self.calls.servers.get(&invite).copied() else { return self.withdrawn(invite, at.0) };
        let Some(call) = self.calls.leg(key).map(|leg| leg.call) else { return };
        self.end_call(call, EndedBy::Caller, 487, "", at);
    }
}

/// The offer of an INVITE, if it has one.
fn offer(message: &Message<Box<[u8]>>) -> Result<Option<Description>, Refused> {
    if message.body().is_empty() {
        return Ok(None);
    }
    if !say::is_sdp(message) {
        return Err(refused(415, "the body is no SDP"));
    }
    match Description::parse(message.body()) {
        Ok(description) if description.audio.as_ref().is_some_and(speaks) => Ok(Some(description)),
        Ok(_) => Err(refused(488, "the offer has no audio that we can relay")),
        Err(fault) if fault.status() == 400 => Err(refused(400, "the SDP is malformed")),
        Err(_) => Err(refused(488, "the offer has too many media lines")),
    }
}

/// Whether an audio line has more than events and silence.
fn speaks(audio: &Audio) -> bool {
    audio.formats.iter().any(|format| format.codec.is_speech())
}

/// The number that the user of a URI is, without what cannot be in one.
pub(super) fn dialable(user: &[u8]) -> String {
    unescaped(user).take(LONGEST_NUMBER).filter(u8::is_ascii_graphic).map(char::from).collect()
}

fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}
