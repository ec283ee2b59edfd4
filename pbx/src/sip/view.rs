//! Registrations as the operations see them.

use pbx_core::registrar::{Binding, BindingId};

use crate::signalling::Registration;

/// One registration.
pub(super) fn registration(binding: &Binding) -> Registration {
    let stored = binding.stored();
    Registration {
        id: format!("{:x}", stored.id.0),
        extension: stored.extension,
        contact: stored.contact.to_string(),
        user_agent: stored.user_agent.to_string(),
        instance: stored.instance.as_deref().map(str::to_owned),
        protocol: stored.protocol,
        remote: stored.remote,
        local: stored.local,
        reachable: binding.flow().is_some(),
        behind_nat: stored.behind_nat,
        since: stored.since,
        expires_at: stored.expires_at,
    }
}

/// The binding that an id names; none: it was not made here.
pub(super) fn id(text: &str) -> Option<BindingId> {
    u64::from_str_radix(text, 16).ok().map(BindingId)
}
