//! baresip, a phone that nobody here wrote, as a process in a namespace.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::tone;
use crate::sandbox::Namespace;

/// A running baresip; killed when it is dropped.
#[derive(Debug)]
pub struct Baresip {
    child: Child,
    said: Arc<(Mutex<String>, Condvar)>,
    directory: PathBuf,
    /// Where it takes commands, of one that can call.
    control: Option<TcpStream>,
}

/// How a baresip that can call is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sound {
    /// The tone that it plays in its calls, Hz.
    pub frequency: u32,
    /// Where it listens by UDP, TCP and, a port above, TLS; none: on any ports.
    pub listen: Option<SocketAddr>,
}

/// Seconds that its tone lasts. After that it plays nothing.
const TONE: u32 = 60;

/// How long a phone may take for what a test waits for.
const DEADLINE: Duration = Duration::from_secs(20);

impl Baresip {
    /// Starts it in `network` with one account, in the form of its accounts file, such as
    /// `<sip:100@10.77.1.1;transport=tcp>;auth_pass=secret;regint=60`. It can register and nothing else.
    pub fn start(network: &Namespace, directory: &Path, account: &str) -> Result<Self> {
        fs::create_dir_all(directory)?;
        Self::run(network, directory, account, "module_app menu.so\n", None)
    }

    /// Starts one that can call and be called: it plays a tone, and records what it hears. With
    /// `;answermode=auto` in its account it answers by itself.
    pub fn start_with(network: &Namespace, directory: &Path, account: &str, sound: Sound) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let folder = directory.display();
        fs::write(
            directory.join("tone.wav"),
            tone::wav(&tone::sine(sound.frequency, 0, (TONE * tone::RATE) as usize)),
        )?;
        // Taken and left again: nobody else in this namespace takes it meanwhile.
        let control = network.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?))?;
        let listen = sound.listen.map(|address| format!("sip_listen {address}\n")).unwrap_or_default();
        // What it hears goes to a bridge that leads nowhere; on the way there sndfile writes it down. Without a buffer
        // against jitter, which loses what comes first.
        let more = format!(
            "module aufile.so\nmodule aubridge.so\nmodule sndfile.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
             ctrl_tcp_listen {control}\n{listen}audio_source aufile,{folder}/tone.wav\naudio_player aubridge,nowhere\n\
             audio_alert aubridge,alert\nsnd_path {folder}\njitter_buffer_delay 0-0\nrtp_timeout 0\n"
        );
        let mut baresip = Self::run(network, directory, account, &more, Some(control))?;
        baresip.wait("baresip is ready")?;
        let stream = network.enter(|| TcpStream::connect(control).context("baresip's control port"))?;
        let (events, said) = (stream.try_clone()?, Arc::clone(&baresip.said));
        thread::spawn(move || follow(events, &said));
        baresip.control = Some(stream);
        Ok(baresip)
    }

    fn run(
        network: &Namespace,
        directory: &Path,
        account: &str,
        more: &str,
        control: Option<SocketAddr>,
    ) -> Result<Self> {
        let modules = "/usr/lib/baresip/modules";
        fs::write(
            directory.join("config"),
            format!("module_path {modules}\nmodule g711.so\nmodule_tmp uuid.so\nmodule_tmp account.so\n{more}"),
        )?;
        fs::write(directory.join("accounts"), format!("{account}\n"))?;
        let mut command = Command::new("baresip");
        command.arg("-f").arg(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if control.is_some() {
            command.arg("-v");
        }
        command.process_group(0);
        network.put(&mut command)?;
        let child = command.spawn().context("baresip does not start; `cargo xtask setup` installs it")?;
        let mut baresip = Self { child, said: Arc::default(), directory: directory.to_owned(), control: None };
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

    /// Gives it a command of its menu, such as `dial`, `accept`, `hangup`, `hold`, `resume` or `transfer`. What comes of
    /// it is an event, such as `CALL_ESTABLISHED`, to [`wait`](Self::wait) for.
    pub fn command(&mut self, command: &str, parameters: &str) -> Result<()> {
        let control = self.control.as_mut().context("this baresip takes no commands")?;
        let json = serde_json::json!({ "command": command, "params": parameters, "token": command }).to_string();
        control.write_all(format!("{}:{json},", json.len()).as_bytes()).context("baresip's control port")
    }

    /// Calls a number or URI, and waits until that has answered.
    pub fn call(&mut self, whom: &str) -> Result<()> {
        let before = self.count("CALL_ESTABLISHED");
        self.command("dial", whom)?;
        self.wait_count("CALL_ESTABLISHED", before + 1)
    }

    /// Ends its call, and waits until it is ended.
    pub fn hang_up(&mut self) -> Result<()> {
        let before = self.count("CALL_CLOSED");
        self.command("hangup", "")?;
        self.wait_count("CALL_CLOSED", before + 1)
    }

    /// How often it said this.
    pub fn count(&self, text: &str) -> usize {
        self.said().matches(text).count()
    }

    /// All that it has heard so far, in all its calls.
    pub fn heard(&self) -> Result<Vec<i16>> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.directory)?.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.to_string_lossy().ends_with("-dec.wav"));
        files.sort();
        let mut samples = Vec::new();
        for file in files {
            samples.extend(tone::of_wav(&fs::read(file)?));
        }
        Ok(samples)
    }

    /// Waits until it has heard so much more than this many samples, and that has the tone.
    pub fn wait_tone(&self, frequency: u32, after: usize) -> Result<()> {
        const ENOUGH: usize = tone::RATE as usize / 2;
        let begin = Instant::now();
        loop {
            let heard = self.heard()?;
            let new = heard.get(after..).unwrap_or_default();
            if new.len() >= ENOUGH && tone::has(&new[new.len() - ENOUGH..], frequency) {
                return Ok(());
            }
            if begin.elapsed() > DEADLINE {
                bail!(
                    "in {} samples is {:.2} of {frequency} Hz:\n{}",
                    new.len(),
                    tone::part(new, frequency),
                    self.said()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it has said this.
    pub fn wait(&self, text: &str) -> Result<()> {
        self.wait_count(text, 1)
    }

    /// Waits until it has said this so often.
    pub fn wait_count(&self, text: &str, count: usize) -> Result<()> {
        let (said, changed) = &*self.said;
        let begin = Instant::now();
        let mut now = said.lock().unwrap_or_else(PoisonError::into_inner);
        while now.matches(text).count() < count {
            let left = DEADLINE.saturating_sub(begin.elapsed());
            if left.is_zero() {
                bail!("baresip has not said {text:?} {count} times:\n{now}");
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

/// Writes down the events that it sends, netstrings of JSON: `event CALL_ESTABLISHED sip:…`.
fn follow(mut events: TcpStream, said: &(Mutex<String>, Condvar)) {
    let mut unread = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = events.read(&mut buffer) {
        unread.extend_from_slice(&buffer[..length]);
        while let Some((json, rest)) = netstring(&unread) {
            let event: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
            let line = match event["type"].as_str() {
                Some(kind) => format!("event {kind} {} {}\n", event["peeruri"], event["param"]),
                None => format!("answer {event}\n"),
            };
            unread = rest.to_vec();
            said.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
            said.1.notify_all();
        }
    }
}

/// `5:hello,` at the begin of these bytes, and what follows it.
fn netstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let text = bytes.get(colon + 1..colon + 1 + length)?;
    Some((text, bytes.get(colon + 2 + length..)?))
}
