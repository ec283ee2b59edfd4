//! What a transport counts: messages in, out, and lost, by reason. Written by every worker, read by whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why something did not get through. Of datagrams each counts one; of a stream, one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The user-space filter did not admit it.
    Filtered,
    /// The kernel's receive buffer was full.
    ReceiveBuffer,
    /// The kernel's send buffer was full: what was to be sent was shed.
    SendBuffer,
    /// The network took no message for that destination.
    Unreachable,
    /// A datagram that could not be answered: from port 0, or without the address that it was sent to.
    Unanswerable,
    /// What is above failed on it; an error in the log says how.
    Failed,
    /// A connection over the limit of all connections.
    Connections,
    /// A connection over the limit of its source.
    ConnectionsOfSource,
    /// A connection over the limit of handshakes of all unknown sources together.
    Handshakes,
    /// The TLS handshake failed.
    Handshake,
    /// The TLS handshake took too long.
    HandshakeTime,
    /// A connection on which no message came in time.
    Idle,
    /// A connection whose message did not become whole in time.
    Slow,
    /// A connection that sent what cannot be framed.
    Unframed,
    /// A connection that did not read what it was sent.
    Unread,
    /// A connection that had sent a part of a message when all such parts together had taken what memory they may.
    HeldMemory,
    /// A message for a connection that is gone.
    Gone,
}

impl Dropped {
    /// All reasons, in the order in which they are shown.
    pub const ALL: [Self; 17] = [
        Self::Filtered,
        Self::ReceiveBuffer,
        Self::SendBuffer,
        Self::Unreachable,
        Self::Unanswerable,
        Self::Failed,
        Self::Connections,
        Self::ConnectionsOfSource,
        Self::Handshakes,
        Self::Handshake,
        Self::HandshakeTime,
        Self::Idle,
        Self::Slow,
        Self::Unframed,
        Self::Unread,
        Self::HeldMemory,
        Self::Gone,
    ];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::ReceiveBuffer => "receive_buffer_full",
            Self::SendBuffer => "send_buffer_full",
            Self::Unreachable => "unreachable",
            Self::Unanswerable => "unanswerable",
            Self::Failed => "failed",
            Self::Connections => "too_many_connections",
            Self::ConnectionsOfSource => "too_many_connections_of_source",
            Self::Handshakes => "too_many_handshakes",
            Self::Handshake => "handshake_failed",
            Self::HandshakeTime => "handshake_too_slow",
            Self::Idle => "idle",
            Self::Slow => "message_too_slow",
            Self::Unframed => "not_framed",
            Self::Unread => "peer_does_not_read",
            Self::HeldMemory => "held_memory",
            Self::Gone => "connection_gone",
        }
    }
}

/// The counters of one transport.
#[derive(Debug, Default)]
pub struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    connections: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl Counters {
    /// Messages that came in, keep-alives too.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Messages that went out.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// How often this happened.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped[reason as usize].load(Relaxed)
    }

    /// All that ever happened, by the name of the reason.
    pub fn all_dropped(&self) -> Vec<(String, u64)> {
        let counted = Dropped::ALL.into_iter().map(|reason| (reason.name().to_owned(), self.dropped(reason)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    pub(super) fn add_received(&self, count: usize) {
        self.received.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn add_sent(&self, count: usize) {
        self.sent.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn add_dropped(&self, reason: Dropped, count: usize) {
        if count > 0 {
            self.dropped[reason as usize].fetch_add(count as u64, Relaxed);
        }
    }

    pub(super) fn opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_and_a_name_of_its_own() {
        let counters = Counters::default();
        for (index, reason) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            counters.add_dropped(reason, index);
        }
        let shown = counters.all_dropped();
        assert_eq!(shown.len(), Dropped::ALL.len() - 1, "what never happened is left out");
        let mut names: Vec<_> = shown.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Dropped::ALL.len() - 1);
    }
}
