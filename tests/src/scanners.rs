//! The scanners of sipvicious, as they are shipped or with another User-Agent. After sandbox.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::sandbox::Namespace;

/// Where Debian's package has the scanners' sources.
const SIPVICIOUS: &str = "/usr/share/sipvicious/sipvicious";
/// The name by which they are known.
const SCANNER: &str = "friendly-scanner";
/// What an attacker who thinks a little writes instead.
const DISGUISE: &str = "Yealink SIP-T46U 108.86.0.45";

/// Where svwar gives up.
const GIVES_UP: &str = "self.BADUSER.__repr__())\n            self.nomore = True";
const GOES_ON: &str = "self.BADUSER.__repr__())";

/// The scanners.
#[derive(Clone, Debug)]
pub struct Scanners {
    /// The folder with the package.
    sources: PathBuf,
    /// Where they may write.
    home: PathBuf,
}

impl Scanners {
    /// As they are shipped.
    pub fn shipped(home: &Path) -> Result<Self> {
        ensure!(Path::new(SIPVICIOUS).is_dir(), "{SIPVICIOUS} is not there; `cargo xtask setup` installs sipvicious");
        Ok(Self { sources: Path::new(SIPVICIOUS).join(".."), home: home.to_owned() })
    }

    /// A copy of them, in a folder of `home`, with another User-Agent. Its svwar goes on when all numbers are answered
    /// alike.
    pub fn disguised(home: &Path) -> Result<Self> {
        Self::shipped(home)?;
        let copy = home.join("disguised");
        std::fs::create_dir_all(&copy)?;
        let copied = Command::new("cp").arg("-r").arg(SIPVICIOUS).arg(&copy).status()?;
        ensure!(copied.success(), "{SIPVICIOUS} cannot be copied");
        let helper = copy.join("sipvicious/libs/svhelper.py");
        let source = std::fs::read_to_string(&helper)?;
        ensure!(source.contains(SCANNER), "sipvicious calls itself otherwise");
        std::fs::write(helper, source.replace(SCANNER, DISGUISE))?;
        let scanner = copy.join("sipvicious/svwar.py");
        let source = std::fs::read_to_string(&scanner)?;
        ensure!(source.contains(GIVES_UP), "svwar gives up otherwise");
        std::fs::write(scanner, source.replace(GIVES_UP, GOES_ON))?;
        Ok(Self { sources: copy, home: home.to_owned() })
    }

    /// Runs a scanner in a namespace until it ends, or half a minute is over; what it said.
    pub fn run(&self, network: &Namespace, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("timeout");
        command.args(["30", "python3"]);
        self.complete(&mut command, program, arguments);
        network.put(&mut command)?;
        let output = command.output().context("python3 does not start; `cargo xtask setup` installs it")?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    /// A scanner, to be started in a namespace.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("python3");
        self.complete(&mut command, program, arguments);
        command
    }

    fn complete(&self, command: &mut Command, program: &str, arguments: &[&str]) {
        let code = format!("import sys; sys.argv[0] = '{program}'; from sipvicious.{program} import main; main()");
        command.args(["-c", &code]).args(arguments);
        command.current_dir(&self.home).env("HOME", &self.home).env("COLUMNS", "100");
        command.env("PYTHONPATH", &self.sources);
    }
}
