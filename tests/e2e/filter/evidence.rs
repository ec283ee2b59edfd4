//! Why somebody is blocked, told by the real daemon; and settings that take themselves back, over a crash too.

use std::net::{IpAddr, UdpSocket};

use anyhow::Result;
use pbx_tests::daemon::{DEADLINE, find};

use super::{Site, on_site};

/// Where the daemon listens for SIP over UDP.
const SIGNALLING: u16 = 5060;
/// More than `guard.malformed.messages`, and fewer than level 1 lets pass.
const BROKEN: u64 = 80;

/// Datagrams that are no SIP and look as if they were, from the bad neighbour to where phones register.
fn send_rubbish(site: &Site) -> Result<()> {
    let bad = &site.lab.bad;
    let socket = bad.network.enter(|| Ok(UdpSocket::bind((bad.v4(), 0))?))?;
    for number in 0..BROKEN {
        socket.send_to(format!("HELLO {number}\r\n\r\n").as_bytes(), (bad.appliance_v4(), SIGNALLING))?;
    }
    Ok(())
}

#[test]
fn an_attacker_is_explained_on_one_screen_with_what_it_sent_and_let_go() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        send_rubbish(site)?;
        let blocked = site.pbx.wait_blocked(bad.v4())?;
        assert_eq!((&blocked["reason"], &blocked["enforced"]), (&"malformed".into(), &true.into()), "{blocked:#}");
        // Why is kept a moment after the block is in force.
        let line = format!("explain {}", bad.v4());
        let explained = site.pbx.wait(&line, |explained| explained["evidence"].is_object())?;
        assert_eq!(explained["evidence"]["rule"], "guard.malformed.messages", "{explained:#}");
        assert_eq!(explained["evidence"]["messages_kept"], 4, "{explained:#}");
        let screen = site.pbx.shown(&line)?;
        assert!(screen.lines().count() <= 40, "{screen}");
        for word in
            ["IS BLOCKED", "→ automatic blocks", "broken messages or handshakes: 50 in 10s", "undo: pbx block remove"]
        {
            assert!(screen.contains(word), "{word} is not in\n{screen}");
        }
        let shown = site.pbx.shown(&format!("block show {} --messages", bad.v4()))?;
        assert!(shown.contains("when guard.malformed.messages was 50"), "{shown}");
        let stranger = site.pbx.shown(&format!("explain {}", good.v4()))?;
        assert!(stranger.contains("would pass") && stranger.contains("nobody has seen it yet"), "{stranger}");

        let rehearsed = site.pbx.pbx("guard set guard.malformed.messages=70 --dry-run")?;
        let fewer = rehearsed["rehearsal"]["fewer"].clone();
        assert!(find(&fewer, &IpAddr::from(bad.v4()).to_string()).is_some(), "{rehearsed:#}");

        site.pbx.pbx(&format!("block remove {}", bad.v4()))?;
        let gone = site.pbx.pbx(&line)?;
        assert_eq!((&gone["fate"], gone["history"].as_array().map(Vec::len)), (&"pass".into(), Some(1)), "{gone:#}");
        assert_eq!(gone["changes"][0]["what"], "automatic.remove", "{gone:#}");
        daemon.stop()
    });
}

#[test]
fn a_switch_of_a_detector_reaches_the_blocks_that_are_live() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        send_rubbish(site)?;
        site.pbx.wait_blocked(bad.v4())?;
        site.pbx.pbx("guard set guard.malformed.enforcement monitor")?;
        assert_eq!(site.pbx.wait_blocked(bad.v4())?["enforced"], false);
        site.burst(bad, bad.v4(), 2, 100)?;
        site.receiver.wait(DEADLINE, |seen| seen.of(bad.v4(), 2).count() == 100)?;
        site.pbx.pbx("guard set guard.malformed.enforcement enforce")?;
        let list = site.pbx.pbx("block list")?;
        assert!(find(&list, &bad.v4().to_string()).is_none(), "{list:#}");
        send_rubbish(site)?;
        assert_eq!(site.pbx.wait_blocked(bad.v4())?["enforced"], true, "it is counted anew, and blocked");
        daemon.stop()
    });
}

#[test]
fn settings_that_nobody_confirms_are_taken_back_although_the_daemon_was_killed() {
    on_site(|site, daemon| {
        site.pbx.pbx("guard set guard.level1.packets=300 --confirm-within 10s")?;
        site.pbx.try_pbx("guard set guard.level2.packets=3000")?.refused(7, &["guard confirm"])?;
        daemon.kill()?;
        let again = site.pbx.start()?;
        site.pbx.wait("guard pending", |answer| answer["pending"].is_null())?;
        assert_eq!(site.pbx.pbx("guard get guard.level1.packets")?["value"], "500");
        // The kernel has it, too.
        let status = site.pbx.pbx("status")?;
        assert_eq!(status["filter"]["settings_revision"], status["settings_revision"], "{status:#}");

        site.pbx.pbx("firewall mode monitor --confirm-within 1h")?;
        site.pbx.pbx("guard rollback")?;
        assert_eq!(site.pbx.pbx("status")?["mode"], "enforce");
        again.stop()
    });
}
