//! Transports: opened, moved, closed; together with the filter's ports, or not at all.

use std::sync::atomic::Ordering;

use pbx_core::transport::{Protocol, TransportId};

use super::*;
use crate::ops::{
    AddTransport, Did, Kind, ListOptions, SetCertificate, SetSettings, TransportState, TransportView, UpdateTransport,
};

fn transport(protocol: &str, port: u32) -> AddTransport {
    AddTransport {
        protocol: protocol.into(),
        port,
        external_port: None,
        algorithms: None,
        verification: None,
        certificate: None,
        private_key: None,
        dry_run: false,
    }
}

fn moved(port: u32) -> UpdateTransport {
    UpdateTransport { port: Some(port), ..UpdateTransport::default() }
}

impl Bench {
    /// What store, signalling, filter and memory have; all four agree.
    async fn transports(&self) -> Vec<String> {
        let name = |protocol: Protocol, port: u16| format!("{protocol} {port}");
        let stored = self.store().accounts().await.unwrap().transports;
        let stored: Vec<String> = stored.iter().map(|one| name(one.protocol, one.port)).collect();
        let listed = self.operations.transports(&ListOptions::default()).unwrap().items;
        let listed: Vec<String> = listed.iter().map(|one: &TransportView| name(one.protocol, one.port)).collect();
        assert_eq!(stored, listed);
        assert_eq!(stored, self.signalling.open_ones());
        let mut ports: Vec<u16> = stored.iter().map(|one| one.split_once(' ').unwrap().1.parse().unwrap()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(*self.filter.transports.lock().unwrap(), ports);
        stored
    }
}

const FIRST: [&str; 3] = ["UDP 5060", "TCP 5063", "TLS 5061"];

#[tokio::test]
async fn a_new_installation_listens_by_udp_tcp_and_tls_with_a_certificate_of_its_own() {
    let bench = Bench::new().await;
    assert_eq!(bench.transports().await, FIRST);
    let certificate = bench.operations.certificate("3").unwrap().certificate;
    assert_eq!(certificate.as_deref(), Some("self-signed"));
    let open = bench.signalling.transports.lock().unwrap()[&TransportId(3)].clone();
    assert_eq!(open.certificate.unwrap().key, "PRIVATE self-signed");
    let stored = bench.store().accounts().await.unwrap();
    assert!(!format!("{stored:?}").contains("PRIVATE"));
    let list = bench.operations.transports(&ListOptions::default()).unwrap().items;
    let algorithms: Vec<String> = list.iter().map(|one| format!("{:?}", one.algorithms)).collect();
    assert_eq!(algorithms, ["[Md5, Sha256]", "[Md5, Sha256]", "[Sha256, Md5]"]);
    let (bench, state) = bench.restarted().await;
    assert_eq!(state.transports, [5060, 5061, 5063]);
    assert_eq!(bench.transports().await, FIRST);
}

#[tokio::test]
async fn a_transport_is_stored_opened_and_protected_in_one_step() {
    let bench = Bench::new().await;
    let answer = bench.operations.add_transport(&admin(), transport("tls", 5071)).await.unwrap();
    assert_eq!((answer.did, answer.item.id.as_deref()), (Did::Added, Some("4")));
    assert_eq!(bench.transports().await.last().unwrap(), "TLS 5071");
    bench.operations.update_transport(&admin(), "4", moved(5072)).await.unwrap();
    assert_eq!(bench.transports().await.last().unwrap(), "TLS 5072");
    bench.operations.remove_transport(&admin(), "4", How::default()).await.unwrap();
    assert_eq!(bench.transports().await, FIRST);
    assert_eq!(bench.signalling.called(), ["open 4 TLS 5071", "open 4 TLS 5072", "close 4"]);
    let audit: Vec<String> = bench.store().audit_rows(9).await.unwrap().into_iter().map(|row| row.what).collect();
    assert_eq!(audit, ["transport.remove", "transport.set", "transport.add"]);
    // UDP and TCP do not share their ports.
    bench.operations.add_transport(&admin(), transport("tcp", 5060)).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_leaves_everything_as_it_was() {
    let bench = Bench::new().await;
    bench.signalling.fail(true);
    for outcome in [
        bench.operations.add_transport(&admin(), transport("udp", 5070)).await,
        bench.operations.update_transport(&admin(), "1", moved(5070)).await,
        bench.operations.remove_transport(&admin(), "1", How::default()).await,
    ] {
        let error = outcome.unwrap_err();
        assert!(error.message.contains("in use by another program; nothing changed"), "{error}");
        assert_eq!(error.kind(), Kind::Refused);
    }
    assert_eq!(bench.transports().await, FIRST, "the filter has let the new ports go again");
    let audit = bench.store().audit_rows(9).await.unwrap();
    assert_eq!(audit.iter().filter(|row| row.what == "transport.undo").count(), 3);
}

#[tokio::test]
async fn a_filter_that_does_not_take_the_ports_leaves_everything_open() {
    let bench = Bench::new().await;
    bench.filter.fail(true);
    let unknown = "the map is gone; no transport changed, but the filter may protect a port too many";
    let error = bench.operations.add_transport(&admin(), transport("udp", 5070)).await.unwrap_err();
    assert!(error.message.contains(unknown), "{error}");
    let error = bench.operations.update_transport(&admin(), "1", moved(5070)).await.unwrap_err();
    assert!(error.message.contains(unknown), "{error}");
    // What does not move a port does not need the filter.
    let outside = UpdateTransport { external_port: Some(6060), ..UpdateTransport::default() };
    bench.operations.update_transport(&admin(), "1", outside).await.unwrap();
    bench.filter.fail(false);
    // The filter has both ports before the old one is left, or nothing happens.
    *bench.filter.refused_ports.lock().unwrap() = Some(vec![5060, 5061, 5063, 5070]);
    for outcome in [
        bench.operations.add_transport(&admin(), transport("udp", 5070)).await,
        bench.operations.update_transport(&admin(), "1", moved(5070)).await,
    ] {
        let error = outcome.unwrap_err();
        assert!(error.message.ends_with("the map of ports is gone; nothing changed"), "{error}");
    }
    assert_eq!(bench.signalling.called(), ["open 1 UDP 5060"], "no phone lost its connection");
    assert_eq!(bench.transports().await, FIRST);
    let audit = bench.store().audit_rows(9).await.unwrap();
    assert_eq!(audit.len(), 1, "{audit:?}");
    *bench.filter.refused_ports.lock().unwrap() = None;
    bench.operations.add_transport(&admin(), transport("udp", 5070)).await.unwrap();
    assert_eq!(bench.transports().await.len(), 4);
}

#[tokio::test]
async fn a_filter_that_does_not_let_an_old_port_go_is_told_and_the_change_stands() {
    let bench = Bench::new().await;
    *bench.filter.refused_ports.lock().unwrap() = Some(vec![5061, 5063, 5070]);
    let answer = bench.operations.update_transport(&admin(), "1", moved(5070)).await.unwrap();
    assert!(answer.notes[0].starts_with("the filter goes on protecting port 5060 until"), "{:?}", answer.notes);
    assert_eq!(bench.signalling.open_ones()[0], "UDP 5070");
    assert_eq!(*bench.filter.transports.lock().unwrap(), [5060, 5061, 5063, 5070]);
    *bench.filter.refused_ports.lock().unwrap() = Some(vec![5061, 5063]);
    let answer = bench.operations.remove_transport(&admin(), "1", How::default()).await.unwrap();
    assert!(answer.notes[0].starts_with("the filter goes on protecting port 5070 until"), "{:?}", answer.notes);
    *bench.filter.refused_ports.lock().unwrap() = None;
    let values = [("guard.level1.packets".to_owned(), "400".to_owned())].into();
    bench.operations.set_settings(&admin(), SetSettings { values, ..SetSettings::default() }).await.unwrap();
    assert_eq!(bench.transports().await, FIRST[1..]);
}

#[tokio::test]
async fn a_store_that_does_not_take_a_transport_leaves_it_and_its_ports() {
    let bench = Bench::new().await;
    bench.store().close().await;
    let error = bench.operations.update_transport(&admin(), "1", moved(5070)).await.unwrap_err();
    assert!(error.message.ends_with("nothing was changed"), "{error}");
    assert_eq!(bench.signalling.open_ones(), FIRST);
    assert_eq!(*bench.filter.transports.lock().unwrap(), [5060, 5061, 5063]);
    assert!(bench.signalling.called().is_empty());
}

#[tokio::test]
async fn the_last_transport_stays() {
    let bench = Bench::new().await;
    for id in ["1", "2"] {
        bench.operations.remove_transport(&admin(), id, How::default()).await.unwrap();
    }
    let error = bench.operations.remove_transport(&admin(), "3", FORCED).await.unwrap_err();
    assert_eq!((error.code.as_str(), bench.transports().await.len()), ("REFUSED", 1));
    let (bench, _) = bench.restarted().await;
    assert_eq!(bench.transports().await, ["TLS 5061"]);
}

#[tokio::test]
async fn what_does_not_fit_names_the_field() {
    let bench = Bench::new().await;
    let refuse =
        |verification: &str| AddTransport { verification: Some(verification.into()), ..transport("tls", 5070) };
    let algorithms = |names: &[&str]| AddTransport {
        algorithms: Some(names.iter().map(|name| (*name).into()).collect()),
        ..transport("udp", 5070)
    };
    for (request, field) in [
        (transport("wss", 5070), "protocol: "),
        (transport("udp", 0), "port: 0 is no port"),
        (transport("udp", 70_000), "port: 70000 is no port"),
        (transport("udp", 5060), "port: 5060 is the port of another transport"),
        (transport("tcp", 5061), "port: 5061 is the port of another transport"),
        (transport("udp", 45_000), "port: 45000 is one of the ports that calls use"),
        (AddTransport { external_port: Some(0), ..transport("udp", 5070) }, "external_port: "),
        (algorithms(&[]), "algorithms: "),
        (algorithms(&["sha1"]), "algorithms: "),
        (algorithms(&["md5", "MD5"]), "algorithms: md5 is there twice"),
        (refuse("REQUIRE"), "verification: not yet"),
        (AddTransport { certificate: Some("a".into()), ..transport("tls", 5070) }, "private_key: "),
        (AddTransport { private_key: Some("a".into()), ..transport("tls", 5070) }, "certificate: "),
        (
            AddTransport { certificate: Some("a".into()), private_key: Some("b".into()), ..transport("udp", 5070) },
            "certificate: UDP has none",
        ),
        (
            AddTransport { certificate: Some("a".into()), private_key: Some("b".into()), ..transport("tls", 5070) },
            "certificate: the key does not belong",
        ),
    ] {
        let error = bench.operations.add_transport(&admin(), request.clone()).await.unwrap_err();
        assert!(error.message.starts_with(field) && error.kind() == Kind::Usage, "{request:?}: {error}");
    }
    assert_eq!(bench.transports().await, FIRST);
}

#[tokio::test]
async fn the_port_of_sshd_is_no_transports() {
    let bench = Bench::new().await;
    bench.surroundings.lock().unwrap().ssh_ports = vec![22, 2222];
    for outcome in [
        bench.operations.add_transport(&admin(), transport("udp", 22)).await,
        bench.operations.add_transport(&admin(), transport("tcp", 2222)).await,
        bench.operations.update_transport(&admin(), "1", moved(2222)).await,
    ] {
        let error = outcome.unwrap_err();
        assert!(error.message.starts_with("port: sshd listens on 22") && error.kind() == Kind::Usage, "{error}");
    }
    bench.blind.store(true, Ordering::Relaxed);
    let error = bench.operations.add_transport(&admin(), transport("udp", 2222)).await.unwrap_err();
    assert_eq!(error.code, "SURROUNDINGS");
    bench.blind.store(false, Ordering::Relaxed);
    assert_eq!(bench.transports().await, FIRST);
    // What is there already can still be changed, and nobody needs 22 where no sshd listens.
    bench.surroundings.lock().unwrap().ssh_ports = vec![5060];
    let outside = UpdateTransport { external_port: Some(6060), ..UpdateTransport::default() };
    bench.operations.update_transport(&admin(), "1", outside).await.unwrap();
    bench.operations.add_transport(&admin(), transport("udp", 22)).await.unwrap();
    // A port of sshd by its configuration, at which a transport of ours listens.
    bench.surroundings.lock().unwrap().ssh_ports = vec![5063];
    bench.operations.add_transport(&admin(), transport("udp", 5063)).await.unwrap();
}

#[tokio::test]
async fn media_ports_do_not_take_a_transports_port() {
    let bench = Bench::new().await;
    bench.operations.add_transport(&admin(), transport("udp", 40_000)).await.unwrap();
    let values = [("filter.media_ports".to_owned(), "39000-41000".to_owned())].into();
    let error =
        bench.operations.set_settings(&admin(), SetSettings { values, ..SetSettings::default() }).await.unwrap_err();
    assert!(error.message.contains("40000 is the port of the UDP transport"), "{error}");
    let values = [("guard.level1.packets".to_owned(), "400".to_owned())].into();
    bench.operations.set_settings(&admin(), SetSettings { values, ..SetSettings::default() }).await.unwrap();
    assert_eq!(bench.transports().await.len(), 4, "a change of settings keeps the ports of the transports");
    let told = bench.signalling.settings.lock().unwrap().clone().unwrap();
    assert_eq!(told.guard.level1.packets.get(), 400);
}

#[tokio::test]
async fn a_certificate_is_replaced_while_the_port_stays_and_a_wrong_one_changes_nothing() {
    let bench = Bench::new().await;
    let pair = |chain: &str, key: &str| SetCertificate {
        certificate: Some(chain.into()),
        private_key: Some(key.into()),
        dry_run: false,
    };
    let error = bench.operations.set_certificate(&admin(), "3", pair("mine", "PRIVATE other")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(bench.operations.certificate("3").unwrap().certificate.as_deref(), Some("self-signed"));
    assert!(bench.signalling.called().is_empty());
    bench.operations.set_certificate(&admin(), "3", pair("mine", "PRIVATE mine")).await.unwrap();
    assert_eq!(bench.signalling.called(), ["open 3 TLS 5061"]);
    let ended = bench.operations.set_certificate(&admin(), "3", pair("old", "PRIVATE old")).await.unwrap();
    assert_eq!(ended.notes, ["it ended yesterday"]);
    bench.operations.set_certificate(&admin(), "3", pair("mine", "PRIVATE mine")).await.unwrap();
    assert_eq!(bench.operations.certificate("3").unwrap().certificate.as_deref(), Some("mine"));
    let told = format!(
        "{:?} {:?}",
        bench.store().audit_rows(9).await.unwrap(),
        bench.operations.events(&ListOptions::default(), None).await.unwrap()
    );
    assert!(told.contains("gave another certificate to") && !told.contains("PRIVATE"), "{told}");
    let long = SetCertificate { certificate: Some("x".repeat(50_000)), private_key: Some("x".into()), dry_run: false };
    let error = bench.operations.set_certificate(&admin(), "3", long).await.unwrap_err();
    assert!(error.message.starts_with("certificate: 50000 bytes"), "{error}");
    assert_eq!(bench.operations.certificate("1").unwrap_err().kind(), Kind::Usage);
}

#[tokio::test]
async fn a_transport_that_does_not_open_at_the_start_is_told_and_the_others_work() {
    let bench = Bench::new().await;
    bench.signalling.fail(true);
    bench.signalling.transports.lock().unwrap().clear();
    bench.operations.start_signalling().await.unwrap();
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    assert_eq!(events.iter().filter(|event| event.message.contains("does not open")).count(), 3);
    let status = bench.operations.transport_status("1").await.unwrap();
    assert!(status.state == TransportState::Deactivated && status.problem.is_some());
    let health = bench.operations.status().await.unwrap();
    assert_eq!(health.warnings.iter().filter(|warning| warning.starts_with("no phone reaches")).count(), 3);
    let findings = bench.operations.doctor().await.unwrap();
    let udp = findings.iter().find(|finding| finding.subject == "transport UDP 5060").unwrap();
    assert_eq!(udp.advice.as_deref(), Some("ss -lunp 'sport = :5060'"));
    bench.signalling.fails.store(false, Ordering::Relaxed);
    bench.operations.start_signalling().await.unwrap();
    assert_eq!(bench.operations.transport_status("1").await.unwrap().state, TransportState::Activated);
}

#[tokio::test]
async fn a_certificate_is_shown_with_what_it_says_and_without_its_key() {
    let bench = Bench::new().await;
    let made = crate::net::certificate::self_signed("pbx", &["sip.example.com".to_owned()], &[]).unwrap();
    let mut stored = bench.store().accounts().await.unwrap().transports;
    stored[2].chain = Some(made.chain.clone());
    let change = crate::store::AccountChange { transports: &stored[2..], ..Default::default() };
    bench.store().change_accounts(change).await.unwrap();
    let (bench, _) = bench.restarted().await;
    let view = bench.operations.certificate("3").unwrap();
    assert_eq!((view.certificate, view.names), (Some(made.chain), vec!["sip.example.com".to_owned()]));
    assert!(view.fingerprint.is_some() && view.not_after > Some(bench.now()));
}
