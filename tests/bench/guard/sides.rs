//! Who is flooded: the daemon behind its own filter, the same daemon behind nftables, Kamailio with pike.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use pbx_tests::{
    daemon::{Daemon, Installation},
    lab::Lab,
    sandbox::Sandbox,
    site::{UDP, server},
};

use crate::{
    flood::command,
    sip::{appliance::PASSWORD, kamailio::Kamailio},
};

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The daemon, XDP enforcing, all settings as a new installation has them.
    Ours,
    /// The same under default deny.
    Closed,
    /// The daemon without any filter of its own, behind a dynamic set with a rate limit as an administrator writes it.
    Nftables,
    /// A mere proxy with pike and a table of who is banned.
    Kamailio,
}

impl Side {
    pub(super) const ALL: [Self; 4] = [Self::Ours, Self::Closed, Self::Kamailio, Self::Nftables];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "pbx",
            Self::Closed => "pbx, deny",
            Self::Nftables => "pbx, nft",
            Self::Kamailio => "Kamailio",
        }
    }

    /// Starts it for these extensions.
    pub(super) fn start(
        self,
        sandbox: &Sandbox,
        lab: &Lab,
        extensions: impl Iterator<Item = u32>,
        phones: &[IpAddr],
    ) -> Result<Running> {
        let address = server(&lab.good, UDP);
        if matches!(self, Self::Kamailio | Self::Nftables) {
            // Without a program of ours on it, the veth takes redirected frames only while it polls for this.
            command("ethtool", &["-K", lab.bad.interface, "gro", "on"], "")?;
        }
        let kind = match self {
            Self::Kamailio => {
                Kind::Kamailio(Kamailio::start_with_pike(sandbox.directory(), address, PASSWORD, phones)?)
            }
            Self::Nftables => {
                command("nft", &["-f", "-"], RULESET)?;
                let pbx = Installation::new(sandbox, &[])?;
                pbx.set("attach", "\"off\"")?;
                Kind::Daemon(daemon(&pbx, sandbox.directory(), &["firewall mode off"], extensions)?)
            }
            Self::Ours | Self::Closed => {
                let pbx = Installation::new(sandbox, &lab.interfaces())?;
                let all = ["firewall mode enforce", "guard set filter.default_deny=enforce"];
                let commands = if self == Self::Ours { &all[..1] } else { &all[..] };
                Kind::Daemon(daemon(&pbx, sandbox.directory(), commands, extensions)?)
            }
        };
        Ok(Running { address, kind })
    }
}

/// As many a second from each source as level 1 lets pass by default; a source is forgotten after a minute.
const RULESET: &str = "table inet bench {
    set sources { type ipv4_addr; size 65536; flags dynamic, timeout; timeout 1m; }
    chain input {
        type filter hook input priority filter; policy accept;
        udp dport 5060 update @sources { ip saddr limit rate over 500/second burst 500 packets } counter drop
    }
}
";

/// A side that runs; it ends when this is dropped.
pub(super) struct Running {
    /// Where it listens.
    pub(super) address: SocketAddr,
    kind: Kind,
}

enum Kind {
    Daemon(Daemon),
    Kamailio(Kamailio),
}

impl Running {
    /// Its main process.
    pub(super) fn pid(&self) -> u32 {
        match &self.kind {
            Kind::Daemon(daemon) => daemon.pid(),
            Kind::Kamailio(kamailio) => kamailio.pid(),
        }
    }
}

fn daemon(
    pbx: &Installation,
    directory: &Path,
    commands: &[&str],
    extensions: impl Iterator<Item = u32>,
) -> Result<Daemon> {
    let mut daemon = pbx.start()?;
    // It may complain of the flood; the bench asserts nothing.
    daemon.expect("");
    for command in commands {
        pbx.pbx(command)?;
    }
    let mut list = String::from("number,name,password\n");
    for number in extensions {
        writeln!(list, "{number},Phone {number},{PASSWORD}")?;
    }
    let file = directory.join("extensions.csv");
    fs::write(&file, list)?;
    pbx.run(&["ext", "import", file.to_str().context("a path of ASCII")?])?.ok()?;
    Ok(daemon)
}
