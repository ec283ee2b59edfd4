//! Pairs of programs, run in interleaved rounds: what disturbs one round disturbs both of a pair.

use anyhow::{Context as _, Result, ensure};

use crate::{
    report::{Compared, Report, Spread},
    run::Outcome,
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Repeats of a fast program in a round.
    pub(crate) repeat: u32,
}

impl Effort {
    pub(crate) const FULL: Effort = Effort { rounds: 11, repeat: 1_000_000 };
    pub(crate) const QUICK: Effort = Effort { rounds: 3, repeat: 400_000 };
}

/// One program on one kind of packet.
pub(crate) struct Side<'a> {
    run: Box<dyn Fn(u32) -> Result<Outcome> + 'a>,
    /// The verdict, if all packets have the same.
    verdict: Option<u32>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(verdict: Option<u32>, run: impl Fn(u32) -> Result<Outcome> + 'a) -> Self {
        Side { run: Box::new(run), verdict }
    }
    fn measure(&self, repeat: u32) -> Result<f64> {
        let outcome = (self.run)(repeat)?;
        if let Some(verdict) = self.verdict {
            ensure!(outcome.verdict == verdict, "verdict {} where it should be {verdict}", outcome.verdict);
        }
        Ok(outcome.nanoseconds)
    }
}

/// What is said of a pair.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    /// The ratio, with the target.
    Ratio(Option<f64>),
    /// The difference in nanoseconds: a price.
    Difference,
}

/// Two programs.
pub(crate) struct Pair<'a> {
    pub(crate) case: String,
    pub(crate) peer: &'static str,
    pub(crate) ours: Side<'a>,
    pub(crate) theirs: Side<'a>,
    pub(crate) said: Said,
}

/// Measures all pairs. `between` is called after every run: the daemon's part (it empties rings).
pub(crate) fn measure(pairs: &[Pair<'_>], effort: Effort, between: impl Fn(), report: &mut Report) -> Result<()> {
    let mut measured = vec![Vec::with_capacity(effort.rounds); pairs.len()];
    // Round 0 warms caches and fills tables.
    for round in 0..=effort.rounds {
        let repeat = if round == 0 { effort.repeat / 2 } else { effort.repeat };
        for (pair, samples) in pairs.iter().zip(&mut measured) {
            let both = run_both(pair, repeat, round % 2 == 0, &between).with_context(|| pair.case.clone())?;
            if round > 0 {
                samples.push(both);
            }
        }
        eprintln!("bench: round {round} of {} over {} pairs", effort.rounds, pairs.len());
    }
    for (pair, samples) in pairs.iter().zip(&measured) {
        match pair.said {
            Said::Ratio(target) => report.compared.push(Compared {
                case: pair.case.clone(),
                peer: pair.peer.to_owned(),
                ours_ns: Spread::of(samples.iter().map(|(ours, _)| *ours)).median,
                peer_ns: Spread::of(samples.iter().map(|(_, theirs)| *theirs)).median,
                ratio: Spread::of(samples.iter().map(|(ours, theirs)| ours / theirs)),
                target,
            }),
            Said::Difference => {
                let spread = Spread::of(samples.iter().map(|(with, without)| with - without));
                report.figure(pair.case.clone(), spread.median, "ns", None);
            }
        }
    }
    Ok(())
}

fn run_both(pair: &Pair<'_>, repeat: u32, ours_first: bool, between: &impl Fn()) -> Result<(f64, f64)> {
    let ours = || {
        let measured = pair.ours.measure(repeat).context("pbx");
        between();
        measured
    };
    let theirs = || {
        let measured = pair.theirs.measure(repeat).context(pair.peer);
        between();
        measured
    };
    if ours_first {
        let first = ours()?;
        Ok((first, theirs()?))
    } else {
        let first = theirs()?;
        Ok((ours()?, first))
    }
}
