//! The commands about who is told what happens.

use clap::{Args, Subcommand, ValueEnum};

use super::{Change, ListArgs, PasswordFrom};

/// `pbx notify`
#[derive(Debug, Subcommand)]
pub enum Notify {
    /// Who is told, of what and how often; whether it works
    Show,
    /// Say how mail or webhook are reached; off until a test has arrived
    #[command(subcommand)]
    Set(SetReceiver),
    /// Send a test; once one has arrived, it can be switched on
    Test {
        /// mail or webhook
        target: Receiver,
    },
    /// Switch it on
    On {
        /// mail or webhook
        target: Receiver,
        #[command(flatten)]
        change: Change,
    },
    /// Switch it off
    Off {
        /// mail or webhook
        target: Receiver,
        #[command(flatten)]
        change: Change,
    },
    /// Forget how it is reached, its password too
    #[command(visible_alias = "rm")]
    Remove {
        /// mail or webhook
        target: Receiver,
        #[command(flatten)]
        change: Change,
    },
    /// What was told, and what could not be, the newest first
    History(ListArgs),
}

/// `pbx notify set`
#[derive(Debug, Subcommand)]
pub enum SetReceiver {
    /// The mail server, from whom and to whom
    Mail(MailOptions),
    /// Where messages are posted as JSON
    Webhook {
        /// An http or https address
        url: Option<String>,
        /// Read a key from standard input, one line, and sign with it (HMAC-SHA256)
        #[arg(long)]
        key_stdin: bool,
        /// Do not sign
        #[arg(long, conflicts_with = "key_stdin")]
        no_key: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// What can be said about mail; what is not named stays.
#[derive(Debug, Args)]
pub struct MailOptions {
    /// The mail server
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) host: Option<String>,
    /// Its port [default: 465 with tls, 587 with starttls, 25 with none]
    #[arg(long, value_name = "PORT")]
    pub(in crate::cli) port: Option<u16>,
    /// tls, starttls or none [default of a new one: starttls]
    #[arg(long, value_name = "HOW")]
    pub(in crate::cli) security: Option<String>,
    /// Who signs in; "" is nobody
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) user: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) password: PasswordFrom,
    /// From whom
    #[arg(long, value_name = "MAILBOX")]
    pub(in crate::cli) from: Option<String>,
    /// To whom, with commas between
    #[arg(long, value_name = "MAILBOXES", value_delimiter = ',')]
    pub(in crate::cli) to: Option<Vec<String>>,
    #[command(flatten)]
    pub(in crate::cli) change: Change,
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Receiver {
    /// A mailbox
    Mail,
    /// A program
    Webhook,
}

impl Receiver {
    /// The name.
    pub(in crate::cli) const fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }
}
