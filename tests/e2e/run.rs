//! What `cargo xtask run` starts, as a person starts it: `pbx-run` with the real daemon, a real phone that is given
//! what was printed, and nothing left of the filter afterwards.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{TcpListener, UdpSocket},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pbx_tests::{
    daemon::DEADLINE,
    lab::Lab,
    phone::{Baresip, Handset, Line, Media, media, number_of},
    sandbox::Sandbox,
};
use serde_json::Value;

/// A user id without a name, a login or anything else.
const USER: u32 = 47_012;

/// A running `pbx-run --json`, and what it said when it was ready.
struct Run {
    child: Child,
    facts: Value,
    complaints: Option<JoinHandle<String>>,
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pbx-run"))
}

fn as_user(command: Command) -> Command {
    let mut other = Command::new("setpriv");
    other.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups", "--no-new-privs"]);
    other.arg(command.get_program()).args(command.get_args());
    other
}

fn in_folder(folder: &Path, words: &[&str]) -> Command {
    let mut command = program();
    command.arg("--folder").arg(folder).arg("--json").args(words);
    command
}

/// All that a program says, read while it runs.
fn reader(mut pipe: ChildStderr) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = pipe.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

impl Run {
    fn start(mut command: Command) -> Result<Self, (ExitStatus, String)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pbx-run starts");
        let complaints = reader(child.stderr.take().expect("a pipe"));
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, first_line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = output.read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = first_line.recv_timeout(DEADLINE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("pbx-run said nothing within {DEADLINE:?}")
        });
        match serde_json::from_str(&line) {
            Ok(facts) => Ok(Self { child, facts, complaints: Some(complaints) }),
            Err(_) => Err((child.wait().expect("its end"), complaints.join().expect("its words"))),
        }
    }

    fn ready(command: Command) -> Self {
        Self::start(command).unwrap_or_else(|(status, said)| panic!("pbx-run ended with {status}: {said}"))
    }

    /// Ctrl-C; what it said on standard error.
    fn end(mut self) -> String {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("a signal");
        let status = self.child.wait().expect("its end");
        let said = self.complaints.take().expect("once").join().expect("its words");
        assert!(status.success(), "{status}: {said}");
        said
    }

    /// `pbx` against its daemon.
    fn pbx(&self, line: &str) -> Value {
        let output = Command::new(self.text("pbx"))
            .args(["--json", "--socket", &self.text("socket")])
            .args(line.split_whitespace())
            .output()
            .expect("pbx runs");
        assert!(output.status.success(), "pbx {line}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn text(&self, key: &str) -> String {
        self.facts[key].as_str().unwrap_or_else(|| panic!("{key} in {:#}", self.facts)).to_owned()
    }

    fn passwords(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = self.facts["extensions"].as_array().expect("extensions");
        list.iter().map(|one| (word(&one["number"]), word(&one["password"]))).collect()
    }

    /// Lets baresip register with the printed lines, and finds it in the daemon's list. The phones live on.
    fn phones_register(&self, lab: &Lab, directory: &Path) -> Vec<Baresip> {
        // As the guide says of a phone as old as Debian 12's.
        for transport in ["udp:5060", "tcp:5063"] {
            self.pbx(&format!("transport set {transport} --algorithms md5"));
        }
        let lines = self.facts["baresip"].as_array().expect("lines");
        let phones = lines.iter().enumerate().map(|(number, line)| {
            let place = directory.join(format!("phone-{number}"));
            let phone = Baresip::start(&lab.good.network, &place, line.as_str().expect("a line")).expect("baresip");
            phone.wait_registered().expect("registered");
            phone
        });
        let phones: Vec<Baresip> = phones.collect();
        assert_eq!(self.registered(), ["100", "101"]);
        phones
    }

    fn registered(&self) -> Vec<String> {
        let list = self.pbx("reg list --sort extension_number");
        let items = list["items"].as_array().expect("items");
        items.iter().map(|item| item["extension_number"].as_str().expect("a number").to_owned()).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kernel says of an interface's XDP program.
fn has_xdp(interface: &str) -> bool {
    let output = Command::new("ip").args(["-details", "link", "show", interface]).output().expect("ip runs");
    String::from_utf8_lossy(&output.stdout).contains("prog/xdp")
}

fn in_lab(inside: impl FnOnce(&Lab, PathBuf) + Send) {
    Sandbox::run(|sandbox| {
        let lab = Lab::build(sandbox).expect("a lab");
        inside(&lab, sandbox.directory().to_owned());
    });
}

#[test]
fn phones_register_with_what_is_printed_and_again_in_the_next_run() {
    in_lab(|lab, directory| {
        let folder = directory.join("run");
        let words = ["--interface", lab.good.interface];
        let run = Run::ready(in_folder(&folder, &words));
        assert_eq!(run.facts["addresses"][0], "10.77.1.1", "of the interface that was named");
        assert_eq!(run.facts["filter"]["place"], "kernel", "{:#}", run.facts);
        assert_eq!(run.facts["filter"]["mode"], "monitor");
        assert!(has_xdp(lab.good.interface) && !has_xdp(lab.bad.interface));
        let phones = run.phones_register(lab, &directory);
        let (passwords, kept) = (run.passwords(), fs::metadata(folder.join("kept.json")).expect("kept"));
        assert!(passwords.iter().all(|(_, password)| password.len() >= 8));
        assert_eq!(kept.permissions().mode() & 0o777, 0o600);

        let said = run.end();
        assert!(said.contains("is off lan-good again"), "{said}");
        assert!(!has_xdp(lab.good.interface));

        let run = Run::ready(in_folder(&folder, &words));
        assert_eq!(run.passwords(), passwords);
        assert_eq!(run.registered(), ["100", "101"], "registrations outlive a run");
        assert!(run.facts["extensions"][0]["note"].is_null(), "{:#}", run.facts);
        drop(phones);
    });
}

#[test]
fn two_phones_with_what_is_printed_call_each_other_and_are_heard() {
    in_lab(|lab, directory| {
        let run = Run::ready(in_folder(&directory.join("run"), &["--interface", lab.good.interface]));
        let server = format!("{}:5060", run.facts["addresses"][0].as_str().expect("an address"));
        let network = &lab.good.network;
        let mut phones = run.passwords().into_iter().map(|(number, password)| {
            let line = Line::udp(network, lab.good.v4().into(), server.parse().expect("a server")).expect("a line");
            let mut phone = Handset::new(line, &number, &password);
            phone.register().expect("registered");
            phone
        });
        let (mut first, mut second) = (phones.next().expect("a phone"), phones.next().expect("another"));
        let mut one = Media::open(network, lab.good.v4().into(), 440).expect("media");
        let mut two = Media::open(network, lab.good.v4().into(), 700).expect("media");
        let mut call = first.call(second.number(), &one.sdp()).expect("a call");
        let mut taken = second.incoming().expect("an incoming call");
        assert_eq!(number_of(taken.invite.header("From")), first.number());
        second.ring(&taken).expect("rings");
        first.wait_ringing(&mut call).expect("ringing");
        second.answer(&mut taken, &two.sdp()).expect("answers");
        let answered = first.wait_answered(&mut call).expect("answered");
        second.wait_ack(&taken).expect("an ACK");
        let to = (answered.media().expect("media"), taken.invite.media().expect("media"));
        media::play(&mut [(&mut one, to.0), (&mut two, to.1)], Duration::from_secs(1)).expect("media flow");
        media::wait_packets(&mut [(&mut one, 50), (&mut two, 50)]).expect("media come");
        assert!(one.taken.has(700) && two.taken.has(440), "{:?} {:?}", one.taken.packets, two.taken.packets);
        assert_eq!(first.bye(&mut call).expect("an answer"), 200);
        second.wait_bye(&taken).expect("a BYE");
        run.end();
    });
}

#[test]
fn what_was_changed_in_a_run_stays_and_is_told() {
    in_lab(|lab, directory| {
        let folder = directory.join("run");
        let words = ["--interface", lab.good.interface];
        let run = Run::ready(in_folder(&folder, &words));
        let passwords = run.passwords();
        run.pbx("ext passwd 100");
        run.pbx("ext remove 101 --yes");
        run.pbx("firewall mode enforce");
        run.end();

        let run = Run::ready(in_folder(&folder, &words));
        let note = run.facts["extensions"][0]["note"].as_str().expect("a note").to_owned();
        assert!(note.contains("changed"), "{note}");
        assert_eq!(run.passwords()[1], passwords[1], "made again as its phones know it");
        assert_eq!(run.facts["filter"]["mode"], "enforce", "the administrator's word, on the same interface");
        run.end();

        let run = Run::ready(in_folder(&folder, &["--interface", lab.bad.interface]));
        assert_eq!((&run.facts["filter"]["mode"], &run.facts["filter"]["calmed"]), (&"monitor".into(), &true.into()));
        assert_eq!(run.pbx("firewall status")["mode"], "monitor");
        run.end();

        let (status, said) = Run::start(in_folder(&folder, &["--fresh"])).err().expect("nobody said yes");
        assert!(!status.success() && said.contains("--yes"), "{said}");
        let run = Run::ready(in_folder(&folder, &["--fresh", "--yes", "--interface", lab.bad.interface]));
        assert_ne!(run.passwords(), passwords);
        assert_eq!(run.facts["filter"]["calmed"], false);
    });
}

#[test]
fn without_root_the_filter_is_in_the_daemon_and_phones_register_all_the_same() {
    in_lab(|lab, directory| {
        let folder = directory.join("run");
        fs::create_dir(&folder).expect("a folder");
        chown(&folder, Some(USER), Some(USER)).expect("given");
        let run = Run::ready(as_user(in_folder(&folder, &[])));
        let filter = &run.facts["filter"];
        assert_eq!((&filter["place"], &filter["why"]), (&"daemon".into(), &"that needs root".into()));
        assert!(!has_xdp(lab.good.interface));
        let phones = run.phones_register(lab, &directory);
        let passwords = run.passwords();
        run.end();
        drop(phones);

        let words = ["--interface", lab.good.interface];
        let (_, said) = Run::start(as_user(in_folder(&folder, &words))).err().expect("needs root");
        assert!(said.contains("sudo"), "{said}");
        // As root in between: the next run of the user finds nothing that is not the user's.
        let run = Run::ready(in_folder(&folder, &words));
        assert_eq!(run.passwords(), passwords);
        run.end();
        let run = Run::ready(as_user(in_folder(&folder, &[])));
        assert_eq!(run.passwords(), passwords);
    });
}

#[test]
fn ports_that_are_taken_are_named_with_what_to_do() {
    in_lab(|_, directory| {
        let folder = directory.join("run");
        let other = UdpSocket::bind("0.0.0.0:5060").expect("a free port");
        let run = Run::ready(in_folder(&folder, &[]));
        let udp = &run.facts["transports"][0];
        assert_eq!((&udp["protocol"], &udp["listening"]), (&"UDP".into(), &false.into()), "{:#}", run.facts);
        assert!(udp["problem"].as_str().is_some_and(|why| why.contains("in use")), "{udp:#}");
        let lines = run.facts["baresip"].to_string();
        assert!(lines.contains("transport=tcp") && !lines.contains("transport=udp"), "{lines}");
        run.end();

        let others = [5061, 5063].map(|port| TcpListener::bind(("0.0.0.0", port)).expect("a free port"));
        let (status, said) = Run::start(in_folder(&folder, &[])).err().expect("nothing listens");
        assert!(!status.success(), "{said}");
        assert!(said.contains("UDP 5060") && said.contains("Stop what has them"), "{said}");
        drop((other, others));
    });
}

#[test]
fn one_run_at_a_time_and_a_killed_one_leaves_nothing_attached() {
    in_lab(|lab, directory| {
        let folder = directory.join("run");
        let words = ["--interface", lab.good.interface];
        let mut run = Run::ready(in_folder(&folder, &words));
        let (_, said) = Run::start(in_folder(&folder, &words)).err().expect("one at a time");
        assert!(said.contains("another `cargo xtask run`"), "{said}");

        run.child.kill().expect("killed");
        run.child.wait().expect("its end");
        // The daemon holds this pipe; it ends with its parent.
        run.complaints.take().expect("once").join().expect("its words");
        drop(run);
        let run = Run::ready(in_folder(&folder, &words));
        run.end();
        assert!(!has_xdp(lab.good.interface));
    });
}

#[test]
fn an_interface_that_cannot_be_filtered_leaves_the_filter_in_the_daemon() {
    in_lab(|_, directory| {
        let folder = directory.join("run");
        let run = Run::ready(in_folder(&folder, &["--interface", "lo"]));
        assert_eq!(run.facts["filter"]["place"], "daemon");
        assert!(run.facts["filter"]["why"].as_str().is_some_and(|why| why.contains("lo")), "{:#}", run.facts);
        run.end();
        let (_, said) = Run::start(in_folder(&folder, &["--interface", "eth7"])).err().expect("no such interface");
        assert!(said.contains("eth7") && said.contains("lan-good"), "{said}");
    });
}
