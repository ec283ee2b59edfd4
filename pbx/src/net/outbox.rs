//! Messages on their way out: bytes in one buffer, and a flow for each. Filled by whoever has something to send, emptied
//! by the transports in batches; nothing is allocated for a message once the buffers have grown.

use std::ops::Range;

use pbx_core::transport::Flow;

/// What a buffer may keep when it is emptied, in bytes.
const KEPT: usize = 1 << 20;

/// Messages to send, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    messages: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    flow: Flow,
    place: Range<usize>,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message.
    pub fn push(&mut self, flow: Flow, bytes: &[u8]) {
        self.write(flow, |out| out.extend_from_slice(bytes));
    }

    /// Adds a message that `write` appends to the buffer. Appending nothing is no message.
    pub fn write(&mut self, flow: Flow, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        assert!(self.bytes.len() >= start, "a message is appended; what stood before it stays");
        if self.bytes.len() > start {
            self.messages.push(Message { flow, place: start..self.bytes.len() });
        }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Flow, &[u8])> {
        self.messages.iter().map(|message| (&message.flow, &self.bytes[message.place.clone()]))
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }

    /// Puts messages that leave by the same socket beside each other; of one flow they stay in order.
    pub(super) fn group(&mut self) {
        let by = |message: &Message| (message.flow.transport, message.flow.remote.is_ipv6(), message.place.start);
        self.messages.sort_unstable_by_key(by);
    }
}

#[cfg(test)]
mod tests {
    use pbx_core::transport::{Protocol, TransportId};

    use super::*;

    fn flow(transport: u32, remote: &str) -> Flow {
        let (local, remote) = ("192.0.2.1:5060".parse().unwrap(), remote.parse().unwrap());
        Flow { transport: TransportId(transport), protocol: Protocol::Udp, local, remote, connection: None }
    }

    #[test]
    fn messages_are_grouped_by_socket_and_stay_in_order_there() {
        let mut outbox = Outbox::new();
        outbox.push(flow(2, "192.0.2.9:5060"), b"one");
        outbox.push(flow(1, "[2001:db8::1]:5060"), b"two");
        outbox.push(flow(1, "192.0.2.9:5060"), b"three");
        outbox.push(flow(2, "192.0.2.9:5060"), b"four");
        outbox.push(flow(1, "192.0.2.8:5060"), b"five");
        outbox.write(flow(1, "192.0.2.8:5060"), |_| ());
        outbox.group();
        let order: Vec<_> = outbox.iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(order, [&b"three"[..], b"five", b"two", b"one", b"four"]);
    }

    #[test]
    fn a_huge_message_is_not_kept_in_memory() {
        let mut outbox = Outbox::new();
        outbox.write(flow(1, "192.0.2.9:5060"), |out| out.resize(8 * KEPT, 0));
        outbox.clear();
        assert!(outbox.is_empty() && outbox.bytes.capacity() <= KEPT);
    }
}
