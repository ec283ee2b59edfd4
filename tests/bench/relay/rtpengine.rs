//! rtpengine as a peer, without its kernel module: calls are made by its ng protocol (bencoded dictionaries over UDP).

use std::{
    cell::Cell,
    collections::HashMap,
    fs,
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Phones, Relays};

const CONTROL: &str = "127.0.0.1:2223";

/// A running rtpengine; ended when it is dropped.
pub(crate) struct Rtpengine {
    child: Child,
    control: UdpSocket,
    calls: usize,
    /// Questions so far.
    asked: Cell<u32>,
}

impl Rtpengine {
    pub(crate) fn is_installed() -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join("rtpengine").exists())
    }

    pub(crate) fn start(directory: &Path, calls: usize) -> Result<Self> {
        let log = fs::File::create(directory.join("rtpengine.log"))?;
        let child = Command::new("rtpengine")
            .args(["--config-file=none", "--table=-1", "--interface=127.0.0.1", "--foreground", "--log-stderr"])
            .args(["--port-min=45000", "--port-max=64999", "--num-threads=2", "--log-level=4"])
            .arg(format!("--listen-ng={CONTROL}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("rtpengine does not start")?;
        let control = UdpSocket::bind("127.0.0.1:0")?;
        control.set_read_timeout(Some(Duration::from_millis(200)))?;
        let rtpengine = Self { child, control, calls, asked: Cell::new(0) };
        let begun = Instant::now();
        while rtpengine.ask(&[("command", "ping")]).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                bail!("rtpengine does not answer: {}", fs::read_to_string(directory.join("rtpengine.log"))?);
            }
        }
        Ok(rtpengine)
    }

    /// Sends a command and gives what came back.
    fn ask(&self, entries: &[(&str, &str)]) -> Result<String> {
        let entries: HashMap<&str, &str> = entries.iter().copied().collect();
        let text: String =
            entries.iter().map(|(key, value)| format!("{}:{key}{}:{value}", key.len(), value.len())).collect();
        // Of its own, because the answer to an earlier one may be late.
        let cookie = self.asked.replace(self.asked.get() + 1).to_string();
        self.control.send_to(format!("{cookie} d{text}e").as_bytes(), CONTROL)?;
        let mut answer = [0; 8192];
        loop {
            let length = self.control.recv(&mut answer).context("no answer")?;
            let text = String::from_utf8_lossy(&answer[..length]).into_owned();
            if text.split(' ').next() == Some(&cookie) {
                return Ok(text);
            }
        }
    }

    /// The port that the other side is told of.
    fn describe(&self, command: &str, call: usize, port: u16) -> Result<u16> {
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
        );
        let call = format!("call-{call}");
        let answer = self.ask(&[
            ("command", command),
            ("call-id", &call),
            ("from-tag", "from"),
            ("to-tag", "to"),
            ("sdp", &sdp),
        ])?;
        let media = answer.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next());
        media.with_context(|| format!("no port in {answer}"))?.parse().context("a port")
    }
}

impl Relays for Rtpengine {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ports(&mut self, phones: &Phones) -> Result<Vec<u16>> {
        let phones: Vec<u16> = phones.ports().collect();
        let mut ports = Vec::new();
        for call in 0..self.calls {
            let for_callee = self.describe("offer", call, phones[2 * call])?;
            let for_caller = self.describe("answer", call, phones[2 * call + 1])?;
            ports.extend([for_caller, for_callee]);
        }
        Ok(ports)
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
