//! Every route over a real socket, by nobody, a viewer and an administrator.

use std::{collections::BTreeSet, sync::Arc};

use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::UnixStream, sync::watch};

use super::*;
use crate::ops::{Role, fake::Bench};

struct Served {
    bench: Bench,
    socket: std::path::PathBuf,
    ending: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn to(role: Option<Role>) -> Self {
        let bench = Bench::new().await;
        let socket = bench.folder.path().join("pbx.sock");
        let (ending, ended) = watch::channel(false);
        let router = router(bench.operations.clone(), Arc::new(move |_, _| role), Arc::default(), ended.clone());
        bench.operations.web_tls().await.unwrap();
        let server = tokio::spawn(Server::new(bind(&socket).unwrap(), router, ended).run());
        Self { bench, socket, ending, server }
    }

    async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (StatusCode, Value) {
        let (status, bytes) = self.raw(method, path, body.into()).await;
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn raw(&self, method: &str, path: &str, body: Bytes) -> (StatusCode, Bytes) {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "pbx").body(Full::new(body)).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let mut body = response.into_body();
        let bytes = if is_stream(path) && status == StatusCode::OK {
            Bytes::new()
        } else {
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
            }
            bytes.into()
        };
        connection.abort();
        (status, bytes)
    }
}

/// Streams go on until somebody hangs up.
fn is_stream(path: &str) -> bool {
    matches!(path, "/api/events" | "/api/trace" | "/api/trace/dropped")
}

/// What a viewer may not see.
fn says_who_calls_whom(path: &str) -> bool {
    path.starts_with("/api/backups")
        || path.starts_with("/api/trace")
        || path.starts_with("/api/sessions")
        || path.starts_with("/api/cdrs")
}

/// A request that an administrator may make and that works on a bench with one rule.
fn sample(method: &str, path: &str) -> (String, Bytes) {
    // The transport with a certificate is the third; of registrations there is one.
    let id = match path {
        path if path.contains("certificate") => "3",
        path if path.contains("tenants") && path.ends_with("destroy") => "2",
        path if path.contains("registrations") => "phone",
        path if path.contains("sessions") => "00000000000000ab",
        path if path.contains("cdrs") => "00000000000000cd",
        _ => "1",
    };
    let filled = path.replace("{id}", id).replace("{instance_id}", "urn:uuid:phone").replace("{number}", "101");
    let filled = filled.replace("{target}", "webhook");
    let filled = if path.contains("backups") { filled.replace("{name}", "pbx-saved.tar") } else { filled };
    let filled = if path.contains("feeds") { filled.replace("{name}", "listed") } else { filled };
    let filled =
        if path.contains("interfaces") { filled.replace("{name}", "eth0") } else { filled.replace("{name}", "strict") };
    let filled = if path.ends_with("blocks/show") { format!("{filled}?address=198.51.100.1") } else { filled };
    let filled = if path.ends_with("explain") { format!("{filled}?ip=198.51.100.1") } else { filled };
    let body = match (method, path) {
        ("POST", "/api/ip_filters") => json!({ "cidr": "198.51.100.9", "target": "DENY" }),
        ("POST", "/api/ip_filters/destroy") => json!({ "cidr": "198.51.100.1", "target": "DENY" }),
        ("POST", "/api/ip_filters/{id}") => json!({ "description": "new" }),
        ("POST", "/api/security/settings") => json!({ "values": { "guard.level1.packets": "400" } }),
        ("POST", "/api/security/mode") => json!({ "mode": "monitor" }),
        ("POST", "/api/security/blocks/remove") => json!({ "address": "198.51.100.1" }),
        ("POST", "/api/security/feeds") => json!({ "name": "other", "source": "/dev/null", "force": true }),
        ("POST", "/api/security/feeds/{name}") => json!({ "every": "1h" }),
        ("POST", "/api/security/notify/mail") => json!({ "port": 2525 }),
        ("POST", "/api/security/notify/webhook") => json!({ "url": "http://127.0.0.1:9/other" }),
        ("POST", "/api/users") => json!({ "extension_number": "102" }),
        ("POST", "/api/users/{id}") => json!({ "display_name": "Alice" }),
        ("POST", "/api/users/import") => return (filled, Bytes::from_static(b"number\n103\n")),
        ("POST", "/api/tenants") => json!({ "name": "branch" }),
        ("POST", "/api/tenants/{id}") => json!({ "domains": ["sip.example.com"] }),
        ("POST", "/api/transports") => json!({ "protocol": "UDP", "port": 5070 }),
        ("POST", "/api/transports/{id}") => json!({ "port": 5080 }),
        ("POST", "/api/ip_filters/import") => return (filled, Bytes::from_static(b"198.51.100.7\n")),
        ("POST", "/api/security/test") => {
            let mut capture = 0xA1B2_C3D4_u32.to_le_bytes().to_vec();
            capture.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0]);
            return (filled, capture.into());
        }
        _ => return (filled, Bytes::new()),
    };
    (filled, body.to_string().into())
}

#[tokio::test]
async fn every_route_asks_who_it_is() {
    for role in [None, Some(Role::View), Some(Role::Admin)] {
        for (method, path) in ROUTES {
            let served = Served::to(role).await;
            let rule = json!({ "cidr": "198.51.100.1", "target": "DENY" }).to_string();
            let made = served.ask("POST", "/api/ip_filters", rule).await.0;
            assert_eq!(made == StatusCode::OK, role == Some(Role::Admin));
            if role != Some(Role::Admin) {
                let context = crate::ops::Context::daemon();
                let rule = serde_json::from_value(json!({ "cidr": "198.51.100.1", "target": "DENY" })).unwrap();
                served.bench.operations.add_rule(&context, rule).await.unwrap();
            }
            served.bench.fill().await;
            if path.contains("pending/") {
                let request = json!({ "values": { "guard.level1.packets": "300" }, "confirm_within": "2m" });
                let request = serde_json::from_value(request).unwrap();
                served.bench.operations.set_settings(&crate::ops::Context::daemon(), request).await.unwrap();
            }
            served.bench.list().await;
            let peer = served.bench.receivers().await;
            let saved = crate::ops::MakeBackup::default();
            let saved = served.bench.operations.make_backup(&crate::ops::Context::daemon(), saved).await.unwrap();
            served.bench.operations.set_aside(&saved.item.name, "pbx-saved.tar");
            let audited = served.bench.store().audit_rows(100).await.unwrap().len();
            let (filled, body) = sample(method, path);
            let (status, answer) = served.ask(method, &filled, body).await;
            let reads = *method == "GET";
            let expected = match role {
                None => StatusCode::FORBIDDEN,
                Some(Role::View) if !reads || says_who_calls_whom(path) => StatusCode::FORBIDDEN,
                _ => StatusCode::OK,
            };
            assert_eq!(status, expected, "{role:?} {method} {path}: {answer}");
            if status == StatusCode::FORBIDDEN {
                assert_eq!(answer["errors"][0]["code"], "FORBIDDEN", "{method} {path}");
            }
            let now_audited = served.bench.store().audit_rows(100).await.unwrap().len();
            if status == StatusCode::FORBIDDEN || reads {
                assert_eq!(now_audited, audited, "{method} {path} changed something");
            } else if !matches!(
                *path,
                "/api/security/test"
                    | "/api/security/mode"
                    | "/api/security/settings/reset"
                    | "/api/registrations/{id}/ping"
                    | "/api/security/feeds/{name}/refresh"
                    | "/api/security/notify/{target}/disable"
            ) && !path.contains("interfaces")
            {
                assert!(now_audited > audited, "{method} {path} is not in the audit");
            }
            drop(peer);
        }
    }
}

#[tokio::test]
async fn every_path_that_is_served_is_in_the_table_with_its_verbs() {
    let served = Served::to(Some(Role::Admin)).await;
    let paths: BTreeSet<&str> = ROUTES.iter().map(|(_, path)| *path).collect();
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let (filled, _) = sample(method, path);
            let (status, answer) = served.ask(method, &filled, Bytes::new()).await;
            let listed = ROUTES.contains(&(method, path));
            assert_eq!(status != StatusCode::METHOD_NOT_ALLOWED, listed, "{method} {path}: {status} {answer}");
            if !listed {
                assert_eq!(answer["errors"][0]["code"], "VALIDATE_FAILED", "{method} {path}");
            }
        }
    }
    let (status, answer) = served.ask("GET", "/api/nothing", Bytes::new()).await;
    assert_eq!((status, &answer["errors"][0]["code"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn errors_have_one_shape_and_the_status_of_their_kind() {
    let served = Served::to(Some(Role::Admin)).await;
    for (method, path, body, status, code) in [
        ("POST", "/api/ip_filters", "", 400, "VALIDATE_FAILED"),
        ("POST", "/api/ip_filters", "{", 400, "VALIDATE_FAILED"),
        ("POST", "/api/ip_filters", r#"{"cidr":"10.0.0.300","target":"DENY"}"#, 400, "VALIDATE_FAILED"),
        ("POST", "/api/ip_filters", r#"{"cidr":"10.0.0.3","target":"DROP"}"#, 400, "VALIDATE_FAILED"),
        ("POST", "/api/ip_filters", r#"{"cidr":"10.0.0.3","target":"DENY","colour":1}"#, 400, "VALIDATE_FAILED"),
        ("POST", "/api/ip_filters", r#"{"cidr":"127.0.0.1","target":"DENY"}"#, 409, "REFUSED"),
        ("POST", "/api/ip_filters", r#"{"cidr":"203.0.113.50","target":"DENY"}"#, 409, "NEEDS_FORCE"),
        ("GET", "/api/ip_filters/99", "", 404, "NOT_FOUND"),
        ("GET", "/api/ip_filters?top=101", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/ip_filters?top=x", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/ip_filters?filter=colour%20eq%201", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/security/explain", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/security/explain?ip=x", "", 400, "VALIDATE_FAILED"),
        ("POST", "/api/ip_filters/import", "198.51.100.1\n10.0.0.300\n", 400, "VALIDATE_FAILED"),
        ("POST", "/api/security/profiles/none", "", 404, "NOT_FOUND"),
        ("POST", "/api/security/mode", r#"{"mode":"fast"}"#, 400, "VALIDATE_FAILED"),
        ("GET", "/api/trace?ip=10.0.0.1&ip=x", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/trace?colour=1", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/trace?call=ab", "", 404, "NOT_FOUND"),
        ("GET", "/api/trace?call=x", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/trace?call=a&call=b", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/sessions/ab", "", 404, "NOT_FOUND"),
        ("GET", "/api/sessions/me", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/sessions?filter=colour%20eq%201", "", 400, "VALIDATE_FAILED"),
        ("POST", "/api/sessions/ab/destroy", "", 404, "NOT_FOUND"),
        ("POST", "/api/sessions/ab/destroy", r#"{"colour":1}"#, 400, "VALIDATE_FAILED"),
        ("GET", "/api/cdrs/ab", "", 404, "NOT_FOUND"),
        ("GET", "/api/cdrs/12345678123456781", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/cdrs?orderby=colour", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/cdrs/export?format=xml", "", 400, "VALIDATE_FAILED"),
        ("GET", "/api/cdrs/export?top=5", "", 400, "VALIDATE_FAILED"),
    ] {
        let (got, answer) = served.ask(method, path, body).await;
        assert_eq!(
            (got.as_u16(), &answer["errors"][0]["code"]),
            (status, &json!(code)),
            "{method} {path} {body}: {answer}"
        );
        assert!(answer["errors"][0]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(answer["errors"][0].get("detail").is_some());
    }
    served.bench.filter.fail(true);
    let rule = json!({ "cidr": "198.51.100.1", "target": "DENY" }).to_string();
    let (status, answer) = served.ask("POST", "/api/ip_filters", rule).await;
    assert_eq!((status.as_u16(), &answer["errors"][0]["code"]), (500, &json!("FILTER_FAILED")));
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_and_a_long_list_is_not() {
    let served = Served::to(Some(Role::Admin)).await;
    let long = vec![b' '; BODY + 1];
    assert_eq!(served.ask("POST", "/api/ip_filters", long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let list: String =
        (0..20_000_u32).map(|n| format!("{}\n", std::net::Ipv4Addr::from_bits(0x0B00_0000 + n))).collect();
    assert!(list.len() > 2 * BODY);
    let (status, answer) = served.ask("POST", "/api/ip_filters/import", list).await;
    assert_eq!((status, &answer["added"]), (StatusCode::OK, &json!(20_000)));
}

#[tokio::test]
async fn shapes_are_those_of_the_vendor() {
    let served = Served::to(Some(Role::Admin)).await;
    let rule =
        json!({ "cidr": "41.202.0.0", "mask": "255.255.0.0", "target": "DENY", "for": "2h", "description": "x" });
    let (_, made) = served.ask("POST", "/api/ip_filters", rule.to_string()).await;
    assert_eq!(
        (&made["did"], &made["item"]["id"], &made["item"]["cidr"]),
        (&json!("added"), &json!("1"), &json!("41.202.0.0/16"))
    );
    let (_, list) = served.ask("GET", "/api/ip_filters?count=true&filter=target%20eq%20'DENY'", Bytes::new()).await;
    assert_eq!((&list["count"], &list["items"][0]["target"]), (&json!(1), &json!("DENY")));
    let item = &list["items"][0];
    assert!(item["expire_at"].as_str().unwrap().ends_with('Z') && item["packets"].is_u64(), "{item}");
    let (_, text) = served.raw("GET", "/api/ip_filters/export", Bytes::new()).await;
    assert!(text.starts_with(b"41.202.0.0/16 block until "), "{text:?}");
}

#[tokio::test]
async fn live_events_arrive_and_the_stream_ends_with_the_daemon() {
    let served = Served::to(Some(Role::Admin)).await;
    let stream = UnixStream::connect(&served.socket).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().uri("/api/events").header("host", "pbx").body(Full::new(Bytes::new())).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let rule = json!({ "cidr": "198.51.100.1", "target": "DENY" }).to_string();
    served.ask("POST", "/api/ip_filters", rule).await;
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.into()).unwrap();
    assert!(text.contains("event: rules") && text.contains("198.51.100.1"), "{text}");
    served.ending.send(true).unwrap();
    assert!(body.frame().await.is_none_or(|frame| frame.is_err()));
    tokio::time::timeout(std::time::Duration::from_secs(5), served.server).await.unwrap().unwrap();
}

#[tokio::test]
async fn messages_arrive_while_somebody_follows_and_nobody_is_counted_when_he_hangs_up() {
    let served = Served::to(Some(Role::Admin)).await;
    let trace = &served.bench.signalling.trace;
    let stream = UnixStream::connect(&served.socket).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let path = "/api/trace?ip=198.51.100.0%2F24&ip=2001%3Adb8%3A%3A1";
    let request = Request::builder().uri(path).header("host", "pbx").body(Full::new(Bytes::new())).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    assert!(trace.is_followed());
    for remote in ["203.0.113.7:5060", "198.51.100.7:5060"] {
        let flow = pbx_core::transport::Flow {
            transport: pbx_core::transport::TransportId(1),
            protocol: pbx_core::transport::Protocol::Udp,
            local: "192.0.2.5:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: None,
        };
        let bytes = b"OPTIONS sip:a SIP/2.0\r\nAuthorization: Digest response=77\r\nX: \x1b[2J\r\n\r\n";
        trace.show(crate::trace::Direction::Received, &flow, bytes, || served.bench.now());
    }
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.into()).unwrap();
    assert!(text.starts_with("event: message\ndata: {\"time\":\"2026-"), "{text}");
    assert!(text.contains(r#""direction":"received","protocol":"UDP""#) && text.contains(r#""start_line":"OPTIONS"#));
    assert!(text.contains("198.51.100.7:5060") && !text.contains("203.0.113.7"), "{text}");
    assert!(text.contains("response=…") && !text.contains('\x1b'), "{text}");
    connection.abort();
    let nobody = async {
        while trace.is_followed() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), nobody).await.expect("the follower is gone");
}

#[tokio::test]
async fn a_follower_that_is_too_slow_is_told_how_much_it_lost() {
    let served = Served::to(Some(Role::Admin)).await;
    let mut follower = served.bench.operations.follow();
    let event = |n: i64| crate::store::NewEvent {
        at: pbx_core::time::Timestamp::from_millis(n),
        kind: crate::store::EventKind::Block,
        prefix: None,
        interface: None,
        message: n.to_string(),
    };
    served.bench.operations.record((0..3000).map(event).collect()).await;
    let lost = follower.recv().await.unwrap_err();
    assert!(matches!(lost, tokio::sync::broadcast::error::RecvError::Lagged(n) if n >= 1900), "{lost}");
    assert_eq!(follower.recv().await.unwrap().message, (3000 - 1024).to_string());
}

#[test]
fn root_and_the_daemon_itself_may_change_and_a_stranger_nothing() {
    use nix::unistd::{Gid, Uid};
    let authority = system_authority();
    assert_eq!(authority(Uid::from_raw(0), Gid::from_raw(0)), Some(Role::Admin));
    assert_eq!(authority(Uid::effective(), Gid::effective()), Some(Role::Admin));
    assert_eq!(authority(Uid::from_raw(3_999_999), Gid::from_raw(3_999_999)), None);
}

#[tokio::test]
async fn extensions_transports_and_tenants_have_the_shapes_of_the_vendor_and_no_secret() {
    let served = Served::to(Some(Role::Admin)).await;
    let body = json!({ "extension_number": "101", "extension_password": "kT7wq2mz-secret" }).to_string();
    let (status, made) = served.ask("POST", "/api/users", body).await;
    assert_eq!((status, &made["did"], &made["item"]["id"]), (StatusCode::OK, &json!("added"), &json!("1")), "{made}");
    assert_eq!((&made["item"]["display_name"], &made["generated_password"]), (&Value::Null, &Value::Null));
    assert!(made["item"]["created_at"].as_str().unwrap().ends_with('Z'));
    let pair = json!({ "certificate": "chain", "private_key": "PRIVATE chain" }).to_string();
    let (status, answer) = served.ask("POST", "/api/transports/3/certificate", pair).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (_, certificate) = served.ask("GET", "/api/transports/3/certificate", Bytes::new()).await;
    assert_eq!(certificate["certificate"], "chain");
    served.bench.signalling.register("phone", 1, "198.51.100.77:5062");
    let (_, explained) = served.ask("GET", "/api/security/explain?ip=198.51.100.77", Bytes::new()).await;
    let phone = &explained["registered"][0];
    assert_eq!((&phone["extension_number"], &phone["remote"]), (&json!("101"), &json!("198.51.100.77:5062")));
    let (_, status) = served.ask("GET", "/api/security/status", Bytes::new()).await;
    assert_eq!((&status["load"]["level"], &status["registrations"]), (&json!(0), &json!(1)));
    let (_, state) = served.ask("GET", "/api/transports/1/status", Bytes::new()).await;
    assert_eq!((&state["state"], &state["protocol"]), (&json!("ACTIVATED"), &json!("UDP")));
    for (method, path) in ROUTES.iter().filter(|(method, path)| *method == "GET" && !is_stream(path)) {
        let (filled, _) = sample(method, path);
        let (status, bytes) = served.raw(method, &filled, Bytes::new()).await;
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("kT7wq2mz") && !text.contains("PRIVATE"), "{method} {path}: {status} {text}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_accounts_and_transports_names_the_field() {
    let served = Served::to(Some(Role::Admin)).await;
    served.bench.fill().await;
    for (path, body, status, code, field) in [
        ("/api/users", r#"{"extension_number":"101"}"#, 400, "VALIDATE_FAILED", "extension_number: 101"),
        ("/api/users", r#"{"extension_number":"12"}"#, 400, "VALIDATE_FAILED", "extension_number"),
        ("/api/users", r#"{"extension_number":"1121"}"#, 400, "VALIDATE_FAILED", "emergency number 112"),
        ("/api/users", r#"{"extension_number":"102","extension_password":"x"}"#, 400, "VALIDATE_FAILED", "password"),
        ("/api/users", r#"{"extension_number":"102","tenant":"none"}"#, 404, "NOT_FOUND", "tenant"),
        ("/api/users", r#"{"extension_number":"102","password":"x"}"#, 400, "VALIDATE_FAILED", "password"),
        ("/api/users/9", r#"{"enabled":false}"#, 404, "NOT_FOUND", "9"),
        ("/api/users/1", r#"{"forward_always":"12"}"#, 400, "VALIDATE_FAILED", "forward_always: number has 2"),
        ("/api/users/1", r#"{"forward_busy":"+49301234"}"#, 400, "VALIDATE_FAILED", "forward_busy: number has '+'"),
        ("/api/users/1", r#"{"forward_no_answer":"112"}"#, 400, "VALIDATE_FAILED", "forward_no_answer: number begins"),
        ("/api/users/1", r#"{"forward_offline":"101"}"#, 400, "VALIDATE_FAILED", "forward_offline: 101 is the"),
        ("/api/users/1", r#"{"no_answer_seconds":70000}"#, 400, "VALIDATE_FAILED", "write 5 to 300 seconds"),
        ("/api/users/1", r#"{"do_not_disturb":"on"}"#, 400, "VALIDATE_FAILED", "expected a boolean"),
        ("/api/users/1/status/none/destroy_status", "", 404, "NOT_FOUND", "none"),
        ("/api/tenants", r#"{"name":"SECOND"}"#, 400, "VALIDATE_FAILED", "name"),
        ("/api/tenants/1/destroy", "", 409, "REFUSED", "default"),
        ("/api/transports", r#"{"protocol":"UDP","port":5060}"#, 400, "VALIDATE_FAILED", "port"),
        ("/api/transports", r#"{"protocol":"UDP","port":65536}"#, 400, "VALIDATE_FAILED", "port"),
        ("/api/transports", r#"{"protocol":"UDP","port":50000}"#, 400, "VALIDATE_FAILED", "filter.media_ports"),
        ("/api/transports", r#"{"protocol":"SCTP","port":5070}"#, 400, "VALIDATE_FAILED", "protocol"),
        (
            "/api/transports",
            r#"{"protocol":"TLS","port":5070,"verification":"REQUIRE"}"#,
            400,
            "VALIDATE_FAILED",
            "verification: not yet",
        ),
        ("/api/transports/1/certificate", "", 400, "VALIDATE_FAILED", "certificate"),
    ] {
        let (got, answer) = served.ask("POST", path, body).await;
        let error = &answer["errors"][0];
        assert_eq!((got.as_u16(), &error["code"]), (status, &json!(code)), "{path} {body}: {answer}");
        assert!(error["message"].as_str().unwrap().contains(field), "{path} {body}: {answer}");
    }
    served.bench.signalling.fail(true);
    let (got, answer) = served.ask("POST", "/api/transports", r#"{"protocol":"UDP","port":5070}"#).await;
    assert_eq!((got.as_u16(), &answer["errors"][0]["code"]), (409, &json!("SIGNALLING_REFUSED")), "{answer}");
}

#[tokio::test]
async fn calls_and_their_records_are_shown_ended_and_exported() {
    let served = Served::to(Some(Role::Admin)).await;
    served.bench.fill().await;
    let (_, calls) = served.ask("GET", "/api/sessions?count=true&filter=state%20eq%20'talking'", Bytes::new()).await;
    let call = &calls["items"][0];
    assert_eq!(
        (&calls["count"], &call["id"], &call["caller_number"]),
        (&json!(1), &json!("00000000000000ab"), &json!("101"))
    );
    assert_eq!((&call["tenant"], &call["legs"][1]["media_port"]), (&json!("default"), &json!(45_002)), "{call}");
    let (status, ended) = served.ask("POST", "/api/sessions/00000000000000ab/destroy", Bytes::new()).await;
    assert_eq!((status, &ended["dialled"]), (StatusCode::OK, &json!("200")), "{ended}");
    let (_, calls) = served.ask("GET", "/api/sessions", Bytes::new()).await;
    assert_eq!(calls["items"], json!([]));

    let (_, list) = served.ask("GET", "/api/cdrs?count=true", Bytes::new()).await;
    let record = &list["items"][0];
    assert_eq!(
        (&list["count"], &record["disposition"], &record["ended_by"]),
        (&json!(1), &json!("answered"), &json!("callee"))
    );
    assert_eq!((&record["billed_seconds"], &record["why"], record.get("legs")), (&json!(61), &Value::Null, None));
    let (_, one) = served.ask("GET", "/api/cdrs/0cd", Bytes::new()).await;
    assert_eq!((&one["id"], &one["legs"][1]["media"]["lost"]), (&json!("00000000000000cd"), &json!(2)), "{one}");
    let (_, csv) = served.raw("GET", "/api/cdrs/export", Bytes::new()).await;
    let csv = String::from_utf8(csv.into()).unwrap();
    assert!(csv.starts_with("id,tenant,caller_number,") && csv.lines().count() == 2, "{csv}");
    let (_, lines) = served.raw("GET", "/api/cdrs/export?format=json", Bytes::new()).await;
    let line: Value = serde_json::from_slice(lines.trim_ascii_end()).unwrap();
    assert_eq!(line, one);
}
