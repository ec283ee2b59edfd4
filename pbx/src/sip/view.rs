//! Registrations and calls as the operations see them.

use pbx_core::{
    call,
    registrar::{Binding, BindingId, StoredBinding},
};

use crate::{
    media::Relay,
    signalling::{Call, CallLeg, Registration},
};

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

/// A call as the core hands it out, with what the relay knows of its media.
pub(super) fn call(call: call::Seen, relay: &Relay) -> Call {
    let call::Seen { id, tenant: _, caller, caller_number, dialled, callee_number, started, answered, legs } = call;
    let leg = |leg: call::SeenLeg| {
        let call::SeenLeg { media, kind, number, state, call_id, protocol, remote, pair, codec } = leg;
        let (stats, media_remote) = relay.seen(media).unwrap_or_default();
        CallLeg {
            kind: kind.as_str().to_owned(),
            number: number.to_string(),
            state: state.to_owned(),
            call_id: call_id.to_string(),
            protocol,
            remote,
            media_port: pair.map(|pair| pair.rtp),
            media_remote,
            codec: Some(codec.as_ref()).filter(|codec| !codec.is_empty()).map(str::to_owned),
            packets: stats.packets,
            bytes: stats.bytes,
            lost: stats.lost,
            jitter_us: stats.jitter,
            refused: stats.refused,
        }
    };
    Call {
        id: id.to_string(),
        caller,
        caller_number: caller_number.to_string(),
        dialled: dialled.to_string(),
        callee_number: callee_number.to_string(),
        started,
        answered,
        legs: legs.into_iter().map(leg).collect(),
    }
}
