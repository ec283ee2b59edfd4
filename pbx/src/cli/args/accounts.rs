//! The commands about phones: extensions, registrations, transports, tenants.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Change, ListArgs, Watch};

/// `pbx ext`
#[derive(Debug, Subcommand)]
pub enum Ext {
    /// Every extension
    List(ListArgs),
    /// Add an extension; without a password option one is made and printed once
    Add {
        /// What is dialled: 3 to 64 digits
        number: String,
        /// Whom it belongs to
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// What others see when it calls [default: number and name]
        #[arg(long, value_name = "TEXT")]
        caller_id: Option<String>,
        #[command(flatten)]
        tenant: InTenant,
        /// Add it disabled: it is answered as if it did not exist
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        password: PasswordFrom,
        #[command(flatten)]
        change: Change,
    },
    /// One extension and what is registered for it
    Show {
        /// Its number
        number: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Change what is named; an empty text takes one away
    Set {
        /// Its number
        number: String,
        #[command(flatten)]
        tenant: InTenant,
        /// Another number; its phones have to register anew
        #[arg(long, value_name = "NUMBER")]
        new_number: Option<String>,
        /// Whom it belongs to
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// What others see when it calls
        #[arg(long, value_name = "TEXT")]
        caller_id: Option<String>,
        /// Let it register again
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Answer as if it did not exist; its registrations end
        #[arg(long)]
        disable: bool,
        #[command(flatten)]
        forward: Forward,
        #[command(flatten)]
        change: Change,
    },
    /// Remove an extension; its registrations end
    #[command(visible_alias = "rm")]
    Remove {
        /// Its number
        number: String,
        #[command(flatten)]
        tenant: InTenant,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Set another SIP password; without an option one is made and printed once. Its registrations end
    Passwd {
        /// Its number
        number: String,
        #[command(flatten)]
        tenant: InTenant,
        #[command(flatten)]
        password: PasswordFrom,
        #[command(flatten)]
        change: Change,
    },
    /// Import a list (CSV with the header number,name,password,caller_id,tenant,enabled, and what else export prints);
    /// all of it or nothing.
    /// Passwords that are missing are made and printed once, as CSV
    Import {
        /// The file, or - for standard input
        file: PathBuf,
        /// Change extensions that are there; without it their rows are errors
        #[arg(long)]
        update: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Print the extensions as a list that import reads, without passwords
    Export {
        #[command(flatten)]
        tenant: InTenant,
    },
}

/// `pbx reg`
#[derive(Debug, Subcommand)]
pub enum Reg {
    /// Every phone that is registered
    List(ListArgs),
    /// End the registrations of an extension, or one of them. A phone may register again: to keep it out, disable the
    /// extension or set another password
    Drop {
        /// The extension's number
        #[arg(required_unless_present = "id", conflicts_with = "id")]
        number: Option<String>,
        #[command(flatten)]
        tenant: InTenant,
        /// One registration, by its id in `pbx reg list --json`
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Ask the phones of an extension, or one of them, whether they are there: by an OPTIONS over the way that calls
    /// would take. Waits up to 32 s for each
    Ping {
        /// The extension's number
        #[arg(required_unless_present = "id", conflicts_with = "id")]
        number: Option<String>,
        #[command(flatten)]
        tenant: InTenant,
        /// One registration, by its id in `pbx reg list --json`
        #[arg(long)]
        id: Option<String>,
    },
}

/// `pbx transport`
#[derive(Debug, Subcommand)]
pub enum Transport {
    /// Every transport
    List(ListArgs),
    /// Open another one; the filter protects its port at once
    Add {
        /// udp, tcp or tls
        protocol: String,
        /// The port that it listens on
        port: u32,
        #[command(flatten)]
        options: TransportOptions,
        #[command(flatten)]
        certificate: CertificateFiles,
        #[command(flatten)]
        change: Change,
    },
    /// Change what is named; phones on the others notice nothing
    Set {
        /// Its id, or protocol and port: udp:5060
        transport: String,
        /// Another port
        #[arg(long)]
        port: Option<u32>,
        #[command(flatten)]
        options: TransportOptions,
        #[command(flatten)]
        change: Change,
    },
    /// Close one, with its connections; the last one stays
    #[command(visible_alias = "rm")]
    Remove {
        /// Its id, or protocol and port: udp:5060
        transport: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
    /// How they are: listening or why not, connections, messages
    Status {
        /// Its id, or protocol and port; all without it
        transport: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Print the certificates of a TLS transport, or set other ones
    Certificate {
        /// Its id, or protocol and port: tls:5061
        transport: String,
        #[command(flatten)]
        files: CertificateFiles,
        /// Make new self-signed ones
        #[arg(long, conflicts_with = "certificate")]
        self_signed: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// `pbx web`
#[derive(Debug, Subcommand)]
pub enum WebServer {
    /// Where it listens or why not, and its connections
    Status(Watch),
    /// Print the certificate that browsers see, or set another one; connections go on
    Certificate {
        #[command(flatten)]
        files: CertificateFiles,
        /// Make a new self-signed one
        #[arg(long, conflicts_with = "certificate")]
        self_signed: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// `pbx tenant`
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Every tenant
    List(ListArgs),
    /// Add a tenant
    Add {
        /// Its name
        name: String,
        /// A domain that means it (several: once each)
        #[arg(long = "domain", value_name = "DOMAIN")]
        domains: Vec<String>,
        /// What its challenges show; it never changes [default: random]
        #[arg(long)]
        realm: Option<String>,
        /// A rule for its passwords: min_length=10, contains_letters=false… (several: once each)
        #[arg(long = "policy", value_name = "RULE=VALUE")]
        policy: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Change what is named
    Set {
        /// Its name or id
        tenant: String,
        /// Another name
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// All its domains (several: once each)
        #[arg(long = "domain", value_name = "DOMAIN", conflicts_with = "no_domains")]
        domains: Vec<String>,
        /// Take its domains away
        #[arg(long)]
        no_domains: bool,
        /// A rule for passwords that are set from now on (several: once each)
        #[arg(long = "policy", value_name = "RULE=VALUE")]
        policy: Vec<String>,
        /// A bare address or an unknown domain means it from now on
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a tenant
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name or id
        tenant: String,
        /// Remove its extensions too
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// Whose extension.
#[derive(Clone, Debug, Args)]
pub struct InTenant {
    /// Name or id of its tenant [default: the default one]
    #[arg(long, value_name = "TENANT")]
    pub(in crate::cli) tenant: Option<String>,
}

/// Where calls go that the extension does not take.
#[derive(Clone, Debug, Args)]
pub struct Forward {
    /// Forward every call to this number, or none
    #[arg(long, value_name = "NUMBER|none")]
    pub(in crate::cli) forward_always: Option<String>,
    /// Forward calls when it is busy
    #[arg(long, value_name = "NUMBER|none")]
    pub(in crate::cli) forward_busy: Option<String>,
    /// Forward calls that nobody answers
    #[arg(long, value_name = "NUMBER|none")]
    pub(in crate::cli) forward_no_answer: Option<String>,
    /// Forward calls when no phone of it can be reached
    #[arg(long, value_name = "NUMBER|none")]
    pub(in crate::cli) forward_offline: Option<String>,
    /// How long it rings before nobody has answered: 5 to 300 seconds
    #[arg(long, value_name = "SECONDS")]
    pub(in crate::cli) no_answer_after: Option<u64>,
    /// Do not disturb: its phones do not ring
    #[arg(long, value_name = "on|off")]
    pub(in crate::cli) dnd: Option<Switch>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Switch {
    /// On
    On,
    /// Off
    Off,
}

/// Where a password comes from. Never from an argument, which every user of the machine can read.
#[derive(Clone, Copy, Debug, Args)]
pub struct PasswordFrom {
    /// Read the password from standard input, one line
    #[arg(long)]
    pub(in crate::cli) password_stdin: bool,
    /// Ask for the password on the terminal
    #[arg(long, conflicts_with = "password_stdin")]
    pub(in crate::cli) ask_password: bool,
}

/// What a transport may be told beside its port.
#[derive(Clone, Debug, Args)]
pub struct TransportOptions {
    /// The port by which peers beyond the router reach it; 0: the same
    #[arg(long, value_name = "PORT")]
    pub(in crate::cli) external_port: Option<u32>,
    /// Digest algorithms in the order in which they are offered: md5,sha256
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(in crate::cli) algorithms: Option<Vec<String>>,
    /// Whether phones are asked for certificates: DISABLE
    #[arg(long, value_name = "HOW")]
    pub(in crate::cli) verification: Option<String>,
}

/// Certificates of a TLS transport.
#[derive(Clone, Debug, Args)]
pub struct CertificateFiles {
    /// A file with certificates, PEM, the leaf first [default: self-signed]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(in crate::cli) certificate: Option<PathBuf>,
    /// The file with their key, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(in crate::cli) key: Option<PathBuf>,
}
