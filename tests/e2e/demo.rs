//! What `cargo xtask demo` starts, as a person starts it: the attack lab is the end-to-end test of the guard.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, killpg},
    },
    unistd::Pid,
};
use serde_json::Value;

/// What the call may lose in an act, percent. A machine that does other things too may stand still for half a second;
/// a call that an attacker reaches loses most of it.
const LOSS: &str = "20";

/// The demo; it ends, and cleans up, if its test ends first.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pbx-demo"));
    // SAFETY: prctl is safe to call between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?));
    }
    command
}

/// Where a run has its files, which go with it.
fn folder(pid: u32) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_pbx-demo")).ancestors().nth(2).expect("a target folder");
    target.join("demo").join(pid.to_string())
}

#[test]
fn the_call_survives_every_attack_attackers_are_blocked_and_nobody_else_is() {
    let child = program()
        .args(["--quick", "--json", "--loss", LOSS])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("the demo ends");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{complained}\n{said}", output.status);
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&report["succeeded"], &report["failed"]), (&true.into(), &Value::Array(Vec::new())));

    let pass = &report["passes"][0];
    assert_eq!((&pass["mode"], &pass["hung_up"]), (&"enforce".into(), &200.into()));
    let rows = pass["rows"].as_array().expect("rows");
    let blockers: Vec<(&str, &str)> =
        rows.iter().filter_map(|row| Some((row["act"].as_str()?, row["blocked"]["by"].as_str()?))).collect();
    let by = |act: &str| blockers.iter().find(|(name, _)| *name == act).map(|(_, by)| *by);
    // Where two detectors see the same, the first of them to reach its limit blocks.
    for (act, detectors) in [
        ("svmap", &["agents"][..]),
        ("svwar, disguised", &["enumeration", "challenges", "scanner"]),
        ("svcrack, disguised", &["authentication", "accounts"]),
        ("REGISTER flood (SIPp)", &["level1", "enumeration", "challenges"]),
        ("UDP flood, 1 source", &["level1", "level2", "malformed"]),
        ("TLS handshake flood", &["level1", "malformed"]),
    ] {
        assert!(by(act).is_some_and(|by| detectors.contains(&by)), "{act}: {blockers:?}");
    }
    assert_eq!(rows.len(), 10, "the quiet and nine acts");
    for row in rows {
        assert_eq!(row["wrongly_blocked"], Value::Array(Vec::new()), "{row:#}");
        assert_eq!((&row["foreign_media"], &row["registered"]), (&0.into(), &row["registrations"]), "{row:#}");
        assert!(row["registered"].as_u64().is_some_and(|count| count > 0), "{row:#}");
    }
    let injected = rows.iter().find(|row| row["act"] == "RTP into the call").expect("the injection");
    assert!(injected["refused_media"].as_u64().is_some_and(|count| count > 0), "{injected:#}");
    assert!(!folder(pid).exists(), "it leaves its files");
}

#[test]
fn ctrl_c_ends_the_demo_in_the_middle_and_nothing_is_left() {
    // A terminal sends the signal to all that it started.
    let mut child =
        program().process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    // It says what an act was like when that is over; the next one is on.
    let first = lines.by_ref().map(|line| line.expect("text")).find(|line| line.contains("svmap"));
    assert!(first.is_some(), "it says nothing of its acts");
    let here = folder(child.id());
    assert!(here.exists());
    let own = namespace(std::process::id());
    let theirs: HashSet<PathBuf> = descendants(child.id()).into_iter().filter_map(namespace).collect();
    assert!(theirs.iter().any(|network| Some(network) != own.as_ref()), "the daemon is in a network of its own");

    let rest = thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
    killpg(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("a signal");
    let mut said = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
    let (status, rest) = (child.wait().expect("it ends"), rest.join().expect("what it says"));
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(rest.contains("interrupted") && said.is_empty(), "{rest}\n{said}");
    assert!(!here.exists(), "it leaves its files");
    let left = |pid: &u32| namespace(*pid).is_some_and(|one| Some(&one) != own.as_ref() && theirs.contains(&one));
    assert_eq!(processes().into_iter().filter(left).collect::<Vec<_>>(), [0; 0], "it leaves processes in its networks");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&here.display().to_string()), "{mounts}");
}

#[test]
fn what_the_demo_cannot_be_told_is_said_before_anything_begins() {
    for (arguments, reason) in [
        (&["--loss", "nan"][..], "a number from 0 to 100"),
        (&["--loss=-1"], "a number from 0 to 100"),
        (&["--loss", "101"], "a number from 0 to 100"),
        (&["--slow"], "--slow"),
        (&["svwar"], "svwar"),
    ] {
        let output = program().args(arguments).output().expect("the demo starts");
        let complained = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complained}");
        assert!(complained.contains(reason) && output.stdout.is_empty(), "{arguments:?}: {complained}");
    }
}

/// The processes that a process started, and those that they did.
fn descendants(pid: u32) -> Vec<u32> {
    let all = processes();
    let mut found = vec![pid];
    while let Some(more) =
        all.iter().find(|one| !found.contains(one) && parent(**one).is_some_and(|up| found.contains(&up)))
    {
        found.push(*more);
    }
    found.split_off(1)
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The network that a process is in; a zombie is in none.
fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}
