//! Ten phones behind one router that translates addresses. They register again and again, and can lose their power all at
//! once.
//!
//! ```text
//!  ten phones ── router ══ the internet (the good neighbour) ── appliance
//!  192.168.50.11-20   198.51.100.2       10.77.1.2              10.77.1.1
//! ```

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pbx_tests::{
    phone::Line,
    router,
    sandbox::{Namespace, ip},
    site::{Site, UDP, server},
};

/// How many phones there are.
pub(crate) const PHONES: u8 = 10;
/// The address that all of them share.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Between two registrations of a phone.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a phone waits for an answer, in which it asks again and again.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often a phone looks whether it has power.
const LOOK: Duration = Duration::from_millis(10);

/// The phones, until they are dropped.
pub(crate) struct Office {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    _router: Namespace,
}

struct Shared {
    network: Namespace,
    stop: AtomicBool,
    power: AtomicBool,
    attempts: Mutex<Vec<Attempt>>,
    /// Messages that the phones sent.
    sent: AtomicU64,
}

/// A registration that a phone asked for.
struct Attempt {
    phone: u8,
    begun: Instant,
    succeeded: Option<bool>,
    /// Messages that the phone sent again, because no answer came in time.
    again: u64,
}

/// What phones asked for in a span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) registrations: u64,
    pub(crate) succeeded: u64,
    pub(crate) sent_again: u64,
}

impl Office {
    /// Builds it, and lets the phones register.
    pub(crate) fn open(site: &Site) -> Result<Self> {
        let good = &site.lab.good;
        let (router, network) = (Namespace::new()?, Namespace::new()?);
        good.network.ip(&format!("link add wan type veth peer name wan netns {}", router.path().display()))?;
        router.ip(&format!("link add lan type veth peer name eth0 netns {}", network.path().display()))?;
        for (network, interface, address) in [
            (&good.network, "wan", "198.51.100.1/24".to_owned()),
            (&router, "wan", format!("{ADDRESS}/24")),
            (&router, "lan", "192.168.50.1/24".to_owned()),
        ] {
            network.ip(&format!("addr add {address} dev {interface}"))?;
            network.ip(&format!("link set {interface} up"))?;
        }
        network.ip("link set eth0 up")?;
        for phone in 0..PHONES {
            network.ip(&format!("addr add {}/24 dev eth0", own(phone)))?;
        }
        network.ip("route add default via 192.168.50.1")?;
        router.ip("route add default via 198.51.100.1")?;
        ip(&format!("route add 198.51.100.0/24 via {}", good.v4()))?;
        router::translate(&router, "", 30)?;
        good.network.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forward"))?;

        let shared = Arc::new(Shared {
            network,
            stop: AtomicBool::new(false),
            power: AtomicBool::new(true),
            attempts: Mutex::default(),
            sent: AtomicU64::new(0),
        });
        let mut office = Self { shared, threads: Vec::new(), _router: router };
        let server = server(good, UDP);
        for phone in 0..PHONES {
            let number = (301 + u32::from(phone)).to_string();
            let password = site.add(&number)?;
            let shared = Arc::clone(&office.shared);
            office.threads.push(thread::spawn(move || shared.telephone(phone, &number, &password, server)));
        }
        Ok(office)
    }

    /// Takes the power away from all phones, and waits until they are silent.
    pub(crate) fn cut(&self) {
        self.shared.power.store(false, Relaxed);
        self.settle(Instant::now());
    }

    /// Gives it back.
    pub(crate) fn power(&self) {
        self.shared.power.store(true, Relaxed);
    }

    /// Waits until every phone has registered since then. An error after as long as a phone is patient, twice.
    pub(crate) fn wait_all(&self, since: Instant) -> Result<()> {
        let begin = Instant::now();
        while self.registered(since) < usize::from(PHONES) {
            let registered = self.registered(since);
            ensure!(
                begin.elapsed() < PATIENCE * 2,
                "only {registered} of the {PHONES} phones behind the router register"
            );
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// How many phones have registered since then.
    pub(crate) fn registered(&self, since: Instant) -> usize {
        let attempts = self.shared.attempts();
        let mut phones: Vec<u8> = attempts
            .iter()
            .filter(|attempt| attempt.begun >= since && attempt.succeeded == Some(true))
            .map(|attempt| attempt.phone)
            .collect();
        phones.sort_unstable();
        phones.dedup();
        phones.len()
    }

    /// Waits until what began before then has succeeded or failed. A phone's patience ends that.
    pub(crate) fn settle(&self, until: Instant) {
        let open = || self.shared.attempts().iter().any(|one| one.begun < until && one.succeeded.is_none());
        while open() {
            thread::sleep(LOOK);
        }
    }

    /// Registrations that began between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Asked {
        let attempts = self.shared.attempts();
        let within: Vec<_> = attempts.iter().filter(|one| (from..to).contains(&one.begun)).collect();
        let succeeded = within.iter().filter(|one| one.succeeded == Some(true)).count();
        let sent_again = within.iter().map(|one| one.again).sum();
        Asked { registrations: within.len() as u64, succeeded: succeeded as u64, sent_again }
    }

    /// Messages that the phones sent.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Relaxed)
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn own(phone: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 50, 11 + phone)
}

impl Shared {
    fn attempts(&self) -> std::sync::MutexGuard<'_, Vec<Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A phone's life.
    fn telephone(&self, phone: u8, number: &str, password: &str, server: std::net::SocketAddr) {
        let mut line: Option<Line> = None;
        while !self.stop.load(Relaxed) {
            if !self.power.load(Relaxed) {
                line = None;
                thread::sleep(LOOK);
                continue;
            }
            if line.is_none() {
                line = Line::udp(&self.network, own(phone).into(), server).ok();
            }
            let Some(speaking) = &mut line else { continue };
            speaking.set_patience(PATIENCE);
            let begun = Instant::now();
            let place = {
                let mut attempts = self.attempts();
                attempts.push(Attempt { phone, begun, succeeded: None, again: 0 });
                attempts.len() - 1
            };
            let before = speaking.sent();
            let succeeded = speaking.register(number, password).is_ok_and(|status| status == 200);
            let sent = speaking.sent() - before;
            self.sent.fetch_add(sent, Relaxed);
            let attempt = &mut self.attempts()[place];
            // A request, and the one with the proof.
            (attempt.succeeded, attempt.again) = (Some(succeeded), sent.saturating_sub(2));
            // The pace of a phone.
            while begun.elapsed() < PAUSE && self.power.load(Relaxed) && !self.stop.load(Relaxed) {
                thread::sleep(LOOK);
            }
        }
    }
}
