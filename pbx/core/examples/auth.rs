//! What the auth path costs, and whether the cost tells who exists. `cargo run --release -p pbx-core --example auth`
//!
//! CPU time of this thread per operation. Known, unknown and disabled users are asked about in turns, with wrong
//! passwords, each judged once in every round; the figure of a kind is the median over the rounds.
#![allow(clippy::disallowed_macros, reason = "prints what it measured")]

use std::{hint::black_box, sync::Arc, time::Duration};

use nix::time::{ClockId, clock_gettime};
use pbx_core::{
    auth::{
        Algorithm, Allowance, Asked, Challenge, Credentials, Header, Key, Keys, Limits, Proof, Replay, Scheme, Use,
        Verdict, decide,
    },
    directory::{Directory, Extension, ExtensionId, Ha1, Tenant, TenantId},
    moment::Moment,
};

const REALM: &str = "pbx.example.com";
const URI: &str = "sip:pbx.example.com";
const EXTENSIONS: u32 = 20_000;
const LIFE: Duration = Duration::from_secs(300);
const NOW: Moment = Moment::from_micros(1_000_000_000);
const ROUNDS: usize = 301;
const BLOCK: usize = 200;

fn main() {
    let directory = built();
    let keys = Keys { current: Key::new(&[1; 32]), former: None };
    let tenant = directory.tenant(TenantId(1)).expect("the tenant was put in");
    let asked = Asked { directory: &directory, tenant, algorithms: &Algorithm::ALL, keys: &keys, life: LIFE, now: NOW };
    for algorithm in Algorithm::ALL {
        who_exists(&asked, algorithm);
        right(&asked, algorithm);
    }
    others(&asked);
}

/// Every second is disabled.
fn extension(id: u32) -> Arc<Extension> {
    let number = (100_000 + id).to_string();
    let ha1 = Ha1::of(&number, REALM, "right");
    let (name, caller_id) = (format!("Phone {id}"), String::new());
    Arc::new(Extension { id: ExtensionId(id), tenant: TenantId(1), number, name, caller_id, enabled: id % 2 == 1, ha1 })
}

fn built() -> Directory {
    let tenant = || Tenant {
        id: TenantId(1),
        name: "Example".to_owned(),
        domains: vec![REALM.to_owned()],
        realm: REALM.to_owned(),
        is_default: true,
    };
    let many: Vec<_> = (0..100_000).map(extension).collect();
    let start = cpu();
    let directory = Directory::new([tenant()], many);
    println!("building a directory of 100,000: {:.1} ms", (cpu() - start) as f64 / 1e6);
    let times = 1_000_000;
    let find = |number: &str| {
        per(times, || {
            black_box(directory.extension(TenantId(1), black_box(number)));
        })
    };
    println!("finding a number: {:.1} ns, not finding one: {:.1} ns", find("150001"), find("250001"));
    Directory::new([tenant()], (0..EXTENSIONS).map(extension))
}

/// Credentials as text.
struct Phone {
    user: String,
    nonce: String,
    response: String,
    algorithm: Algorithm,
}

impl Phone {
    fn new(keys: &Keys, number: u32, algorithm: Algorithm, password: &str) -> Self {
        let (user, nonce) = (number.to_string(), keys.sign(REALM, NOW, u64::from(number)).to_string());
        let proof = Proof {
            scheme: Scheme { algorithm, session: false },
            method: b"REGISTER",
            uri: URI.as_bytes(),
            nonce: nonce.as_bytes(),
            cnonce: b"0a4f113b9d21",
            used: Use::Counted(b"00000001"),
        };
        let response = proof.response(&Ha1::of(&user, REALM, password)).to_string();
        Self { user, nonce, response, algorithm }
    }

    fn judge(&self, asked: &Asked<'_>) -> Verdict {
        let credentials = Credentials {
            username: Some(self.user.as_bytes()),
            realm: Some(REALM.as_bytes()),
            nonce: Some(self.nonce.as_bytes()),
            uri: Some(URI.as_bytes()),
            response: Some(self.response.as_bytes()),
            algorithm: Some(self.algorithm.token().as_bytes()),
            cnonce: Some(b"0a4f113b9d21"),
            qop: Some(b"auth"),
            nc: Some(b"00000001"),
        };
        decide(black_box(&credentials), b"REGISTER", asked)
    }
}

/// Medians of the cost of a wrong password, for 10,000 each of those who exist, those who do not, and those who are
/// disabled; in an order that no cache foresees, then in that of their numbers, as a scan goes.
fn who_exists(asked: &Asked<'_>, algorithm: Algorithm) {
    for (order, factor) in [("at random", 7919), ("in order", 1)] {
        let phones = |first: u32| -> Vec<Phone> {
            let numbers = (0..EXTENSIONS / 2).map(|index| first + 2 * (index * factor % (EXTENSIONS / 2)));
            numbers.map(|number| Phone::new(asked.keys, number, algorithm, "wrong")).collect()
        };
        let kinds = [("known", phones(100_001)), ("unknown", phones(200_001)), ("disabled", phones(100_000))];
        let medians = medians(asked, &kinds);
        let (least, most) = (medians.into_iter().fold(f64::MAX, f64::min), medians.into_iter().fold(0.0, f64::max));
        for ((name, _), cost) in kinds.iter().zip(medians) {
            println!("{algorithm}, {order}: a wrong password, {name} user: {cost:.0} ns");
        }
        println!("{algorithm}, {order}: medians apart by {:.1} %", 100.0 * (most - least) / least);
    }
}

fn medians(asked: &Asked<'_>, kinds: &[(&str, Vec<Phone>); 3]) -> [f64; 3] {
    let mut costs = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for turn in 0..kinds.len() {
            let kind = (round + turn) % kinds.len();
            let phones = kinds[kind].1.iter().cycle().skip(round * BLOCK % kinds[kind].1.len()).take(BLOCK);
            let start = cpu();
            for phone in phones {
                black_box(phone.judge(asked));
            }
            costs[kind].push((cpu() - start) as f64 / BLOCK as f64);
        }
    }
    costs.map(median)
}

fn right(asked: &Asked<'_>, algorithm: Algorithm) {
    let phone = Phone::new(asked.keys, 100_001, algorithm, "right");
    assert!(matches!(phone.judge(asked), Verdict::Valid { .. }));
    let judge = || {
        black_box(phone.judge(asked));
    };
    println!("{algorithm}: the right password: {:.0} ns", per(100_000, judge));
}

fn others(asked: &Asked<'_>) {
    let mut id = 0;
    let sign = || {
        id += 1;
        black_box(asked.keys.sign(REALM, NOW, id));
    };
    println!("signing a nonce: {:.0} ns", per(100_000, sign));
    let nonce = asked.keys.sign(REALM, NOW, 1);
    let mut out = Vec::with_capacity(1024);
    let write = || {
        out.clear();
        let (header, algorithms) = (Header::Www, &Algorithm::ALL);
        Challenge { header, realm: REALM, nonce, algorithms, stale: false }.write(black_box(&mut out));
    };
    println!("writing two challenges: {:.0} ns", per(100_000, write));
    let mut replay = Replay::new(Replay::DEFAULT_NONCES);
    let mut id = 0_u64;
    let check = || {
        id += 1;
        black_box(replay.check(id, Moment::from_micros(id), 1));
    };
    println!("the check of a count: {:.0} ns", per(1_000_000, check));
    let allowance = Allowance::new([0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321]);
    let mut source = 0;
    let ask = || {
        source += 1;
        black_box(allowance.ask(source, Limits::default(), NOW));
    };
    println!("asking for an allowance: {:.0} ns", per(1_000_000, ask));
}

/// Nanoseconds that one takes.
fn per(times: u32, mut one: impl FnMut()) -> f64 {
    let start = cpu();
    for _ in 0..times {
        one();
    }
    (cpu() - start) as f64 / f64::from(times)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this thread, in nanoseconds.
fn cpu() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's clock");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}
