//! baresip, a phone that nobody here wrote, as a process in a namespace.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::Namespace;

/// A running baresip; killed when it is dropped.
#[derive(Debug)]
pub struct Baresip {
    child: Child,
    said: Arc<(Mutex<String>, Condvar)>,
}

/// How long a phone may take for what a test waits for.
const DEADLINE: Duration = Duration::from_secs(20);

impl Baresip {
    /// Starts it in `network` with one account, in the form of its accounts file, such as
    /// `<sip:100@10.77.1.1;transport=tcp>;auth_pass=secret;regint=60`.
    pub fn start(network: &Namespace, directory: &Path, account: &str) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let modules = "/usr/lib/baresip/modules";
        fs::write(
            directory.join("config"),
            format!(
                "module_path {modules}\nmodule g711.so\nmodule_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\n"
            ),
        )?;
        fs::write(directory.join("accounts"), format!("{account}\n"))?;
        let mut command = Command::new("baresip");
        command.arg("-f").arg(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        network.put(&mut command)?;
        let child = command.spawn().context("baresip does not start; `cargo xtask setup` installs it")?;
        let mut baresip = Self { child, said: Arc::default() };
        let outputs: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            baresip.child.stdout.take().map(|pipe| Box::new(pipe) as _),
            baresip.child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let said = Arc::clone(&baresip.said);
            thread::spawn(move || listen(output, &said));
        }
        Ok(baresip)
    }

    /// Waits until it has said this.
    pub fn wait(&self, text: &str) -> Result<()> {
        let (said, changed) = &*self.said;
        let begin = Instant::now();
        let mut now = said.lock().unwrap_or_else(PoisonError::into_inner);
        while !now.contains(text) {
            let left = DEADLINE.saturating_sub(begin.elapsed());
            if left.is_zero() {
                bail!("baresip never said {text:?}:\n{now}");
            }
            (now, _) = changed.wait_timeout(now, left).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Waits until the registrar has accepted it.
    pub fn wait_registered(&self) -> Result<()> {
        self.wait("200 OK")
    }

    /// Everything that it said.
    pub fn said(&self) -> String {
        self.said.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets it end in order: it takes its registration back.
    pub fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > DEADLINE {
                bail!("baresip does not end:\n{}", self.said());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(output: Box<dyn std::io::Read + Send>, said: &(Mutex<String>, Condvar)) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        said.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
        said.1.notify_all();
        line.clear();
    }
}
