use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::ThreadId,
    time::{Duration, Instant},
};

use pbx_core::transport::Protocol;

use super::{
    super::{Heard, Outbox},
    *,
};

/// Answers what it hears with what it heard, and keeps what and where.
#[derive(Default)]
struct Echo {
    heard: Mutex<Vec<(Flow, usize)>>,
    threads: Mutex<BTreeSet<String>>,
    count: AtomicUsize,
}

impl Receiver for Echo {
    fn receive(&self, flow: &Flow, bytes: &[u8], answers: &mut Outbox) -> Heard {
        assert_ne!(bytes, b"panic", "as the test wants");
        self.heard.lock().unwrap().push((*flow, bytes.len()));
        let thread: ThreadId = std::thread::current().id();
        self.threads.lock().unwrap().insert(format!("{thread:?}"));
        self.count.fetch_add(1, Ordering::SeqCst);
        answers.push(*flow, bytes);
        Heard::Taken
    }

    fn admits(&self, _: &Flow, length: usize) -> bool {
        length != 3
    }
}

fn opened(options: &Options) -> (Udp, Arc<Echo>, Arc<Counters>) {
    let (echo, counters) = (Arc::<Echo>::default(), Arc::<Counters>::default());
    let udp = Udp::open(TransportId(7), options, echo.clone(), counters.clone()).unwrap();
    (udp, echo, counters)
}

fn client(address: &str) -> UdpSocket {
    let client = UdpSocket::bind(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked_in_both_families() {
    let (udp, echo, counters) = opened(&Options::new(0));
    for (mine, asked) in [("127.0.0.1:0", "127.0.0.2"), ("127.0.0.9:0", "127.0.0.3"), ("[::1]:0", "::1")] {
        let client = client(mine);
        let asked = SocketAddr::new(asked.parse().unwrap(), udp.port());
        client.send_to(b"OPTIONS", asked).unwrap();
        let mut answer = [0; 100];
        let (length, from) = client.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..length], from), (&b"OPTIONS"[..], asked));
        let (flow, _) = echo.heard.lock().unwrap().pop().unwrap();
        assert_eq!((flow.local, flow.remote), (asked, client.local_addr().unwrap()));
        assert_eq!((flow.transport, flow.protocol, flow.connection), (TransportId(7), Protocol::Udp, None));
    }
    until("all counted", || (counters.received(), counters.sent()) == (3, 3));
}

#[test]
fn the_largest_datagrams_arrive_and_leave_whole_even_all_at_once() {
    let (udp, echo, counters) = opened(&Options { workers: 1, ..Options::new(0) });
    for (mine, length) in [("127.0.0.1:0", 65_507), ("[::1]:0", 65_527)] {
        let client = client(mine);
        let to = SocketAddr::new(client.local_addr().unwrap().ip(), udp.port());
        let messages: Vec<Vec<u8>> = (0..8).map(|fill| vec![fill; length]).collect();
        for message in &messages {
            client.send_to(message, to).unwrap();
        }
        let mut answer = vec![0; 70_000];
        // The client's own buffer may be too small for all answers at once.
        let (got, _) = client.recv_from(&mut answer).unwrap();
        assert!(got == length && answer[..got].iter().all(|byte| *byte == answer[0]));
        until("all eight", || echo.heard.lock().unwrap().iter().filter(|(_, heard)| *heard == length).count() == 8);
    }
    assert_eq!(counters.dropped(Dropped::Unreachable), 0);
}

#[test]
fn a_port_in_use_is_an_error_although_transports_share_theirs_among_threads() {
    let (udp, ..) = opened(&Options { workers: 2, ..Options::new(0) });
    let again = Udp::open(TransportId(8), &Options::new(udp.port()), Arc::<Echo>::default(), Arc::default());
    assert_eq!(again.err().unwrap().kind(), io::ErrorKind::AddrInUse);
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let taken = Udp::open(TransportId(8), &Options::new(port), Arc::<Echo>::default(), Arc::default());
    assert_eq!(taken.err().unwrap().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_closed_transport_ends_its_threads_soon_and_frees_its_port() {
    let (udp, ..) = opened(&Options { workers: 4, ..Options::new(0) });
    let port = udp.port();
    let started = Instant::now();
    drop(udp);
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    drop(UdpSocket::bind(("0.0.0.0", port)).unwrap());
    drop(UdpSocket::bind(("::", port)).unwrap());
}

#[test]
fn sources_are_spread_over_the_threads_and_each_stays_at_its_own() {
    let (udp, echo, _) = opened(&Options { workers: 2, ..Options::new(0) });
    let clients: Vec<_> = (0..64).map(|_| client("127.0.0.1:0")).collect();
    for client in &clients {
        client.send_to(b"OPTIONS", ("127.0.0.1", udp.port())).unwrap();
        let (_, from) = client.recv_from(&mut [0; 100]).unwrap();
        assert_eq!(from.port(), udp.port());
    }
    assert_eq!(echo.threads.lock().unwrap().len(), 2);
}

#[test]
fn what_the_filter_does_not_admit_and_what_is_empty_is_not_heard() {
    let (udp, echo, counters) = opened(&Options::new(0));
    let client = client("127.0.0.1:0");
    for message in [&b"not"[..], b"", b"heard"] {
        client.send_to(message, ("127.0.0.1", udp.port())).unwrap();
    }
    let (length, _) = client.recv_from(&mut [0; 100]).unwrap();
    assert_eq!(length, 5);
    assert_eq!(echo.heard.lock().unwrap().len(), 1);
    assert_eq!((counters.received(), counters.dropped(Dropped::Filtered)), (3, 1));
}

#[test]
fn a_fault_of_what_is_above_costs_one_datagram() {
    let (udp, echo, counters) = opened(&Options { workers: 1, ..Options::new(0) });
    let client = client("127.0.0.1:0");
    for message in [&b"panic"[..], b"before", b"panic", b"after"] {
        client.send_to(message, ("127.0.0.1", udp.port())).unwrap();
    }
    until("the others", || echo.count.load(Ordering::SeqCst) == 2);
    assert_eq!(counters.dropped(Dropped::Failed), 2);
}

#[test]
fn others_send_through_it_many_at_a_time_and_one_that_can_not_go_keeps_none_back() {
    let (udp, _, counters) = opened(&Options::new(0));
    let clients: Vec<_> = (0..50).map(|_| client("127.0.0.1:0")).chain([client("[::1]:0")]).collect();
    let mut outbox = Outbox::new();
    let flow = |local: &str, remote: SocketAddr| {
        let local = SocketAddr::new(local.parse().unwrap(), udp.port());
        Flow { transport: TransportId(7), protocol: Protocol::Udp, local, remote, connection: None }
    };
    for client in &clients {
        let remote = client.local_addr().unwrap();
        outbox.push(flow(if remote.is_ipv4() { "127.0.0.5" } else { "::1" }, remote), b"NOTIFY");
    }
    // Not an address of this machine; nor one that takes datagrams; nor a message that UDP can carry.
    outbox.push(flow("203.0.113.1", clients[0].local_addr().unwrap()), b"lost");
    outbox.push(flow("127.0.0.1", "255.255.255.255:9".parse().unwrap()), b"lost");
    outbox.push(flow("127.0.0.1", clients[0].local_addr().unwrap()), &vec![0; 66_000]);
    outbox.push(flow("0.0.0.0", clients[0].local_addr().unwrap()), b"last");
    udp.send(outbox.iter());
    for client in &clients {
        let (length, from) = client.recv_from(&mut [0; 100]).unwrap();
        assert_eq!((length, from.port()), (6, udp.port()));
        assert_eq!(from.ip().to_string(), if from.is_ipv4() { "127.0.0.5" } else { "::1" });
    }
    assert_eq!(clients[0].recv_from(&mut [0; 100]).unwrap().0, 4);
    assert_eq!((counters.sent(), counters.dropped(Dropped::Unreachable)), (52, 3));
}

#[test]
fn what_the_kernel_drops_is_counted() {
    struct Slow;
    impl Receiver for Slow {
        fn receive(&self, _: &Flow, bytes: &[u8], _: &mut Outbox) -> Heard {
            if bytes == b"stop" {
                std::thread::sleep(Duration::from_millis(300));
            }
            Heard::Ignored
        }
    }
    let counters = Arc::<Counters>::default();
    let options = Options { workers: 1, receive_buffer: 4096, ..Options::new(0) };
    let udp = Udp::open(TransportId(7), &options, Arc::new(Slow), counters.clone()).unwrap();
    let client = client("127.0.0.1:0");
    client.send_to(b"stop", ("127.0.0.1", udp.port())).unwrap();
    until("the stop", || counters.received() == 1);
    for _ in 0..200 {
        client.send_to(&[1; 1000], ("127.0.0.1", udp.port())).unwrap();
    }
    // The count comes beside a later datagram.
    let mut sent = 201;
    until("drops", || {
        sent += 1;
        client.send_to(b"x", ("127.0.0.1", udp.port())).unwrap();
        counters.dropped(Dropped::ReceiveBuffer) > 0
    });
    assert!(counters.dropped(Dropped::ReceiveBuffer) < sent);
}
