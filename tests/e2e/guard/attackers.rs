//! Scanners and crackers are blocked in the kernel, with a reason, and let go with one command.

use std::{io::Read as _, net::TcpStream, time::Duration};

use anyhow::{Result, ensure};
use pbx_tests::{
    phone::Line,
    scanners::Scanners,
    site::{Site, TCP, TLS, on_site, server},
};

use super::from_elsewhere;

/// Runs a scanner beside the appliance.
fn scan(site: &Site, scanners: &Scanners, program: &str, arguments: &[&str]) -> Result<String> {
    scanners.run(&site.lab.bad.network, program, arguments)
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
        let scanners = Scanners::shipped(site.sandbox.directory())?;
        let found = scan(site, &scanners, "svmap", &[&target])?;
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
        let scanners = Scanners::disguised(site.sandbox.directory())?;
        let target = site.lab.bad.appliance_v4().to_string();
        let found = scan(site, &scanners, "svwar", &["--force", "-e", "100-999", &target])?;
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
        let scanners = Scanners::disguised(site.sandbox.directory())?;
        let words = site.sandbox.directory().join("words");
        let guesses: Vec<String> = (0..400).map(|number| format!("guess{number}")).collect();
        std::fs::write(&words, guesses.join("\n") + "\nQx7-vT2m-Kd9w\n")?;
        let target = site.lab.bad.appliance_v4().to_string();
        let words = words.display().to_string();
        let found = scan(site, &scanners, "svcrack", &["-u", "150", "-d", &words, &target])?;
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

#[test]
fn handshakes_that_break_off_are_blocked_below_every_rate_and_phones_that_reject_the_certificate_are_not() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let (attacker, server) = (&site.lab.bad, server(&site.lab.bad, TLS));
        let shake = |bytes: &[u8]| -> Result<bool> {
            attacker.network.enter(|| {
                let Ok(mut stream) = TcpStream::connect_timeout(&server, Duration::from_millis(500)) else {
                    return Ok(false);
                };
                std::io::Write::write_all(&mut stream, bytes)?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                // Until the server closes.
                let _ = stream.read_to_end(&mut Vec::new());
                Ok(true)
            })
        };
        // A fatal alert: unknown_ca (RFC 8446 §6).
        for _ in 0..60 {
            ensure!(shake(&[21, 3, 3, 0, 2, 2, 48])?, "a phone that does not know our certificate is blocked");
        }
        let blocked = site.pbx.pbx("block list")?;
        ensure!(blocked["items"].as_array().is_some_and(Vec::is_empty), "{blocked:#}");
        let mut tries = 0;
        while tries < 200 && shake(b"REGISTER sip:10.77.2.1 SIP/2.0\r\n\r\n")? {
            tries += 1;
        }
        ensure!((50..200).contains(&tries), "{tries} tries");
        let block = site.pbx.wait_blocked(attacker.v4())?;
        ensure!(block["reason"] == "malformed", "{block:#}");
        daemon.stop()
    });
}
