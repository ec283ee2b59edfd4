//! Default deny end to end: strangers are kept from protected ports, and switching it on shuts nobody out who is there.

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};
use pbx_tests::daemon::DEADLINE;
use pbx_tests::flood::Plan;

use super::{Site, on_site};

/// A port on which no daemon listens and that settings protect.
const WEB: u16 = 8889;

/// A connection of a neighbour to a protected port, both ends, and who listens there.
fn connection(site: &Site) -> Result<(TcpStream, TcpStream, TcpListener)> {
    let bad = &site.lab.bad;
    let listener = TcpListener::bind((bad.appliance_v4(), WEB))?;
    let to = SocketAddr::new(bad.appliance_v4().into(), WEB);
    let out = bad.network.enter(|| Ok(TcpStream::connect_timeout(&to, DEADLINE)?))?;
    let accepted = listener.accept().context("the connection of a neighbour")?.0;
    Ok((out, accepted, listener))
}

#[test]
fn strangers_reach_no_protected_port_and_local_networks_and_the_allow_list_do() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        // Both neighbours are in connected networks, which are local while none are named.
        site.pbx.pbx("guard set filter.default_deny enforce")?;
        site.assert_heard(bad, bad.v4(), 1)?;
        site.pbx.pbx(&format!("guard set network.local_networks {}/32", good.v4()))?;
        let stream = site.send(bad, bad.v4(), 2, Plan::steady(400, DEADLINE * 2))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        site.assert_heard(good, good.v4(), 3)?;

        let explained = site.pbx.shown(&format!("explain {}", bad.v4()))?;
        assert!(explained.contains("default deny") && explained.contains("pbx allow add"), "{explained}");
        let explained = site.pbx.shown(&format!("explain {}", good.v4()))?;
        assert!(explained.contains("a local network: passes"), "{explained}");
        assert!(site.pbx.shown("status")?.contains("DEFAULT DENY"));
        assert!(site.pbx.shown("firewall stats")?.contains("default-deny"));

        site.pbx.pbx(&format!("allow add {}", bad.v4()))?;
        site.wait_heard(&stream, bad.v4())?;
        site.pbx.pbx(&format!("allow remove {}", bad.v4()))?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        // Monitor passes it and counts it.
        site.pbx.pbx("guard set filter.default_deny monitor")?;
        site.wait_heard(&stream, bad.v4())?;
        assert!(site.pbx.shown("firewall stats")?.contains("would-default-deny"));
        // It outlives the daemon.
        site.pbx.pbx("guard set filter.default_deny enforce")?;
        daemon.kill()?;
        site.assert_silent(&stream, bad.v4(), 200)?;
        stream.stop()?;
        Ok(())
    });
}

#[test]
fn default_deny_that_would_shut_out_who_is_connected_is_refused_unless_forced() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let connected = connection(site)?;
        let local = format!("guard set network.local_networks {}/32", good.v4());
        site.pbx.pbx(&local)?;
        let deny = "guard set filter.default_deny enforce";
        let named = bad.v4().to_string();
        site.pbx.try_pbx(deny)?.refused(7, &[&named, "network.local_networks", "allow list", "--force"])?;
        site.assert_heard(bad, bad.v4(), 1)?;
        // Monitor shuts nobody out.
        site.pbx.pbx("guard set filter.default_deny monitor")?;
        site.pbx.try_pbx(deny)?.refused(7, &[&named])?;
        site.pbx.pbx(&format!("allow add {}", bad.v4()))?;
        site.pbx.pbx(deny)?;
        site.assert_heard(bad, bad.v4(), 2)?;
        // Nor may a local network be taken away under it.
        site.pbx.pbx(&format!("guard set network.local_networks {}/32,{}/32", good.v4(), bad.v4()))?;
        site.pbx.pbx(&format!("allow remove {}", bad.v4()))?;
        site.pbx.try_pbx(&local)?.refused(7, &[&named])?;
        site.pbx.pbx(&format!("{local} --force"))?;
        let stream = site.send(bad, bad.v4(), 3, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&stream, bad.v4(), 100)?;
        stream.stop()?;
        drop(connected);
        daemon.stop()
    });
}
