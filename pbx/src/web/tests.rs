use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::pki_types::pem::PemObject as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::*;

const LIMITS: Limits =
    Limits { connect: Duration::from_secs(10), whole: Duration::from_secs(60), bytes: 1000, redirects: 3 };

/// A server on loopback that answers each request with what it is given.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    pub(crate) sent: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a server does after it has read a request.
#[derive(Clone)]
pub(crate) enum Does {
    /// Sends this and closes.
    Say(String),
    /// Sends the first and then as many copies of the second as anybody reads.
    Endless(String, String),
    /// Sends this and then nothing, without closing.
    Stall(String),
}

pub(crate) fn ok(body: &str) -> Does {
    Does::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

pub(crate) fn status(line: &str) -> Does {
    Does::Say(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"))
}

fn to(location: &str) -> Does {
    Does::Say(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(usize, &str) -> Does + Send + Sync + 'static) -> Self {
        Self::over(None, answer).await
    }

    async fn over(
        tls: Option<tokio_rustls::TlsAcceptor>,
        answer: impl Fn(usize, &str) -> Does + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let sent = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (Arc::clone(&asked), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let outcome = match &tls {
                    None => serve(stream, &told, &counted, &answer).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => serve(stream, &told, &counted, &answer).await,
                        Err(error) => Err(error),
                    },
                };
                // Who asked may be gone.
                let _ = outcome;
            }
        });
        Self { port, asked, sent, task }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        address(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    asked: &Mutex<Vec<String>>,
    sent: &AtomicUsize,
    answer: &(impl Fn(usize, &str) -> Does + Send + Sync),
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let number = {
        let mut asked = asked.lock().unwrap();
        asked.push(head + &String::from_utf8_lossy(&body));
        asked.len()
    };
    match answer(number, &path) {
        Does::Say(text) => stream.write_all(text.as_bytes()).await?,
        Does::Endless(head, again) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(again.as_bytes()).await?;
                sent.fetch_add(again.len(), Ordering::Relaxed);
            }
        }
        Does::Stall(text) => {
            stream.write_all(text.as_bytes()).await?;
            // Until the other side closes.
            let _ = stream.read_u8().await;
        }
    }
    stream.shutdown().await
}

async fn refused(server: &Server, limits: Limits) -> String {
    let error = Web::new().get(&server.url("/list"), limits).await.unwrap_err();
    error.to_string().replace(&server.port.to_string(), "PORT")
}

#[tokio::test]
async fn what_is_there_is_read_and_nothing_compressed_is_asked_for() {
    let server = Server::start(|_, _| ok("192.0.2.1\n")).await;
    assert_eq!(Web::new().get(&server.url("/list?x=1"), LIMITS).await.unwrap(), b"192.0.2.1\n");
    let asked = server.requests();
    assert!(asked[0].starts_with("GET /list?x=1 HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[0].contains(&format!("host: 127.0.0.1:{}\r\n", server.port)), "{asked:?}");
    assert!(asked[0].contains("accept-encoding: identity\r\n"), "{asked:?}");
}

#[tokio::test]
async fn a_body_of_a_gibibyte_is_not_read_on_at_the_bound() {
    let told = Server::start(|_, _| Does::Say("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n".into())).await;
    assert_eq!(refused(&told, LIMITS).await, "127.0.0.1:PORT sends more than 1000 bytes");
    // One that does not say how long it is.
    let endless = || Does::Endless("HTTP/1.1 200 OK\r\n\r\n".into(), "192.0.2.1\n".repeat(1000));
    let untold = Server::start(move |_, _| endless()).await;
    let large = Limits { bytes: 1_000_000, ..LIMITS };
    assert_eq!(refused(&untold, large).await, "127.0.0.1:PORT sends more than 1000000 bytes");
    // What the sockets hold of it comes on top.
    assert!(untold.sent.load(Ordering::Relaxed) < 20_000_000);
}

#[tokio::test]
async fn a_server_that_does_not_come_to_an_end_is_given_up_on() {
    let brief = Limits { whole: Duration::from_millis(100), ..LIMITS };
    let silent = Server::start(|_, _| Does::Stall(String::new())).await;
    assert_eq!(refused(&silent, brief).await, "127.0.0.1:PORT did not send all of it within 0.1 s");
    let begun = Server::start(|_, _| Does::Stall("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n192.".into())).await;
    assert_eq!(refused(&begun, brief).await, "127.0.0.1:PORT did not send all of it within 0.1 s");
    let drips = Server::start(|_, _| Does::Say("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n192.".into())).await;
    assert!(refused(&drips, LIMITS).await.starts_with("127.0.0.1:PORT broke off: "));
}

#[tokio::test]
async fn three_redirects_are_followed_and_the_fourth_is_not() {
    let next = |path: &str| path[2..].parse::<u8>().unwrap() - 1;
    let server = Server::start(move |_, path| match path {
        "/r0" => ok("192.0.2.1\n"),
        "/odd" => to("ftp://192.0.2.1/"),
        _ => to(&format!("r{}", next(path))),
    })
    .await;
    assert_eq!(Web::new().get(&server.url("/r3"), LIMITS).await.unwrap(), b"192.0.2.1\n");
    let error = Web::new().get(&server.url("/r4"), LIMITS).await.unwrap_err().to_string();
    assert!(error.ends_with("redirects more than 3 times"), "{error}");
    let error = Web::new().get(&server.url("/odd"), LIMITS).await.unwrap_err().to_string();
    assert!(error.ends_with("to something that is no address"), "{error}");
}

#[tokio::test]
async fn answers_that_are_no_plain_success_are_refused() {
    let missing = Server::start(|_, _| status("404 Not Found")).await;
    assert_eq!(refused(&missing, LIMITS).await, "127.0.0.1:PORT answered 404 Not Found");
    let packed = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc";
    let packed = Server::start(move |_, _| Does::Say(packed.into())).await;
    assert_eq!(refused(&packed, LIMITS).await, "127.0.0.1:PORT sends it compressed (gzip), which is not taken");
    let other = Server::start(|_, _| Does::Say("220 smtp\r\n".into())).await;
    assert!(refused(&other, LIMITS).await.starts_with("127.0.0.1:PORT broke off: "));
    let closed = Server::start(|_, _| ok("")).await.port;
    let error = Web::new().get(&address(&format!("http://127.0.0.1:{closed}/")).unwrap(), LIMITS).await.unwrap_err();
    assert!(matches!(error, WebError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn tls_is_verified_and_never_left_by_a_redirect() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let server = Server::over(Some(Arc::new(config).into()), |_, path| match path {
        "/plain" => to("http://127.0.0.1:9/"),
        _ => ok("192.0.2.1\n"),
    })
    .await;
    let url = |path: &str| address(&format!("https://127.0.0.1:{}{path}", server.port)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let trusting = Web::trusting(roots);
    assert_eq!(trusting.get(&url("/list"), LIMITS).await.unwrap(), b"192.0.2.1\n");
    let error = trusting.get(&url("/plain"), LIMITS).await.unwrap_err().to_string();
    assert!(error.contains("from https to http://127.0.0.1:9/"), "{error}");
    let stranger = Web::trusting({
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(other.cert.der().clone()).unwrap();
        roots
    });
    let error = stranger.get(&url("/list"), LIMITS).await.unwrap_err().to_string();
    assert!(error.contains("TLS: "), "{error}");
    let nobody = Web::trusting(RootCertStore::empty()).get(&url("/list"), LIMITS).await.unwrap_err().to_string();
    assert!(nobody.contains("ca-certificates"), "{nobody}");
}

#[tokio::test]
async fn a_message_is_handed_over_with_its_headers_and_a_refusal_is_an_error() {
    let server = Server::start(|number, _| status(if number == 1 { "204 No Content" } else { "503 Busy" })).await;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    let web = Web::new();
    web.post(&server.url("/hook"), headers.clone(), b"{}".to_vec(), LIMITS).await.unwrap();
    let error = web.post(&server.url("/hook"), headers, b"{}".to_vec(), LIMITS).await.unwrap_err();
    assert!(matches!(error, WebError::Status { status: StatusCode::SERVICE_UNAVAILABLE, .. }), "{error}");
    let asked = server.requests();
    assert!(asked[0].starts_with("POST /hook HTTP/1.1\r\n") && asked[0].ends_with("\r\n\r\n{}"), "{asked:?}");
    assert!(asked[0].contains("content-type: application/json\r\n"), "{asked:?}");
}

#[test]
fn an_address_is_http_and_holds_no_password() {
    assert_eq!(address("https://example.com/drop.txt").unwrap().as_str(), "https://example.com/drop.txt");
    for bad in ["example.com/list", "ftp://example.com/", "file:///etc/passwd", "https://a:b@example.com/", "http://"] {
        assert!(address(bad).is_err(), "{bad}");
    }
}
