//! A call: who talks to whom, and who is still being looked for. Data; the core moves it.

use std::sync::Arc;

use super::{LegKind, Record, leg::LegKey};
use crate::{
    directory::{Extension, ExtensionId},
    moment::Moment,
    timer::TimerKey,
};

/// A call that goes on.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) record: Record,
    /// For the record: by a clock that nobody sets.
    pub(crate) answered: Option<Moment>,
    /// The leg that stays: the caller's, or that of whoever was not the transferor.
    pub(crate) near: LegKey,
    /// The one that it talks to.
    pub(crate) far: Option<LegKey>,
    /// Who is being rung.
    pub(crate) hunt: Option<Hunt>,
    pub(crate) forwards: u32,
    pub(crate) transfers: u32,
    /// Hops that are left (RFC 3261 §16.6), and branches that may be made (RFC 5393 §5.3).
    pub(crate) max_forwards: u8,
    pub(crate) breadth: Option<u32>,
    /// Who is shown to whom is rung.
    pub(crate) shown: Identity,
}

impl Call {
    /// The legs that talk, and those that ring.
    pub(crate) fn legs(&self) -> impl Iterator<Item = LegKey> {
        let rings = self.hunt.iter().flat_map(|hunt| hunt.branches.iter().copied());
        std::iter::once(self.near).chain(self.far).chain(rings)
    }
}

/// How a caller is shown.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) number: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Identity {
    /// As the account says, whatever its phone claims.
    pub(crate) fn of(extension: &Extension) -> Self {
        let name = if extension.caller_id.is_empty() { &extension.name } else { &extension.caller_id };
        Self { number: extension.number.as_str().into(), name: name.as_str().into() }
    }
}

/// The search for somebody who answers.
#[derive(Debug)]
pub(crate) struct Hunt {
    pub(crate) purpose: Purpose,
    /// What the branches of this round are in the record.
    pub(crate) kind: LegKind,
    /// Whose phones ring.
    pub(crate) target: Option<Arc<Extension>>,
    /// With whose permissions.
    pub(crate) by: ExtensionId,
    /// The phones that ring, or may yet.
    pub(crate) branches: Vec<LegKey>,
    /// How many were called in this round.
    pub(crate) called: usize,
    /// The best failure so far (RFC 3261 §16.7).
    pub(crate) best: Option<u16>,
    /// Some phone answered something.
    pub(crate) heard: bool,
    /// Where a phone sent the caller (RFC 3261 §8.1.3.4).
    pub(crate) redirected: Option<Arc<str>>,
    pub(crate) timer: Option<TimerKey>,
}

/// What somebody is looked for for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// The call itself.
    Call,
    /// A blind transfer (RFC 3515).
    Transfer(Referral),
}

/// A REFER that is being carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referral {
    /// Whose it is; gone, if it hung up meanwhile.
    pub(crate) by: LegKey,
    /// CSeq of the REFER: the `id` of its NOTIFYs.
    pub(crate) cseq: u32,
    /// Whether it wants them (RFC 4488).
    pub(crate) notify: bool,
}

impl Hunt {
    pub(crate) fn new(purpose: Purpose, kind: LegKind, by: ExtensionId) -> Self {
        Self {
            purpose,
            kind,
            target: None,
            by,
            branches: Vec::new(),
            called: 0,
            best: None,
            heard: false,
            redirected: None,
            timer: None,
        }
    }

    /// Notes how a branch failed.
    pub(crate) fn failed(&mut self, status: u16) {
        let rank = |status: u16| match status {
            600..=699 => 5,
            486 => 4,
            401 | 403 | 404 | 407 | 481 | 503 | 408 => 1,
            500..=599 => 2,
            _ => 3,
        };
        if self.best.is_none_or(|best| rank(status) > rank(best)) {
            self.best = Some(status);
        }
    }
}
