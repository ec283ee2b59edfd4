//! How long it takes to lex an INVITE of 1.2 kB, to read it, to validate it and to answer it: thread CPU time and
//! allocations per message. `cargo run --release -p pbx-core --example lex`
#![allow(clippy::disallowed_macros, reason = "a measurement prints what it measured")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::time::{ClockId, clock_gettime};
use pbx_core::wire::sip::{Edit, Message, Name, Origin, Reply, validate};

/// The system's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system's allocator, as `alloc` passes on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const INVITE: &str = "INVITE sip:200@pbx.example.com;user=phone SIP/2.0
Via: SIP/2.0/UDP 192.168.1.23:5060;branch=z9hG4bK1886733404;rport
From: \"Alice Arendt\" <sip:100@pbx.example.com>;tag=3471226031
To: <sip:200@pbx.example.com;user=phone>
Call-ID: 0_2184036293@192.168.1.23
CSeq: 2 INVITE
Contact: <sip:100@192.168.1.23:5060>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-805ec0123456>\"
Authorization: Digest username=\"100\", realm=\"pbx.example.com\", nonce=\"9f3b2a77c1d04e5f8a6b\", uri=\"sip:200@pbx.example.com;user=phone\", response=\"d2c1a8f6b9f0a2e7c4d3b2a190807060\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, nc=00000001
Content-Type: application/sdp
Allow: INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER, PUBLISH, UPDATE, MESSAGE
Max-Forwards: 70
User-Agent: Yealink SIP-T46U 108.86.0.45
Supported: replaces
Allow-Events: talk,hold,conference,refer,check-sync
Content-Length: 246

v=0
o=- 20021 20021 IN IP4 192.168.1.23
s=SDP data
c=IN IP4 192.168.1.23
t=0 0
m=audio 11796 RTP/AVP 9 0 8 101
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=sendrecv
";

/// CPU time that this thread has used, in nanoseconds, as the kernel counts it.
fn cpu() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of every Linux");
    time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs()
}

/// The best of some rounds, so that a busy machine does not count.
fn measure(what: &str, mut work: impl FnMut()) {
    const ROUNDS: u32 = 30;
    const TIMES: u32 = 20_000;
    let mut best = u64::MAX;
    work();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..ROUNDS {
        let start = cpu();
        for _ in 0..TIMES {
            work();
        }
        best = best.min(cpu() - start);
    }
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - allocations) / u64::from(ROUNDS * TIMES);
    println!("{what:<44} {:>6} ns  {allocations} allocations", best / u64::from(TIMES));
}

fn main() {
    let invite = INVITE.replace('\n', "\r\n").into_bytes();
    let source = "198.51.100.7:32768".parse().expect("an address");
    let parse = || Message::parse(black_box(&invite[..]), Origin::Datagram).expect("a message");
    println!("an INVITE of {} bytes", invite.len());
    measure("lexed", || {
        black_box(&parse());
    });
    measure("lexed, with Via, From, To, CSeq, Contact", || {
        let message = parse();
        black_box(message.via().is_ok_and(|via| via.branch().is_some()));
        black_box(message.from().is_ok_and(|from| from.tag().is_some() && from.uri().is_ok()));
        black_box(message.to().is_ok_and(|to| to.tag().is_none() && to.uri().is_ok()));
        black_box(message.cseq().is_ok());
        black_box(message.contacts().all(|contact| contact.is_ok()));
    });
    measure("lexed and validated", || {
        let message = parse();
        black_box(validate(&message).is_ok());
    });
    measure("lexed, credentials read", || {
        let message = parse();
        black_box(message.credentials(Name::Authorization).all(|credentials| credentials.is_ok()));
    });
    let mut out = Vec::with_capacity(2_048);
    let message = parse();
    measure("answered with 401", || {
        out.clear();
        Reply::start(&mut out, &message, 401, source, Some(b"as6d7f8g"))
            .header("WWW-Authenticate", "Digest realm=\"pbx.example.com\", nonce=\"0123456789abcdef\", qop=\"auth\"")
            .finish();
        black_box(&out);
    });
    measure("edited: a Via more, a hop less", || {
        out.clear();
        Edit::of(&message)
            .prepend(Name::Via, b"SIP/2.0/UDP ours;branch=z9hG4bK9")
            .set(Name::MaxForwards, b"69")
            .write(&mut out);
        black_box(&out);
    });
}
