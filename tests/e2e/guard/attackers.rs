//! Scanners and crackers are blocked in the kernel, with a reason, and let go with one command.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use pbx_tests::{
    phone::Line,
    site::{Site, TCP, on_site, server},
};

use super::from_elsewhere;

/// Where Debian's package has the scanners' sources.
const SIPVICIOUS: &str = "/usr/share/sipvicious/sipvicious";
/// The name by which they are known.
const SCANNER: &str = "friendly-scanner";
/// What an attacker who thinks a little writes instead.
const DISGUISE: &str = "Yealink SIP-T46U 108.86.0.45";

/// Where svwar gives up.
const GIVES_UP: &str = "self.BADUSER.__repr__())\n            self.nomore = True";
const GOES_ON: &str = "self.BADUSER.__repr__())";

/// A copy of the scanners with another User-Agent.
fn disguised(site: &Site) -> Result<PathBuf> {
    let copy = site.sandbox.directory().join("disguised");
    std::fs::create_dir_all(&copy)?;
    let copied = Command::new("cp").arg("-r").arg(SIPVICIOUS).arg(&copy).status()?;
    ensure!(copied.success(), "{SIPVICIOUS} is not there; `cargo xtask setup` installs sipvicious");
    let helper = copy.join("sipvicious/libs/svhelper.py");
    let source = std::fs::read_to_string(&helper)?;
    ensure!(source.contains(SCANNER), "sipvicious calls itself otherwise");
    std::fs::write(helper, source.replace(SCANNER, DISGUISE))?;
    // It gives up when it sees that all numbers are answered alike; this one goes on.
    let scanner = copy.join("sipvicious/svwar.py");
    let source = std::fs::read_to_string(&scanner)?;
    ensure!(source.contains(GIVES_UP), "svwar gives up otherwise");
    std::fs::write(scanner, source.replace(GIVES_UP, GOES_ON))?;
    Ok(copy)
}

/// Runs a scanner until it ends, or the time is over.
fn scan(site: &Site, sources: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let home = site.sandbox.directory();
    let code = format!("import sys; sys.argv[0] = '{program}'; from sipvicious.{program} import main; main()");
    let mut command = Command::new("timeout");
    command.args(["30", "python3", "-c", &code]).args(arguments);
    command.current_dir(home).env("HOME", home).env("PYTHONPATH", sources).env("COLUMNS", "100");
    site.lab.bad.network.put(&mut command)?;
    let output = command.output().context("python3 does not start; `cargo xtask setup` installs it")?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Asserts that the attacker is blocked by this detector, that the reason and the way out are shown, and that the way
/// out works.
fn assert_blocked_by(site: &Site, detectors: &[&str]) -> Result<()> {
    let attacker = site.lab.bad.v4();
    let block = site.pbx.wait_blocked(attacker)?;
    let reason = block["reason"].as_str().unwrap_or_default();
    ensure!(detectors.contains(&reason), "{block:#}");
    let shown = site.pbx.wait(&format!("block show {attacker}"), |shown| shown["items"][0]["evidence"].is_object())?;
    let evidence = &shown["items"][0]["evidence"];
    ensure!(evidence["messages"].as_array().is_some_and(|messages| !messages.is_empty()), "{shown:#}");
    ensure!(!shown.to_string().contains("response=\\\"0"), "{shown:#}");
    let explained = site.pbx.shown(&format!("explain {attacker}"))?;
    ensure!(explained.lines().count() <= 40, "more than a screen:\n{explained}");
    ensure!(explained.contains(&format!("pbx block remove {attacker}")), "{explained}");
    // Not a packet more, until it is let go.
    let mut line = site.udp(&site.lab.bad)?;
    let request = line.request("100");
    line.send(&line.bytes(&request))?;
    ensure!(line.hear(Duration::from_millis(500))?.is_none(), "a blocked source is answered");
    let removed = site.pbx.pbx(&format!("block remove {attacker}"))?;
    ensure!(removed["notes"].to_string().contains("reset"), "{removed:#}");
    let status = line.ask(&request)?.status();
    ensure!(status == Some(401), "it is let go and gets {status:?}");
    Ok(())
}

#[test]
fn a_scanner_that_says_so_is_blocked_with_its_first_message() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let target = site.lab.bad.appliance_v4().to_string();
        let sources = Path::new("/usr/share/sipvicious");
        let found = scan(site, sources, "svmap", &[&target])?;
        ensure!(!found.contains(&format!("{target}:5060")), "it found us:\n{found}");
        assert_blocked_by(site, &["agents"])?;
        daemon.stop()
    });
}

#[test]
fn svwar_with_its_user_agent_changed_is_blocked_before_it_has_tried_a_hundred_numbers() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        site.add("150")?;
        let sources = disguised(site)?;
        let target = site.lab.bad.appliance_v4().to_string();
        let found = scan(site, &sources, "svwar", &["--force", "-e", "100-999", &target])?;
        ensure!(!found.contains("| 999"), "it came to the end:\n{found}");
        eprintln!("{}", site.pbx.shown("transport status udp:5060")?);
        assert_blocked_by(site, &["enumeration", "challenges"])?;
        daemon.stop()
    });
}

#[test]
fn svcrack_with_its_user_agent_changed_is_blocked() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        site.pbx.feed("ext add 150 --password-stdin", "Qx7-vT2m-Kd9w\n")?.ok()?;
        let sources = disguised(site)?;
        let words = site.sandbox.directory().join("words");
        let guesses: Vec<String> = (0..400).map(|number| format!("guess{number}")).collect();
        std::fs::write(&words, guesses.join("\n") + "\nQx7-vT2m-Kd9w\n")?;
        let target = site.lab.bad.appliance_v4().to_string();
        let words = words.display().to_string();
        let found = scan(site, &sources, "svcrack", &["-u", "150", "-d", &words, &target])?;
        ensure!(!found.contains("Qx7-vT2m-Kd9w"), "it found the password:\n{found}");
        assert_blocked_by(site, &["authentication", "accounts"])?;
        daemon.stop()
    });
}

#[test]
fn a_block_outlives_a_daemon_that_is_killed_with_its_evidence() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let attacker = site.lab.bad.v4();
        let crack = || -> Result<()> {
            let mut line = Line::tcp(&site.lab.bad.network, server(&site.lab.bad, TCP))?;
            for _ in 0..60 {
                if site.pbx.pbx("block list")?["count"] != 0 {
                    break;
                }
                let _ = line.register("150", "guess");
            }
            Ok(())
        };
        crack()?;
        let first = site.pbx.wait_blocked(attacker)?;
        daemon.kill()?;
        let daemon = site.pbx.start()?;
        let after = site.pbx.wait_blocked(attacker)?;
        // The kernel's clock is another than the wall's: milliseconds may lie between two readings of the same end.
        let end = |block: &serde_json::Value| block["expire_at"].as_str().unwrap_or_default()[..19].to_owned();
        ensure!((&first["reason"], end(&first)) == (&after["reason"], end(&after)), "{first} {after}");
        let shown = site.pbx.pbx(&format!("block show {attacker}"))?;
        ensure!(shown["items"][0]["evidence"]["messages"].is_array(), "{shown:#}");
        daemon.stop()
    });
}

#[test]
fn a_guess_a_second_is_blocked_after_twenty() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let mut line = site.udp(&site.lab.bad)?;
        // As slow as that is tested in virtual time; here the pace only has to be below that of the other detectors.
        site.pbx.pbx("guard set guard.authentication.failures=1000")?;
        let mut tries = 0;
        while tries < 60 && line.register("150", &format!("guess{tries}")).is_ok_and(|status| status == 401) {
            tries += 1;
        }
        // The block is in force some milliseconds after the twentieth.
        ensure!((20..60).contains(&tries), "{tries} tries");
        assert_blocked_by(site, &["accounts"])?;
        daemon.stop()
    });
}
