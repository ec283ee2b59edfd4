//! The commands about calls: those that go on, and the records of all.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pbx_core::call::Disposition;

use super::{Change, ListArgs};

/// `pbx call`
#[derive(Debug, Subcommand)]
pub enum Call {
    /// Every call that goes on
    List(ListArgs),
    /// One call: who takes part in it, from where, and how its media flow
    Show {
        /// Its id, or so many of its last digits that no other call has them
        id: String,
    },
    /// End a call; both sides are told
    Hangup {
        /// Its id, or so many of its last digits that no other call has them
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// `pbx cdr`
#[derive(Debug, Subcommand)]
pub enum Cdr {
    /// The records of calls, the newest first
    List {
        #[command(flatten)]
        which: WhichCdrs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// One record, with what each phone did and what went through it
    Show {
        /// Its id, or so many of its last digits that no other has them
        id: String,
    },
    /// Write records as CSV, or with --json as a JSON object a line, the newest first
    Export {
        #[command(flatten)]
        which: WhichCdrs,
        /// Only records for which this holds: "billed_seconds gt 60"; several must all hold
        #[arg(long, value_name = "CONDITION")]
        filter: Vec<String>,
        /// As CSV, which is the default
        #[arg(long)]
        csv: bool,
        /// The file, or - for standard output
        #[arg(default_value = "-")]
        file: PathBuf,
    },
}

/// Which records; all that is said must hold.
#[derive(Clone, Debug, Args)]
pub struct WhichCdrs {
    /// Only calls that began in this span (1h, 7d), or at or after this day (2026-01-31, UTC) or time
    /// (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "SPAN|TIME")]
    pub(in crate::cli) from: Option<String>,
    /// Only calls that began before this span, day or time
    #[arg(long, value_name = "SPAN|TIME")]
    pub(in crate::cli) to: Option<String>,
    /// Only calls of this number: it called, was dialled, or answered
    #[arg(long, value_name = "NUMBER")]
    pub(in crate::cli) number: Option<String>,
    /// Only calls that ended so
    #[arg(long, value_name = "HOW")]
    pub(in crate::cli) disposition: Option<Ended>,
}

/// How a call ended, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ended {
    /// It goes on
    Open,
    /// Somebody answered
    Answered,
    /// Whoever was called was on another call
    Busy,
    /// Nobody answered in time, or somebody declined
    #[value(alias = "no_answer")]
    NoAnswer,
    /// The caller gave up
    Cancelled,
    /// No route, no phone, no common codec, no room
    Failed,
    /// The daemon ended before the call did
    Interrupted,
}

impl From<Ended> for Disposition {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Open => Self::Open,
            Ended::Answered => Self::Answered,
            Ended::Busy => Self::Busy,
            Ended::NoAnswer => Self::NoAnswer,
            Ended::Cancelled => Self::Cancelled,
            Ended::Failed => Self::Failed,
            Ended::Interrupted => Self::Interrupted,
        }
    }
}
