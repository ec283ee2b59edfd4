//! What a request will do, before anything is done: the place where it is still refused (RFC 3261 §10.3 step 7).

use super::{BindingId, Ended, Refused, Register, Registrar, request::Wanted, uri::Uri};

/// What a request does to one binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Keep,
    /// Write the contact of this place in the request.
    Write(usize),
    /// End it.
    Remove(Ended),
}

/// A binding that is, or would be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) existing: Option<BindingId>,
    pub(super) step: Step,
}

impl Registrar {
    /// What the request does to each binding of the extension, and which it adds.
    pub(super) fn plan(&self, request: &Register<'_>, wanted: &[Wanted<'_>]) -> Result<Vec<Planned>, Refused> {
        let ids = self.extensions.get(&request.extension).map_or(&[][..], Vec::as_slice);
        let mut plan: Vec<Planned> = ids.iter().map(|id| Planned { existing: Some(*id), step: Step::Keep }).collect();
        // Taken apart once, however many contacts they are compared with.
        let uris = ids.iter().map(|id| self.bindings.get(id).and_then(|binding| Uri::parse(&binding.stored.contact)));
        let uris: Vec<Option<Uri<'_>>> = uris.collect();
        for (at, contact) in wanted.iter().enumerate() {
            let step = if contact.time.is_zero() { Step::Remove(Ended::Unregistered) } else { Step::Write(at) };
            let Some(place) = self.find(&plan, (wanted, &uris), contact) else {
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

    /// The place in the plan of the binding that a contact means. `uris` are those of the bindings that are, which
    /// stand first in the plan.
    fn find(
        &self,
        plan: &[Planned],
        (wanted, uris): (&[Wanted<'_>], &[Option<Uri<'_>>]),
        contact: &Wanted<'_>,
    ) -> Option<usize> {
        // Instance and reg-id of an outbound one.
        let flow = |planned: &Planned| match (planned.step, planned.existing) {
            (Step::Write(at), _) => (wanted[at].reg_id.and(wanted[at].instance), wanted[at].reg_id),
            (_, Some(id)) => match self.bindings.get(&id).map(|binding| &binding.stored) {
                Some(stored) => (stored.reg_id.and(stored.instance.as_deref()), stored.reg_id),
                None => (None, None),
            },
            (_, None) => (None, None),
        };
        let is_same = |place: usize| match plan[place].step {
            Step::Write(at) => wanted[at].uri.is(&contact.uri),
            _ => uris.get(place).and_then(Option::as_ref).is_some_and(|uri| uri.is(&contact.uri)),
        };
        let mut places = 0..plan.len();
        if contact.reg_id.is_none() {
            return places.find(|place| is_same(*place));
        }
        let outbound = plan.iter().position(|planned| flow(planned) == (contact.instance, contact.reg_id));
        // The same phone, which did not use outbound before.
        outbound.or_else(|| places.find(|place| flow(&plan[*place]).1.is_none() && is_same(*place)))
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
}
