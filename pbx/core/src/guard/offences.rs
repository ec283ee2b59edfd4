//! Repeat offenders: whoever comes back is blocked for longer. Survives restarts by the store; bounded.

use std::{collections::HashMap, time::Duration};

use super::Detector;
use crate::{
    address::Prefix,
    settings::{GuardSettings, Switch},
    time::Timestamp,
};

/// Sources that are remembered; the oldest give way.
const MOST: usize = 65_536;

/// What is remembered of a source that was blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// Who.
    pub prefix: Prefix,
    /// Blocks for what nobody else can have sent.
    pub sure: u32,
    /// Blocks for what anybody may have sent in its name.
    pub unsure: u32,
    /// When the last of them ended, or ends.
    pub last: Timestamp,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Offences {
    by_prefix: HashMap<Prefix, Offence>,
}

impl Offences {
    /// How long the next block of a source lasts, and how many it had.
    pub(super) fn next(
        &self,
        prefix: &Prefix,
        detector: Detector,
        sure: bool,
        guard: &GuardSettings,
        now: Timestamp,
    ) -> (Duration, u32) {
        let remembered = self.by_prefix.get(prefix);
        let remembered = remembered.filter(|known| now.saturating_since(known.last) < guard.repeat.forget.get());
        let (sure_before, unsure_before) = remembered.map_or((0, 0), |known| (known.sure, known.unsure));
        let whole = guard.block_time(detector.block_time(guard), sure_before);
        let time = if sure || guard.repeat.strict == Switch::On {
            whole
        } else {
            let doubled = 1u32.checked_shl(unsure_before).unwrap_or(u32::MAX);
            guard.repeat.spoofable.get().saturating_mul(doubled).min(whole)
        };
        (time, sure_before.saturating_add(unsure_before))
    }

    /// How long the next block for a rate lasts, and how many it had. The first lasts what the filter gives it.
    pub(super) fn rated(
        &self,
        prefix: &Prefix,
        detector: Detector,
        guard: &GuardSettings,
        now: Timestamp,
    ) -> (Duration, u32) {
        let remembered = self.by_prefix.get(prefix);
        let remembered = remembered.filter(|known| now.saturating_since(known.last) < guard.repeat.forget.get());
        let before = remembered.map_or(0, |known| known.sure.saturating_add(known.unsure));
        (guard.block_time(detector.block_time(guard), before), before)
    }

    /// A source was blocked once more.
    pub(super) fn add(
        &mut self,
        prefix: Prefix,
        sure: bool,
        guard: &GuardSettings,
        now: Timestamp,
        end: Timestamp,
    ) -> Offence {
        let known = self.by_prefix.entry(prefix).or_insert(Offence { prefix, sure: 0, unsure: 0, last: end });
        if now.saturating_since(known.last) >= guard.repeat.forget.get() {
            (known.sure, known.unsure) = (0, 0);
        }
        let count = if sure { &mut known.sure } else { &mut known.unsure };
        *count = count.saturating_add(1);
        known.last = end;
        let offence = *known;
        if self.by_prefix.len() > MOST {
            self.thin_out();
        }
        offence
    }

    pub(super) fn restore(&mut self, offences: impl IntoIterator<Item = Offence>) {
        for offence in offences.into_iter().take(MOST) {
            self.by_prefix.insert(offence.prefix, offence);
        }
    }

    /// Forgets what lies in a range; whom.
    pub(super) fn forget(&mut self, within: &Prefix) -> Vec<Prefix> {
        let inside: Vec<Prefix> = self.by_prefix.keys().filter(|prefix| within.overlaps(prefix)).copied().collect();
        for prefix in &inside {
            self.by_prefix.remove(prefix);
        }
        inside
    }

    pub(super) fn any_in(&self, range: &Prefix) -> bool {
        self.by_prefix.keys().any(|prefix| prefix.overlaps(range))
    }

    pub(super) fn of(&self, prefix: &Prefix) -> Option<&Offence> {
        self.by_prefix.get(prefix)
    }

    /// Lets the oldest tenth go: looking for the one oldest each time would cost too much.
    fn thin_out(&mut self) {
        let mut ends: Vec<Timestamp> = self.by_prefix.values().map(|known| known.last).collect();
        let (_, median, _) = ends.select_nth_unstable(MOST / 10);
        let oldest = *median;
        self.by_prefix.retain(|_, known| known.last > oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const HOUR: Duration = Duration::from_secs(3600);

    fn prefix(text: &str) -> Prefix {
        crate::address::parse(text).unwrap().prefix
    }

    #[test]
    fn whoever_comes_back_is_blocked_for_longer_until_it_was_quiet_for_a_month() {
        let (guard, mut offences) = (Settings::default().guard, Offences::default());
        let (source, mut now) = (prefix("203.0.113.7"), Timestamp::from_millis(1_000_000_000_000));
        let mut times = Vec::new();
        for _ in 0..5 {
            let (time, _) = offences.next(&source, Detector::Authentication, true, &guard, now);
            times.push(time.as_secs() / 3600);
            offences.add(source, true, &guard, now, now.saturating_add(time));
            now = now.saturating_add(time + HOUR);
        }
        assert_eq!(times, [1, 6, 24, 168, 168]);
        now = now.saturating_add(30 * 24 * HOUR);
        assert_eq!(offences.next(&source, Detector::Authentication, true, &guard, now), (HOUR, 0));
        let again = offences.add(source, true, &guard, now, now.saturating_add(HOUR));
        assert_eq!((again.sure, again.unsure), (1, 0));
    }

    #[test]
    fn what_anybody_may_have_sent_blocks_for_a_minute_then_two_and_never_longer_than_the_rule() {
        let (mut guard, mut offences) = (Settings::default().guard, Offences::default());
        let (source, now) = (prefix("203.0.113.7"), Timestamp::from_millis(1_000_000_000_000));
        let times: Vec<u64> = (0..9)
            .map(|_| {
                let (time, _) = offences.next(&source, Detector::Challenges, false, &guard, now);
                offences.add(source, false, &guard, now, now.saturating_add(time));
                time.as_secs()
            })
            .collect();
        assert_eq!(times, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        // Forged blocks make none of the source's own longer.
        assert_eq!(offences.next(&source, Detector::Challenges, true, &guard, now).0, HOUR);
        guard.repeat.strict = Switch::On;
        assert_eq!(offences.next(&prefix("203.0.113.8"), Detector::Challenges, false, &guard, now).0, HOUR);
    }

    #[test]
    fn a_range_is_forgotten_and_there_is_an_end_to_what_is_remembered() {
        let (guard, mut offences) = (Settings::default().guard, Offences::default());
        for number in 0..MOST as u32 + 100 {
            let source = Prefix::host(std::net::Ipv4Addr::from(0xc000_0000 + number).into());
            let now = Timestamp::from_millis(i64::from(number));
            offences.add(source, true, &guard, now, now);
        }
        assert!(offences.by_prefix.len() <= MOST && offences.by_prefix.len() > MOST * 8 / 10);
        let latest = Prefix::host(std::net::Ipv4Addr::from(0xc000_0000 + MOST as u32 + 99).into());
        assert!(offences.of(&latest).is_some());
        assert_eq!(offences.forget(&latest), [latest]);
        assert!(offences.of(&latest).is_none());
    }
}
