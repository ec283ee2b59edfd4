//! What a server transaction costs: `cargo run --release -p pbx-core --example transactions`. Registrations in virtual
//! time, a thousand of them a second, so that on datagrams 32,000 transactions live at once.
#![expect(clippy::disallowed_methods, clippy::disallowed_macros, reason = "measures and prints; not part of the core")]

use std::{fs, net::SocketAddr, time::Duration};

use pbx_core::{
    moment::Moment,
    timer::Timers,
    transaction::{Bytes, Keys, Layer, Limits, Request},
    transport::{ConnectionId, Flow, Protocol, TransportId},
};

const ROUNDS: u32 = 1_000_000;
const STEP: Duration = Duration::from_millis(1);

fn main() {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let (spent, most) = registrations(protocol, 1);
        println!("{protocol}: {} ns a transaction, at most {} MiB", nanos(spent), most >> 20);
    }
    let (spent, _) = registrations(Protocol::Udp, 2);
    println!("UDP, each request twice: {} ns a transaction", nanos(spent));
    println!("timer among 100,000: {} ns to set and take", nanos(timers()));
}

/// What this thread has spent, whatever else the machine does.
fn cpu_time() -> Duration {
    let spent = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    let nanos = spent.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds come first");
    Duration::from_nanos(nanos)
}

fn nanos(spent: Duration) -> u128 {
    spent.as_nanos() / u128::from(ROUNDS)
}

fn registrations(protocol: Protocol, copies: usize) -> (Duration, usize) {
    let keys = Keys::new([1; 16]);
    let mut layer = Layer::new(Limits { transactions: 1 << 20, bytes: 1 << 30 });
    let address = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
    let connection = protocol.is_reliable().then_some(ConnectionId(1));
    let flow = Flow { transport: TransportId(1), protocol, local: address(5060), remote: address(40_000), connection };
    let answer: Bytes = vec![b'x'; 500].into();
    let (mut now, mut most, mut sent) = (Moment::ZERO, 0, 0_u32);
    let start = cpu_time();
    for number in 0..ROUNDS {
        now += STEP;
        layer.handle_timeout(now);
        let mut branch = *b"z9hG4bK-524287-1-0123456789abcdef";
        branch[25..29].copy_from_slice(&number.to_ne_bytes());
        for _ in 0..copies {
            let key = keys.server(b"REGISTER", &branch, b"192.168.1.10:5060", Some(flow.remote.ip()));
            if let Request::New(id) = layer.receive_request(key, flow, now, || unreachable!("no INVITE")) {
                layer.respond(id, 200, answer.clone(), now).expect("it waits for its answer");
            }
            while layer.poll().is_some() {
                sent += 1;
            }
        }
        most = most.max(layer.usage().bytes);
    }
    let spent = cpu_time() - start;
    assert_eq!(sent as usize, ROUNDS as usize * copies);
    (spent, most)
}

fn timers() -> Duration {
    let mut timers = Timers::new();
    let mut now = Moment::ZERO;
    let span = |number: u32| Duration::from_micros(u64::from(number.wrapping_mul(2_654_435_761) % 32_000_000));
    for number in 0..100_000 {
        timers.set(now + span(number), number);
    }
    let start = cpu_time();
    for number in 0..ROUNDS {
        now = timers.next().expect("there are 100,000");
        timers.pop_due(now);
        timers.set(now + span(number), number);
    }
    cpu_time() - start
}
