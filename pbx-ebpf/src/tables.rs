//! The tables as the judgement sees them: pointers to the words of an element. The kernel program gives map
//! values, the host gives ordinary memory.

use crate::{
    abi::{Source, automatic, events, known, media, stats::Reason},
    hash::Seed,
    rate, rules, verdict,
};

/// What the rules ask ([`crate::rules`]). A `None` is an element that does not exist.
pub trait RuleMaps {
    /// Hash seed.
    fn seed(&self) -> Seed;
    /// Coarse monotonic time (ns).
    fn now(&self) -> u64;
    /// Word of `SETTINGS`.
    fn settings(&self) -> Option<*mut crate::abi::settings::Settings>;
    /// Word of `SUMMARY4`.
    fn summary4(&self, element: u32) -> Option<*mut u64>;
    /// Word of `CLASS4`.
    fn class4(&self, element: u32) -> Option<*mut u64>;
    /// The 16 words of a line of `ADDRESS4`.
    fn address4(&self, line: u32) -> Option<*mut u64>;
    /// Whether hits are counted.
    #[inline(always)]
    fn counts_hits(&self) -> bool {
        true
    }
    /// Word of `LENGTHS4`.
    fn lengths4(&self, element: u32) -> Option<*mut u64>;
    /// The two words of a bucket of `LENGTHS6`.
    fn lengths6(&self, bucket: u32) -> Option<*mut u64>;
    /// Word of `TAGS`.
    fn tags(&self, set: u32) -> Option<*mut u64>;
    /// The 20 words of a set of `PREFIX`.
    fn prefix(&self, set: u32) -> Option<*mut u64>;
    /// [`rules::exact4`] as a code; the kernel program makes it a function that is verified on its own.
    #[inline(always)]
    fn exact4(&self, address: u32, now: u64) -> u64
    where
        Self: Sized,
    {
        rules::exact4(self, address, now).code()
    }
    /// [`rules::probe`] as a code, likewise.
    #[inline(always)]
    fn probe(&self, hi: u64, lo: u64, code: u64, now: u64) -> u64
    where
        Self: Sized,
    {
        rules::probe(self, hi, lo, code as u8, now).code()
    }
    /// [`rules::say4_again`] as a code, likewise.
    #[inline(always)]
    fn say4_again(&self, address: u32, now: u64) -> u64
    where
        Self: Sized,
    {
        rules::say4_again(self, address, now).code()
    }
    /// [`rules::walk`] as a code, likewise.
    #[inline(always)]
    fn walk(&self, hi: u64, lo: u64, v6: u64, now: u64) -> u64
    where
        Self: Sized,
    {
        rules::walk(self, hi, lo, v6 != 0, now).code()
    }
}

/// Where all tables lie, and the outlets of a judgement.
pub trait Tables: RuleMaps {
    /// The two words of an element of `INTERFACES`.
    fn interface(&self, element: u32) -> Option<*mut u64>;
    /// The four words of an element of `PORTS`.
    fn ports(&self, element: u32) -> Option<*mut u64>;
    /// The words of a set of `RATE`.
    fn rate(&self, set: u32) -> Option<*mut u64>;
    /// The two words of an element of `PRESENCE`.
    fn presence(&self, element: u32) -> Option<*mut u64>;
    /// The four words of `GUARD`.
    fn guard(&self) -> Option<*mut u64>;
    /// This CPU's word of `PENDING`.
    fn pending(&self) -> Option<*mut u64>;
    /// An entry of `AUTOMATIC`.
    fn automatic(&self, source: &Source) -> Option<*mut automatic::Block>;
    /// An entry of `WEB`.
    fn web(&self, source: &Source) -> Option<*mut automatic::Block>;
    /// Writes an entry of `AUTOMATIC`; false: the map is full.
    fn block(&self, source: &Source, block: &automatic::Block) -> bool;
    /// An entry of `KNOWN`.
    fn known(&self, key: &known::Key) -> Option<known::Known>;
    /// Word of `KNOWN_STATE`.
    fn known_state(&self, slot: u32) -> Option<*mut u64>;
    /// Whether `MEDIA` has the flow.
    fn media(&self, flow: &media::Flow) -> bool;
    /// Counts a packet of `length` bytes for an element of `STATS`; gives this CPU's packets of that reason.
    fn count(&self, stats: u32, reason: Reason, length: u64) -> u64;
    /// [`verdict::source`].
    #[inline(always)]
    fn source(&self, hi: u64, lo: u64, rest: u64, place: u64, enforcement: u64) -> Reason
    where
        Self: Sized,
    {
        verdict::source(self, hi, lo, rest, place, enforcement)
    }
    /// [`rate::count`], likewise.
    #[inline(always)]
    fn counted(&self, hi: u64, lo: u64, kind: u64, now: u64, limit_new: u64) -> u64
    where
        Self: Sized,
    {
        rate::count(self, hi, lo, kind, now, limit_new)
    }
    /// Tells a change of state.
    fn event(&self, event: &events::Event);
}
