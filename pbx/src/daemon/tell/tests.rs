use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use pbx_core::{notify::NAMED, time::Timestamp};

use super::*;
use crate::{
    notify::{
        SIGNATURE, Security, TIMESTAMP,
        peer::{Mail, MailServer, Mood},
        signature,
    },
    ops::{Context, How, SetMail, SetSettings, SetWebhook, fake::Bench},
    store::NewEvent,
    web::tests::{Does, Server, status},
};

/// Without pauses, so that no test waits for one.
const BRISK: Pace = Pace { pauses: &[Duration::ZERO; 4], look: Duration::from_millis(5) };

/// Operations whose clock runs a thousand times as fast as ours, and somebody who tells.
struct Telling {
    bench: Bench,
    held: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _ending: watch::Sender<bool>,
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Telling {
    fn start(bench: Bench) -> Self {
        let (ending, ended) = watch::channel(false);
        let clock = bench.clock();
        let held = Arc::new(AtomicBool::new(false));
        let holding = held.clone();
        let running = tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(5)).await;
                if !holding.load(Ordering::Relaxed) {
                    clock.fetch_add(5000, Ordering::Relaxed);
                }
            }
        });
        let tasks = vec![running, tokio::spawn(tell(bench.operations.clone(), BRISK, ended))];
        Self { bench, held, tasks, _ending: ending }
    }

    async fn happens(&self, kind: EventKind, prefix: &str, message: &str) {
        let event = NewEvent {
            at: self.bench.now(),
            kind,
            prefix: prefix.parse().ok(),
            interface: None,
            message: message.to_owned(),
        };
        self.bench.operations.record(vec![event]).await;
    }

    async fn warnings(&self) -> Vec<String> {
        let warnings = self.bench.operations.status().await.unwrap().warnings;
        warnings.into_iter().filter(|warning| warning.contains("tells nobody")).collect()
    }
}

async fn set_mail(bench: &Bench, port: u16, user: Option<&str>) {
    let request = SetMail {
        host: Some("127.0.0.1".into()),
        port: Some(port),
        security: Some(Security::None),
        user: user.map(str::to_owned),
        password: user.map(|_| "s3cret-of-mail".to_owned()),
        from: Some("PBX <pbx@example.com>".into()),
        to: Some(vec!["admin@example.com".into(), "night@example.com".into()]),
        ..SetMail::default()
    };
    bench.operations.set_mail(&Context::daemon(), request).await.unwrap();
}

async fn switch_on(bench: &Bench, target: &str) {
    bench.operations.test_notify(&Context::daemon(), target).await.unwrap();
    bench.operations.switch_notify(&Context::daemon(), target, true, How::default()).await.unwrap();
}

/// Without the soft line breaks of quoted-printable.
fn body(mail: &Mail) -> String {
    mail.text.replace("=\r\n", "").replace("\r\n", "\n").replace("=C2=A0", " ").replace("=20", " ")
}

/// When a digest begins and ends, from its first line.
fn span(text: &str) -> (Timestamp, Timestamp) {
    let line = text.lines().find(|line| line.contains("Z to ")).unwrap();
    let (from, until) = line.rsplit_once(", ").unwrap().1.split_once(" to ").unwrap();
    (from.parse().unwrap(), until.parse().unwrap())
}

#[tokio::test]
async fn a_block_is_mailed_with_why_and_how_to_undo_it_once_a_test_has_arrived() {
    let bench = Bench::new().await;
    let mut server = MailServer::start(Mood::Takes).await;
    set_mail(&bench, server.port, Some("pbx")).await;
    let untested = bench.operations.switch_notify(&Context::daemon(), "mail", true, How::default()).await.unwrap_err();
    assert_eq!(untested.code, "UNTESTED");
    switch_on(&bench, "mail").await;
    let test = server.next().await;
    assert!(test.text.contains("Subject: ") && test.text.contains("This is a test"), "{}", test.text);
    // NUL, the user, NUL, the password, in base64.
    assert_eq!(test.login.as_deref(), Some("AHBieABzM2NyZXQtb2YtbWFpbA=="));
    assert_eq!(test.to, ["admin@example.com", "night@example.com"]);
    let telling = Telling::start(bench);
    telling.happens(EventKind::Settings, "", "of no interest").await;
    telling.happens(EventKind::Block, "203.0.113.9", "blocked for 1h: 50 wrong passwords").await;
    let mail = server.next().await;
    let text = body(&mail);
    assert!(text.contains("1 block"), "{text}");
    assert!(text.contains("203.0.113.9: blocked for 1h: 50 wrong passwords"), "{text}");
    assert!(text.contains("undo: pbx block remove 203.0.113.9"), "{text}");
    assert!(!text.contains("of no interest"), "{text}");
    let history = telling.bench.operations.notify_history(&Default::default()).await.unwrap().items;
    let told: Vec<(&str, &str)> = history.iter().map(|row| (row.summary.as_str(), row.outcome.as_str())).collect();
    assert_eq!(told.last(), Some(&("test", "sent")));
}

#[tokio::test]
async fn one_digest_in_five_minutes_is_told_however_much_happens() {
    let bench = Bench::new().await;
    let mut server = MailServer::start(Mood::Takes).await;
    set_mail(&bench, server.port, None).await;
    switch_on(&bench, "mail").await;
    server.next().await;
    let telling = Telling::start(bench);
    telling.happens(EventKind::Guard, "", "a flood of new sources").await;
    let first = body(&server.next().await);
    // All before the next one is due, however long a slow machine takes to write them.
    telling.held.store(true, Ordering::Relaxed);
    for n in 0..NAMED + 60 {
        telling.happens(EventKind::Block, &format!("203.0.113.{}", n % 250), "blocked").await;
    }
    telling.held.store(false, Ordering::Relaxed);
    let second = body(&server.next().await);
    assert!(first.contains("Floods (1)"), "{first}");
    assert!(second.contains("Blocked (100)") && second.contains("and 60 more"), "{second}");
    let apart = span(&second).1.saturating_since(span(&first).1);
    assert!(apart >= Duration::from_secs(300), "{apart:?}");
}

#[tokio::test]
async fn a_mail_server_that_fails_delays_nobody_and_status_says_since_when_and_why() {
    let bench = Bench::new().await;
    let mut server = MailServer::start(Mood::Takes).await;
    set_mail(&bench, server.port, None).await;
    switch_on(&bench, "mail").await;
    server.next().await;
    let telling = Telling::start(bench);
    *server.mood.lock().unwrap() = Mood::Silent;
    telling.happens(EventKind::Block, "203.0.113.9", "blocked").await;
    while *server.seen.lock().unwrap() < 2 {
        tokio::task::yield_now().await;
    }
    // The server has the connection and says nothing; everything else goes on.
    for n in 0..2000 {
        telling.happens(EventKind::Block, &format!("198.51.100.{}", n % 250), "blocked meanwhile").await;
    }
    let rule = serde_json::json!({ "cidr": "198.51.100.9", "target": "DENY" });
    telling.bench.operations.add_rule(&Context::daemon(), serde_json::from_value(rule).unwrap()).await.unwrap();
    assert!(server.mails.try_recv().is_err());
}

#[tokio::test]
async fn a_digest_is_tried_again_and_what_never_arrived_is_said_in_the_next_one() {
    let bench = Bench::new().await;
    let mut server = MailServer::start(Mood::Takes).await;
    set_mail(&bench, server.port, None).await;
    switch_on(&bench, "mail").await;
    server.next().await;
    let telling = Telling::start(bench);
    *server.mood.lock().unwrap() = Mood::Busy;
    telling.happens(EventKind::Block, "203.0.113.9", "blocked").await;
    let gave_up = loop {
        let history = telling.bench.operations.notify_history(&Default::default()).await.unwrap().items;
        if let Some(row) = history.into_iter().find(|row| row.outcome == "gave up") {
            break row;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((gave_up.attempts, gave_up.summary.as_str()), (5, "1 block"));
    let warnings = telling.warnings().await;
    assert!(warnings[0].contains("the mail tells nobody since ") && warnings[0].contains("too busy"), "{warnings:?}");
    *server.mood.lock().unwrap() = Mood::Takes;
    let text = body(&server.next().await);
    assert!(text.contains("1 earlier events could not be delivered"), "{text}");
    while !telling.warnings().await.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_webhook_is_signed_and_tried_again_with_the_same_id() {
    let bench = Bench::new().await;
    // The test, two failures, success.
    let fails = |number: usize| number == 2 || number == 3;
    let server = Server::start(move |number, _| match number {
        number if fails(number) => status("503 Service Unavailable"),
        _ => status("204 No Content"),
    })
    .await;
    let key = "a-key-of-many-letters";
    let request =
        SetWebhook { url: Some(server.url("/hook").to_string()), key: Some(key.into()), ..SetWebhook::default() };
    bench.operations.set_webhook(&Context::daemon(), request).await.unwrap();
    switch_on(&bench, "webhook").await;
    let telling = Telling::start(bench);
    telling.happens(EventKind::Block, "203.0.113.9", "blocked for 1h").await;
    while server.requests().len() < 4 {
        tokio::task::yield_now().await;
    }
    let requests = server.requests();
    let parsed = |request: &String| {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let header = |name: &str| {
            let line = head.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len() + 2..].to_owned()
        };
        assert_eq!(header(SIGNATURE), signature(key, &header(TIMESTAMP), body.as_bytes()));
        serde_json::from_str::<serde_json::Value>(body).unwrap()
    };
    assert_eq!(parsed(&requests[0])["test"], true);
    let digests: Vec<serde_json::Value> = requests[1..].iter().map(parsed).collect();
    assert_eq!((&digests[0]["id"], &digests[1]["id"]), (&digests[2]["id"], &digests[2]["id"]));
    assert_eq!(digests[2]["counts"]["block"], 1);
    assert_eq!(digests[2]["items"][0]["undo"], "pbx block remove 203.0.113.9");
    while !telling.warnings().await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn only_what_the_setting_names_is_told() {
    let bench = Bench::new().await;
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = Server::start(|_, _| status("200 OK")).await;
    let request = SetWebhook { url: Some(server.url("/").to_string()), ..SetWebhook::default() };
    bench.operations.set_webhook(&Context::daemon(), request).await.unwrap();
    switch_on(&bench, "webhook").await;
    let values = [("notify.about".to_owned(), "disk".to_owned()), ("notify.interval".to_owned(), "1m".to_owned())];
    let request = SetSettings { values: values.into(), ..SetSettings::default() };
    bench.operations.set_settings(&Context::daemon(), request).await.unwrap();
    let telling = Telling::start(bench);
    telling.happens(EventKind::Block, "203.0.113.9", "blocked").await;
    telling.happens(EventKind::Disk, "", "nearly full").await;
    while server.requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    heard.lock().unwrap().extend(server.requests().into_iter().skip(1));
    let heard = heard.lock().unwrap();
    assert!(heard[0].contains("nearly full") && !heard[0].contains("203.0.113.9"), "{heard:?}");
}

#[tokio::test]
async fn whoever_is_switched_off_is_not_told_and_not_tried_again() {
    let bench = Bench::new().await;
    let server =
        Server::start(|number, _| if number == 1 { status("200 OK") } else { Does::Stall(String::new()) }).await;
    let request = SetWebhook { url: Some(server.url("/").to_string()), ..SetWebhook::default() };
    bench.operations.set_webhook(&Context::daemon(), request).await.unwrap();
    switch_on(&bench, "webhook").await;
    let message = bench.operations.message(Default::default()).unwrap();
    bench.operations.switch_notify(&Context::daemon(), "webhook", false, How::default()).await.unwrap();
    assert_eq!(deliver(&bench.operations, Target::Webhook, &message, BRISK.pauses).await, Delivery::Off);
    bench.operations.remove_notify(&Context::daemon(), "webhook", How::default()).await.unwrap();
    assert_eq!(deliver(&bench.operations, Target::Webhook, &message, BRISK.pauses).await, Delivery::Off);
    assert_eq!(server.requests().len(), 1);
}
