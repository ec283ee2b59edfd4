//! `pbx backup`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Change, ListArgs};

/// `pbx backup`
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Save everything that the appliance knows; calls go on meanwhile. Without a passphrase the key of the secrets is
    /// not in it
    Create {
        /// Write it to this file instead of the data folder, where backups are listed
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        passphrase: PassphraseFrom,
    },
    /// Those in the data folder
    List(ListArgs),
    /// Take one away for good
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Read a file to its end and say what is in it; needs no daemon
    Verify {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseFrom,
    },
    /// Put one back in place of what is there, which is kept beside it; the daemon has to be stopped
    Restore {
        /// The file
        file: PathBuf,
        /// The configuration file [default: /etc/pbx/pbx.toml, which may be missing]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        passphrase: PassphraseFrom,
    },
}

/// Where a passphrase comes from. Never from an argument, which every user of the machine can read.
#[derive(Clone, Debug, Default, Args)]
pub struct PassphraseFrom {
    /// Read the passphrase from the first line of this file; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) passphrase_file: Option<PathBuf>,
    /// Ask for the passphrase on the terminal
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(in crate::cli) ask_passphrase: bool,
}
