//! What is refused, with the words and the exit code; the old state stands, in the store and in the kernel.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Result;
use pbx_core::rule::MAX_ADDRESSES;
use pbx_tests::daemon::DEADLINE;
use pbx_tests::flood::Plan;
use pbx_tests::sandbox::ip;
use serde_json::Value;

use super::{Site, on_site};

/// How many blocks there are.
fn blocks(site: &Site) -> Result<u64> {
    let list = site.pbx.pbx("block list")?;
    Ok(list["count"].as_u64().or_else(|| list["items"].as_array().map(|items| items.len() as u64)).unwrap_or(0))
}

#[test]
fn input_that_means_nothing_is_named_and_changes_nothing() {
    on_site(|site, daemon| {
        for (line, code, texts) in [
            ("block add 103.224.182.210.0", 2, ["103.224.182.210.0"]),
            ("block add 10.0.0.300", 2, ["300"]),
            ("block add 10.0.0.1/33", 2, ["33"]),
            ("block add 2001:db8::/129", 2, ["129"]),
            ("block add fe80::1%eth0", 2, ["%eth0"]),
            ("block add 10.0.0.0 255.0.255.0", 2, ["255.0.255.0"]),
            ("block add 192.0.2.1 --until 2020-01-01T00:00:00Z", 2, ["not in the future"]),
            ("block add 192.0.2.1 --for 0s", 2, ["0s"]),
            ("block remove 192.0.2.9", 3, ["192.0.2.9"]),
            ("guard set guard.level1.packets 0", 2, ["guard.level1.packets"]),
            ("guard set guard.level2.packets 400", 2, ["guard.level2.packets"]),
            ("guard set guard.level9.packets 1", 2, ["guard.level9.packets"]),
            ("firewall attach nowhere", 3, ["nowhere"]),
            ("firewall detach lo", 3, ["not filtered"]),
        ] {
            site.pbx.try_pbx(line)?.refused(code, &texts)?;
        }
        assert_eq!(blocks(site)?, 0);
        let added = site.pbx.pbx("block add 192.0.2.77/24")?;
        assert!(added.to_string().contains("192.0.2.77/24 means 192.0.2.0/24"), "{added:#}");
        daemon.stop()
    });
}

#[test]
fn a_block_that_would_lock_somebody_out_is_refused() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        ip(&format!("route add default via {}", good.v4()))?;
        for range in [
            bad.appliance_v4().to_string(),
            format!("{}/16", bad.appliance_v4()),
            bad.appliance_v6().to_string(),
            good.v4().to_string(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
            "169.254.1.1".to_owned(),
            "fe80::/64".to_owned(),
        ] {
            for force in ["", "--force"] {
                site.pbx.try_pbx(&format!("block add {range} {force}"))?.refused(7, &["can't be blocked"])?;
            }
        }
        for everything in ["0.0.0.0/0", "::/0"] {
            site.pbx.try_pbx(&format!("block add {everything}"))?.refused(7, &["--force"])?;
        }
        assert_eq!(blocks(site)?, 0);
        daemon.stop()
    });
}

#[test]
fn a_block_of_somebody_connected_to_ssh_has_to_be_forced() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        // Port 22 is that of ssh whatever listens on it.
        let listener = TcpListener::bind((bad.appliance_v4(), 22))?;
        let connection = bad.network.enter(|| Ok(TcpStream::connect((bad.appliance_v4(), 22))?))?;
        let accepted = listener.accept()?;
        let network = "10.77.2.0/30";
        for range in [bad.v4().to_string(), format!("{}/31", bad.v4())] {
            let said = site.pbx.try_pbx(&format!("block add {range}"))?.refused(7, &["--force"])?;
            assert!(said.contains(&format!("{} (ssh, port 22)", bad.v4())), "{said}");
        }
        site.pbx.try_pbx(&format!("block add {network}"))?.refused(7, &["can't be blocked"])?;
        let list = site.sandbox.directory().join("list");
        fs::write(&list, format!("192.0.2.1\n{}\n", bad.v4()))?;
        let line = format!("block import {}", list.display());
        site.pbx.try_pbx(&line)?.refused(7, &["--force"])?;
        assert_eq!(blocks(site)?, 0);

        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.wait_heard(&stream, bad.v4())?;
        site.pbx.pbx(&format!("{line} --force"))?;
        site.assert_silent(&stream, bad.v4(), 100)?;
        assert_eq!(blocks(site)?, 2);
        drop((connection, accepted));
        daemon.stop()
    });
}

#[test]
fn a_way_in_that_an_exception_keeps_open_is_closed_by_force_only() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        // Not a port of ssh: this test is root, and so whoever is connected to it counts.
        let listener = TcpListener::bind((bad.appliance_v4(), 2200))?;
        let connection = bad.network.enter(|| Ok(TcpStream::connect((bad.appliance_v4(), 2200))?))?;
        let accepted = listener.accept()?;
        let range = format!("{}/31", bad.v4());
        let named = format!("{} (a service of root, port 2200)", bad.v4());
        site.pbx.try_pbx(&format!("block add {range}"))?.refused(7, &["--force"])?;
        site.pbx.pbx(&format!("allow add {}", bad.v4()))?;
        site.pbx.pbx(&format!("block add {range}"))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.wait_heard(&stream, bad.v4())?;
        for line in [format!("allow remove {}", bad.v4()), format!("allow add {} --for 1h", bad.v4())] {
            let said = site.pbx.try_pbx(&line)?.refused(7, &["--force"])?;
            assert!(said.contains(&named), "{said}");
        }
        site.wait_heard(&stream, bad.v4())?;

        site.pbx.pbx("firewall mode monitor")?;
        site.pbx.pbx(&format!("allow remove {} --force", bad.v4()))?;
        let said = site.pbx.try_pbx("firewall mode enforce")?.refused(7, &["--force"])?;
        assert!(said.contains(&named), "{said}");
        site.wait_heard(&stream, bad.v4())?;
        site.pbx.pbx("firewall mode enforce --force")?;
        site.assert_silent(&stream, bad.v4(), 100)?;
        drop((connection, accepted));
        daemon.stop()
    });
}

#[test]
fn a_list_with_a_bad_line_517_changes_nothing() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx("block add 203.0.113.1")?;
        let mut text = String::new();
        for line in 1..=1000 {
            match line {
                3 => writeln!(text, "{} # the neighbour", bad.v4())?,
                517 => writeln!(text, "10.0.0.300")?,
                _ => writeln!(text, "198.18.{}.{}", line / 250, line % 250)?,
            }
        }
        let list = site.sandbox.directory().join("list");
        fs::write(&list, &text)?;
        let line = format!("block import {}", list.display());
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.pbx.try_pbx(&line)?.refused(2, &["line 517", "10.0.0.300"])?;
        assert_eq!(blocks(site)?, 1);
        site.wait_heard(&stream, bad.v4())?;

        fs::write(&list, text.replace("10.0.0.300", "10.0.0.30"))?;
        let answer = site.pbx.pbx(&line)?;
        assert_eq!(answer["added"], Value::from(1000), "{answer:#}");
        site.assert_silent(&stream, bad.v4(), 100)?;
        daemon.stop()
    });
}

#[test]
fn more_addresses_than_are_guaranteed_are_refused_with_the_limit() {
    on_site(|site, daemon| {
        let mut text = String::new();
        for number in 0..=MAX_ADDRESSES as u32 {
            writeln!(text, "{}", Ipv4Addr::from_bits(0x0b00_0000 + number))?;
        }
        let list = site.sandbox.directory().join("list");
        fs::write(&list, text)?;
        let line = format!("block import {}", list.display());
        site.pbx.try_pbx(&line)?.refused(1, &["262144", "262145"])?;
        assert_eq!(blocks(site)?, 0);
        daemon.stop()
    });
}
