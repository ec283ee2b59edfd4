//! How far sources went in the last 24 hours, by detector: what a change of a threshold is rehearsed on.

use std::collections::HashMap;

use super::Detector;
use crate::{address::Prefix, settings::Settings, time::Timestamp};

/// Sources and detectors that are remembered at once; more are counted as left out.
const MOST: usize = 32_768;
/// Hours that are told apart.
const HOURS: usize = 24;
const HOUR: i64 = 3_600_000;

/// How far one source went by one detector in the last 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Who.
    pub prefix: Prefix,
    /// By whom it was counted.
    pub detector: Detector,
    /// The most within one period, as that was then.
    pub count: u32,
    /// Whether it was a known source when that happened last.
    pub known: bool,
    /// The last time.
    pub last: Timestamp,
}

/// What the last 24 hours would have been with other settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// Sources that would have been blocked and were not, and by whom.
    pub more: Vec<Peak>,
    /// Sources that would not have been blocked.
    pub fewer: Vec<Peak>,
    /// Sources that are blocked either way.
    pub same: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Peaks {
    of: HashMap<(Prefix, Detector), Hourly>,
    pub(super) left_out: u64,
}

#[derive(Clone, Copy, Debug)]
struct Hourly {
    most: [u32; HOURS],
    /// The hour that was written last, since the Unix epoch.
    newest: i64,
    known: bool,
    last: Timestamp,
}

impl Hourly {
    fn forget(&mut self, hour: i64) {
        let steps = (hour - self.newest).clamp(0, HOURS as i64);
        for step in 1..=steps {
            self.most[(self.newest + step).rem_euclid(HOURS as i64) as usize] = 0;
        }
        self.newest = self.newest.max(hour);
    }
}

impl Peaks {
    pub(super) fn note(&mut self, prefix: Prefix, detector: Detector, count: u32, known: bool, wall: Timestamp) {
        let hour = wall.as_millis().div_euclid(HOUR);
        if self.of.len() >= MOST && !self.of.contains_key(&(prefix, detector)) {
            self.left_out += 1;
            return;
        }
        let new = Hourly { most: [0; HOURS], newest: hour, known, last: wall };
        let hourly = self.of.entry((prefix, detector)).or_insert(new);
        hourly.forget(hour);
        let most = &mut hourly.most[hour.rem_euclid(HOURS as i64) as usize];
        *most = count.max(*most);
        (hourly.known, hourly.last) = (known, wall);
    }

    pub(super) fn sweep(&mut self, wall: Timestamp) {
        let hour = wall.as_millis().div_euclid(HOUR);
        self.of.retain(|_, hourly| {
            hourly.forget(hour);
            hourly.most.iter().any(|most| *most > 0)
        });
    }

    pub(super) fn all(&self, wall: Timestamp) -> Vec<Peak> {
        let hour = wall.as_millis().div_euclid(HOUR);
        let peak = |(&(prefix, detector), hourly): (&(Prefix, Detector), &Hourly)| {
            let mut hourly = *hourly;
            hourly.forget(hour);
            let count = hourly.most.into_iter().max().filter(|count| *count > 0)?;
            Some(Peak { prefix, detector, count, known: hourly.known, last: hourly.last })
        };
        self.of.iter().filter_map(peak).collect()
    }

    pub(super) fn restore(&mut self, peaks: impl IntoIterator<Item = Peak>) {
        for Peak { prefix, detector, count, known, last } in peaks {
            self.note(prefix, detector, count, known, last);
        }
    }
}

/// What would have become of them under `after` instead of `before`. A known source is blocked by neither.
pub fn rehearse(peaks: &[Peak], before: &Settings, after: &Settings) -> Rehearsal {
    let mut rehearsal = Rehearsal::default();
    let blocks = |peak: &Peak, settings: &Settings| {
        let enforcement = peak.detector.enforcement(&settings.guard).under(settings.filter.mode);
        let (_, limit) = peak.detector.limit(&settings.guard);
        // The rate levels let as many as the limit pass; the others act when it is reached.
        let is_rate = matches!(peak.detector, Detector::Level1 | Detector::Level2);
        let over = if is_rate { peak.count > limit } else { peak.count >= limit };
        !peak.known && over && enforcement == crate::settings::Enforcement::Enforce
    };
    for peak in peaks {
        match (blocks(peak, before), blocks(peak, after)) {
            (false, true) => rehearsal.more.push(*peak),
            (true, false) => rehearsal.fewer.push(*peak),
            (true, true) => rehearsal.same += 1,
            (false, false) => {}
        }
    }
    rehearsal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(last: u8) -> Prefix {
        Prefix::host([203, 0, 113, last].into())
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 * HOUR + hours * HOUR)
    }

    #[test]
    fn the_most_of_the_last_day_is_remembered_and_what_is_older_is_not() {
        let mut peaks = Peaks::default();
        peaks.note(prefix(1), Detector::Authentication, 40, false, at(0));
        peaks.note(prefix(1), Detector::Authentication, 30, false, at(20));
        let of = |peaks: &Peaks, hours| peaks.all(at(hours)).first().map(|peak| peak.count);
        assert_eq!(of(&peaks, 23), Some(40));
        assert_eq!(of(&peaks, 25), Some(30));
        assert_eq!(of(&peaks, 44), None);
        peaks.sweep(at(44));
        assert!(peaks.of.is_empty());
    }

    #[test]
    fn a_rehearsal_says_who_more_and_who_less_and_a_known_source_is_neither() {
        let mut before = Settings::default();
        before.set("filter.mode", "enforce").unwrap();
        let mut peaks = Peaks::default();
        for (last, count, known) in [(1, 12, false), (2, 50, false), (3, 12, true), (4, 5, false)] {
            peaks.note(prefix(last), Detector::Authentication, count, known, at(0));
        }
        let peaks = peaks.all(at(1));
        let rehearse = |key, value| {
            let mut after = before.clone();
            after.set(key, value).unwrap();
            let rehearsal = super::rehearse(&peaks, &before, &after);
            let last = |peaks: &[Peak]| peaks.iter().map(|peak| peak.prefix.to_string()).collect::<Vec<_>>();
            (last(&rehearsal.more), last(&rehearsal.fewer), rehearsal.same)
        };
        let (one, two) = (prefix(1).to_string(), prefix(2).to_string());
        assert_eq!(rehearse("guard.authentication.failures", "10"), (vec![one], vec![], 1));
        assert_eq!(rehearse("guard.authentication.failures", "60"), (vec![], vec![two.clone()], 0));
        assert_eq!(rehearse("guard.authentication.enforcement", "monitor"), (vec![], vec![two], 0));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut peaks = Peaks::default();
        for number in 0..MOST as u32 + 5 {
            let prefix = Prefix::host(std::net::Ipv4Addr::from(number).into());
            peaks.note(prefix, Detector::Malformed, 1, false, at(0));
        }
        assert_eq!((peaks.of.len(), peaks.left_out), (MOST, 5));
    }
}
