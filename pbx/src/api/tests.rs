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
        let router = router(bench.operations.clone(), Arc::new(move |_, _| role), ended.clone());
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
        let bytes = if path == "/api/events" && status == StatusCode::OK {
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

/// A request that an administrator may make and that works on a bench with one rule.
fn sample(method: &str, path: &str) -> (String, Bytes) {
    let filled = path.replace("{id}", "1");
    let filled =
        if path.contains("interfaces") { filled.replace("{name}", "eth0") } else { filled.replace("{name}", "strict") };
    let filled = if path.ends_with("explain") { format!("{filled}?ip=198.51.100.1") } else { filled };
    let body = match (method, path) {
        ("POST", "/api/ip_filters") => json!({ "cidr": "198.51.100.9", "target": "DENY" }),
        ("POST", "/api/ip_filters/destroy") => json!({ "cidr": "198.51.100.1", "target": "DENY" }),
        ("POST", "/api/ip_filters/{id}") => json!({ "description": "new" }),
        ("POST", "/api/security/settings") => json!({ "values": { "guard.level1.packets": "400" } }),
        ("POST", "/api/security/mode") => json!({ "mode": "monitor" }),
        ("POST", "/api/security/blocks/remove") => json!({ "address": "198.51.100.1" }),
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
            let audited = served.bench.store().audit_rows(100).await.unwrap().len();
            let (filled, body) = sample(method, path);
            let (status, answer) = served.ask(method, &filled, body).await;
            let reads = *method == "GET";
            let expected = match role {
                None => StatusCode::FORBIDDEN,
                Some(Role::View) if !reads => StatusCode::FORBIDDEN,
                _ => StatusCode::OK,
            };
            assert_eq!(status, expected, "{role:?} {method} {path}: {answer}");
            if status == StatusCode::FORBIDDEN {
                assert_eq!(answer["errors"][0]["code"], "FORBIDDEN", "{method} {path}");
            }
            let now_audited = served.bench.store().audit_rows(100).await.unwrap().len();
            if status == StatusCode::FORBIDDEN || reads {
                assert_eq!(now_audited, audited, "{method} {path} changed something");
            } else if !matches!(*path, "/api/security/test" | "/api/security/mode" | "/api/security/settings/reset")
                && !path.contains("interfaces")
            {
                assert!(now_audited > audited, "{method} {path} is not in the audit");
            }
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
