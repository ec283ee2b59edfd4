//! What a person sees under a flood, and what the filter says of frames that were never sent.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use pbx_tests::daemon::{DEADLINE, find};
use pbx_tests::flood::{Plan, Sender};
use pbx_tests::frames::Frame;
use serde_json::Value;

use super::{SIP, on_site};

#[test]
fn explain_top_stats_list_and_events_tell_of_a_flood() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let flood = site.send(bad, bad.v4(), 1, Plan::steady(10_000, DEADLINE))?;
        let calm = site.send(good, good.v4(), 2, Plan::steady(100, DEADLINE))?;
        site.pbx.wait("block list", |list| {
            find(list, &bad.v4().to_string()).is_some_and(|block| block.to_string().contains("level2"))
        })?;
        site.wait_heard(&calm, good.v4())?;

        let explained = site.pbx.shown(&format!("explain {}", bad.v4()))?;
        assert!(explained.contains("IS BLOCKED") && explained.contains("level 2"), "{explained}");
        assert!(explained.contains(&format!("pbx block remove {}", bad.v4())), "{explained}");
        let explained = site.pbx.shown(&format!("explain {}", good.v4()))?;
        assert!(explained.contains("passes"), "{explained}");

        let top = site.pbx.shown("top --once")?;
        let line = |address: IpAddr| {
            let address = address.to_string();
            top.lines().find(|line| line.starts_with(&address)).unwrap_or_else(|| panic!("{address} in\n{top}"))
        };
        assert!(line(bad.v4().into()).contains("level2"), "{top}");
        assert!(!line(good.v4().into()).contains("level"), "{top}");
        let loudest = site.pbx.pbx("top --once")?["top"][0].clone();
        assert_eq!(loudest["source"], bad.v4().to_string(), "{loudest}");
        assert!(loudest["packets_per_second"].as_u64() > Some(1000), "{loudest}");

        let stats = site.pbx.shown("firewall stats")?;
        let dropped = |line: &str| line.starts_with(bad.interface) && line.contains("dropped");
        assert!(stats.lines().any(|line| dropped(line) && line.contains("automatic-block")), "{stats}");
        assert!(!stats.lines().any(|line| line.starts_with(good.interface) && line.contains("dropped")), "{stats}");

        let events = site.pbx.wait("events", |events| events.to_string().contains("level 2"))?;
        assert!(events.to_string().contains(&bad.v4().to_string()), "{events:#}");
        flood.stop()?;
        calm.stop()?;
        daemon.stop()
    });
}

#[test]
fn hits_of_an_address_are_counted_and_those_of_a_range_are_estimated() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        site.pbx.pbx(&format!("block add {}", good.v4()))?;
        site.pbx.pbx(&format!("block add {}/31", bad.v4()))?;
        site.burst(good, good.v4(), 1, 300)?;
        let entry = |list: &Value, cidr: &str| find(list, cidr).cloned().unwrap_or_default();
        let counted = entry(&site.pbx.pbx("block list")?, &good.v4().to_string());
        assert_eq!((&counted["packets"], &counted["estimated"]), (&300.into(), &false.into()), "{counted:#}");
        site.pbx.pbx(&format!("block remove {}/31", bad.v4()))?;

        // A whole /24 is painted; only samples say who met it.
        site.pbx.pbx("guard set filter.sample_rate 16")?;
        site.pbx.pbx("block add 198.51.100.0/24")?;
        let (from, to, destination) = (bad.mac(), bad.appliance_mac(), bad.appliance_v4());
        let flood = Sender::frames(&bad.network, 2, Plan::steady(20_000, DEADLINE), move |number| {
            let source = Ipv4Addr::new(198, 51, 100, (number % 250) as u8);
            Frame::udp((source, 5060), (destination, SIP)).link(from, to).build()
        })?;
        let list =
            site.pbx.wait("block list", |list| entry(list, "198.51.100.0/24")["packets"].as_u64() > Some(5000))?;
        let sent = flood.stop()?;
        let estimated = entry(&list, "198.51.100.0/24");
        assert_eq!(estimated["estimated"], true, "{estimated:#}");
        assert!(estimated["packets"].as_u64() <= Some(sent * 2), "{sent} were sent: {estimated:#}");
        assert!(!estimated["last_seen"].is_null(), "{estimated:#}");
        assert!(site.pbx.shown("block list")?.contains('≈'));
        daemon.stop()
    });
}

/// A capture of Ethernet frames, each at its microsecond.
fn capture(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xA1B2_C3D4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0].into_iter().chain([0; 8]));
    file.extend(65_535_u32.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for (micros, frame) in frames {
        let length = frame.len() as u32;
        for number in [micros / 1_000_000, micros % 1_000_000, length, length] {
            file.extend(number.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

#[test]
fn a_capture_is_judged_by_a_copy_of_the_filter_and_nothing_live_changes() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        site.pbx.pbx("block add 192.0.2.0/24")?;
        let to = (bad.appliance_v4(), SIP);
        let frame = |source: IpAddr| Frame::udp((source, 5060), to).payload(b"hello").build();
        let mut frames: Vec<(u32, Vec<u8>)> = Vec::new();
        frames.push((0, frame(good.v4().into())));
        frames.push((1, frame("192.0.2.9".parse()?)));
        frames.push((2, Frame::udp((good.v4(), 5060), to).claimed_length(9000).build()));
        // 501 within a second, and one when the block of 30 seconds is over.
        frames.extend((0..501).map(|number| (3 + number, frame(bad.v4().into()))));
        frames.push((31_000_000, frame(bad.v4().into())));
        let file = site.sandbox.directory().join("capture.pcap");
        fs::write(&file, capture(&frames))?;

        let before = site.pbx.pbx("firewall stats")?;
        let report = site.pbx.pbx(&format!("firewall test {}", file.display()))?;
        let verdicts = report["verdicts"].as_array().cloned().unwrap_or_default();
        assert_eq!(verdicts.len(), frames.len());
        let reasons: Vec<&str> =
            [0, 1, 2, 3, 502, 503, 504].map(|frame| verdicts[frame]["reason"].as_str().unwrap_or("")).into();
        assert_eq!(reasons, ["counted", "manual-block", "malformed", "counted", "counted", "level1", "counted"]);
        assert_eq!((&report["passed"], &report["dropped"]), (&Value::from(502), &Value::from(3)), "{report:#}");

        assert_eq!(without_essential(&site.pbx.pbx("firewall stats")?), without_essential(&before));
        assert!(find(&site.pbx.pbx("block list")?, &bad.v4().to_string()).is_none());
        site.assert_heard(bad, bad.v4(), 1)?;

        fs::write(&file, b"no capture")?;
        site.pbx.try_pbx(&format!("firewall test {}", file.display()))?.refused(2, &["pcap"])?;
        daemon.stop()
    });
}

/// The sums that only traffic of a test changes.
fn without_essential(stats: &Value) -> Vec<u64> {
    ["lan-good", "lan-bad"].map(|interface| super::judged(stats, interface)).into()
}

#[test]
fn a_json_answer_of_every_view_is_one_document() -> Result<()> {
    on_site(|site, daemon| {
        for line in [
            "status",
            "doctor",
            "top --once",
            "events",
            "explain 192.0.2.1",
            "firewall status",
            "firewall stats",
            "block list",
            "allow list",
            "guard list",
        ] {
            assert!(!site.pbx.pbx(line)?.is_null(), "{line}");
        }
        daemon.stop()
    });
    Ok(())
}
