//! What outlives the daemon, and what the next one makes of it.

use std::net::SocketAddr;

use pbx_tests::{
    daemon::find,
    flood::{Plan, Sender},
};

use super::{TCP, UDP, on_site, server};

#[test]
fn after_a_kill_udp_phones_stay_registered_tcp_ones_wait_for_the_phone_and_blocks_stand() {
    on_site(|site, daemon| {
        site.offer_md5_alone()?;
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let (first, second, third) = (site.add("200")?, site.add("201")?, site.add("202")?);
        let udp = site.baresip(good, "200", &first, "")?;
        let tcp = site.baresip(good, "201", &second, &format!(":{TCP};transport=tcp"))?;
        udp.wait_registered()?;
        tcp.wait_registered()?;
        let mut tls = site.tls(good)?;
        assert_eq!(tls.register("202", &third)?, 200);
        let list = |number: &'static str| site.wait_registered(number, |list| !list.is_empty());
        let before = (list("200")?, list("201")?, list("202")?);

        site.pbx.pbx("block add 192.0.2.7 --reason test")?;
        let source = SocketAddr::new(bad.v4().into(), 0);
        Sender::udp(&bad.network, source, server(bad, UDP), 1, Plan::burst(1500))?.finish()?;
        site.pbx.wait_blocked(bad.v4())?;
        let blocks = site.pbx.pbx("block list")?;
        // What was answered is kept a moment later, and the status says when.
        site.pbx.wait("status", |status| status.pointer("/load/unsaved") == Some(&0.into()))?;

        daemon.kill()?;
        // These cannot return meanwhile, and the first one has no reason to.
        drop((tcp, tls));
        let daemon = site.pbx.start()?;
        let after = (list("200")?, list("201")?, list("202")?);
        for key in ["id", "contact", "remote", "local", "since", "expires_at", "reachable"] {
            assert_eq!(after.0[0][key], before.0[0][key], "{key}");
        }
        assert_eq!(after.0[0]["reachable"], true);
        site.assert_answers("200")?;
        for (after, before) in [(&after.1[0], &before.1[0]), (&after.2[0], &before.2[0])] {
            assert_eq!((&after["since"], &after["contact"]), (&before["since"], &before["contact"]));
            assert_eq!(after["reachable"], false, "{after:#}");
        }
        let known = site.pbx.wait(&format!("explain {}", good.v4()), |known| known["fate"] == "police")?;
        assert_eq!(known["known"].as_array().map(Vec::len), Some(3), "{known:#}");

        let now = site.pbx.pbx("block list")?;
        for address in [bad.v4().to_string(), "192.0.2.7".to_owned()] {
            assert!(find(&blocks, &address).is_some() && find(&now, &address).is_some(), "{address}: {now:#}");
        }
        let received =
            || -> anyhow::Result<_> { Ok(site.pbx.pbx("transport status udp:5060")?["items"][0]["received"].as_u64()) };
        let before = received()?;
        Sender::udp(&bad.network, source, server(bad, UDP), 2, Plan::burst(50))?.finish()?;
        let mut line = site.udp(good)?;
        assert_eq!(line.register("200", &first)?, 200);
        assert_eq!(received()?, before.map(|before| before + 2));

        // The phone that returns is reachable again, beside its earlier contact.
        let tcp = site.baresip(good, "201", &second, &format!(":{TCP};transport=tcp"))?;
        tcp.wait_registered()?;
        site.wait_registered("201", |list| list.iter().any(|one| one["reachable"] == true))?;
        daemon.stop()
    });
}
