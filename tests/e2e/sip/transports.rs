//! Transports come, move and go while phones stay on the others; what cannot be is refused and the old one stays.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
};

use anyhow::{Context, Result};
use pbx_tests::{
    daemon::find,
    flood::{Plan, Sender},
    phone::Line,
};

use super::{Site, TCP, TLS, UDP, on_site, server};

#[test]
fn a_transport_comes_moves_and_goes_and_phones_on_others_notice_nothing() {
    on_site(|site, daemon| {
        site.offer_md5_alone()?;
        let good = &site.lab.good;
        let (first, second) = (site.add("200")?, site.add("201")?);
        let phone = site.baresip(good, "200", &first, "")?;
        phone.wait_registered()?;
        let mut tcp = site.tcp(good)?;
        assert_eq!(tcp.register("201", &second)?, 200);
        let before = (site.registered("200")?, site.registered("201")?);

        let line = |port| Line::udp(&good.network, good.v4().into(), server(good, port));
        site.pbx.pbx("transport add udp 5070")?;
        let mut other = line(5070)?;
        assert_eq!(other.register("201", &second)?, 200);
        assert_eq!(site.registered("201")?.len(), 2);

        site.pbx.pbx("transport set udp:5070 --port 5072")?;
        let status = site.pbx.pbx("transport status udp:5072")?;
        assert_eq!(status["items"][0]["state"], "ACTIVATED", "{status:#}");
        assert_eq!(line(5072)?.register("201", &second)?, 200);
        // Whoever was on the old port would not recognise what comes from the new one.
        assert!(
            site.registered("201")?
                .iter()
                .all(|one| !one["local"].to_string().contains(":5070") || one["reachable"] == false),
            "{:#?}",
            site.registered("201")?
        );
        site.pbx.pbx("transport remove udp:5072 --yes")?;
        site.pbx.try_pbx("transport status udp:5072")?.refused(3, &["5072"])?;
        // Nobody listens there any more.
        let free = UdpSocket::bind(("0.0.0.0", 5072)).context("the port is free again")?;
        drop(free);

        assert_eq!(site.registered("200")?, before.0);
        assert!(site.registered("201")?.contains(&before.1[0]), "{:#?}", site.registered("201")?);
        assert_eq!(tcp.register("201", &second)?, 200, "over the connection that was there all the time");
        daemon.stop()
    });
}

#[test]
fn the_last_transport_stays() {
    on_site(|site, daemon| {
        let password = site.add("200")?;
        site.pbx.pbx(&format!("transport remove tls:{TLS} --yes"))?;
        site.pbx.pbx(&format!("transport remove tcp:{TCP} --yes"))?;
        let refused = site.pbx.try_pbx(&format!("transport remove udp:{UDP} --yes"))?;
        assert!(matches!(refused.code, Some(2 | 7)), "{refused:?}");
        assert!(refused.said().contains("last"), "{refused:?}");
        assert_eq!(site.udp(&site.lab.good)?.register("200", &password)?, 200);
        daemon.stop()
    });
}

#[test]
fn a_port_in_use_is_named_and_the_old_transport_stays() {
    on_site(|site, daemon| {
        let good = &site.lab.good;
        let password = site.add("200")?;
        let mut stays = site.tcp(good)?;
        assert_eq!(stays.register("200", &password)?, 200);
        let _taken = UdpSocket::bind(("0.0.0.0", 5090))?;
        let _taken_too = std::net::TcpListener::bind(("0.0.0.0", 5091))?;
        for line in ["transport add udp 5090", "transport set udp:5060 --port 5090"] {
            let said = site.pbx.try_pbx(line)?;
            assert!(said.code != Some(0) && said.said().contains("5090"), "{said:?}");
        }
        for line in ["transport add tls 5091", "transport set tcp:5063 --port 5091"] {
            let said = site.pbx.try_pbx(line)?;
            assert!(said.code != Some(0) && said.said().contains("5091"), "{said:?}");
        }
        site.pbx.try_pbx("transport set udp:5060 --port 50000")?.refused(2, &["50000", "filter.media_ports"])?;
        site.pbx.try_pbx("transport add tcp 5061")?.refused(2, &["5061", "TLS"])?;
        site.pbx.try_pbx("transport set tls:5061 --verification PEER")?.refused(2, &["not yet"])?;

        let list = site.pbx.pbx("transport list")?;
        let mut ports: Vec<u64> =
            list["items"].as_array().into_iter().flatten().filter_map(|one| one["port"].as_u64()).collect();
        ports.sort_unstable();
        assert_eq!(ports, [5060, 5061, 5063], "{list:#}");
        assert_eq!(site.udp(good)?.register("200", &password)?, 200);
        assert_eq!(stays.register("200", &password)?, 200, "over the connection that was there all the time");
        daemon.stop()
    });
}

#[test]
fn a_certificate_that_does_not_match_its_key_is_refused_and_a_good_one_replaces_the_old_without_a_restart() {
    on_site(|site, daemon| {
        let good = &site.lab.good;
        let password = site.add("200")?;
        let mut stays = site.tls(good)?;
        assert_eq!(stays.register("200", &password)?, 200);
        let own = stays.certificate();

        let (one, other) = (rcgen::generate_simple_self_signed(["pbx.test".to_owned()])?, rcgen::KeyPair::generate()?);
        let file = |name: &str, text: &str| -> Result<String> {
            let path = site.sandbox.directory().join(name);
            fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        let (certificate, key) =
            (file("one.pem", &one.cert.pem())?, file("one.key", &one.signing_key.serialize_pem())?);
        let (foreign, broken) = (file("other.key", &other.serialize_pem())?, file("broken.pem", "no certificate")?);
        let set = |certificate: &str, key: &str| {
            site.pbx.try_pbx(&format!("transport certificate tls:5061 --certificate {certificate} --key {key}"))
        };
        set(&certificate, &foreign)?.refused(2, &["key"])?;
        set(&broken, &key)?.refused(2, &["certificate"])?;
        set(&certificate, &broken)?.refused(2, &["key"])?;
        assert_eq!(site.tls(good)?.certificate(), own);

        set(&certificate, &key)?.ok()?;
        assert_eq!(site.tls(good)?.certificate(), Some(one.cert.der().to_vec()));
        assert_eq!(site.tls(good)?.register("200", &password)?, 200);
        assert_eq!(stays.register("200", &password)?, 200, "over the connection with the former certificate");
        daemon.stop()
    });
}

#[test]
fn the_filter_protects_the_ports_of_transports_as_they_come_move_and_go() {
    on_site(|site, daemon| {
        let protected = |port| is_protected(site, port);
        assert!(!protected(5070)? && !protected(5072)?);
        site.pbx.pbx("transport add udp 5070")?;
        assert!(protected(5070)?);
        site.pbx.pbx("transport set udp:5070 --port 5072")?;
        assert!(!protected(5070)? && protected(5072)?);
        site.pbx.pbx("transport remove udp:5072 --yes")?;
        assert!(!protected(5072)?);
        assert!(protected(UDP)?);
        daemon.stop()
    });
}

/// Whether too many packets to this port start a block.
fn is_protected(site: &Site, port: u16) -> Result<bool> {
    let bad = &site.lab.bad;
    let source = SocketAddr::new(bad.v4().into(), 0);
    Sender::udp(&bad.network, source, server(bad, port), 1, Plan::burst(1500))?.finish()?;
    // What comes last is surely counted, and is alone enough.
    let fence = SocketAddr::new(bad.v6().into(), 0);
    let server = SocketAddr::new(bad.appliance_v6().into(), UDP);
    Sender::udp(&bad.network, fence, server, 1, Plan::burst(1500))?.finish()?;
    site.pbx.wait_blocked(bad.v6())?;
    let blocked = find(&site.pbx.pbx("block list")?, &bad.v4().to_string()).is_some();
    for address in [Some(bad.v6().to_string()), blocked.then(|| bad.v4().to_string())].into_iter().flatten() {
        site.pbx.pbx(&format!("block remove {address}"))?;
    }
    Ok(blocked)
}
