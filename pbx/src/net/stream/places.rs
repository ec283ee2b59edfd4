//! How many connections there may be: in all, of one source, and in the middle of a handshake; and how much memory
//! unfinished messages may take. Shared by all stream transports, so that another port gives nobody more. Something of
//! everything is kept for known addresses, or strangers could shut them out.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pbx_core::transport::counted;
use tokio::sync::Notify;

use super::super::Dropped;

/// How many times the connections of another source a known address may have: many phones may be behind it.
const OF_KNOWN: usize = 10;

/// What connections may use of this machine. Changed at any time; applies to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all stream transports together. The last fifth is for known addresses.
    pub connections: usize,
    /// Of these, from one source: an IPv4 address or an IPv6 /64. A known address, of IPv6 too, may have ten times as
    /// many.
    pub of_source: usize,
    /// TLS handshakes at the same time, of which unknown sources may have three quarters; one more of these is refused,
    /// while one of a known address waits for its turn.
    pub handshakes: usize,
    /// Of these, from one unknown source; beyond that, connections are refused.
    pub handshakes_of_unknown: usize,
    /// The same for a known address.
    pub handshakes_of_known: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// What unfinished messages may take of all connections together (bytes). One that needs more is closed, unless
    /// somebody registered over it.
    pub held: usize,
    /// What may wait to be sent on a connection (bytes); one whose peer lets more gather is closed.
    pub outgoing: usize,
    /// How long a peer may take no byte of what waits for it.
    pub unread: Duration,
    /// What is asked of the messages themselves.
    pub frames: pbx_core::wire::stream::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            of_source: 256,
            handshakes: 512,
            handshakes_of_unknown: 16,
            handshakes_of_known: 128,
            handshake: Duration::from_secs(5),
            held: 64 << 20,
            outgoing: 256 << 10,
            unread: Duration::from_secs(30),
            frames: pbx_core::wire::stream::Limits::DEFAULT,
        }
    }
}

/// The places for connections.
#[derive(Debug)]
pub struct Places {
    taken: Mutex<Taken>,
    /// A handshake is over.
    shaken: Notify,
}

#[derive(Debug)]
struct Taken {
    limits: Limits,
    connections: usize,
    /// Handshakes that run.
    handshakes: usize,
    /// Of these, from unknown sources.
    of_unknown: usize,
    /// What unfinished messages take (bytes).
    held: usize,
    sources: HashMap<Source, OfSource>,
}

/// Who is counted together, and whether it was known.
type Source = (u128, bool);

#[derive(Debug, Default)]
struct OfSource {
    connections: usize,
    /// Handshakes that run or wait for their turn.
    handshakes: usize,
}

impl Places {
    /// All free.
    pub fn new(limits: Limits) -> Self {
        let sources = HashMap::new();
        let taken = Taken { limits, connections: 0, handshakes: 0, of_unknown: 0, held: 0, sources };
        Self { taken: Mutex::new(taken), shaken: Notify::new() }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.taken().limits
    }

    /// Changes the limits, for connections to come.
    pub fn limit(&self, limits: Limits) {
        self.taken().limits = limits;
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.taken().connections
    }

    /// What unfinished messages take (bytes).
    pub fn held(&self) -> usize {
        self.taken().held
    }

    /// A place for a connection from this address, `known` or not, given back when it is dropped. One that is to shake
    /// hands asks for its [turn](Place::turn).
    pub(super) fn take(self: &Arc<Self>, (remote, known): (IpAddr, bool), handshake: bool) -> Result<Place, Dropped> {
        let source = (counted(remote, known), known);
        let taken = &mut *self.taken();
        let limits = taken.limits;
        if taken.connections >= limits.connections(known) {
            return Err(Dropped::Connections);
        }
        let full = taken.handshakes >= limits.handshakes || taken.of_unknown >= limits.handshakes_of_all_unknown();
        if handshake && !known && full {
            return Err(Dropped::Handshakes);
        }
        let (most, most_handshakes) = limits.of_source(known);
        let of_source = taken.sources.entry(source).or_default();
        if of_source.connections >= most || handshake && of_source.handshakes >= most_handshakes {
            // It has some, or a limit is 0 and the entry is to go.
            if of_source.connections == 0 {
                taken.sources.remove(&source);
            }
            return Err(Dropped::ConnectionsOfSource);
        }
        of_source.connections += 1;
        of_source.handshakes += usize::from(handshake);
        taken.connections += 1;
        let mut place = Place { places: Arc::clone(self), source, handshake: Handshake::None, held: 0 };
        if handshake {
            place.handshake = Handshake::Waits;
            if !known {
                // There is room, or it would have been refused.
                place.begin(taken);
            }
        }
        Ok(place)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limits {
    /// How many connections there may be when one more comes.
    fn connections(&self, known: bool) -> usize {
        if known { self.connections } else { self.connections - self.connections / 5 }
    }

    fn handshakes_of_all_unknown(&self) -> usize {
        self.handshakes - self.handshakes / 4
    }

    /// Connections and handshakes of one source.
    fn of_source(&self, known: bool) -> (usize, usize) {
        match known {
            true => ((OF_KNOWN * self.of_source).min(self.connections), self.handshakes_of_known),
            false => (self.of_source, self.handshakes_of_unknown),
        }
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: Source,
    handshake: Handshake,
    /// What its unfinished message takes (bytes).
    held: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    None,
    Waits,
    Runs,
}

impl Place {
    /// Waits until its handshake may begin.
    pub(super) async fn turn(&mut self) {
        loop {
            let places = Arc::clone(&self.places);
            // Listens before it looks, so that nothing ends unheard in between.
            let mut shaken = pin!(places.shaken.notified());
            shaken.as_mut().enable();
            if self.is_turn() {
                return;
            }
            shaken.await;
        }
    }

    fn is_turn(&mut self) -> bool {
        let places = Arc::clone(&self.places);
        let mut taken = places.taken();
        if self.handshake == Handshake::Waits && taken.handshakes < taken.limits.handshakes {
            self.begin(&mut taken);
        }
        self.handshake != Handshake::Waits
    }

    fn begin(&mut self, taken: &mut Taken) {
        self.handshake = Handshake::Runs;
        taken.handshakes += 1;
        taken.of_unknown += usize::from(!self.is_known());
    }

    /// The handshake is over.
    pub(super) fn shaken(&mut self) {
        let before = std::mem::replace(&mut self.handshake, Handshake::None);
        if before == Handshake::None {
            return;
        }
        let mut taken = self.places.taken();
        if let Some(of_source) = taken.sources.get_mut(&self.source) {
            of_source.handshakes -= 1;
        }
        if before == Handshake::Runs {
            taken.handshakes -= 1;
            taken.of_unknown -= usize::from(!self.is_known());
            drop(taken);
            self.places.shaken.notify_one();
        }
    }

    /// Its unfinished message takes this much now (bytes). `false`: all of them together take more than they may, and
    /// this one is not excused.
    pub(super) fn hold(&mut self, bytes: usize, excused: impl FnOnce() -> bool) -> bool {
        if bytes == self.held {
            return true;
        }
        let fits = {
            let mut taken = self.places.taken();
            let grows = bytes > self.held;
            taken.held = taken.held - self.held + bytes;
            !grows || taken.held <= taken.limits.held
        };
        self.held = bytes;
        fits || excused()
    }

    const fn is_known(&self) -> bool {
        self.source.1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shaken();
        let mut taken = self.places.taken();
        taken.connections -= 1;
        taken.held -= self.held;
        if let Some(of_source) = taken.sources.get_mut(&self.source) {
            of_source.connections -= 1;
            if of_source.connections == 0 {
                taken.sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests;
