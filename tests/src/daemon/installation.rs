//! An installation of `pbx` in a directory of the test's, and commands against it.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{DEADLINE, Daemon, LOOK_AGAIN};
use crate::sandbox::Sandbox;

/// A configuration with its data, which outlives the daemons that run on it.
#[derive(Clone, Debug)]
pub struct Installation {
    binary: PathBuf,
    directory: PathBuf,
    config: PathBuf,
    socket: PathBuf,
}

impl Installation {
    /// Writes a configuration for these interfaces into the sandbox.
    pub fn new(sandbox: &Sandbox, interfaces: &[&str]) -> Result<Self> {
        Self::at(sandbox.directory(), &sandbox.bpffs(), interfaces)
    }

    /// Writes a configuration into `directory`, with pins in `bpffs`.
    pub fn at(directory: &Path, bpffs: &Path, interfaces: &[&str]) -> Result<Self> {
        let installation = Self {
            binary: binary()?,
            directory: directory.to_owned(),
            config: directory.join("pbx.toml"),
            socket: directory.join("pbx.sock"),
        };
        let names = interfaces.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        installation.configure(&format!(
            "data_dir = {:?}\nsocket = {:?}\n\n[xdp]\ninterfaces = [{names}]\npin_dir = {:?}\n",
            directory.join("data"),
            installation.socket,
            bpffs.join("pbx"),
        ))?;
        Ok(installation)
    }

    /// Replaces the configuration file.
    pub fn configure(&self, text: &str) -> Result<()> {
        fs::create_dir_all(self.directory.join("data"))?;
        fs::write(&self.config, text).with_context(|| format!("write {}", self.config.display()))
    }

    /// Sets one key of the configuration file to a value in TOML; a key that is not there goes into `[xdp]`.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        let is_key = |line: &&str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
        let mut lines: Vec<String> = text.lines().filter(|line| !is_key(line)).map(str::to_owned).collect();
        let line = format!("{key} = {value}");
        match text.lines().position(|line| is_key(&line)) {
            Some(place) => lines.insert(place, line),
            None => lines.push(line),
        }
        self.configure(&(lines.join("\n") + "\n"))
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The API's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The `pbx` under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// `pbx serve` on this configuration, to be changed before [`start_as`](Self::start_as).
    pub fn serve(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("--config").arg(&self.config);
        command
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start(&self) -> Result<Daemon> {
        self.start_as(self.serve())
    }

    /// Starts the daemon by a command of the caller's (under `setpriv`, with an environment) and waits until it
    /// is ready. If it ends before, the error holds its log.
    pub fn start_as(&self, command: Command) -> Result<Daemon> {
        Daemon::spawn(command, &self.directory)
    }

    /// Runs `pbx --socket … --json WORDS`.
    pub fn run(&self, words: &[&str]) -> Result<Answer> {
        self.call(&["--json"], words)
    }

    fn call(&self, options: &[&str], words: &[&str]) -> Result<Answer> {
        let output = self.command(options, words).output().with_context(|| format!("run {}", self.binary.display()))?;
        Ok(Answer::of(words.join(" "), &output))
    }

    fn command(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--socket").arg(&self.socket).args(options).args(words);
        command
    }

    /// Runs a command, given as one line, that may fail, with this on its standard input.
    pub fn feed(&self, line: &str, input: &str) -> Result<Answer> {
        let mut child = self
            .command(&["--json"], &line.split_whitespace().collect::<Vec<_>>())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", self.binary.display()))?;
        // One that complains of its arguments reads nothing; what it says is looked at below.
        let _ = child.stdin.take().context("a pipe")?.write_all(input.as_bytes());
        Ok(Answer::of(line.to_owned(), &child.wait_with_output()?))
    }

    /// Runs a command, given as one line, that may fail.
    pub fn try_pbx(&self, line: &str) -> Result<Answer> {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command, given as one line, that has to succeed, without `--json`: what a person sees.
    pub fn shown(&self, line: &str) -> Result<String> {
        let answer = self.call(&[], &line.split_whitespace().collect::<Vec<_>>())?;
        ensure!(answer.code == Some(0), "`pbx {line}` ended with {:?}: {}", answer.code, answer.said());
        Ok(answer.stdout)
    }

    /// Runs a command, given as one line, that has to succeed; its JSON.
    pub fn pbx(&self, line: &str) -> Result<Value> {
        self.run(&line.split_whitespace().collect::<Vec<_>>())?.ok()
    }

    /// Repeats a command until `enough` holds of its JSON; that JSON. An error holds the last one.
    pub fn wait(&self, line: &str, mut enough: impl FnMut(&Value) -> bool) -> Result<Value> {
        let start = Instant::now();
        loop {
            let value = self.pbx(line)?;
            if enough(&value) {
                return Ok(value);
            }
            ensure!(start.elapsed() < DEADLINE, "after {DEADLINE:?} `pbx {line}` still says {value:#}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits for a block of `address` in the list; its entry.
    pub fn wait_blocked(&self, address: impl Into<IpAddr>) -> Result<Value> {
        let address = address.into();
        let list = self.wait("block list", |list| find(list, &address.to_string()).is_some())?;
        find(&list, &address.to_string()).cloned().context("it was there")
    }
}

/// The entry of a list (an array, or `items` of an object) whose address is `cidr`.
pub fn find<'a>(list: &'a Value, cidr: &str) -> Option<&'a Value> {
    let items = list.as_array().or_else(|| list["items"].as_array())?;
    items.iter().find(|item| ["cidr", "prefix", "address"].iter().any(|key| item[*key].as_str() == Some(cidr)))
}

/// What a command answered.
#[derive(Clone, Debug)]
pub struct Answer {
    words: String,
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Answer {
    fn of(words: String, output: &Output) -> Self {
        Self {
            words,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The JSON that it printed; an error says what it was instead. Nothing printed is null.
    pub fn json(&self) -> Result<Value> {
        if self.stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("`pbx {}` printed no JSON: {}", self.words, self.stdout))
    }

    /// Everything that it said, wherever.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// What it said if it ended with this code and said all of `texts`.
    pub fn refused(&self, code: i32, texts: &[&str]) -> Result<String> {
        let said = self.said();
        let missing: Vec<&&str> = texts.iter().filter(|text| !said.contains(**text)).collect();
        ensure!(
            self.code == Some(code) && missing.is_empty(),
            "`pbx {}` ended with {:?} instead of {code} and did not say {missing:?}: {said}",
            self.words,
            self.code
        );
        Ok(said)
    }

    /// Its JSON if it succeeded.
    pub fn ok(&self) -> Result<Value> {
        ensure!(
            self.code == Some(0),
            "`pbx {}` ended with {:?}: {}{}",
            self.words,
            self.code,
            self.stdout,
            self.stderr
        );
        self.json()
    }
}

/// The `pbx` built beside this program, or the one that `PBX_BINARY` names.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PBX_BINARY") {
        return Ok(path.into());
    }
    let this = std::env::current_exe().context("the path of this program")?;
    // A program is in target/PROFILE, a test in target/PROFILE/deps.
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("pbx"))
        .find(|path| path.is_file())
        .with_context(|| format!("there is no pbx beside {}: build it with `cargo build -p pbx`", this.display()))
}
