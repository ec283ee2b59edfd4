//! Dropped packets as an administrator sees them: no other tool on the machine can.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use pbx_tests::daemon::DEADLINE;
use pbx_tests::flood::Plan;

use super::{SIP, Site, on_site};

/// What tcpdump reads in a file.
fn tcpdump(path: &std::path::Path) -> Result<Vec<String>> {
    let output = Command::new("tcpdump")
        .args(["-n", "-e", "-r"])
        .arg(path)
        .output()
        .context("tcpdump is needed: `cargo xtask setup` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tcpdump does not read {}: {said}", path.display());
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// What is shown of dropped packets until it ends by itself.
fn samples(site: &Site, words: &str) -> Result<String> {
    site.pbx.shown(&format!("trace --dropped {words}"))
}

#[test]
fn the_packets_of_a_blocked_source_are_shown_and_captured_as_tcpdump_reads_them() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        // Without anybody who looks, no sample at all is taken.
        site.pbx.pbx("guard set filter.sample_rate 0")?;
        for source in [bad.v4().into(), std::net::IpAddr::from(bad.v6())] {
            site.pbx.pbx(&format!("block add {source}"))?;
            let stream = site.send(bad, source, 1, Plan::steady(200, DEADLINE * 3))?;
            let capture = site.sandbox.directory().join("dropped.pcap");
            let words = format!("--address {source} --count 20 --pcap {}", capture.display());
            let shown = samples(site, &words)?;
            let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with('…')).collect();
            assert_eq!(lines.len(), 20, "{shown}");
            for line in &lines {
                assert!(line.contains("manual-block") && line.contains(bad.interface), "{line}");
                assert!(line.contains(&source.to_string()) && line.contains(&SIP.to_string()), "{line}");
                assert!(line.contains(" udp ") && !line.contains("(1 of"), "{line}");
            }
            let read = tcpdump(&capture)?;
            assert_eq!(read.len(), 20, "{read:#?}");
            let source = source.to_string();
            assert!(read.iter().all(|line| line.contains(&source) && line.contains("UDP")), "{read:#?}");
            // The filter's own reader takes it too, and says the same of each.
            let report = site.pbx.pbx(&format!("firewall test {}", capture.display()))?;
            assert_eq!(report["dropped"], 20, "{report:#}");
            stream.stop()?;
        }
        // Somebody else's packets are not shown, nor those dropped for another reason.
        site.pbx.pbx(&format!("block add {}", good.v4()))?;
        let stream = site.send(bad, bad.v4(), 2, Plan::steady(400, DEADLINE * 3))?;
        let other = site.send(good, good.v4(), 3, Plan::steady(50, DEADLINE * 3))?;
        let shown = samples(site, &format!("--address {} --reason manual-block --count 5", good.v4()))?;
        assert!(shown.lines().all(|line| !line.contains(&bad.v4().to_string())), "{shown}");
        site.pbx.try_pbx("trace --dropped --reason passed")?.refused(2, &["passed", "manual-block"])?;
        site.pbx.try_pbx("trace --dropped --ip nobody")?.refused(2, &["nobody"])?;
        let nowhere = site.pbx.try_pbx("trace --dropped --pcap /nowhere/file")?;
        nowhere.refused(2, &["/nowhere/file"])?;
        stream.stop()?;
        other.stop()?;
        daemon.stop()
    });
}

#[test]
fn a_long_packet_is_captured_with_both_of_its_lengths() {
    use pbx_tests::{flood::Sender, frames::Frame};
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let (from, to, source, destination) = (bad.mac(), bad.appliance_mac(), bad.v4(), bad.appliance_v4());
        let mut text = b"REGISTER sip:example.com SIP/2.0\r\n".to_vec();
        text.resize(1200, b'x');
        let stream = Sender::frames(&bad.network, 1, Plan::steady(200, DEADLINE * 3), move |_| {
            Frame::udp((source, 5060), (destination, SIP)).payload(&text).link(from, to).build()
        })?;
        let capture = site.sandbox.directory().join("long.pcap");
        let shown = samples(site, &format!("--count 3 --pcap {}", capture.display()))?;
        // Ethernet, IPv4 and UDP headers, and what they carry.
        let length = 14 + 20 + 8 + 1200;
        assert!(shown.contains("1 242 bytes") && shown.contains("REGISTER sip:example.com SIP/2.0"), "{shown}");
        let file = std::fs::read(&capture)?;
        let number = |at: usize| u32::from_ne_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
        assert_eq!((number(24 + 8), number(24 + 12)), (192, length));
        let read = tcpdump(&capture)?;
        assert!(read.iter().all(|line| line.contains("length 1242")), "{read:#?}");
        stream.stop()?;
        daemon.stop()
    });
}

#[test]
fn a_flood_is_looked_at_within_a_budget_and_what_was_not_taken_is_said() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let flood = site.send(bad, bad.v4(), 1, Plan::steady(40_000, DEADLINE * 3))?;
        // Packets that stand for others, or a line that says how many were lost: which of the two, and how soon,
        // depends on how fast the machine floods.
        let begun = Instant::now();
        loop {
            let shown = samples(site, "--count 3000")?;
            if shown.lines().any(|line| line.starts_with('…') || line.contains("(1 of")) {
                break;
            }
            ensure!(begun.elapsed() < DEADLINE, "every packet of a flood was taken");
        }
        flood.stop()?;
        daemon.stop()
    });
}
