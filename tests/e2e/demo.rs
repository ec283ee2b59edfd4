//! What `cargo xtask demo` starts, as a person starts it: the attack lab is the end-to-end test of the guard.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// What the call may lose in an act, percent: this machine does other things too, and its daemon is a development build.
const LOSS: &str = "5";

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pbx-demo"))
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
    let mut child = program().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    // It says what an act was like when that is over; the next one is on.
    let first = lines.by_ref().map(|line| line.expect("text")).find(|line| line.contains("svmap"));
    assert!(first.is_some(), "it says nothing of its acts");
    let here = folder(child.id());
    assert!(here.exists());
    let rest = thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("a signal");
    let mut said = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
    let (status, rest) = (child.wait().expect("it ends"), rest.join().expect("what it says"));
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(rest.contains("interrupted") && said.is_empty(), "{rest}\n{said}");
    assert!(!here.exists(), "it leaves its files");
}
