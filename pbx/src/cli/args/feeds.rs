//! The commands about block lists that others keep.

use clap::{Args, Subcommand};

use super::{Change, ListArgs};

/// `pbx feed`
#[derive(Debug, Subcommand)]
pub enum Feed {
    /// Every feed: where it is, what it blocks, how reading it went
    List(ListArgs),
    /// Read a list now and then every so often, and block what it lists
    Add {
        /// Its name: small letters, digits, dots, - and _
        name: String,
        /// A file's absolute path, or an http or https address
        source: String,
        #[command(flatten)]
        options: FeedOptions,
        /// Add it although it cannot be read now
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Change a feed; what is not named stays
    Set {
        /// Its name
        name: String,
        /// A file's absolute path, or an http or https address
        #[arg(long, value_name = "PATH|ADDRESS")]
        source: Option<String>,
        #[command(flatten)]
        options: FeedOptions,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a feed and what it blocks
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        change: Change,
    },
    /// One feed: how reading it went, which of its lines were left out and why
    Show {
        /// Its name
        name: String,
    },
    /// Read a feed now
    Refresh {
        /// Its name
        name: String,
        /// Block again what somebody unblocked by hand
        #[arg(long)]
        restore: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Read a feed again that was disabled
    Enable {
        /// Its name
        name: String,
        #[command(flatten)]
        change: Change,
    },
    /// Read a feed no longer, and remove what it blocks
    Disable {
        /// Its name
        name: String,
        #[command(flatten)]
        change: Change,
    },
}

/// What can be set about a feed.
#[derive(Clone, Debug, Args)]
pub struct FeedOptions {
    /// How often it is read: 5m to 30d [default of a new one: 6h]
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) every: Option<String>,
    /// Refuse it when it has more entries [default of a new one: 100000]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) max_entries: Option<u32>,
}
