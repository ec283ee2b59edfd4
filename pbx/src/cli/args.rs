//! The tree of commands. Help texts are what people read first, so they say what happens.

mod accounts;
mod backup;
mod calls;
mod feeds;
mod notify;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use self::{
    accounts::{
        CertificateFiles, Ext, Forward, InTenant, PasswordFrom, Reg, Switch, Tenant, Transport, TransportOptions,
        WebServer,
    },
    backup::{Backup, PassphraseFrom},
    calls::{Call, Cdr, WhichCdrs},
    feeds::Feed,
    notify::{MailOptions, Notify, SetReceiver},
};
use crate::config::DEFAULT_SOCKET;

/// SIP PBX with a kernel packet filter.
#[derive(Debug, Parser)]
#[command(
    name = "pbx",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 no daemon, 7 refused (--force may help)"
)]
pub struct Cli {
    /// The daemon's socket
    #[arg(long, global = true, env = "PBX_SOCKET", default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// Print JSON, as the API answers it
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Serve {
        /// The configuration file [default: /etc/pbx/pbx.toml, which may be missing]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Take the filter off all interfaces when the daemon ends; without this it goes on enforcing
        #[arg(long)]
        detach: bool,
    },
    /// One screen of health
    Status(Watch),
    /// Compare the kernel's tables with the rules, look at the surroundings, say how to fix what is wrong
    Doctor,
    /// The loudest sources and what the filter does, live
    Top {
        /// Print once and end
        #[arg(long)]
        once: bool,
        /// Time between two looks
        #[arg(long, value_name = "SPAN", default_value = "1s")]
        interval: String,
        /// How many sources
        #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// What happened: blocks, changes, interfaces
    Events {
        /// Go on until Ctrl-C
        #[arg(long, short)]
        follow: bool,
        /// Only what is younger than this span (1h) or time (2026-01-31T12:00:00Z)
        #[arg(long, value_name = "SPAN|TIME")]
        since: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Why an address is blocked or passes, also one that was never seen
    Explain {
        /// The address
        ip: String,
    },
    /// The packet filter itself
    #[command(subcommand)]
    Firewall(Firewall),
    /// Blocked addresses
    #[command(subcommand)]
    Block(Block),
    /// Addresses that always pass
    #[command(subcommand)]
    Allow(Allow),
    /// Block lists that others keep, read every so often
    #[command(subcommand)]
    Feed(Feed),
    /// Mail and webhook to administrators: what happened, in digests
    #[command(subcommand)]
    Notify(Notify),
    /// Limits and settings, effective at once
    #[command(subcommand)]
    Guard(Guard),
    /// Extensions: who may register
    #[command(subcommand, visible_alias = "extension")]
    Ext(Ext),
    /// Registrations: which phones can be reached now
    #[command(subcommand, visible_alias = "registration")]
    Reg(Reg),
    /// Calls that go on; for administrators
    #[command(subcommand)]
    Call(Call),
    /// Records of calls: who called whom, when, how long, how it ended; for administrators
    #[command(subcommand)]
    Cdr(Cdr),
    /// Transports: where phones reach the appliance
    #[command(subcommand)]
    Transport(Transport),
    /// The web server: portal and REST API over HTTPS
    #[command(subcommand)]
    Web(WebServer),
    /// Save everything, and put it back
    #[command(subcommand)]
    Backup(Backup),
    /// Who changed what, and whether that is still what was written
    #[command(subcommand)]
    Audit(Audit),
    /// SIP messages as they come and go, or packets that the filter drops, a line each, until Ctrl-C; for administrators
    Trace {
        /// Only those of this peer, an address or range; several add up
        #[arg(long, visible_alias = "address", value_name = "ADDRESS|RANGE")]
        ip: Vec<String>,
        /// Only those of this call that goes on, by its id or its last digits (`pbx call list`)
        #[arg(long, value_name = "ID")]
        call: Option<String>,
        /// The whole messages too; what proves a password is masked
        #[arg(long)]
        sip: bool,
        /// Packets that the filter drops, which tcpdump cannot see, instead of messages: samples, more of them while
        /// somebody looks
        #[arg(long, conflicts_with_all = ["call", "sip"])]
        dropped: bool,
        /// Only packets dropped for this reason, as `pbx firewall stats` names it; several add up
        #[arg(long, requires = "dropped", value_name = "REASON")]
        reason: Vec<String>,
        /// End after so many packets
        #[arg(long, requires = "dropped", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Write the packets, as far as they were captured, into this file as well (pcap)
        #[arg(long, requires = "dropped", value_name = "FILE")]
        pcap: Option<PathBuf>,
    },
    /// Tenants: the companies on this appliance
    #[command(subcommand)]
    Tenant(Tenant),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder; it is made
        folder: PathBuf,
    },
}

/// `pbx firewall`
#[derive(Debug, Subcommand)]
pub enum Firewall {
    /// What is loaded and where it is attached
    Status(Watch),
    /// enforce drops, monitor only counts what it would drop, off lets everything pass
    Mode {
        /// What the filter is to do
        mode: Mode,
        #[command(flatten)]
        tuning: Tuning,
    },
    /// Attach the filter to an interface
    Attach {
        /// The interface
        interface: String,
        #[command(flatten)]
        change: Change,
    },
    /// Take the filter off an interface
    Detach {
        /// The interface
        interface: String,
        #[command(flatten)]
        change: Change,
    },
    /// Packets and bytes by interface and reason
    Stats(Watch),
    /// Run the frames of a capture through a copy of the filter; nothing live changes
    Test {
        /// A pcap file, or - for standard input
        pcap: PathBuf,
    },
}

/// `pbx block`
#[derive(Debug, Subcommand)]
pub enum Block {
    /// Everything that is blocked, by hand or by itself
    List(ListArgs),
    /// Block an address or range: all protocols and ports, at once and silently
    Add(Add),
    /// Let an address go, whatever blocks it, and reset the counters that led to it
    #[command(visible_alias = "rm")]
    Remove {
        #[command(flatten)]
        address: Address,
        /// Also allow it for so long
        #[arg(long, value_name = "SPAN")]
        allow_for: Option<String>,
        /// Do it although it cuts established connections
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
    /// The blocks that cover an address or lie in a range, and what led to them
    Show {
        #[command(flatten)]
        address: Address,
        /// The whole messages that led to it; what proves a password is masked
        #[arg(long)]
        messages: bool,
    },
    /// Import a list: one a line, `ADDRESS [allow|block] [for SPAN | until TIME] [# why]`; all of it or nothing
    Import {
        /// The file, or - for standard input
        #[arg(required_unless_present = "fail2ban")]
        file: Option<PathBuf>,
        /// It is CSV with a header: cidr,target,description,expire_at
        #[arg(long)]
        csv: bool,
        /// The bans of fail2ban's database instead; they end when they would there
        #[arg(
            long,
            value_name = "DATABASE",
            num_args = 0..=1,
            default_missing_value = "/var/lib/fail2ban/fail2ban.sqlite3",
            conflicts_with_all = ["file", "csv"]
        )]
        fail2ban: Option<PathBuf>,
        /// Do it although it cuts established connections
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Print the rules as a list that import reads
    Export {
        /// The allow rules too
        #[arg(long)]
        all: bool,
    },
    /// Remove every block, manual and automatic
    Flush {
        /// Only the rules
        #[arg(long, conflicts_with = "automatic")]
        manual: bool,
        /// Only those that the filter made
        #[arg(long)]
        automatic: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// `pbx allow`
#[derive(Debug, Subcommand)]
pub enum Allow {
    /// Every address and range that always passes
    List(ListArgs),
    /// Let an address or range always pass, uncounted and before every automatic block
    Add(Add),
    /// Take an address or range off the list
    #[command(visible_alias = "rm")]
    Remove {
        #[command(flatten)]
        address: Address,
        /// Do it although it cuts established connections
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// `pbx guard`
#[derive(Debug, Subcommand)]
pub enum Guard {
    /// All settings with their values
    List {
        /// Only those that differ from their defaults
        #[arg(long)]
        changed: bool,
    },
    /// One setting with its range and meaning
    Get {
        /// Its name
        key: String,
    },
    /// Set settings together: KEY VALUE, or KEY=VALUE as often as needed
    Set {
        /// KEY VALUE or KEY=VALUE…
        #[arg(required = true, value_name = "KEY VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        tuning: Tuning,
    },
    /// Set settings back to their defaults
    Reset {
        /// Their names
        #[arg(required_unless_present = "all")]
        keys: Vec<String>,
        /// All but the filter's mode
        #[arg(long, conflicts_with = "keys")]
        all: bool,
        #[command(flatten)]
        tuning: Tuning,
    },
    /// In what the settings differ from those of a new installation
    Diff {
        /// From this profile instead, in what it decides
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
    },
    /// The change that is taken back unless it is confirmed
    Pending,
    /// Keep the change that waits to be confirmed
    Confirm,
    /// Take the change that waits to be confirmed back, now
    Rollback,
    /// Take the limits of a profile over; without a name, list them
    Profile {
        /// Its name
        name: Option<String>,
        #[command(flatten)]
        tuning: Tuning,
    },
}

/// What the filter is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Drops
    Enforce,
    /// Counts what it would drop
    Monitor,
    /// Lets everything pass
    Off,
}

/// An address or range, in one word or two.
#[derive(Debug, Args)]
pub struct Address {
    /// 192.0.2.1, 192.0.2.0/24, 2001:db8::/64, or address and dotted mask: 41.202.0.0 255.255.0.0
    #[arg(required = true, num_args = 1..=2, value_names = ["ADDRESS", "MASK"])]
    words: Vec<String>,
}

impl Address {
    /// The words as one text.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// A rule to make.
#[derive(Debug, Args)]
pub struct Add {
    #[command(flatten)]
    pub(super) address: Address,
    /// How long it lasts (90s, 2h, 1d12h); for ever without it
    #[arg(long = "for", value_name = "SPAN", conflicts_with = "until")]
    pub(super) lasting: Option<String>,
    /// When it ends (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// Why, in your words (at most 255 characters)
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Do it although it cuts established connections
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) change: Change,
}

/// Options of everything that changes something.
#[derive(Clone, Copy, Debug, Args)]
pub struct Change {
    /// Say what would change, change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Options of every change of settings.
#[derive(Clone, Debug, Args)]
pub struct Tuning {
    /// Do it although it cuts established connections, or another change waits to be confirmed
    #[arg(long)]
    pub(super) force: bool,
    /// Take it back unless `pbx guard confirm` comes in that time (10s to 1h)
    #[arg(long, value_name = "SPAN")]
    pub(super) confirm_within: Option<String>,
    /// Say what would change and what the last 24 hours would have been, change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Options of everything that can be watched.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Show it again and again until Ctrl-C
    #[arg(long, short, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    pub(super) watch: Option<String>,
}

/// Options of every list.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Only rows for which this holds: "packets gt 100 and contains(reason,'scan')"; several must all hold
    #[arg(long, value_name = "CONDITION")]
    pub(super) filter: Vec<String>,
    /// Only rows in which this text or address occurs
    #[arg(long, value_name = "TEXT")]
    pub(super) search: Option<String>,
    /// By which column; -COLUMN is the largest first
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub(super) sort: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// `pbx audit`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The newest changes
    List(ListArgs),
    /// Follow the chain of hashes through every row
    Verify,
    /// Write all rows as CSV, with how things were before and after, the newest first
    Export {
        /// Only rows for which this holds: "actor eq 'root'"; several must all hold
        #[arg(long, value_name = "CONDITION")]
        filter: Vec<String>,
        /// The file, or - for standard output
        #[arg(default_value = "-")]
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests;
