//! What is remembered of one source while it is watched.

use std::{cmp::Reverse, time::Duration};

use super::{
    Detector,
    evidence::Kept,
    window::{Counted, Window},
};
use crate::{address::Prefix, moment::Moment, time::Timestamp};

/// How long a challenge may stay unanswered before its target counts as tried in vain: a phone answers in the time of a
/// round trip, and forty of them that start together do too.
pub(super) const GRACE: Duration = Duration::from_secs(4);
/// The time in which wrong passwords for one account count together.
pub(super) const ACCOUNT_PERIOD: Duration = Duration::from_secs(3600);
/// Targets of a source that are told apart: more than a setting can ask for.
const TARGETS: usize = 40;
/// Accounts of a source that are told apart.
const ACCOUNTS: usize = 16;
/// Requests whose retransmissions are known: more than phones start at once behind one address.
const CALLS: usize = 128;

/// One source.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) prefix: Prefix,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) last_moment: Moment,
    pub(super) signs: u32,
    /// Whether it was a known source when it did something last.
    pub(super) known: bool,
    pub(super) kept: Kept,
    windows: Vec<(Detector, Window)>,
    /// Until when a detector that acted says nothing more.
    quiet: Vec<(Detector, Moment)>,
    calls: Vec<u64>,
    next_call: usize,
    targets: Vec<Target>,
    accounts: Vec<Tried>,
    succeeded: Option<Moment>,
}

/// Whom a source tried to reach or to be.
#[derive(Clone, Copy, Debug)]
struct Target {
    hash: u64,
    at: Moment,
    sure: bool,
    /// There is no such user, and a password was tried.
    failed: bool,
}

/// An account that a source tried to be.
#[derive(Debug)]
struct Tried {
    hash: u64,
    at: Moment,
    failures: Window,
    /// Wrong passwords since the last right one.
    since_success: u16,
}

impl Source {
    pub(super) fn new(prefix: Prefix, now: Moment, wall: Timestamp) -> Self {
        Self {
            prefix,
            first: wall,
            last: wall,
            last_moment: now,
            signs: 0,
            known: false,
            kept: Kept::default(),
            windows: Vec::new(),
            quiet: Vec::new(),
            calls: Vec::new(),
            next_call: 0,
            targets: Vec::new(),
            accounts: Vec::new(),
            succeeded: None,
        }
    }

    pub(super) fn window(&mut self, detector: Detector) -> &mut Window {
        let at = match self.windows.iter().position(|(of, _)| *of == detector) {
            Some(at) => at,
            None => {
                self.windows.push((detector, Window::default()));
                self.windows.len() - 1
            }
        };
        &mut self.windows[at].1
    }

    /// What each detector has counted that counted anything.
    pub(super) fn counters(&mut self, now: Moment, period: impl Fn(Detector) -> Duration) -> Vec<(Detector, u32)> {
        let counted = self.windows.iter_mut().map(|(of, window)| (*of, window.count(now, period(*of)).all));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    pub(super) fn is_quiet(&self, detector: Detector, now: Moment) -> bool {
        self.quiet.iter().any(|(of, until)| *of == detector && now < *until)
    }

    pub(super) fn quieten(&mut self, detector: Detector, until: Moment) {
        self.quiet.retain(|(of, _)| *of != detector);
        self.quiet.push((detector, until));
    }

    /// A detector that acted may act again at once.
    pub(super) fn speak_of(&mut self, detector: Detector) {
        self.quiet.retain(|(of, _)| *of != detector);
    }

    /// Whether a request was not seen yet.
    pub(super) fn is_new_call(&mut self, call: u64) -> bool {
        if self.calls.contains(&call) {
            return false;
        }
        match self.calls.get_mut(self.next_call) {
            Some(oldest) => *oldest = call,
            None => self.calls.push(call),
        }
        self.next_call = (self.next_call + 1) % CALLS;
        true
    }

    /// A target was tried, and nobody knows yet whether that is in vain; or it is.
    pub(super) fn tried(&mut self, hash: u64, failed: bool, sure: bool, now: Moment, period: Duration) {
        self.targets.retain(|target| now.since(target.at) < period);
        let has_room = self.targets.len() < TARGETS;
        match self.targets.iter_mut().find(|target| target.hash == hash) {
            Some(target) => {
                target.failed |= failed;
                target.sure |= sure;
            }
            None if has_room => self.targets.push(Target { hash, at: now, sure, failed }),
            None => {}
        }
    }

    /// The challenge of a target was answered.
    pub(super) fn answered(&mut self, hash: u64) {
        self.targets.retain(|target| target.hash != hash || target.failed);
    }

    /// Different targets that were tried in vain, and whether nobody else can have tried most of them.
    pub(super) fn in_vain(&self, now: Moment, period: Duration) -> (u32, bool) {
        if self.succeeded.is_some_and(|at| now.since(at) < period) {
            return (0, false);
        }
        let old = |target: &&Target| target.failed || now.since(target.at) >= GRACE;
        let in_vain = || self.targets.iter().filter(|target| now.since(target.at) < period).filter(old);
        let (all, sure) = (in_vain().count(), in_vain().filter(|target| target.sure).count());
        (all as u32, sure * 2 >= all)
    }

    /// Whether some target waits to be counted.
    pub(super) fn waits(&self) -> bool {
        self.targets.iter().any(|target| !target.failed)
    }

    pub(super) fn forget_targets(&mut self) {
        self.targets.clear();
    }

    /// A password for an account was wrong; how often within the period.
    pub(super) fn rejected(&mut self, hash: u64, sure: bool, now: Moment, period: Duration) -> Counted {
        let at = match self.accounts.iter().position(|tried| tried.hash == hash) {
            Some(at) => at,
            None => {
                if self.accounts.len() >= ACCOUNTS {
                    // Those that were tried longest stay, so that going round many accounts hides none of them.
                    let least = |(_, tried): &(usize, &Tried)| (tried.since_success, Reverse(tried.at));
                    let least = self.accounts.iter().enumerate().min_by_key(least).map_or(0, |(at, _)| at);
                    self.accounts.swap_remove(least);
                }
                let failures = Window::default();
                self.accounts.push(Tried { hash, at: now, failures, since_success: 0 });
                self.accounts.len() - 1
            }
        };
        let tried = &mut self.accounts[at];
        tried.at = now;
        tried.since_success = tried.since_success.saturating_add(1);
        tried.failures.add(now, period, 1, sure)
    }

    /// The wrong passwords within the period for the account that it failed most often for.
    pub(super) fn most_failures(&mut self, now: Moment, period: Duration) -> u32 {
        self.accounts.iter_mut().map(|tried| tried.failures.count(now, period).all).max().unwrap_or(0)
    }

    pub(super) fn forget_accounts(&mut self) {
        self.accounts.clear();
    }

    pub(super) fn forget_account(&mut self, hash: u64) {
        self.accounts.retain(|tried| tried.hash != hash);
    }

    /// A password was right; how many wrong ones for the same account that takes back.
    pub(super) fn succeeded(&mut self, hash: u64, now: Moment) -> u16 {
        self.succeeded = Some(now);
        let at = self.accounts.iter().position(|tried| tried.hash == hash);
        at.map_or(0, |at| self.accounts.swap_remove(at).since_success)
    }

    /// How much is lost when it is forgotten: little of what was quiet for an hour.
    pub(super) fn weight(&self, now: Moment) -> (u32, Moment) {
        let is_idle = now.since(self.last_moment) >= ACCOUNT_PERIOD;
        (if is_idle { 0 } else { self.signs }, self.last_moment)
    }
}
