//! Damage: a full disk, a word of a table that changed by itself, a daemon killed in the middle of an import.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use nix::mount::{MsFlags, mount};
use pbx_ebpf::abi::address4;
use pbx_tests::daemon::{DEADLINE, find};
use pbx_tests::flood::Plan;
use pbx_xdp::Words;

use super::{before_start, on_site};

/// Writes a file until the disk is full.
fn fill(file: &Path) -> Result<()> {
    let mut file = fs::File::create(file)?;
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    Ok(())
}

#[test]
fn on_a_full_disk_a_change_fails_whole_and_the_old_state_stands() {
    before_start(|site| {
        let bad = &site.lab.bad;
        let disk = site.sandbox.directory().join("data");
        mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))?;
        let mut daemon = site.pbx.start()?;
        daemon.expect("full");
        daemon.expect("not stored yet");
        site.pbx.pbx("firewall mode enforce")?;
        site.pbx.pbx(&format!("block add {}", bad.v6()))?;
        let blocked = site.send(bad, bad.v6(), 1, Plan::steady(400, DEADLINE * 2))?;
        let free = site.send(bad, bad.v4(), 2, Plan::steady(400, DEADLINE * 2))?;

        fill(&disk.join("filler"))?;
        // Pages that the database already has may take a few more changes.
        let is_refused = |host: u32| -> Result<bool> {
            let line = format!("block add 203.0.{}.{}", 113 + host / 250, host % 250);
            let answer = site.pbx.try_pbx(&line)?;
            if answer.code == Some(0) {
                Ok(false)
            } else {
                answer.refused(1, &["full", "free some space"]).map(|_| true)
            }
        };
        let mut taken = 0;
        while !is_refused(taken)? {
            taken += 1;
            ensure!(taken < 500, "the disk is never full");
        }
        site.pbx.try_pbx(&format!("block add {}", bad.v4()))?.refused(1, &["full"])?;
        site.pbx.try_pbx("guard set guard.level1.packets 400")?.refused(1, &["full"])?;
        site.pbx.try_pbx(&format!("block remove {}", bad.v6()))?.refused(1, &["full"])?;

        site.wait_heard(&free, bad.v4())?;
        site.assert_silent(&blocked, bad.v6(), 100)?;
        let list = site.pbx.pbx("block list --limit 1000")?;
        let items = list["items"].as_array().map_or(0, Vec::len);
        assert_eq!(items as u32, taken + 1, "{list:#}");
        assert!(find(&list, &bad.v4().to_string()).is_none());
        let level1 = site.pbx.pbx("guard get guard.level1.packets")?;
        assert!(level1.to_string().contains("500"), "{level1}");
        assert!(site.pbx.shown("doctor")?.contains("the kernel's tables are what the rules say"));

        // The next daemon finds the same, on the disk that is still full.
        daemon.kill()?;
        let mut daemon = site.pbx.start()?;
        daemon.expect("full");
        daemon.expect("not stored");
        site.assert_silent(&blocked, bad.v6(), 100)?;
        let again = site.pbx.pbx("block list --limit 1000")?;
        assert_eq!(again["items"].as_array().map(Vec::len), Some(items), "{again:#}");

        fs::remove_file(disk.join("filler"))?;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        site.assert_silent(&free, bad.v4(), 100)?;
        daemon.stop()
    });
}

#[test]
fn the_doctor_finds_a_word_that_is_wrong_and_a_restart_repairs_it() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let healthy = site.pbx.shown("doctor")?;
        assert!(healthy.contains("the kernel's tables are what the rules say"), "{healthy}");

        let mut found = None;
        for version in fs::read_dir(site.sandbox.bpffs().join("pbx"))? {
            let pin = version?.path().join(address4::NAME);
            if !pin.exists() {
                continue;
            }
            let map = MapData::from_pin(&pin)?;
            let words = Words::map(map.fd().as_fd(), address4::LINE_WORDS << address4::LINE_BITS)?;
            let address = bad.v4().to_bits();
            let is_slot = |word: usize| {
                let slot = words.load(word);
                let is_hit = word % address4::LINE_WORDS >= address4::SLOTS;
                !is_hit && address4::slot_address(slot) == address && address4::slot_code(slot) == address4::BLOCK
            };
            found = (0..words.len()).find(|word| is_slot(*word));
            words.store(found.context("the block has no slot")?, 0);
        }
        assert!(found.is_some());
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.wait_heard(&stream, bad.v4())?;
        site.pbx.try_pbx("doctor")?.refused(1, &["rule tables", "restart"])?;

        daemon.stop()?;
        let daemon = site.pbx.start()?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        let repaired = site.pbx.shown("doctor")?;
        assert!(repaired.contains("the kernel's tables are what the rules say"), "{repaired}");
        daemon.stop()
    });
}

#[test]
fn the_doctor_finds_an_interface_whose_program_was_taken_off() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        // The pin holds the link, and the link the program.
        fs::remove_file(site.sandbox.bpffs().join("pbx/links").join(bad.interface))?;
        site.wait_heard(&stream, bad.v4())?;
        let command = format!("pbx firewall attach {}", bad.interface);
        site.pbx.try_pbx("doctor")?.refused(1, &[bad.interface, &command])?;
        site.pbx.pbx(command.trim_start_matches("pbx "))?;
        site.assert_silent(&stream, bad.v4(), 100)?;
        site.pbx.pbx("doctor")?;
        daemon.stop()
    });
}

#[test]
fn a_daemon_killed_in_the_middle_of_an_import_has_all_of_it_or_nothing_at_the_next_start() {
    const LINES: u32 = 20_000;
    on_site(|site, daemon| {
        let mut text = String::new();
        for line in 0..LINES {
            writeln!(text, "198.{}.{}.{}", 18 + line / 62_500, line / 250 % 250, line % 250)?;
        }
        let list = site.sandbox.directory().join("list");
        fs::write(&list, text)?;
        let mut import = Command::new(site.pbx.binary())
            .arg("--socket")
            .arg(site.pbx.socket())
            .args(["block", "import"])
            .arg(&list)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The log of the database grows while the transaction is written.
        let log = site.sandbox.directory().join("data/pbx.db-wal");
        let before = fs::metadata(&log)?.len();
        let grown = || fs::metadata(&log).is_ok_and(|log| log.len() > before + 200_000);
        let begin = std::time::Instant::now();
        while !grown() {
            ensure!(begin.elapsed() < DEADLINE, "the import does not write");
            std::thread::yield_now();
        }
        daemon.kill()?;
        import.wait()?;

        let daemon = site.pbx.start()?;
        let list = site.pbx.pbx("block list --limit 1")?;
        let count = list["count"].as_u64().context("a list has a count")?;
        assert!(count == 0 || count == u64::from(LINES), "{count} of {LINES}");
        let verdict = site.pbx.shown("doctor")?;
        assert!(verdict.contains("the kernel's tables are what the rules say"), "{verdict}");
        daemon.stop()
    });
}
