//! Keeps routers from forgetting UDP phones behind them: a datagram to each now and then. After the registrar; says
//! when and whither, and sends nothing.
//!
//! The datagram is two empty lines ([`DATAGRAM`]). RFC 5626 §3.5.1 has it as the ping of streams; on UDP, RFC 3261
//! §7.5 has phones skip empty lines before a message, and so they do with nothing after them, without an answer. The
//! STUN of RFC 5626 §3.5.2 is what a phone may ask *us*; few phones would answer it, and fewer ignore it in silence.
//! A router that counts only packets from the inside (RFC 4787 §4.3 asks for those, and allows ours) is kept open by
//! the phone's own refreshes alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Flow, Protocol};
use crate::{
    moment::Moment,
    registrar::{Binding, BindingId},
};

/// What is sent.
pub const DATAGRAM: &[u8] = b"\r\n\r\n";

/// Who gets a datagram, and when next.
#[derive(Clone, Debug)]
pub struct KeepAlives {
    interval: Duration,
    flows: BTreeMap<BindingId, (Moment, Flow)>,
    due: BTreeSet<(Moment, BindingId)>,
    /// Counts the flows: each next one begins 0.618… of an interval after the one before, so that any number of them
    /// that begin at once lie evenly.
    begun: u32,
}

impl KeepAlives {
    /// Nobody yet.
    pub fn new(interval: Duration) -> Self {
        Self { interval, flows: BTreeMap::new(), due: BTreeSet::new(), begun: 0 }
    }

    /// Another interval, for all of them.
    pub fn set_interval(&mut self, interval: Duration, now: Moment) {
        if interval == self.interval {
            return;
        }
        self.interval = interval;
        self.due.clear();
        let mut flows = std::mem::take(&mut self.flows);
        for (id, (due, _)) in &mut flows {
            *due = now + self.first();
            self.due.insert((*due, *id));
        }
        self.flows = flows;
    }

    /// Follows a binding: begins, goes on unmoved while the flow is the same, or stops if it is not a UDP phone behind
    /// a router that can be reached.
    pub fn follow(&mut self, binding: &Binding, now: Moment) {
        let id = binding.stored().id;
        let wanted = binding.flow().filter(|flow| flow.protocol == Protocol::Udp && binding.stored().behind_nat);
        match (wanted, self.flows.get_mut(&id)) {
            (Some(flow), Some((_, current))) => *current = flow,
            (Some(flow), None) => {
                let due = now + self.first();
                self.flows.insert(id, (due, flow));
                self.due.insert((due, id));
            }
            (None, _) => self.stop(id),
        }
    }

    /// The binding is gone.
    pub fn stop(&mut self, id: BindingId) {
        if let Some((due, _)) = self.flows.remove(&id) {
            self.due.remove(&(due, id));
        }
    }

    /// When the next one is due.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.due.first().map(|(due, _)| *due)
    }

    /// A flow to which [`DATAGRAM`] is sent now; to be called until there is none. What was missed is not made up for.
    pub fn due(&mut self, now: Moment) -> Option<Flow> {
        let (due, id) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        let (next, flow) = self.flows.get_mut(&id)?;
        // Whole turns that were missed are left out; the place within the turn is kept, and with it the even spread.
        let interval = self.interval.as_micros().max(1);
        let turns = now.since(due).as_micros() / interval + 1;
        *next = due + Duration::from_micros(u64::try_from(turns * interval).unwrap_or(u64::MAX));
        self.due.insert((*next, id));
        Some(*flow)
    }

    /// How many get them.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// From the beginning of a flow to its first datagram: more than nothing, at most an interval.
    fn first(&mut self) -> Duration {
        self.begun = self.begun.wrapping_add(1);
        // The fraction of a multiple of the golden ratio, in 2^32nds.
        let fraction = u128::from(self.begun.wrapping_mul(0x9e37_79b9)) + 1;
        let micros = (self.interval.as_micros() * fraction) >> 32;
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        directory::ExtensionId,
        registrar::{BindingChange, Limits, Registrar, StoredBinding},
        settings::Settings,
        time::Timestamp,
        transport::TransportId,
    };

    const INTERVAL: Duration = Duration::from_secs(25);

    fn stored(id: u64, protocol: Protocol, behind_nat: bool) -> StoredBinding {
        StoredBinding {
            id: BindingId(id),
            extension: ExtensionId(id as u32),
            contact: Arc::from("sip:a@10.0.0.1"),
            q: 1000,
            instance: None,
            reg_id: None,
            call_id: Arc::from("a"),
            cseq: 1,
            path: None,
            user_agent: Arc::from(""),
            transport: TransportId(1),
            protocol,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "198.51.100.7:40000".parse().unwrap(),
            behind_nat,
            since: Timestamp::EPOCH,
            expires_at: Timestamp::EPOCH.saturating_add(Duration::from_secs(3600)),
        }
    }

    fn restored(stored: impl IntoIterator<Item = StoredBinding>) -> (Registrar, KeepAlives) {
        let mut registrar = Registrar::new(Limits::from(&Settings::default().sip), Timestamp::EPOCH);
        assert_eq!(registrar.restore(stored, |_| true, (Moment::ZERO, Timestamp::EPOCH)), []);
        let mut keepalives = KeepAlives::new(INTERVAL);
        registrar.bindings().for_each(|binding| keepalives.follow(binding, Moment::ZERO));
        (registrar, keepalives)
    }

    fn sent_until(keepalives: &mut KeepAlives, now: Moment) -> usize {
        std::iter::from_fn(|| keepalives.due(now)).count()
    }

    #[test]
    fn only_udp_phones_behind_a_router_get_them() {
        let all = [(1, Protocol::Udp, true), (2, Protocol::Udp, false), (3, Protocol::Tls, true)];
        let (mut registrar, mut keepalives) = restored(all.map(|(id, protocol, nat)| stored(id, protocol, nat)));
        assert_eq!(keepalives.len(), 1);
        let mut now = Moment::ZERO;
        for _ in 0..12 {
            now += INTERVAL;
            assert_eq!(sent_until(&mut keepalives, now), 1);
        }
        assert_eq!(keepalives.due(now), None);
        let Some(BindingChange::Removed(binding, _)) = registrar.drop_binding(BindingId(1)) else { panic!() };
        keepalives.stop(binding.id);
        assert_eq!((keepalives.next_timeout(), keepalives.is_empty()), (None, true));
    }

    #[test]
    fn a_binding_that_cannot_be_reached_gets_none() {
        let (mut registrar, mut keepalives) = restored([stored(1, Protocol::Udp, true)]);
        registrar.transport_closed(TransportId(1));
        keepalives.follow(registrar.binding(BindingId(1)).unwrap(), Moment::ZERO);
        assert!(keepalives.is_empty());
    }

    #[test]
    fn ten_thousand_that_begin_at_once_are_spread_over_the_interval() {
        let (registrar, mut keepalives) = restored((0..10_000).map(|id| stored(id, Protocol::Udp, true)));
        let slice = Duration::from_millis(250);
        let mut now = Moment::ZERO;
        for _ in 0..300 {
            now += slice;
            let sent = sent_until(&mut keepalives, now);
            assert!((90..=110).contains(&sent), "{sent} of 100");
            // A refresh moves nobody.
            registrar.bindings().take(10).for_each(|binding| keepalives.follow(binding, now));
        }
        keepalives.set_interval(Duration::from_secs(50), now);
        now += slice;
        let sent = sent_until(&mut keepalives, now);
        assert!((40..=60).contains(&sent), "{sent} of 50");
    }

    #[test]
    fn what_was_missed_while_nobody_asked_is_sent_once() {
        let (_, mut keepalives) = restored([stored(1, Protocol::Udp, true)]);
        let late = Moment::ZERO + 10 * INTERVAL;
        assert_eq!(sent_until(&mut keepalives, late), 1);
        assert!(keepalives.next_timeout().unwrap() > late);
    }
}
