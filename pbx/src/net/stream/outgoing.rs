//! What waits to be sent on a connection. Filled by any thread, emptied by the connection's task; bounded, because a
//! peer may not read.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

/// The bytes that wait for one connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    waker: Option<Waker>,
    overflowed: bool,
    close: bool,
}

/// What the task found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Bytes to send, in the buffer that was given; maybe none.
    Bytes,
    /// More gathered than may: close.
    Overflowed,
    /// Somebody wants the connection closed, once these bytes were sent.
    Close,
}

impl Outgoing {
    /// Nothing waits; at most `limit` bytes may.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Adds a message, whole or not at all. `false`: there is no room, and the connection will close.
    pub(super) fn push(&self, bytes: &[u8]) -> bool {
        let mut state = self.state();
        if state.bytes.len() + bytes.len() > self.limit {
            state.overflowed = true;
        } else {
            state.bytes.extend_from_slice(bytes);
        }
        let fits = !state.overflowed;
        wake(state);
        fits
    }

    /// Asks the task to close the connection.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.close = true;
        wake(state);
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.state().bytes.len()
    }

    /// Moves what waits into `buffer` if that is empty; `waker` is called when there is more.
    pub(super) fn take(&self, buffer: &mut Vec<u8>, waker: &Waker) -> Taken {
        let mut state = self.state();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        if state.overflowed {
            return Taken::Overflowed;
        }
        if buffer.is_empty() && !state.bytes.is_empty() {
            *buffer = mem::take(&mut state.bytes);
        }
        if state.close { Taken::Close } else { Taken::Bytes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_queued_whole_or_the_connection_is_over() {
        let (outgoing, mut buffer) = (Outgoing::new(10), Vec::new());
        assert!(outgoing.push(b"12345") && outgoing.push(b"67890"));
        assert_eq!(outgoing.take(&mut buffer, Waker::noop()), Taken::Bytes);
        assert_eq!(buffer, b"1234567890");
        assert!(outgoing.push(b"1234567") && !outgoing.push(b"8901"));
        assert_eq!(outgoing.take(&mut buffer, Waker::noop()), Taken::Overflowed);
    }
}
