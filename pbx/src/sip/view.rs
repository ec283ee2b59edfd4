//! Registrations as the operations see them.

use pbx_core::registrar::{Binding, BindingId, StoredBinding};

use crate::signalling::Registration;

/// A binding as the core thread hands it out: its texts are shared, so that many cost the thread little.
pub(super) struct Seen {
    stored: StoredBinding,
    reachable: bool,
}

impl Seen {
    pub(super) fn of(binding: &Binding) -> Self {
        Self { stored: binding.stored().clone(), reachable: binding.flow().is_some() }
    }
}

impl From<Seen> for Registration {
    fn from(Seen { stored, reachable }: Seen) -> Self {
        Self {
            id: format!("{:x}", stored.id.0),
            extension: stored.extension,
            contact: stored.contact.to_string(),
            user_agent: stored.user_agent.to_string(),
            instance: stored.instance.as_deref().map(str::to_owned),
            protocol: stored.protocol,
            remote: stored.remote,
            local: stored.local,
            reachable,
            behind_nat: stored.behind_nat,
            since: stored.since,
            expires_at: stored.expires_at,
        }
    }
}

/// The binding that an id names; none: it was not made here.
pub(super) fn id(text: &str) -> Option<BindingId> {
    u64::from_str_radix(text, 16).ok().map(BindingId)
}
