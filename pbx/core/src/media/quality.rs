//! How well streams arrive: what is missing, by their sequence numbers (RFC 3550 §A.1, §A.3), and how unevenly they come
//! (§A.8). Counts what the latch took; a new source begins anew and adds up.

use super::Stats;
use crate::{moment::Moment, wire::rtp::Header};

/// So far ahead a number is still the same stream (RFC 3550 §A.1).
const MAX_DROPOUT: u16 = 3000;
/// So far back a number is late, not a restart (RFC 3550 §A.1).
const MAX_MISORDER: u32 = 100;

/// What was heard of one leg's streams, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    stream: Option<Stream>,
    /// Missing in streams that are over.
    lost: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stream {
    ssrc: u32,
    /// Where it began, and the highest number so far, both counted on over the wrap.
    first: u64,
    highest: u64,
    received: u64,
    /// What would follow the last number that made no sense: two in order are a restart.
    restart: Option<u16>,
    transit: Option<Transit>,
    /// Sixteenths of units of `rate` (RFC 3550 §A.8).
    jitter: u32,
    rate: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transit {
    timestamp: u32,
    /// Arrival minus timestamp, in units of the clock.
    relative: u32,
}

impl Quality {
    /// Takes a packet into account that came at `now`, of a payload with a clock of `rate` Hz.
    pub fn hear(&mut self, header: &Header, rate: u32, now: Moment) {
        match &mut self.stream {
            Some(stream) if stream.ssrc == header.ssrc => {
                if !stream.count(header.sequence) {
                    let jitter = (stream.jitter, stream.rate);
                    self.lost += stream.lost();
                    let mut next = Stream::new(header);
                    (next.jitter, next.rate) = jitter;
                    *stream = next;
                }
            }
            before => {
                self.lost += before.as_ref().map_or(0, Stream::lost);
                *before = Some(Stream::new(header));
            }
        }
        if let Some(stream) = &mut self.stream {
            stream.measure(header.timestamp, rate, now);
        }
    }

    /// Packets that are missing (RFC 3550 §6.4.1), in all streams so far.
    pub fn lost(&self) -> u64 {
        self.lost + self.stream.as_ref().map_or(0, Stream::lost)
    }

    /// Interarrival jitter now (RFC 3550 §6.4.1), in microseconds.
    pub fn jitter(&self) -> u64 {
        let Some(stream) = self.stream.as_ref().filter(|stream| stream.rate > 0) else { return 0 };
        u64::from(stream.jitter) * 1_000_000 / (16 * u64::from(stream.rate))
    }

    /// Writes both into `stats`.
    pub fn write(&self, stats: &mut Stats) {
        (stats.lost, stats.jitter) = (self.lost(), self.jitter());
    }
}

impl Stream {
    fn new(header: &Header) -> Self {
        // Far from zero, so that late numbers are never below it.
        let first = 1 << 32 | u64::from(header.sequence);
        Self { ssrc: header.ssrc, first, highest: first, received: 1, restart: None, transit: None, jitter: 0, rate: 0 }
    }

    /// Counts a number; `false`: the stream has begun anew with it.
    fn count(&mut self, sequence: u16) -> bool {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead < MAX_DROPOUT {
            self.highest += u64::from(ahead);
            self.restart = None;
        } else if u32::from(ahead) <= (1 << 16) - MAX_MISORDER {
            if self.restart == Some(sequence) {
                return false;
            }
            self.restart = Some(sequence.wrapping_add(1));
            return true;
        }
        // What comes late, or twice, counts as received, so that what is lost may be less than it is.
        self.received += 1;
        true
    }

    fn lost(&self) -> u64 {
        (self.highest - self.first + 1).saturating_sub(self.received)
    }

    fn measure(&mut self, timestamp: u32, rate: u32, now: Moment) {
        let arrival = u128::from(now.as_micros()) * u128::from(rate) / 1_000_000;
        let relative = (arrival as u32).wrapping_sub(timestamp);
        if rate != self.rate {
            // Another clock: its units say nothing about the last packet's.
            let in_new_units = u64::from(self.jitter) * u64::from(rate) / u64::from(self.rate.max(1));
            self.jitter = if self.rate == 0 { 0 } else { u32::try_from(in_new_units).unwrap_or(u32::MAX) };
            self.rate = rate;
        } else if let Some(last) = self.transit {
            // Packets of one event, or of one picture, have the same timestamp and come one after the other.
            if last.timestamp == timestamp {
                return;
            }
            let difference = relative.wrapping_sub(last.relative).cast_signed().unsigned_abs();
            self.jitter = self.jitter.saturating_add(difference) - ((self.jitter.saturating_add(8)) >> 4);
        }
        self.transit = Some(Transit { timestamp, relative });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 8, sequence, timestamp, ssrc, payload: 12..172 }
    }

    /// Packets of 20 ms with these numbers, in this order, on time.
    fn heard(sequences: impl IntoIterator<Item = u16>) -> Quality {
        let mut quality = Quality::default();
        for (index, sequence) in sequences.into_iter().enumerate() {
            let now = Moment::from_micros(index as u64 * 20_000);
            quality.hear(&packet(7, sequence, index as u32 * 160), 8000, now);
        }
        quality
    }

    #[test]
    fn nothing_is_lost_of_a_whole_stream_also_over_the_wrap() {
        assert_eq!((heard(0..1000).lost(), heard(0..1000).jitter()), (0, 0));
        assert_eq!(heard((65_000..=65_535).chain(0..2000)).lost(), 0);
        assert_eq!(Quality::default().lost() + Quality::default().jitter(), 0);
    }

    #[test]
    fn gaps_count_and_late_packets_fill_them() {
        assert_eq!(heard([1, 2, 5, 6]).lost(), 2);
        assert_eq!(heard([1, 2, 5, 3, 6, 4]).lost(), 0);
        assert_eq!(heard([65_534, 1]).lost(), 2);
        assert_eq!(heard([1, 1, 1, 2, 4]).lost(), 0, "duplicates hide what is missing, never below 0");
    }

    #[test]
    fn a_restart_of_the_sequence_begins_anew_and_adds_up() {
        // One that makes no sense alone is no restart.
        assert_eq!(heard([1, 2, 4, 40_000, 5]).lost(), 1);
        assert_eq!(heard([1, 2, 4, 40_000, 40_001, 40_003]).lost(), 2);
        assert_eq!(heard([50_000, 50_001, 10, 11, 12]).lost(), 0);
    }

    #[test]
    fn a_new_source_begins_anew_and_adds_up() {
        let mut quality = heard([1, 3]);
        quality.hear(&packet(8, 60_000, 5), 8000, Moment::from_micros(60_000));
        quality.hear(&packet(8, 60_002, 325), 8000, Moment::from_micros(100_000));
        assert_eq!((quality.lost(), quality.jitter()), (2, 0));
    }

    #[test]
    fn jitter_approaches_the_mean_difference_of_transit_times() {
        let mut quality = Quality::default();
        for index in 0..2000_u32 {
            // Every other packet 4 ms late: the transit differs by 4 ms from packet to packet.
            let late = if index % 2 == 1 { 4000 } else { 0 };
            let now = Moment::from_micros(u64::from(index) * 20_000 + late);
            quality.hear(&packet(7, index as u16, index.wrapping_mul(160).wrapping_add(u32::MAX - 500)), 8000, now);
        }
        assert!((3800..=4200).contains(&quality.jitter()), "{}", quality.jitter());
        let mut stats = Stats::default();
        quality.write(&mut stats);
        assert_eq!((stats.lost, stats.jitter), (0, quality.jitter()));
    }

    #[test]
    fn packets_of_one_event_are_no_jitter_and_another_clock_begins_anew() {
        let mut quality = heard(0..10);
        for index in 0..20_u16 {
            let now = Moment::from_micros(200_000 + u64::from(index) * 20_000);
            quality.hear(&packet(7, 10 + index, 1600), 8000, now);
        }
        assert_eq!(quality.jitter(), 0);
        quality.hear(&packet(7, 30, 77), 48_000, Moment::from_micros(600_000));
        quality.hear(&packet(7, 31, 77 + 960), 48_000, Moment::from_micros(620_000));
        assert_eq!((quality.jitter(), quality.lost()), (0, 0));
    }
}
