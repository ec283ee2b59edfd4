//! What was measured, as a table for people and as JSON for machines.

use std::fmt::Write as _;

use serde::Serialize;

/// Two programs on the same packets, in the same rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    /// What the packets are, or what is done.
    pub(crate) case: String,
    /// With what it is compared.
    pub(crate) peer: String,
    /// Median nanoseconds of CPU.
    pub(crate) ours_ns: f64,
    pub(crate) peer_ns: f64,
    /// Ratios of the pairs of rounds.
    pub(crate) ratio: Spread,
    /// The ratio that was aimed at.
    pub(crate) target: Option<f64>,
}

impl Compared {
    /// The two of each round, in nanoseconds; nothing was aimed at.
    ///
    /// # Panics
    /// Of nothing.
    pub(crate) fn of(case: impl Into<String>, ours: &[f64], peer: impl Into<String>, theirs: &[f64]) -> Self {
        Compared {
            case: case.into(),
            peer: peer.into(),
            ours_ns: Spread::of(ours.iter().copied()).median,
            peer_ns: Spread::of(theirs.iter().copied()).median,
            ratio: Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs)),
            target: None,
        }
    }
}

/// A number of its own.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) value: f64,
    /// Of what the value is the median, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spread: Option<Spread>,
    pub(crate) unit: &'static str,
    /// At most so much was aimed at.
    pub(crate) target: Option<f64>,
}

/// What one side made of a load under one condition.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    /// Who.
    pub(crate) who: &'static str,
    /// The condition.
    pub(crate) case: String,
    /// Packets of the flood in a second, as the side's interface counted them.
    pub(crate) flood: Spread,
    /// Of these and of the calls' datagrams, how many a second the server read, and how many were lost at its socket.
    pub(crate) read: f64,
    pub(crate) lost: f64,
    /// Calls, and how many of them went through.
    pub(crate) calls: usize,
    pub(crate) successful: usize,
    /// Milliseconds until a call was set up, over all calls: one that was not counts as infinite (null in JSON).
    pub(crate) median_ms: f64,
    pub(crate) p95_ms: f64,
    /// The median of a round by that of the same round without a flood.
    pub(crate) of_quiet: Spread,
    /// Whether it is this side that the targets are for: 99 % of calls, and so many times the quiet median.
    pub(crate) target: Option<f64>,
}

/// Calls that are to go through, in percent.
const SUCCESS: f64 = 99.0;

impl Side {
    fn success(&self) -> f64 {
        self.successful as f64 / self.calls as f64 * 100.0
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            Some(_) if self.missed() => "NOT MET",
            Some(_) => "met",
            None => "-",
        }
    }

    fn missed(&self) -> bool {
        // Written so that what is no number is a miss.
        self.target.is_some_and(|target| !(self.success() >= SUCCESS && self.of_quiet.median <= target))
    }
}

/// Median and extremes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// # Panics
    /// Of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Spread { median: values[values.len() / 2], min: values[0], max: values[values.len() - 1] }
    }
}

/// Everything.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// What the nanoseconds of [`Compared`] are for: "a packet".
    pub(crate) unit: &'static str,
    /// Where and how.
    pub(crate) conditions: Vec<String>,
    pub(crate) compared: Vec<Compared>,
    pub(crate) figures: Vec<Figure>,
    /// A load against several sides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sides: Vec<Side>,
}

impl Report {
    pub(crate) fn figure(&mut self, what: impl Into<String>, value: f64, unit: &'static str, target: Option<f64>) {
        self.figures.push(Figure { what: what.into(), value, spread: None, unit, target });
    }

    /// The median, with the extremes beside it.
    pub(crate) fn spread(&mut self, what: impl Into<String>, of: Spread, unit: &'static str, target: Option<f64>) {
        self.figures.push(Figure { what: what.into(), value: of.median, spread: Some(of), unit, target });
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for condition in &self.conditions {
            let _ = writeln!(text, "{condition}");
        }
        self.compared_table(&mut text);
        self.figures_table(&mut text);
        self.sides_table(&mut text);
        let missed = self.missed();
        let _ = match missed.as_slice() {
            [] => writeln!(text, "\nevery target is met"),
            missed => writeln!(text, "\n{} targets are NOT met: {}", missed.len(), missed.join("; ")),
        };
        text
    }

    fn compared_table(&self, text: &mut String) {
        if self.compared.is_empty() {
            return;
        }
        let heading = format!("nanoseconds of CPU {}", self.unit);
        let _ = writeln!(
            text,
            "\n{heading:<78} {:>9} {:>9}  {:<20} {:>22}  {:>7}",
            "pbx", "peer", "peer", "ratio (min-max)", "target"
        );
        for row in &self.compared {
            let Spread { median, min, max } = row.ratio;
            let ratio = format!("{median:.2} ({min:.2}-{max:.2})");
            let _ = writeln!(
                text,
                "{:<78} {:>9.1} {:>9.1}  {:<20} {ratio:>22}  {}",
                row.case,
                row.ours_ns,
                row.peer_ns,
                row.peer,
                against(median, row.target)
            );
        }
    }

    fn figures_table(&self, text: &mut String) {
        if self.figures.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n{:<90} {:>12} {:<19} {:<11} {:>7}", "figure", "value", "(min-max)", "unit", "target");
        for row in &self.figures {
            let number = |value: f64| if value < 10.0 { format!("{value:.3}") } else { format!("{value:.1}") };
            let value = number(row.value);
            let spread = row.spread.map(|of| format!("({}-{})", number(of.min), number(of.max))).unwrap_or_default();
            let _ = writeln!(
                text,
                "{:<90} {value:>12} {spread:<19} {:<11} {}",
                row.what,
                row.unit,
                against(row.value, row.target)
            );
        }
    }

    fn sides_table(&self, text: &mut String) {
        if self.sides.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n{:<12} {:<24} {:>26} {:>8} {:>8} {:>7} {:>8} {:>10} {:>10} {:>24}  \
             target: {SUCCESS} %, at most 1.5 of quiet",
            "who",
            "calls, and beside them",
            "packets/s (min-max)",
            "read/s",
            "lost/s",
            "calls",
            "% ok",
            "median ms",
            "p95 ms",
            "of quiet (min-max)"
        );
        for side in &self.sides {
            let Spread { median, min, max } = side.flood;
            let flood = format!("{median:.0} ({min:.0}-{max:.0})");
            let Spread { median, min, max } = side.of_quiet;
            let of_quiet = format!("{median:.2} ({min:.2}-{max:.2})");
            let _ = writeln!(
                text,
                "{:<12} {:<24} {flood:>26} {:>8.0} {:>8.0} {:>7} {:>8.2} {:>10.2} {:>10.2} {of_quiet:>24}  {}",
                side.who,
                side.case,
                side.read,
                side.lost,
                side.calls,
                side.success(),
                side.median_ms,
                side.p95_ms,
                side.verdict()
            );
        }
    }

    /// The cases whose median is above their target.
    fn missed(&self) -> Vec<&str> {
        let above = |value: f64, target: Option<f64>| target.is_some_and(|target| value > target);
        let compared = self.compared.iter().filter(|row| above(row.ratio.median, row.target)).map(|row| &*row.case);
        let figures = self.figures.iter().filter(|row| above(row.value, row.target)).map(|row| &*row.what);
        let sides = self.sides.iter().filter(|side| side.missed()).map(|side| &*side.case);
        compared.chain(figures).chain(sides).collect()
    }
}

fn against(value: f64, target: Option<f64>) -> String {
    match target {
        Some(target) => format!("{target:>7} {}", if value <= target { "met" } else { "NOT MET" }),
        None => format!("{:>7}", "-"),
    }
}
