//! Why an address passes or does not, in one screen, of everybody whom an administrator asks about.

use std::net::Ipv4Addr;

use anyhow::ensure;
use pbx_tests::{
    phone::Line,
    site::{TCP, on_site, server},
};

use super::from_elsewhere;

#[test]
fn an_attacker_a_phone_somebody_known_and_an_address_that_nobody_has_seen_are_explained_in_one_screen() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let explain = |address: Ipv4Addr, words: &[&str]| -> anyhow::Result<()> {
            let screen = site.pbx.shown(&format!("explain {address}"))?;
            ensure!(screen.lines().count() <= 40, "more than a screen:\n{screen}");
            for word in words {
                ensure!(screen.contains(word), "{word:?} is not in\n{screen}");
            }
            Ok(())
        };
        let mut phone = site.handset(good, "201")?;
        let mut line = Line::tcp(&bad.network, server(bad, TCP))?;
        let mut tries = 0;
        while site.pbx.pbx("block list")?["count"] == 0 && tries < 60 {
            tries += 1;
            line.register("201", "guess")?;
        }
        site.pbx.wait(&format!("explain {}", bad.v4()), |explained| explained["evidence"].is_object())?;
        explain(
            bad.v4(),
            &[
                "IS BLOCKED",
                "→ automatic blocks",
                "wrong passwords for one account: 20 in 1h",
                "nobody else can have sent it",
                &format!("undo: pbx block remove {}", bad.v4()),
                "REGISTER sip:",
            ],
        )?;
        site.pbx.wait(&format!("explain {}", good.v4()), |explained| explained["fate"] == "police")?;
        let phone_words =
            ["passes up to a limit", "→ known sources", "registered", "201 of default", "proved its password"];
        explain(good.v4(), &phone_words)?;
        // A phone that is gone is somebody known.
        phone.register()?;
        site.pbx.pbx("reg drop 201")?;
        let gone = site.pbx.shown(&format!("explain {}", good.v4()))?;
        ensure!(gone.contains("→ known sources") && gone.contains("proved its password"), "{gone}");
        ensure!(!gone.contains("201 of default over"), "{gone}");
        explain(Ipv4Addr::new(192, 0, 2, 77), &["would pass", "nobody has seen it yet", "level 1 lets 500 a second"])?;
        explain(good.appliance_v4(), &["passes", "an address of this appliance"])?;
        daemon.stop()
    });
}
