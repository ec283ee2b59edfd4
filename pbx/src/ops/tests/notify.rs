use std::{sync::atomic::Ordering, time::Duration};

use super::{super::*, *};
use crate::{
    notify::{
        Security,
        peer::{MailServer, Mood},
    },
    store::EventKind,
    web::tests::{Server, status},
};

fn mail(port: u16) -> SetMail {
    SetMail {
        host: Some("127.0.0.1".into()),
        port: Some(port),
        security: Some(Security::None),
        user: Some("pbx".into()),
        password: Some("s3cret-of-mail".into()),
        from: Some("pbx@example.com".into()),
        to: Some(vec!["admin@example.com".into()]),
        ..SetMail::default()
    }
}

impl Bench {
    async fn events_of(&self, kind: EventKind) -> Vec<String> {
        let events = self.operations.events(&ListOptions::default(), None).await.unwrap().items;
        events.into_iter().filter(|event| event.kind == kind).map(|event| event.message).collect()
    }
}

#[tokio::test]
async fn a_password_is_sealed_and_never_shown_again() {
    let bench = Bench::new().await;
    let answer = bench.operations.set_mail(&admin(), mail(25)).await.unwrap();
    assert!(answer.item.secret && !answer.item.enabled && answer.item.tested_at.is_none());
    let key = "a-key-of-many-letters";
    let webhook =
        SetWebhook { url: Some("https://example.com/".into()), key: Some(key.into()), ..SetWebhook::default() };
    bench.operations.set_webhook(&admin(), webhook.clone()).await.unwrap();
    let shown = format!(
        "{}{}{:?}{:?}{:?}",
        serde_json::to_string(&answer).unwrap(),
        serde_json::to_string(&bench.operations.notify().await.unwrap()).unwrap(),
        bench.store().audit_rows(10).await.unwrap(),
        mail(25),
        webhook,
    );
    assert!(!shown.contains("s3cret") && !shown.contains("many-letters"), "{shown}");
    let stored = bench.store().notify_targets().await.unwrap();
    assert!(stored.iter().all(|one| !String::from_utf8_lossy(one.sealed_secret.as_ref().unwrap()).contains("et")));
    // The same again changes nothing.
    assert_eq!(bench.operations.set_mail(&admin(), mail(25)).await.unwrap().did, Did::Unchanged);
    assert_eq!(bench.operations.set_webhook(&admin(), webhook).await.unwrap().did, Did::Unchanged);
}

#[tokio::test]
async fn a_test_that_fails_leaves_mail_off_and_says_why() {
    let bench = Bench::new().await;
    let server = MailServer::start(Mood::RefusesUser).await;
    bench.operations.set_mail(&admin(), mail(server.port)).await.unwrap();
    let error = bench.operations.test_notify(&admin(), "mail").await.unwrap_err();
    assert_eq!((error.code.as_str(), error.kind()), ("NOTIFY_FAILED", Kind::Refused));
    assert!(error.message.contains("no such user") && !error.message.contains("s3cret"), "{error}");
    let untested = bench.operations.switch_notify(&admin(), "mail", true, How::default()).await.unwrap_err();
    assert!(untested.message.contains("`pbx notify test mail`"), "{untested}");
    let history = bench.operations.notify_history(&ListOptions::default()).await.unwrap().items;
    assert_eq!((history[0].outcome.as_str(), history[0].summary.as_str()), ("gave up", "test"));
}

#[tokio::test]
async fn another_configuration_is_off_until_it_was_tested() {
    let bench = Bench::new().await;
    let server = Server::start(|_, _| status("200 OK")).await;
    let to = |path: &str| SetWebhook { url: Some(server.url(path).to_string()), ..SetWebhook::default() };
    bench.operations.set_webhook(&admin(), to("/one")).await.unwrap();
    let tested = bench.operations.test_notify(&admin(), "webhook").await.unwrap();
    assert_eq!(tested.notes, ["`pbx notify on webhook` switches it on"]);
    let on = bench.operations.switch_notify(&admin(), "webhook", true, How::default()).await.unwrap();
    assert!(on.item.enabled);
    let dry = SetWebhook { dry_run: true, ..to("/two") };
    assert!(!bench.operations.set_webhook(&admin(), dry).await.unwrap().item.enabled);
    assert!(bench.operations.notify().await.unwrap().receivers[1].enabled);
    let changed = bench.operations.set_webhook(&admin(), to("/two")).await.unwrap();
    assert!(!changed.item.enabled && changed.notes[0].contains("it is off until then"), "{changed:?}");
    assert_eq!(
        bench.operations.switch_notify(&admin(), "webhook", true, How::default()).await.unwrap_err().code,
        "UNTESTED"
    );
    // It survives a restart.
    bench.operations.test_notify(&admin(), "webhook").await.unwrap();
    bench.operations.switch_notify(&admin(), "webhook", true, How::default()).await.unwrap();
    let (bench, _) = bench.restarted().await;
    assert!(bench.operations.notify().await.unwrap().receivers[1].enabled);
}

#[tokio::test]
async fn a_stored_password_does_not_go_to_another_server() {
    let bench = Bench::new().await;
    bench.operations.set_mail(&admin(), mail(25)).await.unwrap();
    let moved = SetMail { host: Some("localhost".into()), ..SetMail::default() };
    let error = bench.operations.set_mail(&admin(), moved).await.unwrap_err();
    assert!(error.message.contains("the stored one is for another server"), "{error}");
    let nobody = SetMail { user: Some(String::new()), ..SetMail::default() };
    assert!(!bench.operations.set_mail(&admin(), nobody).await.unwrap().item.secret);
    for (request, field) in [
        (SetMail { password: Some("x".into()), ..SetMail::default() }, "user: "),
        (SetMail { user: Some("pbx".into()), ..SetMail::default() }, "password: "),
        (SetMail { to: Some(vec!["x".into()]), ..SetMail::default() }, "to: "),
        (
            SetMail {
                host: Some("smtp.example.com".into()),
                user: Some("a".into()),
                password: Some("x".into()),
                ..SetMail::default()
            },
            "security: ",
        ),
    ] {
        let error = bench.operations.set_mail(&admin(), request).await.unwrap_err();
        assert!(error.message.starts_with(field), "{error}");
    }
    // The port by custom follows the security.
    let tls = SetMail { security: Some(Security::Tls), ..SetMail::default() };
    assert_eq!(bench.operations.set_mail(&admin(), tls).await.unwrap().item.mail.unwrap().port, 465);
    assert_eq!(bench.operations.test_notify(&admin(), "pigeon").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(bench.operations.test_notify(&viewer(), "mail").await.unwrap_err().kind(), Kind::Denied);
}

#[tokio::test]
async fn a_disk_that_fills_up_is_told_once_and_again_when_there_is_room() {
    let bench = Bench::new().await;
    bench.operations.look_after().await;
    assert!(bench.events_of(EventKind::Disk).await.is_empty());
    bench.free.store(1 << 30, Ordering::Relaxed);
    for _ in 0..3 {
        bench.operations.look_after().await;
    }
    assert_eq!(bench.events_of(EventKind::Disk).await.len(), 1);
    let warnings = bench.operations.status().await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("the disk is nearly full: 1.0 GiB of 100.0 GiB free")));
    bench.free.store(50 << 30, Ordering::Relaxed);
    bench.operations.look_after().await;
    assert!(bench.events_of(EventKind::Disk).await[0].contains("has room again"));
}

#[tokio::test]
async fn a_certificate_that_ends_is_told_at_30_days_7_days_1_day_and_its_end() {
    let bench = Bench::new().await;
    let pair = crate::net::certificate::self_signed("pbx", &["pbx.example.com".to_owned()], &[]).unwrap();
    // What the signalling side of the tests takes for the key.
    let key = Some(format!("PRIVATE {}", pair.chain));
    let own = SetCertificate { certificate: Some(pair.chain), private_key: key, ..SetCertificate::default() };
    bench.operations.set_certificate(&admin(), "3", own).await.unwrap();
    let replaced = bench.events_of(EventKind::Certificate).await;
    assert_eq!(replaced, ["root replaced the certificate of TLS 5061"]);
    let end = bench.operations.certificate("3").unwrap().not_after.unwrap();
    let day = Duration::from_secs(86_400);
    for (left, expected) in [(31, 0), (30, 1), (29, 1), (7, 2), (6, 2), (1, 3), (0, 4)] {
        let at = end.saturating_sub(day * left);
        bench.clock().store(at.as_millis(), Ordering::Relaxed);
        bench.operations.look_after().await;
        let told = bench.events_of(EventKind::Certificate).await.len() - 1;
        assert_eq!(told, expected, "{left} days before");
    }
    assert!(bench.events_of(EventKind::Certificate).await[0].contains("has ended"));
}
