//! What no phone sends: it is refused and counted, costs bounded memory, and nobody else notices.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pbx_tests::{
    daemon::Daemon,
    phone::{Heard, Line, Request},
};

use super::{Site, TLS, memory, on_site, server};

/// Longer than any limit on streams.
const PATIENCE: Duration = Duration::from_secs(30);
/// What all of it together may cost, KiB.
const BOUND: u64 = 64 * 1024;

/// What is wrong with a request, the status that answers it (none: silence), and how a good one is made so.
type Case = (&'static str, Option<u16>, fn(&mut Request));

#[test]
fn malformed_datagrams_get_the_status_of_the_rfc_or_silence_and_are_counted() {
    on_site(|site, daemon| {
        let (password, before) = warm(site, &daemon)?;
        site.pbx.pbx("guard set sip.challenges.source=1000")?;
        let mut line = site.udp(&site.lab.bad)?;
        let cases: &[Case] = &[
            ("another version", Some(505), |request| request.version = "SIP/3.0".to_owned()),
            ("an unknown method", Some(501), |request| {
                (request.method, request.cseq) = ("NEWMETHOD".to_owned(), "1 NEWMETHOD".to_owned());
            }),
            ("a telephone number", Some(416), |request| request.uri = "tel:+4930123".to_owned()),
            ("an unknown extension", Some(420), |request| request.more += "Require: nothingSupportsThis\r\n"),
            ("another method in CSeq", Some(400), |request| request.cseq = "1 OPTIONS".to_owned()),
            ("a CSeq that is no number", Some(400), |request| request.cseq = "one REGISTER".to_owned()),
            ("a second Call-ID", Some(400), |request| request.more += "Call-ID: 2\r\n"),
            ("a header of 60 KiB", Some(400), |request| {
                request.more += &format!("X-Long: {}\r\n", "x".repeat(60 * 1024));
            }),
            ("a hundred Vias", Some(400), |request| {
                request.more += &"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n".repeat(100);
            }),
            ("a thousand Vias", None, |request| {
                request.more += &"Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n".repeat(1000);
            }),
            ("a Content-Length beyond the datagram", Some(400), |request| request.length = Some("500".to_owned())),
            ("a Content-Length below zero", Some(400), |request| request.length = Some("-1".to_owned())),
            ("10,000 contacts", Some(400), |request| request.more = format!("m: {}\r\n", ["<a:b>"; 10_000].join(","))),
            ("no message", None, |request| request.version = "HTTP/1.1".to_owned()),
            ("what begins like STUN", None, |request| request.method = "\u{0}\u{1}".to_owned()),
        ];
        let mut counted = 0;
        for (name, status, change) in cases {
            let mut bad = line.request("100");
            change(&mut bad);
            let bytes = line.bytes(&bad);
            line.send(&bytes)?;
            // Answers come in order: what follows is heard first only if there is none to this.
            let after = line.request("100");
            let bytes = line.bytes(&after);
            line.send(&bytes)?;
            let first = line.hear(PATIENCE)?;
            let heard = first.as_ref().and_then(Heard::status);
            assert_eq!(heard, Some(status.unwrap_or(401)), "{name}: {first:?}");
            if status.is_some() {
                let second = line.hear(PATIENCE)?;
                assert_eq!(second.as_ref().and_then(Heard::status), Some(401), "{name}: {second:?}");
            }
            counted += 1;
            let refused = || -> Result<u64> {
                let reasons = ["malformed", "garbage", "broken", "not_sip"];
                reasons.iter().map(|reason| site.dropped("udp:5060", reason)).sum()
            };
            assert_eq!(refused()?, counted, "{name} is counted");
        }
        phone_next_to_it_registers(site, &password)?;
        ensure!(memory(&daemon)? < before + BOUND, "{before} KiB became {}", memory(&daemon)?);
        daemon.stop()
    });
}

#[test]
fn bad_streams_are_answered_and_closed_and_counted() {
    on_site(|site, daemon| {
        let (password, before) = warm(site, &daemon)?;
        site.pbx.pbx("guard set sip.challenges.source=1000")?;
        let cases: &[Case] = &[
            ("a body of 64 KiB", Some(413), |request| {
                (request.length, request.body) = (Some("65536".to_owned()), vec![b'x'; 65_536]);
            }),
            ("a body of a gigabyte", Some(413), |request| request.length = Some("1073741824".to_owned())),
            ("a Content-Length of many digits", Some(413), |request| request.length = Some("9".repeat(40))),
            ("a thousand Vias", Some(400), |request| {
                request.more += &"Via: SIP/2.0/TCP a\r\n".repeat(1000);
            }),
            ("a header of 60 KiB", Some(513), |request| {
                request.more += &format!("X-Long: {}\r\n", "x".repeat(60 * 1024));
            }),
            ("10,000 contacts", Some(513), |request| {
                request.more = format!("Contact: {}\r\n", ["<sip:100@192.0.2.1>"; 10_000].join(", "));
            }),
            ("a Content-Length below zero", Some(400), |request| request.length = Some("-5".to_owned())),
            ("Content-Length twice", Some(400), |request| request.more += "Content-Length: 0\r\n"),
            ("no Content-Length", Some(400), |request| request.length = None),
            ("a Content-Length that is too small", Some(401), |request| {
                (request.length, request.body) = (Some("2".to_owned()), b"v=0 and what is no message\r\n".to_vec());
            }),
            ("no message", None, |request| request.version = "HTTP/1.1".to_owned()),
        ];
        let mut counted = 0;
        for over in ["tcp", "tls"] {
            for (name, status, change) in cases {
                let mut line = if over == "tcp" { site.tcp(&site.lab.bad)? } else { site.tls(&site.lab.bad)? };
                let mut request = line.request("100");
                change(&mut request);
                let bytes = line.bytes(&request);
                line.send(&bytes)?;
                let before = line.wait_end(PATIENCE)?;
                let heard: Vec<u16> = before.iter().filter_map(Heard::status).collect();
                assert_eq!(heard, status.iter().copied().collect::<Vec<_>>(), "{name} over {over}: {before:?}");
                counted += 1;
                site.pbx.wait("transport status", |all| super::dropped(all, "not_framed") >= counted)?;
            }
        }
        phone_next_to_it_registers(site, &password)?;
        ensure!(memory(&daemon)? < before + BOUND, "{before} KiB became {}", memory(&daemon)?);
        daemon.stop()
    });
}

#[test]
fn a_register_with_more_contacts_than_fit_is_refused_whole() {
    on_site(|site, daemon| {
        let (password, _) = warm(site, &daemon)?;
        for count in [11, 200] {
            let mut line = site.tcp(&site.lab.good)?;
            let mut request = line.request("100");
            request.more =
                (0..count).map(|at| format!("Contact: <sip:{at}@192.0.2.1>\r\n")).collect::<Vec<_>>().concat();
            if count == 200 {
                request.more = request.more.replace("\r\nContact: ", ", ");
            }
            let status = line.prove(request, &password)?;
            assert!((400..500).contains(&status) && status != 401, "{count} contacts: {status}");
        }
        let kept = site.registered("100")?;
        assert!(kept.iter().all(|one| !one["contact"].to_string().contains("192.0.2.1")), "{kept:#?}");
        phone_next_to_it_registers(site, &password)?;
        daemon.stop()
    });
}

#[test]
fn a_stream_that_drips_and_one_whose_body_never_comes_are_closed_and_counted() {
    on_site(|site, daemon| {
        let (password, _) = warm(site, &daemon)?;
        site.pbx.pbx("guard set sip.connections.idle=5s")?;
        let (mut silent, mut waiting) = (site.tcp(&site.lab.bad)?, site.tls(&site.lab.bad)?);
        let mut request = waiting.request("100");
        request.length = Some("500".to_owned());
        let bytes = waiting.bytes(&request);
        waiting.send(&bytes)?;

        let mut drip = site.tcp(&site.lab.bad)?;
        let request = drip.request("100");
        let bytes = drip.bytes(&request);
        let begin = Instant::now();
        for byte in bytes.chunks(1) {
            drip.send(byte)?;
            if let Some(heard) = drip.hear(Duration::from_secs(1))? {
                assert_eq!(heard, Heard::End);
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "it may go on dripping");
        }
        assert_eq!(silent.wait_end(PATIENCE)?, []);
        waiting.wait_end(PATIENCE)?;
        let late = |all: &_| super::dropped(all, "idle") + super::dropped(all, "message_too_slow");
        site.pbx.wait("transport status", |all| late(all) == 3)?;
        phone_next_to_it_registers(site, &password)?;
        daemon.stop()
    });
}

#[test]
fn idle_tls_connections_of_one_source_are_limited_closed_in_time_and_leave_room_for_others() {
    const TRIED: u64 = 300;
    const LIMIT: u64 = 100;
    on_site(|site, daemon| {
        let (password, before) = warm(site, &daemon)?;
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..TRIED {
            match site.tls(&site.lab.bad) {
                Ok(line) => held.push(line),
                Err(_) => refused += 1,
            }
        }
        assert_eq!((held.len() as u64, refused), (LIMIT, TRIED - LIMIT));
        site.wait_dropped("tls:5061", "too_many_connections_of_source", TRIED - LIMIT)?;
        let status = site.pbx.pbx("transport status tls:5061")?;
        assert_eq!(status["items"][0]["connections"], LIMIT, "{status:#}");
        ensure!(memory(&daemon)? < before + BOUND, "{before} KiB became {}", memory(&daemon)?);

        let mut phone = site.tls(&site.lab.good)?;
        assert_eq!(phone.register("100", &password)?, 200);
        drop(held);
        site.pbx.wait("transport status tls:5061", |status| status["items"][0]["connections"] == 1)?;
        // A place that was given back is taken again, and lost when nobody registers in time.
        site.pbx.pbx("guard set sip.connections.idle=5s")?;
        let mut idle = (0..20).map(|_| site.tls(&site.lab.bad)).collect::<Result<Vec<_>>>()?;
        idle.iter_mut().try_for_each(|line| line.wait_end(PATIENCE).map(drop))?;
        site.wait_dropped("tls:5061", "idle", 20)?;
        // Who has registered may be silent.
        assert_eq!(phone.register("100", &password)?, 200);
        daemon.stop()
    });
}

#[test]
fn ten_thousand_idle_tls_connections_are_refused_or_closed_and_counted_in_bounded_memory() {
    const SOURCES: u64 = 100;
    const TRIED: u64 = 10_000;
    const CALLERS: u64 = 8;
    on_site(|site, daemon| {
        let (password, before) = warm(site, &daemon)?;
        let bad = &site.lab.bad;
        let source = |index: u64| IpAddr::from([10, 77, 2, 100 + (index % SOURCES) as u8]);
        (0..SOURCES).try_for_each(|index| bad.add_address(source(index)))?;
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;

        let (ended, most) = (AtomicBool::new(false), AtomicU64::new(0));
        let held: Result<Vec<Line>> = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                while !ended.load(Relaxed) {
                    most.fetch_max(memory(&daemon)?, Relaxed);
                    thread::sleep(Duration::from_millis(100));
                }
                Ok::<(), anyhow::Error>(())
            });
            let caller = |caller: u64| {
                let calls = (0..TRIED / CALLERS).map(move |call| source(call * CALLERS + caller));
                calls.filter_map(|source| Line::tls(&bad.network, Some(source), server(bad, TLS)).ok()).collect()
            };
            let callers: Vec<_> = (0..CALLERS).map(|index| scope.spawn(move || caller(index))).collect();
            let mut held = Vec::new();
            for caller in callers {
                let lines: Vec<Line> = caller.join().map_err(|_| anyhow!("a caller panicked"))?;
                held.extend(lines);
            }
            // In the middle of it.
            phone_next_to_it_registers(site, &password)?;
            assert_eq!(site.tls(&site.lab.good)?.register("100", &password)?, 200);
            ended.store(true, Relaxed);
            watch.join().map_err(|_| anyhow!("the watch panicked"))??;
            Ok(held)
        });
        let held = held?;
        let status = site.pbx.wait("transport status tls:5061", |status| status["items"][0]["connections"] == 0)?;
        let reasons = ["idle", "too_many_connections_of_source", "handshake_too_slow", "handshake_failed"];
        let counted: u64 = reasons.iter().map(|reason| super::dropped(&status, reason)).sum();
        assert_eq!(counted, TRIED, "{status:#}");
        let most = most.into_inner();
        ensure!(most < before + 256 * 1024, "{before} KiB became {most} with {} held", held.len());
        phone_next_to_it_registers(site, &password)?;
        daemon.stop()
    });
}

#[test]
fn phones_register_at_once_while_others_send_nothing_but_rubbish() {
    on_site(|site, daemon| {
        let (password, before) = warm(site, &daemon)?;
        let stop = AtomicBool::new(false);
        let sent: Result<u64> = thread::scope(|scope| {
            let rubbish = scope.spawn(|| {
                let mut line = site.udp(&site.lab.bad)?;
                let mut request = line.request("100");
                request.version = "SIP/9.9".to_owned();
                let bytes = line.bytes(&request);
                let mut sent = 0;
                while !stop.load(Relaxed) {
                    // Below the filter's level: what it stops does not come here.
                    line.send(&bytes)?;
                    line.send(&[0xff; 1200])?;
                    sent += 2;
                    thread::sleep(Duration::from_millis(5));
                }
                Ok(sent)
            });
            let mut registered = Ok(());
            for _ in 0..50 {
                registered = registered.and_then(|()| phone_next_to_it_registers(site, &password));
            }
            stop.store(true, Relaxed);
            registered?;
            rubbish.join().map_err(|_| anyhow!("the sender panicked"))?
        });
        let sent = sent?;
        let counted = ["malformed", "garbage", "not_sip"]
            .iter()
            .map(|reason| site.dropped("udp:5060", reason))
            .sum::<Result<u64>>()?;
        ensure!(counted > 0 && counted <= sent, "{counted} of {sent} are counted");
        ensure!(memory(&daemon)? < before + BOUND, "{before} KiB became {}", memory(&daemon)?);
        daemon.stop()
    });
}

/// Adds the extension 100 and registers it once; its password, and the daemon's memory then.
fn warm(site: &Site, daemon: &Daemon) -> Result<(String, u64)> {
    site.without_detectors()?;
    let password = site.add("100")?;
    phone_next_to_it_registers(site, &password)?;
    Ok((password, memory(daemon)?))
}

fn phone_next_to_it_registers(site: &Site, password: &str) -> Result<()> {
    let mut line = site.udp(&site.lab.good)?;
    // One contact for all lines: there may be ten.
    let mut request = line.request("100");
    request.more = "Contact: <sip:100@10.77.1.2:9>\r\n".to_owned();
    let status = line.prove(request, password)?;
    ensure!(status == 200, "the phone next to it got {status}");
    Ok(())
}
