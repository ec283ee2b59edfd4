use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{Mutex, atomic::AtomicBool},
};

use pbx_core::wire::stream::FrameError;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::runtime::Runtime;

use super::{
    super::{Heard, Outbox, certificate, tls},
    *,
};

/// Answers a message with itself, but drops a MESSAGE, and keeps what it heard.
#[derive(Default)]
struct Echo {
    heard: Mutex<Vec<(Flow, usize)>>,
    connected: AtomicUsize,
    closed: AtomicUsize,
    registered: AtomicBool,
    known: AtomicBool,
    blocked: AtomicBool,
}

impl Receiver for Echo {
    fn receive(&self, flow: &Flow, bytes: &[u8], answers: &mut Outbox) -> Heard {
        assert!(!bytes.starts_with(b"PANIC"), "as the test wants");
        self.heard.lock().unwrap().push((*flow, bytes.len()));
        if bytes.starts_with(b"MESSAGE") {
            return Heard::Ignored;
        }
        if !bytes.starts_with(b"ACK") {
            answers.push(*flow, bytes);
        }
        Heard::Taken
    }

    fn refused(&self, flow: &Flow, error: FrameError, _: &[u8], answers: &mut Outbox) {
        if let Some(status) = error.status() {
            answers.push(*flow, format!("SIP/2.0 {status} x\r\n\r\n").as_bytes());
        }
    }

    fn connected(&self, _: &Flow) {
        self.connected.fetch_add(1, Ordering::SeqCst);
    }

    fn closed(&self, _: ConnectionId) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn goes_on(&self, _: &Flow, _: usize) -> bool {
        !self.blocked.load(Ordering::SeqCst)
    }

    fn is_known(&self, _: IpAddr) -> bool {
        self.known.load(Ordering::SeqCst)
    }

    fn is_registered(&self, _: ConnectionId) -> bool {
        self.registered.load(Ordering::SeqCst)
    }
}

struct Server {
    stream: Stream,
    echo: Arc<Echo>,
    counters: Arc<Counters>,
    presented: Option<Arc<tls::Presented>>,
    // Last: tasks end with it.
    _runtime: Runtime,
}

impl Server {
    fn new(limits: Limits, with_tls: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let context = Context {
            runtime: runtime.handle().clone(),
            clock: Clock::start(),
            places: Arc::new(Places::new(limits)),
            next: Arc::default(),
        };
        let (echo, counters) = (Arc::<Echo>::default(), Arc::<Counters>::default());
        let presented = with_tls.then(|| Arc::new(tls::Presented::new(own_certificate("first"))));
        let config = presented.clone().map(|presented| tls::config(presented).unwrap());
        let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let stream = Stream::open(TransportId(3), (&all, 0), config, &context, echo.clone(), counters.clone()).unwrap();
        Self { stream, echo, counters, presented, _runtime: runtime }
    }

    fn connect(&self, to: &str) -> TcpStream {
        let stream = TcpStream::connect(SocketAddr::new(to.parse().unwrap(), self.stream.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.counters);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn own_certificate(name: &str) -> Arc<rustls::sign::CertifiedKey> {
    let pair = certificate::self_signed(name, &[], &[Ipv4Addr::LOCALHOST.into()]).unwrap();
    certificate::check(&pair, pbx_core::time::Timestamp::from_millis(0)).unwrap().certified
}

/// Takes every certificate and keeps it.
#[derive(Debug, Default)]
struct Seen(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client(version: &'static SupportedProtocolVersion) -> (Arc<ClientConfig>, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let builder = ClientConfig::builder_with_provider(Arc::new(tls::provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap().dangerous();
    (Arc::new(builder.with_custom_certificate_verifier(seen.clone()).with_no_client_auth()), seen)
}

fn secured(config: &Arc<ClientConfig>, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

fn message(method: &str, body: usize) -> Vec<u8> {
    let mut message = format!("{method} sip:x SIP/2.0\r\nContent-Length: {body}\r\n\r\n").into_bytes();
    message.resize(message.len() + body, b'b');
    message
}

fn exchange(stream: &mut (impl Read + Write), sent: &[u8]) -> Vec<u8> {
    stream.write_all(sent).unwrap();
    let mut answer = vec![0; sent.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Whether the peer has closed: in good order or not.
fn is_over(stream: &mut impl Read) -> bool {
    match stream.read(&mut [0; 4096]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

fn quick() -> Limits {
    let frames = pbx_core::wire::stream::Limits {
        first_message: Duration::from_millis(400),
        message: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        ..pbx_core::wire::stream::Limits::DEFAULT
    };
    Limits { handshake: Duration::from_millis(400), frames, ..Limits::default() }
}

#[test]
fn messages_come_whole_and_are_answered_in_both_families() {
    let server = Server::new(Limits::default(), false);
    for address in ["127.0.0.2", "::1"] {
        let mut stream = server.connect(address);
        let sent = [message("OPTIONS", 0), message("INVITE", 60_000), message("INVITE", 5)].concat();
        assert!(exchange(&mut stream, &sent) == sent);
        stream.write_all(b"\r\n\r\n").unwrap();
        let mut pong = [0; 2];
        stream.read_exact(&mut pong).unwrap();
        assert_eq!(&pong, b"\r\n");
        let (flow, _) = server.echo.heard.lock().unwrap().pop().unwrap();
        assert_eq!((flow.local, flow.remote), (stream.peer_addr().unwrap(), stream.local_addr().unwrap()));
        assert_eq!((flow.transport, flow.protocol), (TransportId(3), Protocol::Tcp));
        server.stream.send(&flow, b"pushed");
        let mut pushed = [0; 6];
        stream.read_exact(&mut pushed).unwrap();
        assert_eq!(server.counters.connections(), 1);
        assert!(server.stream.disconnect(flow.connection.unwrap()));
        assert!(is_over(&mut stream));
        drop(stream);
        server.until("closed", |server| server.counters.connections() == 0);
        server.stream.send(&flow, b"too late");
    }
    assert_eq!((server.counters.received(), server.counters.sent()), (8, 10));
    assert_eq!(server.counters.dropped(Dropped::Gone), 2);
    assert_eq!((server.echo.connected.load(Ordering::SeqCst), server.echo.closed.load(Ordering::SeqCst)), (2, 2));
}

#[test]
fn who_has_said_its_last_still_gets_its_answer() {
    let server = Server::new(Limits::default(), false);
    let mut stream = server.connect("127.0.0.1");
    stream.write_all(&message("OPTIONS", 0)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, message("OPTIONS", 0));
    server.until("closed", |server| server.counters.connections() == 0);
}

#[test]
fn a_connection_whose_source_was_blocked_since_is_closed_when_it_says_something() {
    let server = Server::new(quick(), false);
    let mut stream = server.connect("127.0.0.1");
    assert_eq!(exchange(&mut stream, &message("OPTIONS", 0)), message("OPTIONS", 0));
    server.echo.blocked.store(true, Ordering::SeqCst);
    let heard = server.echo.heard.lock().unwrap().len();
    stream.write_all(&message("OPTIONS", 0)).unwrap();
    assert!(is_over(&mut stream));
    assert_eq!(server.echo.heard.lock().unwrap().len(), heard, "it is still heard");
    server.until("it is counted", |server| server.counters.dropped(Dropped::Filtered) == 1);
}

#[test]
fn connections_over_a_limit_are_refused_and_a_place_is_free_again_afterwards() {
    let server = Server::new(Limits { connections: 6, of_source: 3, ..Limits::default() }, false);
    let mut held: Vec<_> = (0..3).map(|_| server.connect("127.0.0.1")).collect();
    server.until("three", |server| server.counters.connections() == 3);
    assert!(is_over(&mut server.connect("127.0.0.1")));
    assert_eq!(server.counters.dropped(Dropped::ConnectionsOfSource), 1);
    held.extend((0..2).map(|_| server.connect("::1")));
    server.until("five", |server| server.counters.connections() == 5);
    assert!(is_over(&mut server.connect("::1")));
    assert_eq!(server.counters.dropped(Dropped::Connections), 1);
    server.echo.known.store(true, Ordering::SeqCst);
    held.push(server.connect("127.0.0.1"));
    exchange(&mut held[5], &message("OPTIONS", 0));
    assert!(is_over(&mut server.connect("127.0.0.1")));
    assert_eq!(server.counters.dropped(Dropped::Connections), 2);
    held.clear();
    server.until("none", |server| server.counters.connections() == 0);
    let mut stream = server.connect("127.0.0.1");
    exchange(&mut stream, &message("OPTIONS", 0));
}

#[test]
fn neither_keep_alives_nor_messages_that_nobody_wants_keep_a_connection_open() {
    let mut limits = quick();
    limits.frames.idle = Duration::from_secs(1);
    let server = Server::new(limits, false);
    for first in ["MESSAGE", "OPTIONS"] {
        let mut stream = server.connect("127.0.0.1");
        stream.write_all(&message(first, 0)).unwrap();
        if first == "OPTIONS" {
            stream.read_exact(&mut vec![0; message(first, 0).len()]).unwrap();
        }
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let said = [message("MESSAGE", 0), b"\r\n\r\n".to_vec()].concat();
        while stream.write_all(&said).is_ok() && !is_over(&mut stream) {
            assert!(Instant::now() < deadline, "still open: {first}");
        }
    }
    server.until("both", |server| server.counters.dropped(Dropped::Idle) == 2);
}

#[test]
fn parts_of_messages_take_no_more_memory_than_they_may_and_a_registered_phone_goes_on() {
    let server = Server::new(Limits { held: 100_000, ..Limits::default() }, false);
    let part = &message("INVITE", 60_000)[..40_000];
    let places = &server.stream.shared.places;
    let mut first = server.connect("127.0.0.1");
    first.write_all(part).unwrap();
    server.until("one part is held", |_| places.held() >= part.len());
    let mut others: Vec<_> = (0..5).map(|_| server.connect("127.0.0.1")).collect();
    for other in &mut others {
        // It may be closed before it has said everything.
        let _ = other.write_all(part);
    }
    server.until("others are closed", |server| server.counters.dropped(Dropped::HeldMemory) >= 4);
    server.until("nothing stays of them", |_| places.held() <= 100_000);
    server.echo.registered.store(true, Ordering::SeqCst);
    let mut phone = server.connect("127.0.0.1");
    for _ in 0..3 {
        exchange(&mut phone, &message("INVITE", 60_000));
    }
    first.write_all(&message("INVITE", 60_000)[part.len()..]).unwrap();
    first.read_exact(&mut vec![0; message("INVITE", 60_000).len()]).unwrap();
    drop((others, phone, first));
    server.until("nothing is held", |server| server.counters.connections() == 0 && places.held() == 0);
}

#[test]
fn a_byte_now_and_then_and_silence_end_a_connection_but_a_registered_one_may_be_silent() {
    let server = Server::new(quick(), false);
    let mut slow = server.connect("127.0.0.1");
    let mut silent = server.connect("127.0.0.1");
    let started = Instant::now();
    for byte in message("OPTIONS", 0) {
        if slow.write_all(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    server.until("slow", |server| server.counters.dropped(Dropped::Slow) == 1);
    assert!(started.elapsed() < Duration::from_secs(5), "a whole message would have taken its time");
    assert!(is_over(&mut silent) && is_over(&mut slow));
    assert_eq!(server.counters.dropped(Dropped::Idle), 1);

    server.echo.registered.store(true, Ordering::SeqCst);
    let mut phone = server.connect("127.0.0.1");
    exchange(&mut phone, &message("REGISTER", 0));
    phone.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    assert!(!is_over(&mut phone), "idle for three times the limit");
    exchange(&mut phone, &message("REGISTER", 0));
    server.echo.registered.store(false, Ordering::SeqCst);
    phone.write_all(b"\r\n\r\n").unwrap();
    phone.read_exact(&mut [0; 2]).unwrap();
    phone.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(is_over(&mut phone), "a keep-alive is not enough for others");
}

#[test]
fn who_does_not_read_is_closed_and_memory_is_bounded() {
    let server = Server::new(Limits { outgoing: 128 << 10, ..Limits::default() }, false);
    let mut stream = server.connect("127.0.0.1");
    exchange(&mut stream, &message("OPTIONS", 0));
    let (flow, _) = server.echo.heard.lock().unwrap()[0];
    let notify = message("NOTIFY", 10_000);
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.counters.dropped(Dropped::Unread) == 0 {
        server.stream.send(&flow, &notify);
        assert!(Instant::now() < deadline);
    }
    server.until("closed", |server| server.counters.connections() == 0);

    // One that asks and asks, and does not read, is not read either.
    let mut stream = server.connect("127.0.0.1");
    stream.set_nonblocking(true).unwrap();
    let (asked, deadline) = (message("INVITE", 50_000), Instant::now() + Duration::from_secs(20));
    let mut stuck = 0;
    while stuck < 50 {
        match stream.write(&asked) {
            Ok(_) => stuck = 0,
            Err(_) => {
                stuck += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert!(Instant::now() < deadline);
    }
    assert_eq!(server.counters.dropped(Dropped::Unread), 1, "it is only slowed down");
}

#[test]
fn a_stream_that_cannot_be_cut_is_answered_and_closed_and_a_fault_costs_one_connection() {
    let server = Server::new(Limits::default(), false);
    let mut stream = server.connect("127.0.0.1");
    stream.write_all(b"OPTIONS sip:x SIP/2.0\r\nContent-Length: -1\r\n\r\nmore that nobody reads").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"SIP/2.0 400 x\r\n\r\n");
    let mut stream = server.connect("127.0.0.1");
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert!(is_over(&mut stream));
    server.until("both", |server| server.counters.dropped(Dropped::Unframed) == 2);
    let mut other = server.connect("127.0.0.1");
    let mut stream = server.connect("127.0.0.1");
    stream.write_all(&message("PANIC", 0)).unwrap();
    assert!(is_over(&mut stream));
    exchange(&mut other, &message("OPTIONS", 0));
    assert_eq!(server.counters.dropped(Dropped::Failed), 1);
}

#[test]
fn a_closed_transport_frees_its_port_and_ends_its_connections() {
    let server = Server::new(Limits::default(), false);
    let mut stream = server.connect("127.0.0.1");
    exchange(&mut stream, &message("OPTIONS", 0));
    server.stream.close();
    assert_eq!(
        TcpStream::connect(("127.0.0.1", server.stream.port())).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert!(is_over(&mut stream));
    drop(stream);
    server.until("closed", |server| server.echo.closed.load(Ordering::SeqCst) == 1);
}

#[test]
fn tls_of_both_versions_carries_messages_and_a_replaced_certificate_is_for_new_handshakes() {
    let server = Server::new(Limits::default(), true);
    let (newer, seen) = client(&rustls::version::TLS13);
    let (older, _) = client(&rustls::version::TLS12);
    let mut first = secured(&newer, server.connect("127.0.0.1"));
    let sent = [message("INVITE", 60_000), message("OPTIONS", 0)].concat();
    assert!(exchange(&mut first, &sent) == sent);
    let before = seen.0.lock().unwrap().clone().unwrap();
    assert!(exchange(&mut secured(&older, server.connect("::1")), &sent) == sent);
    assert_eq!(server.echo.heard.lock().unwrap()[0].0.protocol, Protocol::Tls);

    let other = own_certificate("second");
    server.presented.as_ref().unwrap().replace(other.clone());
    let (fresh, seen) = client(&rustls::version::TLS13);
    exchange(&mut secured(&fresh, server.connect("127.0.0.1")), &message("OPTIONS", 0));
    let after = seen.0.lock().unwrap().clone().unwrap();
    assert!(after != before && after == other.cert[0]);
    assert!(exchange(&mut first, &sent) == sent, "who was connected stays");
}

#[test]
fn what_is_not_tls_or_too_old_or_too_slow_gets_no_further_than_the_handshake() {
    let server = Server::new(quick(), true);
    let mut plain = server.connect("127.0.0.1");
    plain.write_all(&message("OPTIONS", 0)).unwrap();
    while !is_over(&mut plain) {}
    server.until("refused", |server| server.counters.dropped(Dropped::Handshake) == 1);
    let mut silent = server.connect("127.0.0.1");
    assert!(is_over(&mut silent));
    server.until("timed out", |server| server.counters.dropped(Dropped::HandshakeTime) == 1);
    // TLS 1.1 in the words of a client hello: all that it offers is older than what is spoken here.
    let hello = [
        &[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2][..], // record, client hello, TLS 1.1
        &[7; 32],                                    // random
        &[0, 0, 2, 0xc0, 0x14, 1, 0],                // no session, ECDHE-RSA-AES256-SHA, no compression
    ];
    let mut old = server.connect("127.0.0.1");
    old.write_all(&hello.concat()).unwrap();
    let mut alert = Vec::new();
    let _ = old.read_to_end(&mut alert);
    assert_eq!(alert.first(), Some(&0x15), "an alert: {alert:?}");
    server.until("refused", |server| server.counters.dropped(Dropped::Handshake) == 2);
    assert_eq!(server.echo.connected.load(Ordering::SeqCst), 0);
    server.until("all places are free", |server| server.stream.shared.places.connections() == 0);
}

#[test]
fn handshakes_that_stall_take_no_places_of_others() {
    let limits = Limits { handshakes: 8, handshakes_of_unknown: 4, handshake: Duration::from_secs(60), ..quick() };
    let server = Server::new(limits, true);
    let _stalled: Vec<_> = (0..4).map(|_| server.connect("127.0.0.1")).collect();
    server.until("four", |server| server.stream.shared.places.connections() == 4);
    assert!(is_over(&mut server.connect("127.0.0.1")));
    let (config, _) = client(&rustls::version::TLS13);
    exchange(&mut secured(&config, server.connect("::1")), &message("OPTIONS", 0));
    assert_eq!(server.counters.dropped(Dropped::ConnectionsOfSource), 1);

    // All that strangers may have: one more is refused at once, and who is known is served beside them.
    let mut strangers = Vec::new();
    while server.counters.dropped(Dropped::Handshakes) == 0 {
        strangers.push(server.connect("::1"));
        server.until("taken or refused", |server| {
            let taken = server.stream.shared.places.connections() as u64;
            taken + server.counters.dropped(Dropped::Handshakes) >= 4 + strangers.len() as u64
        });
        assert!(strangers.len() <= 3, "{:?}", server.counters);
    }
    server.echo.known.store(true, Ordering::SeqCst);
    exchange(&mut secured(&config, server.connect("127.0.0.1")), &message("OPTIONS", 0));
}

#[test]
fn a_hundred_phones_and_more_behind_one_known_address_shake_hands_at_once() {
    // On a busy machine all of them together take longer than one may.
    let handshake = Duration::from_secs(60);
    let limits = Limits { of_source: 20, handshakes: 4, handshake, ..Limits::default() };
    let server = Server::new(limits, true);
    server.echo.known.store(true, Ordering::SeqCst);
    let (config, _) = client(&rustls::version::TLS13);
    // All are accepted before the first of them says anything.
    let phones: Vec<_> = (0..101).map(|_| server.connect("127.0.0.1")).collect();
    server.until("all wait", |server| server.stream.shared.places.connections() == 101);
    let mut phones: Vec<_> = phones.into_iter().map(|phone| secured(&config, phone)).collect();
    std::thread::scope(|scope| {
        for phone in &mut phones {
            scope.spawn(|| exchange(phone, &message("OPTIONS", 0)));
        }
    });
    assert_eq!(server.counters.connections(), 101);
}

#[test]
fn a_thousand_connections_are_served_beside_each_other() {
    let server = Server::new(Limits { of_source: 2000, ..Limits::default() }, false);
    let mut streams: Vec<_> = (0..1000).map(|_| server.connect("127.0.0.1")).collect();
    for stream in &mut streams {
        stream.write_all(&message("OPTIONS", 10)).unwrap();
    }
    for stream in &mut streams {
        let mut answer = message("OPTIONS", 10);
        answer.fill(0);
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message("OPTIONS", 10));
    }
    assert_eq!(server.counters.connections(), 1000);
    drop(streams);
    server.until("all gone", |server| server.counters.connections() == 0);
    assert!(server.stream.shared.connections.read().unwrap().is_empty());
}

const IDLE: &str = "PBX_TEST_IDLE_PORT";

/// The other side of the next test, in a process of its own.
#[test]
#[ignore = "run by idle_tls_connections_take_little_memory"]
fn many_clients_that_are_idle() {
    let Ok(port) = std::env::var(IDLE) else { return };
    let (config, _) = client(&rustls::version::TLS13);
    let held: Vec<_> = (0..1000)
        .map(|_| {
            let stream = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
            let mut stream = secured(&config, stream);
            exchange(&mut stream, &message("OPTIONS", 1000));
            stream
        })
        .collect();
    println!("\nidle");
    let _ = std::io::stdin().read(&mut [0]);
    drop(held);
}

#[test]
#[ignore = "measures memory: run it alone"]
fn idle_tls_connections_take_little_memory() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let server = Server::new(Limits { of_source: 20_000, handshakes_of_unknown: 384, ..Limits::default() }, true);
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "net::stream::tests::many_clients_that_are_idle"]);
        let port = server.stream.port().to_string();
        let mut clients = command.env(IDLE, port).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(clients.stdout.take().unwrap()));
        assert!(lines.map_while(Result::ok).any(|line| line == "idle"));
        clients
    };
    // The first thousand pays for what is there once.
    let mut first = start();
    let before = resident();
    let mut second = start();
    let each = (resident() - before) * 1024 / 1000;
    println!("an idle TLS connection takes {each} bytes; {before} KiB with 1,000, {} KiB with 2,000", resident());
    for clients in [&mut first, &mut second] {
        drop(clients.stdin.take());
        clients.wait().unwrap();
    }
    assert!(each < 32 << 10, "{each} bytes");
}
