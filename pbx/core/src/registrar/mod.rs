//! The registrar (RFC 3261 §10; RFC 3327 Path; RFC 5626 outbound): which contacts an extension has, and until when.
//! After digest and transactions, before routing. Knows no messages, sockets or clocks: a request comes in as
//! [`Register`], what changed goes out as [`BindingChange`].
//!
//! A request is carried out whole or not at all. Contacts are the same binding when their URIs are equal as
//! RFC 3261 §19.1.4 says, or, of outbound ones, when instance and `reg-id` are. A request with a Call-ID that wrote
//! the binding before must have a higher CSeq; with the same CSeq it is that request once more, after its transaction
//! is forgotten (the daemon started anew, say): it is answered again and changes nothing.

mod binding;
mod plan;
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
    plan::{Planned, Step},
    request::{Common, Wanted},
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

    /// Takes up what the store kept. UDP bindings can be reached at once if somebody still `listens` where they were
    /// made, the others when the phone returns. Those whose time is over are told as removed; a clock that was set
    /// back makes none longer than allowed.
    pub fn restore(
        &mut self,
        stored: impl IntoIterator<Item = StoredBinding>,
        listens: impl Fn(&StoredBinding) -> bool,
        (now, wall): (Moment, Timestamp),
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
            let reachable = !stored.protocol.is_reliable() && listens(&stored);
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
                let wanted = Wanted::all(contacts, request, &self.limits, self.of(request.extension).count())?;
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

    /// How many bindings each extension has that has any.
    pub fn counts(&self) -> impl Iterator<Item = (ExtensionId, usize)> {
        self.extensions.iter().map(|(extension, ids)| (*extension, ids.len()))
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

    /// Whether a binding is reached over this connection.
    pub fn is_registered(&self, connection: ConnectionId) -> bool {
        self.connections.contains_key(&connection)
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
