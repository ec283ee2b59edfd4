//! Monitor counts and drops nothing, enforce drops, and what monitor saw is forgotten when it begins.

use pbx_tests::daemon::{DEADLINE, find};
use pbx_tests::flood::Plan;

use super::{Site, before_start, on_site};

/// Packets that an interface counted for a reason.
fn counted(site: &Site, interface: &str, reason: &str) -> anyhow::Result<u64> {
    let stats = site.pbx.pbx("firewall stats")?;
    let items = stats["items"].as_array().cloned().unwrap_or_default();
    let of_interface = items.iter().find(|item| item["interface"] == interface);
    let reasons = of_interface.and_then(|item| item["reasons"].as_array()).cloned().unwrap_or_default();
    Ok(reasons.iter().find(|one| one["reason"] == reason).and_then(|one| one["packets"].as_u64()).unwrap_or(0))
}

#[test]
fn a_new_installation_monitors_and_what_it_saw_is_forgotten_when_it_enforces() {
    before_start(|site| {
        let bad = &site.lab.bad;
        let daemon = site.pbx.start()?;
        site.pbx.pbx(&format!("block add {}", bad.v6()))?;
        site.burst(bad, bad.v6(), 1, 100)?;
        site.burst(bad, bad.v4(), 2, 1500)?;
        site.receiver
            .wait(DEADLINE, |seen| (seen.of(bad.v6(), 1).count(), seen.of(bad.v4(), 2).count()) == (100, 1500))?;
        assert_eq!(counted(site, bad.interface, "would-manual-block")?, 100);
        // Each packet over the level is counted once: those that made a would-block, and those that met it.
        let over = ["would-level", "would-automatic-block"].map(|reason| counted(site, bad.interface, reason));
        assert_eq!(over.into_iter().sum::<Result<u64, _>>()?, 1000);
        let block = site.pbx.wait_blocked(bad.v4())?;
        assert_eq!(block["enforced"], false, "{block:#}");

        site.pbx.pbx("firewall mode enforce")?;
        let list = site.pbx.pbx("block list")?;
        assert!(find(&list, &bad.v4().to_string()).is_none(), "{list:#}");
        // Below level 1 at any time: only a block that was kept could stop it.
        let slow = site.send(bad, bad.v4(), 3, Plan::steady(200, DEADLINE))?;
        site.wait_heard(&slow, bad.v4())?;
        site.burst(bad, bad.v6(), 4, 100)?;
        assert_eq!(site.receiver.seen().of(bad.v6(), 4).count(), 0, "the manual block is in force");
        daemon.stop()
    });
}

#[test]
fn off_judges_nothing_and_enforce_is_back_at_once() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        let stream = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 100)?;
        site.pbx.pbx("firewall mode off")?;
        site.wait_heard(&stream, bad.v4())?;
        site.pbx.pbx("firewall mode enforce")?;
        site.assert_silent(&stream, bad.v4(), 100)?;
        daemon.stop()
    });
}
