//! The daemon under test with its extensions, in the namespaces of the bench.

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};
use pbx_tests::daemon::{Daemon, Installation};

/// What every extension has as a password.
pub(crate) const PASSWORD: &str = "Brisk-kestrel-58";

/// Where it listens.
pub(crate) const ADDRESS: &str = "127.0.0.1:5060";

/// A running daemon.
pub(crate) struct Appliance {
    pub(crate) address: SocketAddr,
    installation: Installation,
    daemon: Daemon,
}

impl Appliance {
    /// Starts it with these extensions, and with limits for strangers that this bench does not reach.
    pub(crate) fn start(directory: &Path, extensions: impl IntoIterator<Item = u32>) -> Result<Self> {
        let appliance = Self::start_as_set(directory, extensions)?;
        appliance.installation.pbx("guard set sip.challenges.source=1000000 sip.challenges.total=1000000")?;
        Ok(appliance)
    }

    /// Starts it with these extensions, and settings as they are by default.
    pub(crate) fn start_as_set(directory: &Path, extensions: impl IntoIterator<Item = u32>) -> Result<Self> {
        let installation = Installation::at(directory, &directory.join("bpf"), &[])?;
        installation.set("attach", "\"off\"")?;
        let mut daemon = installation.start()?;
        // That nothing is attached is what was asked for, and the bench asserts nothing.
        daemon.expect("");
        let mut list = String::from("number,name,password\n");
        for number in extensions {
            writeln!(list, "{number},Phone {number},{PASSWORD}")?;
        }
        let file = directory.join("extensions.csv");
        fs::write(&file, list)?;
        installation.run(&["ext", "import", file.to_str().context("a path of ASCII")?])?.ok()?;
        Ok(Self { address: ADDRESS.parse()?, installation, daemon })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// How many messages its UDP transport refused or answered without state for this reason.
    pub(crate) fn refused(&self, reason: &str) -> Result<u64> {
        let status = self.installation.pbx("transport status udp:5060")?;
        let counted = status["items"][0]["dropped"].as_array().context("a status without what was dropped")?;
        let of = |one: &serde_json::Value| (one[0] == reason).then(|| one[1].as_u64()).flatten();
        // A reason that never counted is left out.
        Ok(counted.iter().filter_map(of).sum())
    }

    /// How many messages its UDP transport refused, or answered without state, for whatever reason.
    pub(crate) fn turned_away(&self) -> Result<u64> {
        let status = self.installation.pbx("transport status udp:5060")?;
        let counted = status["items"][0]["dropped"].as_array().context("a status without what was dropped")?;
        Ok(counted.iter().filter_map(|one| one[1].as_u64()).sum())
    }

    /// How many calls go on.
    pub(crate) fn calls(&self) -> Result<usize> {
        let list = self.installation.pbx("call list --limit 1")?;
        Ok(list["count"].as_u64().context("a list without its count")? as usize)
    }

    /// How many phones are registered.
    pub(crate) fn registered(&self) -> Result<usize> {
        let list = self.installation.pbx("reg list --limit 1000000")?;
        Ok(list["items"].as_array().context("a list without items")?.len())
    }
}
