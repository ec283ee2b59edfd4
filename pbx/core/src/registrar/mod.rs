//! The registrar (RFC 3261 §10; RFC 3327 Path; RFC 5626 outbound): which contacts an extension has, and until when.
//! After digest and transactions, before routing. Knows no messages, sockets or clocks: a request comes in as
//! [`Register`], what changed goes out as [`BindingChange`].
//!
//! A request is carried out whole or not at all. Contacts are the same binding when their URIs are equal as
//! RFC 3261 §19.1.4 says, or, of outbound ones, when instance and `reg-id` are. A request with a Call-ID that wrote
//! the binding before must have a higher CSeq; with the same CSeq it is that request once more, after its transaction
//! is forgotten (the daemon started anew, say): it is answered again and changes nothing.

mod binding;
mod request;
mod uri;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use self::{
    binding::{Binding, BindingChange, BindingId, Ended, StoredBinding},
    request::{
        Contact, ContactNow, ContactSet, LONGEST_CALL_ID, LONGEST_INSTANCE, LONGEST_PATH, LONGEST_URI,
        LONGEST_USER_AGENT, Limits, MOST_IN_REQUEST, Refused, Register, Registered,
    },
};
use self::{
    request::{Common, Wanted},
    uri::Uri,
};
use crate::{
    directory::ExtensionId,
    moment::Moment,
    time::Timestamp,
    transport::{ConnectionId, TransportId},
};

/// All bindings.
#[derive(Debug)]
pub struct Registrar {
    limits: Limits,
    next_id: u64,
    bindings: BTreeMap<BindingId, Box<Binding>>,
    /// The bindings of an extension, in the order in which they were made.
    extensions: BTreeMap<ExtensionId, Vec<BindingId>>,
    connections: BTreeMap<ConnectionId, Vec<BindingId>>,
    /// Each binding once, under its own end: what a refresh leaves behind would have no bound.
    ends: BTreeSet<(Moment, BindingId)>,
}

/// What a request does to one binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    /// Write the contact of this place in the request.
    Write(usize),
    Remove(Ended),
}

/// A binding that is, or would be.
#[derive(Clone, Copy, Debug)]
struct Planned {
    existing: Option<BindingId>,
    step: Step,
}

impl Registrar {
    /// A registrar without bindings. `wall` makes the names of its bindings differ from those of earlier runs.
    pub fn new(limits: Limits, wall: Timestamp) -> Self {
        let millis = u64::try_from(wall.as_millis()).unwrap_or(0);
        Self {
            limits,
            // A thousand bindings a millisecond would have to be made to meet the next run's.
            next_id: millis << 10,
            bindings: BTreeMap::new(),
            extensions: BTreeMap::new(),
            connections: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// Other limits, for what is registered from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes up what the store kept. UDP bindings can be reached at once, the others when the phone returns.
    /// Those whose time is over are told as removed; a clock that was set back makes none longer than allowed.
    pub fn restore(
        &mut self,
        stored: impl IntoIterator<Item = StoredBinding>,
        now: Moment,
        wall: Timestamp,
    ) -> Vec<BindingChange> {
        let mut changes = Vec::new();
        for mut stored in stored {
            self.next_id = self.next_id.max(stored.id.0.saturating_add(1));
            let left = stored.expires_at.saturating_since(wall).min(self.limits.maximum);
            if left.is_zero() {
                changes.push(BindingChange::Removed(stored, Ended::Expired));
                continue;
            }
            if self.bindings.contains_key(&stored.id) {
                continue;
            }
            stored.expires_at = wall.saturating_add(left);
            let reachable = !stored.protocol.is_reliable();
            self.insert(Binding { stored, expires: now + left, connection: None, reachable });
        }
        changes
    }

    /// Carries out a request, whole or not at all.
    pub fn register(&mut self, request: &Register<'_>, now: Moment, wall: Timestamp) -> Result<Registered, Refused> {
        let mut changes = Vec::new();
        let mut outbound = false;
        match request.contacts {
            ContactSet::Query => {}
            ContactSet::Star => self.take_back_all(request, &mut changes)?,
            ContactSet::List(contacts) => {
                let common = Common::of(request)?;
                let wanted = Wanted::all(contacts, request, &self.limits)?;
                outbound = wanted.iter().any(|wanted| wanted.reg_id.is_some());
                for Planned { existing, step } in self.plan(request, &wanted)? {
                    match (existing, step) {
                        (_, Step::Keep) | (None, Step::Remove(_)) => {}
                        (Some(id), Step::Remove(why)) => changes.extend(self.end(id, why)),
                        (existing, Step::Write(at)) => {
                            changes.push(self.write(existing, request, &common, &wanted[at], (now, wall)));
                        }
                    }
                }
            }
        }
        let contacts = self.of(request.extension).map(|binding| ContactNow {
            uri: Arc::clone(&binding.stored.contact),
            expires: binding.remaining(now),
            q: binding.stored.q,
            instance: binding.stored.instance.clone(),
            reg_id: binding.stored.reg_id,
        });
        Ok(Registered { contacts: contacts.collect(), changes, outbound })
    }

    /// The bindings of an extension, oldest first.
    pub fn of(&self, extension: ExtensionId) -> impl Iterator<Item = &Binding> {
        let ids = self.extensions.get(&extension).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.bindings.get(id).map(Box::as_ref))
    }

    /// A binding by its name.
    pub fn binding(&self, id: BindingId) -> Option<&Binding> {
        self.bindings.get(&id).map(Box::as_ref)
    }

    /// All bindings, oldest first.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values().map(Box::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// When the next binding ends.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Ends one binding whose time is over; to be called until there is none.
    pub fn expire(&mut self, now: Moment) -> Option<BindingChange> {
        let (end, id) = *self.ends.first()?;
        if end > now { None } else { self.end(id, Ended::Expired) }
    }

    /// An administrator ends a binding.
    pub fn drop_binding(&mut self, id: BindingId) -> Option<BindingChange> {
        self.end(id, Ended::Dropped)
    }

    /// Ends the bindings of every extension that `may_stay` denies: those that are gone or disabled, or whose
    /// password changed.
    pub fn revoke(&mut self, may_stay: impl Fn(ExtensionId) -> bool) -> Vec<BindingChange> {
        let gone: Vec<_> = self.extensions.iter().filter(|(extension, _)| !may_stay(**extension)).collect();
        let gone: Vec<_> = gone.into_iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        gone.into_iter().filter_map(|id| self.end(id, Ended::Revoked)).collect()
    }

    /// A connection is closed: its bindings stay, and wait for the phone to return.
    pub fn connection_closed(&mut self, connection: ConnectionId) -> Vec<BindingChange> {
        let ids = self.connections.remove(&connection).unwrap_or_default();
        ids.into_iter().filter_map(|id| Self::lose(self.bindings.get_mut(&id)?)).collect()
    }

    /// A transport is closed: nothing can be sent from it.
    pub fn transport_closed(&mut self, transport: TransportId) -> Vec<BindingChange> {
        let bindings = self.bindings.values_mut().filter(|binding| binding.stored.transport == transport);
        let connections = &mut self.connections;
        let lost = bindings.filter_map(|binding| {
            if let Some(connection) = binding.connection {
                connections.remove(&connection);
            }
            Self::lose(binding)
        });
        lost.collect()
    }

    fn lose(binding: &mut Binding) -> Option<BindingChange> {
        binding.connection = None;
        let was_reachable = std::mem::replace(&mut binding.reachable, false);
        was_reachable.then(|| BindingChange::Unreachable(binding.stored.clone()))
    }

    fn take_back_all(&mut self, request: &Register<'_>, changes: &mut Vec<BindingChange>) -> Result<(), Refused> {
        if request.expires != Some(0) {
            return Err(Refused::StarWithTime);
        }
        let in_order = |binding: &Binding| {
            binding.stored.call_id.as_bytes() != request.call_id || request.cseq > binding.stored.cseq
        };
        if !self.of(request.extension).all(in_order) {
            return Err(Refused::OutOfOrder);
        }
        let ids = self.extensions.get(&request.extension).cloned().unwrap_or_default();
        changes.extend(ids.into_iter().filter_map(|id| self.end(id, Ended::Unregistered)));
        Ok(())
    }

    /// What the request does to each binding of the extension, and which it adds.
    fn plan(&self, request: &Register<'_>, wanted: &[Wanted<'_>]) -> Result<Vec<Planned>, Refused> {
        let ids = self.extensions.get(&request.extension).map_or(&[][..], Vec::as_slice);
        let mut plan: Vec<Planned> = ids.iter().map(|id| Planned { existing: Some(*id), step: Step::Keep }).collect();
        for (at, contact) in wanted.iter().enumerate() {
            let step = if contact.time.is_zero() { Step::Remove(Ended::Unregistered) } else { Step::Write(at) };
            let Some(place) = self.find(&plan, wanted, contact) else {
                if matches!(step, Step::Write(_)) {
                    plan.push(Planned { existing: None, step });
                }
                continue;
            };
            let planned = &mut plan[place];
            let binding = planned.existing.and_then(|id| self.bindings.get(&id));
            if let Some(binding) = binding
                && binding.stored.call_id.as_bytes() == request.call_id
                && request.cseq <= binding.stored.cseq
            {
                if request.cseq < binding.stored.cseq || step == Step::Remove(Ended::Unregistered) {
                    return Err(Refused::OutOfOrder);
                }
                continue;
            }
            planned.step = step;
        }
        self.make_room(&mut plan)?;
        Ok(plan)
    }

    /// The place in the plan of the binding that a contact means.
    fn find(&self, plan: &[Planned], wanted: &[Wanted<'_>], contact: &Wanted<'_>) -> Option<usize> {
        // Instance and reg-id of an outbound one, and whether the URI is this contact's.
        let key = |planned: &Planned| match (planned.step, planned.existing) {
            (Step::Write(at), _) => {
                let other = &wanted[at];
                (other.reg_id.and(other.instance), other.reg_id, other.uri.is(&contact.uri))
            }
            (_, Some(id)) => match self.bindings.get(&id) {
                Some(binding) => {
                    let stored = &binding.stored;
                    let same = Uri::parse(&stored.contact).is_some_and(|uri| uri.is(&contact.uri));
                    (stored.reg_id.and(stored.instance.as_deref()), stored.reg_id, same)
                }
                None => (None, None, false),
            },
            (_, None) => (None, None, false),
        };
        if contact.reg_id.is_none() {
            return plan.iter().position(|planned| key(planned).2);
        }
        let outbound = plan.iter().position(|planned| {
            let (instance, reg_id, _) = key(planned);
            instance == contact.instance && reg_id == contact.reg_id
        });
        // The same phone, which did not use outbound before.
        outbound.or_else(|| plan.iter().position(|planned| matches!(key(planned), (_, None, true))))
    }

    /// Keeps the extension within its limit: what nobody can reach gives way to what is new, oldest first.
    fn make_room(&self, plan: &mut [Planned]) -> Result<(), Refused> {
        let stays = |planned: &Planned| !matches!(planned.step, Step::Remove(_));
        let grows = plan.iter().any(|planned| planned.existing.is_none() && stays(planned));
        let mut over = plan.iter().filter(|planned| stays(planned)).count().saturating_sub(self.limits.contacts);
        if !grows {
            return Ok(());
        }
        for planned in plan.iter_mut().filter(|planned| planned.step == Step::Keep) {
            let binding = planned.existing.and_then(|id| self.bindings.get(&id));
            if over > 0 && binding.is_some_and(|binding| !binding.reachable) {
                planned.step = Step::Remove(Ended::GaveWay);
                over -= 1;
            }
        }
        if over > 0 { Err(Refused::TooManyContacts) } else { Ok(()) }
    }

    fn write(
        &mut self,
        existing: Option<BindingId>,
        request: &Register<'_>,
        common: &Common<'_>,
        wanted: &Wanted<'_>,
        (now, wall): (Moment, Timestamp),
    ) -> BindingChange {
        let before = existing.and_then(|id| self.bindings.get(&id)).map(|binding| &binding.stored);
        // A refresh writes the same texts again, mostly.
        let text = |text: &str, old: Option<&Arc<str>>| match old {
            Some(old) if **old == *text => Arc::clone(old),
            _ => Arc::from(text),
        };
        let old_instance = before.and_then(|old| old.instance.as_ref());
        let old_path = before.and_then(|old| old.path.as_ref());
        let flow = request.flow;
        let stored = StoredBinding {
            id: existing.unwrap_or(BindingId(self.next_id)),
            extension: request.extension,
            contact: text(wanted.text, before.map(|old| &old.contact)),
            q: wanted.q,
            instance: wanted.instance.map(|instance| text(instance, old_instance)),
            reg_id: wanted.reg_id,
            call_id: text(common.call_id, before.map(|old| &old.call_id)),
            cseq: request.cseq,
            path: common.path.as_deref().map(|path| text(path, old_path)),
            user_agent: text(&common.user_agent, before.map(|old| &old.user_agent)),
            transport: flow.transport,
            protocol: flow.protocol,
            local: flow.local,
            remote: flow.remote,
            behind_nat: request.behind_nat,
            since: before.map_or(wall, |old| old.since),
            expires_at: wall.saturating_add(wanted.time),
        };
        let is_new = before.is_none();
        let told = stored.clone();
        self.take(stored.id);
        self.next_id = self.next_id.max(stored.id.0.saturating_add(1));
        self.insert(Binding { stored, expires: now + wanted.time, connection: flow.connection, reachable: true });
        if is_new { BindingChange::Added(told) } else { BindingChange::Refreshed(told) }
    }

    fn end(&mut self, id: BindingId, why: Ended) -> Option<BindingChange> {
        let binding = self.take(id)?;
        if let Some(ids) = self.extensions.get_mut(&binding.stored.extension) {
            ids.retain(|one| *one != id);
            if ids.is_empty() {
                self.extensions.remove(&binding.stored.extension);
            }
        }
        Some(BindingChange::Removed(binding.stored, why))
    }

    /// Takes a binding out of everything but its extension's list, where its place is kept.
    fn take(&mut self, id: BindingId) -> Option<Binding> {
        let binding = *self.bindings.remove(&id)?;
        self.ends.remove(&(binding.expires, id));
        if let Some(connection) = binding.connection
            && let Some(ids) = self.connections.get_mut(&connection)
        {
            ids.retain(|one| *one != id);
            if ids.is_empty() {
                self.connections.remove(&connection);
            }
        }
        Some(binding)
    }

    fn insert(&mut self, binding: Binding) {
        let id = binding.stored.id;
        self.ends.insert((binding.expires, id));
        if let Some(connection) = binding.connection {
            self.connections.entry(connection).or_default().push(id);
        }
        let ids = self.extensions.entry(binding.stored.extension).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
        self.bindings.insert(id, Box::new(binding));
    }
}

#[cfg(test)]
mod tests;
