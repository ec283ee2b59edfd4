//! `pbx serve` as a process: ready when it says so, its log read as it is written, ended with its test.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, PipeReader};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DEADLINE, LOOK_AGAIN};

/// A running `pbx serve`. It dies with the thread that started it. Dropping it kills it, and panics if its log
/// holds warnings or errors that the test did not expect.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
    expected: Vec<String>,
    ended: bool,
    /// Stays open, or the daemon would tell its log that nobody listens to its end.
    _notify: Option<UnixDatagram>,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: Vec<String>,
    closed: bool,
    shown: bool,
}

impl Daemon {
    pub(super) fn spawn(mut command: Command, directory: &Path) -> Result<Self> {
        let notify = directory.join("notify.sock");
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).with_context(|| format!("listen on {}", notify.display()))?;
        fs::set_permissions(&notify, fs::Permissions::from_mode(0o777))?;
        ready.set_read_timeout(Some(LOOK_AGAIN))?;

        let (reader, writer) = std::io::pipe()?;
        command.env("NOTIFY_SOCKET", &notify).stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null());
        // Ctrl-C in the terminal is for us: we stop the daemon.
        command.process_group(0);
        // SAFETY: prctl is safe to call between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        // The command holds the writing end of the pipe, whose closing marks the daemon's end.
        drop(command);
        let log = Arc::new(Log::default());
        thread::spawn({
            let log = log.clone();
            move || log.read(reader)
        });
        let mut daemon = Self { child, log, expected: Vec::new(), ended: false, _notify: None };
        daemon.wait_ready(&ready)?;
        daemon._notify = Some(ready);
        Ok(daemon)
    }

    fn wait_ready(&mut self, socket: &UnixDatagram) -> Result<()> {
        let start = Instant::now();
        let mut message = [0; 1024];
        loop {
            match socket.recv(&mut message) {
                Ok(length) if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                }
                Err(error) => return Err(error).context("the notify socket"),
            }
            if let Some(status) = self.child.try_wait()? {
                self.ended = true;
                drop(self.log.wait(DEADLINE, |log| log.closed));
                bail!("pbx serve ended before it was ready ({status}):\n{}", self.log_text());
            }
            if start.elapsed() > DEADLINE {
                // What it has logged goes into the error; its end is not the matter any more.
                self.ended = true;
                let _ = self.child.kill();
                let _ = self.child.wait();
                bail!("pbx serve is not ready after {DEADLINE:?}:\n{}", self.log_text());
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it logged so far.
    pub fn log_text(&self) -> String {
        self.log.lock().lines.join("\n")
    }

    /// Lets what it logs from now on go to standard error instead, for a person to read: it is kept no more, and no
    /// alarm.
    pub fn show_log(&self) {
        self.log.lock().shown = true;
    }

    /// Something that can be read once it has ended.
    pub fn ended(&self) -> Result<OwnedFd> {
        // SAFETY: a system call on numbers; the child is ours and not waited for, so its id is no one else's.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.child.id(), 0) };
        ensure!(fd >= 0, "watch pbx serve: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// Waits for a line of the log that holds `text`; that line.
    pub fn wait_log(&self, text: &str) -> Result<String> {
        let log = self.log.wait(DEADLINE, |log| log.lines.iter().any(|line| line.contains(text)));
        let Ok(log) = log else { bail!("no line with {text:?} in the log:\n{}", self.log_text()) };
        log.lines.iter().find(|line| line.contains(text)).cloned().context("it was there")
    }

    /// Warnings and errors that hold `text` are part of the test.
    pub fn expect(&mut self, text: &str) {
        self.expected.push(text.to_owned());
    }

    /// Asks it to stop and waits for its end, which has to be a clean one.
    pub fn stop(self) -> Result<()> {
        self.ask_to_stop()?;
        self.wait_stop()
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Waits for its end, which has to be a clean one.
    pub fn wait_stop(mut self) -> Result<()> {
        let status = self.wait_end()?;
        ensure!(status.success(), "pbx serve stopped with {status}:\n{}", self.log_text());
        Ok(())
    }

    /// Kills it with -9 and waits for its end.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait_end()?;
        Ok(())
    }

    /// Waits until it has ended by itself.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        if self.log.wait(DEADLINE, |log| log.closed).is_err() {
            bail!("pbx serve did not end within {DEADLINE:?}:\n{}", self.log_text());
        }
        self.ended = true;
        Ok(self.child.wait()?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal).with_context(|| format!("send {signal} to pbx serve"))
    }

    /// Warnings and errors in the log that the test did not [`expect`](Self::expect).
    pub fn alarms(&self) -> Vec<String> {
        let log = self.log.lock();
        let unexpected = |line: &&String| is_alarm(line) && !self.expected.iter().any(|text| line.contains(text));
        log.lines.iter().filter(unexpected).cloned().collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("log of pbx serve:\n{}", self.log_text());
            return;
        }
        let alarms = self.alarms();
        assert!(
            alarms.is_empty(),
            "pbx serve complained:\n{}\n\nthe whole log:\n{}",
            alarms.join("\n"),
            self.log_text()
        );
    }
}

impl Log {
    fn read(&self, pipe: PipeReader) {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { break };
            let mut state = self.lock();
            if state.shown {
                drop(state);
                eprintln!("{line}");
                continue;
            }
            state.lines.push(line);
            drop(state);
            self.changed.notify_all();
        }
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn wait(&self, time: Duration, enough: impl Fn(&LogState) -> bool) -> Result<MutexGuard<'_, LogState>, ()> {
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), time, |state| !enough(state))
            .unwrap_or_else(|poison| poison.into_inner());
        if timeout.timed_out() { Err(()) } else { Ok(state) }
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Whether a line of the log is of level WARN or ERROR: by its prefix for the journal, or by the word.
fn is_alarm(line: &str) -> bool {
    line.starts_with("<3>")
        || line.starts_with("<4>")
        || line.split_whitespace().take(3).any(|word| matches!(word, "WARN" | "ERROR"))
        || line.contains("panicked at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_told_from_lines_that_only_speak_of_errors() {
        assert!(is_alarm("2026-01-01T00:00:00Z  WARN pbx::xdp: generic mode"));
        assert!(is_alarm("ERROR no bpffs"));
        assert!(is_alarm("<4>generic mode"));
        assert!(!is_alarm("2026-01-01T00:00:00Z  INFO pbx: 0 errors, no WARN"));
    }
}
