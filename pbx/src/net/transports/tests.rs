use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::runtime::Runtime;

use super::*;
use crate::{
    net::{Heard, certificate::self_signed},
    signalling::CertificatePair,
};

#[derive(Default)]
struct Echo(AtomicUsize, Mutex<Vec<Flow>>);

impl Receiver for Echo {
    fn receive(&self, flow: &Flow, bytes: &[u8], answers: &mut Outbox) -> Heard {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.lock().unwrap().push(*flow);
        answers.push(*flow, bytes);
        Heard::Taken
    }
}

const NOW: Timestamp = Timestamp::from_millis(0);
const MESSAGE: &[u8] = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n";

fn transports() -> (Transports, Arc<Echo>, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let echo = Arc::<Echo>::default();
    let all = Transports::new(echo.clone(), runtime.handle().clone(), Clock::start(), Limits::default());
    (all, echo, runtime)
}

fn transport(id: u32, protocol: Protocol, port: u16) -> Transport {
    let certificate = (protocol == Protocol::Tls).then(|| Arc::new(own("pbx")));
    Transport { id: TransportId(id), protocol, port, external_port: None, algorithms: Vec::new(), certificate }
}

fn own(name: &str) -> CertificatePair {
    self_signed(name, &[], &[Ipv4Addr::LOCALHOST.into()]).unwrap()
}

fn udp_answers(port: u16) -> bool {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.send(MESSAGE).is_ok() && client.recv(&mut [0; 100]).is_ok()
}

fn tcp_answers(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(MESSAGE).is_ok() && stream.read_exact(&mut [0; MESSAGE.len()]).is_ok()
}

#[test]
fn a_transport_moves_without_disturbing_another_one() {
    let (all, _, _runtime) = transports();
    all.open(&transport(1, Protocol::Udp, 0), NOW).unwrap();
    all.open(&transport(2, Protocol::Tcp, 0), NOW).unwrap();
    let (udp, tcp) = (all.port(TransportId(1)).unwrap(), all.port(TransportId(2)).unwrap());
    let mut phone = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    assert!(udp_answers(udp) && tcp_answers(&mut phone));

    all.open(&transport(1, Protocol::Udp, 0), NOW).unwrap();
    let moved = all.port(TransportId(1)).unwrap();
    assert!(moved != udp && udp_answers(moved) && tcp_answers(&mut phone));
    drop(UdpSocket::bind(("0.0.0.0", udp)).expect("the old port is free"));

    assert!(all.close(TransportId(1)) && !all.close(TransportId(1)));
    assert!(tcp_answers(&mut phone));
    assert_eq!(all.status(TransportId(1)), None);
    all.open(&transport(3, Protocol::Udp, moved), NOW).expect("the port is free at once");
    all.open(&transport(2, Protocol::Tcp, tcp), NOW).unwrap();
    assert!(tcp_answers(&mut phone), "what stays as it was keeps its connections");
    all.open(&transport(2, Protocol::Tcp, 0), NOW).unwrap();
    assert!(!tcp_answers(&mut phone));
    all.open(&transport(4, Protocol::Tcp, tcp), NOW).expect("the port is free at once");
}

#[test]
fn a_port_in_use_leaves_the_old_transport_as_it_was() {
    let (all, _, _runtime) = transports();
    for (protocol, taken) in [(Protocol::Udp, 0), (Protocol::Tcp, 0)] {
        let id = TransportId(protocol as u32);
        all.open(&transport(id.0, protocol, taken), NOW).unwrap();
        let port = all.port(id).unwrap();
        let (udp, tcp) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let taken = if protocol == Protocol::Udp { udp.local_addr() } else { tcp.local_addr() }.unwrap().port();
        let error = format!("{:#}", all.open(&transport(id.0, protocol, taken), NOW).unwrap_err());
        assert!(error.contains(&format!("port {taken} is in use")), "{error}");
        let status = all.status(id).unwrap();
        assert!(status.listening && status.problem.unwrap().contains("is in use"));
        assert_eq!(all.port(id), Some(port));
        let answers = match protocol {
            Protocol::Udp => udp_answers(port),
            _ => tcp_answers(&mut TcpStream::connect(("127.0.0.1", port)).unwrap()),
        };
        assert!(answers);
        all.open(&transport(id.0, protocol, port), NOW).unwrap();
        assert_eq!(all.status(id).unwrap().problem, None);
        // An answer may arrive before it is counted.
        let deadline = Instant::now() + Duration::from_secs(5);
        let counted = || all.status(id).map(|status| (status.received, status.sent, status.dropped.len()));
        while counted() != Some((1, 1, 0)) {
            assert!(Instant::now() < deadline, "{:?}", counted());
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_certificate_is_replaced_live_and_one_that_does_not_fit_leaves_the_old_one() {
    let (all, _, _runtime) = transports();
    let first = transport(1, Protocol::Tls, 0);
    all.open(&first, NOW).unwrap();
    let port = all.port(TransportId(1)).unwrap();
    let shown = || all.certificate(TransportId(1)).unwrap().fingerprint.clone();
    let before = shown();
    let mixed = CertificatePair { chain: own("pbx").chain, key: own("pbx").key };
    let with = |pair: CertificatePair, port| Transport { certificate: Some(Arc::new(pair)), port, ..first.clone() };
    for port in [port, 0] {
        let error = all.open(&with(mixed.clone(), port), NOW).unwrap_err().to_string();
        assert!(error.starts_with("private key:"), "{error}");
    }
    assert_eq!((all.port(TransportId(1)), shown()), (Some(port), before.clone()));
    all.open(&with(own("other"), port), NOW).unwrap();
    assert!(shown() != before);
    assert!(all.open(&Transport { certificate: None, ..first.clone() }, NOW).is_err());
}

#[test]
fn an_outbox_goes_out_by_every_transport_at_once() {
    let (all, echo, _runtime) = transports();
    all.open(&transport(1, Protocol::Udp, 0), NOW).unwrap();
    all.open(&transport(2, Protocol::Tcp, 0), NOW).unwrap();
    let mut tcp = TcpStream::connect(("127.0.0.1", all.port(TransportId(2)).unwrap())).unwrap();
    assert!(tcp_answers(&mut tcp));
    let stream = echo.1.lock().unwrap()[0];
    let clients = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap()];
    let mut outbox = Outbox::new();
    for round in 0..40 {
        for client in &clients {
            let remote = client.local_addr().unwrap();
            let local = SocketAddr::new(remote.ip(), 1);
            let flow = Flow { transport: TransportId(1), protocol: Protocol::Udp, local, remote, connection: None };
            outbox.push(flow, &[round]);
        }
        outbox.push(stream, &[round]);
        outbox.push(Flow { transport: TransportId(9), ..stream }, b"nobody");
    }
    all.send_all(&mut outbox);
    assert!(outbox.is_empty());
    let mut got = [0; 40];
    tcp.read_exact(&mut got).unwrap();
    assert!(got.iter().copied().eq(0..40));
    for client in &clients {
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for round in 0..40 {
            client.recv(&mut got).unwrap();
            assert_eq!(got[0], round, "in order");
        }
    }
    let (sent, dropped) = (all.counters(TransportId(1)).unwrap().sent(), all.status(TransportId(1)).unwrap().dropped);
    assert_eq!((sent, dropped), (80, Vec::new()));
    assert!(all.disconnect(&stream) && !all.disconnect(&Flow { connection: None, ..stream }));
}
