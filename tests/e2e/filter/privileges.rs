//! What the daemon needs of the system: capabilities, a bpffs, and that no other daemon is there.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use pbx_tests::daemon::DEADLINE;
use pbx_tests::flood::Plan;

use super::{Site, attach, before_start, on_site};

/// A user id without a name, a login or anything else.
const UNIT_USER: u32 = 47_011;

/// What `systemd/pbx.service` grants.
const UNIT_CAPABILITIES: &str = "-all,+bpf,+net_admin,+perfmon,+net_bind_service";

/// `pbx serve` as another user with these capabilities.
fn serve_as_user(site: &Site, capabilities: &str) -> Command {
    let serve = site.pbx.serve();
    let mut command = Command::new("setpriv");
    command
        .args([&format!("--reuid={UNIT_USER}"), &format!("--regid={UNIT_USER}"), "--clear-groups", "--no-new-privs"])
        .args([
            &format!("--inh-caps={capabilities}"),
            &format!("--ambient-caps={capabilities}"),
            &format!("--bounding-set={capabilities}"),
        ])
        // Changing the user resets the signal that ends it with its parent.
        .args(["--pdeathsig", "KILL"])
        .arg(serve.get_program())
        .args(serve.get_args());
    command
}

/// Gives everything that the unit's user needs to it, as systemd does with its directories.
fn hand_over(site: &Site) -> Result<()> {
    fn give(path: &Path) -> Result<()> {
        chown(path, Some(UNIT_USER), Some(UNIT_USER)).with_context(|| format!("hand over {}", path.display()))?;
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                give(&entry?.path())?;
            }
        }
        Ok(())
    }
    give(site.sandbox.directory())
}

#[test]
fn the_capabilities_of_the_unit_are_enough() {
    on_site(|site, daemon| {
        daemon.stop()?;
        hand_over(site)?;
        let daemon = site.pbx.start_as(serve_as_user(site, UNIT_CAPABILITIES))?;
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()
    });
}

#[test]
fn without_capabilities_the_daemon_says_which_and_the_filter_of_before_goes_on() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        daemon.stop()?;
        hand_over(site)?;
        let mut daemon = site.pbx.start_as(serve_as_user(site, "-all"))?;
        daemon.expect("the filter is not under control");
        daemon.wait_log("CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")?;
        let status = site.pbx.pbx("status")?;
        assert!(status["filter"]["problem"].as_str().is_some_and(|why| why.contains("CAP_BPF")), "{status:#}");
        let goes_on = status.pointer("/filter/not_enforced/0").and_then(|sentence| sentence.as_str());
        assert!(goes_on.is_some_and(|why| why.contains("earlier daemon") && why.contains(bad.interface)), "{status:#}");
        site.assert_silent(&stream, bad.v4(), 200)?;

        // The store follows what is enforced: nothing is called undone that is not.
        let line = format!("block remove {}", bad.v4());
        site.pbx.try_pbx(&line)?.refused(1, &["CAP_BPF", "earlier daemon", "systemctl restart pbx"])?;
        site.pbx.wait_blocked(bad.v4())?;
        assert_eq!(site.pbx.pbx(&format!("explain {}", bad.v4()))?["fate"], "unknown");
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()
    });
}

#[test]
fn root_gets_a_bpffs_mounted_where_none_is() {
    before_start(|site| {
        let pins = site.sandbox.directory().join("pins");
        site.pbx.set("pin_dir", &format!("{pins:?}"))?;
        let daemon = site.pbx.start()?;
        assert_eq!(statfs(&pins)?.filesystem_type(), BPF_FS_MAGIC);
        assert_eq!(attach(&site.pbx.pbx("status")?, site.lab.bad.interface), Some("native"));
        daemon.kill()?;
        let daemon = site.pbx.start()?;
        daemon.wait_log("taken over from an earlier start")?;
        daemon.stop()
    });
}

#[test]
fn the_unit_user_is_told_how_to_mount_a_bpffs() {
    before_start(|site| {
        let pins = site.sandbox.directory().join("pins");
        site.pbx.set("pin_dir", &format!("{pins:?}"))?;
        hand_over(site)?;
        let mut daemon = site.pbx.start_as(serve_as_user(site, UNIT_CAPABILITIES))?;
        daemon.expect("the filter is not under control");
        let command = format!("mount -t bpf -o mode=0700 bpf {}", pins.display());
        daemon.wait_log(&command)?;
        let status = site.pbx.pbx("status")?;
        assert!(status["filter"]["problem"].as_str().is_some_and(|why| why.contains(&command)), "{status:#}");
        daemon.stop()
    });
}

#[test]
fn a_daemon_whose_cause_is_gone_takes_the_filter_over_without_a_restart() {
    before_start(|site| {
        let pins = site.sandbox.directory().join("pins");
        site.pbx.set("pin_dir", &format!("{pins:?}"))?;
        hand_over(site)?;
        let mut daemon = site.pbx.start_as(serve_as_user(site, UNIT_CAPABILITIES))?;
        daemon.expect("the filter is not under control");
        let bad = &site.lab.bad;
        let line = format!("block add {}", bad.v4());
        site.pbx.try_pbx(&line)?.refused(1, &["nothing was changed", "mount -t bpf"])?;

        mount(Some("bpf"), &pins, Some("bpf"), MsFlags::empty(), Some("mode=0700"))?;
        hand_over(site)?;
        daemon.wait_log("the filter is under control again")?;
        assert_eq!(attach(&site.pbx.pbx("status")?, bad.interface), Some("native"));
        site.pbx.pbx(&line)?;
        site.pbx.pbx("firewall mode enforce")?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()
    });
}

#[test]
fn a_kernel_without_btf_is_enough() {
    before_start(|site| {
        mount(Some("tmpfs"), "/sys/kernel/btf", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        let daemon = site.pbx.start()?;
        assert_eq!(attach(&site.pbx.pbx("status")?, site.lab.bad.interface), Some("native"));
        daemon.stop()
    });
}

#[test]
fn a_second_daemon_says_that_there_is_one_and_changes_nothing() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let error = site.pbx.start().err().context("the second daemon started")?;
        assert!(error.to_string().contains("another pbx"), "{error:#}");
        site.pbx.wait_blocked(bad.v4())?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()
    });
}

#[test]
fn a_second_daemon_on_the_same_pins_or_socket_but_other_data_is_refused() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let directory = site.sandbox.directory();
        site.pbx.set("data_dir", &format!("{:?}", directory.join("other")))?;
        let error = site.pbx.start().err().context("a second daemon took the socket")?;
        assert!(error.to_string().contains("another pbx"), "{error:#}");
        site.pbx.set("socket", &format!("{:?}", directory.join("other.sock")))?;
        let error = site.pbx.start().err().context("a second daemon took the pins")?;
        assert!(error.to_string().contains("another pbx"), "{error:#}");

        site.pbx.wait_blocked(bad.v4())?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        daemon.stop()
    });
}

#[test]
fn a_user_of_neither_group_may_not_even_look() {
    on_site(|site, daemon| {
        for line in ["status", "block list", "block add 192.0.2.1", "firewall mode off"] {
            let output = Command::new("setpriv")
                .args([&format!("--reuid={UNIT_USER}"), &format!("--regid={UNIT_USER}"), "--clear-groups"])
                .arg(site.pbx.binary())
                .arg("--socket")
                .arg(site.pbx.socket())
                .args(line.split(' '))
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(4), "{line}: {said}");
            assert!(said.contains("pbx-view") && said.contains("pbx-admin"), "{line}: {said}");
        }
        assert_eq!(site.pbx.pbx("status")?["mode"], "enforce");
        daemon.stop()
    });
}
