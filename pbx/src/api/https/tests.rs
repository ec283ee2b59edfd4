//! The web server over real sockets, as browsers and strangers meet it.

use std::net::Ipv4Addr;

use http_body_util::{BodyExt, Full};
use hyper::{StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    api::router,
    ops::{Context, SetCertificate, fake::Bench},
};

struct Web {
    bench: Bench,
    counters: Arc<WebCounters>,
    address: SocketAddr,
    ending: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
}

/// A port that nobody has.
fn free() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Web {
    async fn start() -> Self {
        let web = Self::at(free()).await;
        web.listening().await;
        web
    }

    async fn at(address: SocketAddr) -> Self {
        let bench = Bench::new().await;
        let (ending, ended) = watch::channel(false);
        let counters = Arc::new(WebCounters::default());
        let routes = router(bench.operations.clone(), Arc::new(|_, _| None), Arc::clone(&counters), ended.clone());
        let tls = bench.operations.web_tls().await.unwrap();
        let server = WebServer::new(vec![address], tls, routes, Arc::clone(&counters), ended);
        Self { bench, counters, address, ending, server: tokio::spawn(server.run()) }
    }

    async fn listening(&self) {
        while !self.counters.status().addresses[0].listening {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(self) {
        self.ending.send(true).unwrap();
        self.server.await.unwrap();
    }

    /// A TLS connection that trusts the certificate of this moment and no other.
    async fn connect(&self) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let presented = self.bench.operations.web_certificate().unwrap();
        let (chain, names) = (presented.certificate.unwrap(), presented.names);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(crate::net::tls::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(names[0].clone()).unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Value) {
        let stream = self.connect().await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "pbx.example.com:8887");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        connection.abort();
        (head.status, head.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn who_has_not_signed_in_gets_nothing_but_what_browsers_should_obey() {
    let web = Web::start().await;
    for path in ["/api/tenants", "/api/security/status", "/api/cdrs", "/api/web/certificate"] {
        let (status, headers, body) = web.ask("GET", path, &[]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(body["errors"][0]["code"], "UNAUTHORIZED", "{body}");
        for (name, value) in &HEADERS {
            assert_eq!(headers.get(name), Some(value), "{path} {name}");
        }
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    }
    web.stop().await;
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let web = Web::start().await;
    for (origin, refused) in [
        (Some("https://evil.example.com"), true),
        (Some("null"), true),
        (Some("http://pbx.example.com:8887"), true),
        (Some("https://pbx.example.com:8887"), false),
        (None, false),
    ] {
        let headers: Vec<(&str, &str)> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        let (status, _, body) = web.ask("POST", "/api/tenants", &headers).await;
        let code = body["errors"][0]["code"].as_str().unwrap_or_default();
        let expected = if refused { "FOREIGN_ORIGIN" } else { "UNAUTHORIZED" };
        assert_eq!(code, expected, "{origin:?} {status} {body}");
    }
    web.stop().await;
}

#[tokio::test]
async fn one_source_does_not_take_all_connections_and_gets_its_places_back() {
    let web = Web::start().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_OF_ONE {
        held.push(web.connect().await.unwrap());
    }
    let one_more = async { web.connect().await?.read_u8().await };
    assert!(one_more.await.is_err());
    assert_eq!(web.counters.status().too_many, 1);
    drop(held);
    while web.counters.status().connections > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(web.ask("GET", "/api/tenants", &[]).await.0, StatusCode::UNAUTHORIZED);
    web.stop().await;
}

#[tokio::test]
async fn who_speaks_no_tls_is_counted_and_a_head_that_is_too_long_refused() {
    let web = Web::start().await;
    let mut plain = TcpStream::connect(web.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: pbx\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    while web.counters.status().handshakes_failed == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut long = web.connect().await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: pbx\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let _ = long.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    web.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_and_tried_again() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let web = Web::at(taken.local_addr().unwrap()).await;
    while web.counters.status().addresses[0].problem.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(taken);
    web.listening().await;
    assert_eq!(web.counters.status().addresses[0].problem, None);
    web.stop().await;
}

#[tokio::test]
async fn another_certificate_is_presented_to_the_next_connection_and_kept() {
    let web = Web::start().await;
    let operations = &web.bench.operations;
    let before = operations.web_certificate().unwrap();
    let mut old = web.connect().await.unwrap();
    let admin = Context::daemon();
    let only = SetCertificate { dry_run: true, ..SetCertificate::default() };
    assert!(operations.set_web_certificate(&admin, only).await.unwrap().dry_run);
    assert_eq!(operations.web_certificate().unwrap(), before);
    let half = SetCertificate { certificate: before.certificate.clone(), ..SetCertificate::default() };
    let error = operations.set_web_certificate(&admin, half).await.unwrap_err();
    assert!(error.message.starts_with("private_key: it is missing"), "{error}");
    let mine = crate::net::certificate::self_signed("portal", &["pbx.example.com".to_owned()], &[]).unwrap();
    let given =
        SetCertificate { certificate: Some(mine.chain.clone()), private_key: Some(mine.key.clone()), dry_run: false };
    operations.set_web_certificate(&admin, given).await.unwrap();
    // This trusts the new one alone.
    assert_eq!(web.ask("GET", "/api/tenants", &[]).await.0, StatusCode::UNAUTHORIZED);
    // The old connection goes on.
    old.write_all(b"GET /api/tenants HTTP/1.1\r\nHost: pbx\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    old.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401"));
    let rows = operations.audit_log(&Default::default()).await.unwrap();
    let row = rows.items.iter().find(|row| row.what == "web.certificate").unwrap();
    assert!(!row.after.as_deref().unwrap_or_default().contains("PRIVATE KEY"));
    let stored = web.bench.store().web_certificate().await.unwrap().unwrap();
    assert_eq!(stored.chain, mine.chain);
    assert!(!stored.sealed_key.windows(7).any(|bytes| bytes == b"PRIVATE"));
    web.stop().await;
}
