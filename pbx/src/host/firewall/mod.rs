//! The host's own firewall (nftables, ufw, firewalld) against the ports that the daemon needs. For
//! `doctor`. Reads and says which command would open a port; never changes anything. The rules are
//! not evaluated fully (a port opened for some sources only, marks, foreign matches): where that
//! matters, it says "may be closed".

mod command;
mod firewalld;
mod nft;
mod ports;
mod ufw;

use std::fmt;

use serde::Serialize;

use command::{Answer, run};

/// A port or range of ports that has to be reachable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// TCP or UDP.
    pub transport: Transport,
    /// The first port.
    pub first: u16,
    /// The last port, itself included; a single port's own number.
    pub last: u16,
    /// What it is for, in words for an administrator.
    pub purpose: String,
}

/// A transport that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, protocol 6.
    Tcp,
    /// UDP, protocol 17.
    Udp,
}

/// A firewall of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// nftables rules, those made by iptables-nft too.
    Nftables,
    /// Ubuntu's ufw.
    Ufw,
    /// firewalld.
    Firewalld,
    /// The older kernel interface of iptables-legacy.
    IptablesLegacy,
}

/// How sure it is that packets are kept away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No rule lets the port in.
    Closed,
    /// Rules that are not evaluated here decide.
    MayBeClosed,
    /// The firewall could not be asked.
    Unknown,
}

/// Something that an administrator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose rules they are.
    pub tool: Tool,
    /// How sure it is.
    pub state: State,
    /// The ports; none when the firewall as a whole is meant.
    pub needed: Option<Needed>,
    /// What is the matter, one sentence.
    pub message: String,
    /// What would open the port, or show more.
    pub command: Option<String>,
}

/// What the host's firewalls say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The firewalls that are at work.
    pub active: Vec<Tool>,
    /// What may be in the way; empty when all needed ports are open.
    pub findings: Vec<Finding>,
}

/// Asks every firewall that is installed. Takes at most some seconds each; needs root or
/// CAP_NET_ADMIN to see anything, and says so without.
pub async fn inspect(needed: &[Needed]) -> Report {
    let mut report = Report::default();
    let firewalld = firewalld(needed, &mut report).await;
    let ufw = ufw(needed, &mut report).await;
    nftables(needed, nft::Foreign { firewalld, ufw }, &mut report).await;
    iptables_legacy(&mut report);
    report
}

/// Whether firewalld is at work.
async fn firewalld(needed: &[Needed], report: &mut Report) -> bool {
    // Exit status 252: not running.
    if !matches!(run("firewall-cmd", &["--state"]).await, Answer::Text(state) if state.trim() == "running") {
        return false;
    }
    report.active.push(Tool::Firewalld);
    match run("firewall-cmd", &["--list-all-zones"]).await {
        Answer::Text(zones) => report.findings.extend(firewalld::judge(&zones, needed)),
        Answer::Missing => {}
        Answer::Refused(why) => {
            report.findings.push(unknown(Tool::Firewalld, &why, "firewall-cmd --list-all-zones"));
        }
    }
    true
}

/// Whether ufw is at work.
async fn ufw(needed: &[Needed], report: &mut Report) -> bool {
    match run("ufw", &["status", "verbose"]).await {
        Answer::Missing => false,
        Answer::Text(status) if !ufw::is_active(&status) => false,
        Answer::Text(status) => {
            report.active.push(Tool::Ufw);
            report.findings.extend(ufw::judge(&status, needed));
            true
        }
        Answer::Refused(why) => {
            report.findings.push(unknown(Tool::Ufw, &why, "ufw status verbose"));
            false
        }
    }
}

async fn nftables(needed: &[Needed], foreign: nft::Foreign, report: &mut Report) {
    let command = "nft -j list ruleset";
    let why = match run("nft", &["-j", "list", "ruleset"]).await {
        Answer::Missing => return,
        Answer::Refused(why) => why,
        Answer::Text(json) => match nft::judge(&json, needed, foreign) {
            Ok(judged) => {
                if judged.base_chains > 0 {
                    report.active.push(Tool::Nftables);
                }
                report.findings.extend(judged.findings);
                return;
            }
            Err(error) => error.to_string(),
        },
    };
    report.findings.push(unknown(Tool::Nftables, &why, command));
}

/// nft does not show the rules of iptables-legacy; the kernel names their tables to root.
fn iptables_legacy(report: &mut Report) {
    let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    if names.is_ok_and(|names| names.lines().any(|name| name == "filter")) {
        report.active.push(Tool::IptablesLegacy);
        report.findings.push(Finding {
            tool: Tool::IptablesLegacy,
            state: State::MayBeClosed,
            needed: None,
            message: "there is a table of iptables-legacy, which is not read here".into(),
            command: Some("iptables-legacy -S INPUT".into()),
        });
    }
}

fn unknown(tool: Tool, why: &str, command: &str) -> Finding {
    let why = why.lines().next().unwrap_or_default();
    Finding {
        tool,
        state: State::Unknown,
        needed: None,
        message: format!("{tool} could not be asked ({why}); look as root"),
        command: Some(command.into()),
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Ufw => "ufw",
            Self::Firewalld => "firewalld",
            Self::IptablesLegacy => "iptables-legacy",
        })
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.ports("-"), self.transport, self.purpose)
    }
}

impl Needed {
    /// The port, or both ends of the range with `between` between them.
    fn ports(&self, between: &str) -> String {
        match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}{between}{}", self.first, self.last),
        }
    }
}
