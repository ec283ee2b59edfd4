//! A filter in memory that remembers what it was asked and fails when it is told to; and operations on it.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use pbx_core::{
    address::Prefix,
    call::{CallId, Disposition, EndedBy, LegKind, Record, RecordLeg},
    directory::{ExtensionId, TenantId},
    guard::Detector,
    lockout::{Peer, Surroundings},
    media::Stats,
    rule::Action,
    settings::{Enforcement, Ports, Settings},
    time::Timestamp,
};

use super::{
    Accounts, AddExtension, AddFeed, AddTenant, Context, Environment, FEED_LIMITS, Operations, SetMail, SetWebhook,
    State, fake_signalling::FakeSignalling,
};
use crate::{
    filter::{
        AutomaticBlock, BlockKey, Change, Filter, FilterStatus, Finding, Hits, InterfaceCounters, KernelView,
        KnownChange, ManualVerdict, MediaChange, NewBlock, Outcome, ReasonCount, Severity, Talker, TestVerdict,
    },
    host::{disk::Disk, reserved::Uncovered},
    notify::Security,
    secrets::Secrets,
    store::Store,
    trace::dropped::{Drops, Follower, Wanted},
    web::{
        Limits, Web,
        tests::{Server, status},
    },
};

/// The time at which every test begins.
pub(crate) const BEGIN: Timestamp = Timestamp::from_millis(1_795_412_400_000);

#[derive(Default)]
pub(crate) struct FakeFilter {
    pub(crate) fails: AtomicBool,
    pub(crate) full: AtomicBool,
    /// The machine reserves no ports.
    pub(crate) unreserved: AtomicBool,
    pub(crate) changes: Mutex<Vec<Change>>,
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) automatic: Mutex<Vec<AutomaticBlock>>,
    pub(crate) view: Mutex<KernelView>,
    /// Packets that somebody looks at; none comes.
    drops: Drops,
    settings: Mutex<(Option<Settings>, i64)>,
    /// The ports of transports, as last told.
    pub(crate) transports: Mutex<Vec<u16>>,
    /// Ports of transports that it does not take.
    pub(crate) refused_ports: Mutex<Option<Vec<u16>>>,
}

impl FakeFilter {
    fn call(&self, what: String) -> anyhow::Result<()> {
        self.calls.lock().unwrap().push(what);
        anyhow::ensure!(!self.fails.load(Ordering::Relaxed), "the map is gone");
        Ok(())
    }

    pub(crate) fn called(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }
}

impl Filter for FakeFilter {
    fn check(&self, _: &Change) -> anyhow::Result<()> {
        anyhow::ensure!(!self.full.load(Ordering::Relaxed), "65536 of 65536 ranges are in use");
        Ok(())
    }

    fn apply(&self, change: &Change) -> anyhow::Result<()> {
        self.call("apply".into())?;
        self.changes.lock().unwrap().push(change.clone());
        Ok(())
    }

    fn settings(&self, settings: &Settings, transports: &[u16], revision: i64) -> anyhow::Result<()> {
        self.call(format!("settings {revision}"))?;
        let refused = self.refused_ports.lock().unwrap();
        anyhow::ensure!(refused.as_deref() != Some(transports), "the map of ports is gone");
        *self.transports.lock().unwrap() = transports.to_vec();
        *self.settings.lock().unwrap() = (Some(settings.clone()), revision);
        // What was made in monitor ends when its detector enforces.
        let enforces = |block: &AutomaticBlock| {
            block.reason.enforcement(&settings.guard).under(settings.filter.mode) == Enforcement::Enforce
        };
        self.automatic.lock().unwrap().retain(|block| block.enforced || !enforces(block));
        Ok(())
    }

    fn automatic_blocks(&self) -> anyhow::Result<Vec<AutomaticBlock>> {
        Ok(self.automatic.lock().unwrap().clone())
    }

    fn block(&self, block: &NewBlock) -> anyhow::Result<()> {
        self.call(format!("block {} {}", block.prefix, block.reason.as_str()))?;
        let NewBlock { prefix, reason, expires_at, enforced, web_only } = *block;
        let mut blocks = self.automatic.lock().unwrap();
        blocks.retain(|other| (other.prefix, other.web_only) != (prefix, web_only));
        let since = Timestamp::from_millis(0);
        let (packets, last_seen) = (0, None);
        blocks.push(AutomaticBlock { prefix, reason, since, expires_at, packets, last_seen, enforced, web_only });
        Ok(())
    }

    fn remove_automatic(&self, block: &BlockKey) -> anyhow::Result<bool> {
        let BlockKey { prefix, web_only } = block;
        self.call(format!("remove_automatic {prefix}{}", if *web_only { " web" } else { "" }))?;
        let mut blocks = self.automatic.lock().unwrap();
        let before = blocks.len();
        blocks.retain(|other| other.key() != *block);
        Ok(blocks.len() < before)
    }

    fn reset_counters(&self, prefix: &Prefix) -> anyhow::Result<()> {
        self.call(format!("reset_counters {prefix}"))
    }

    fn known(&self, change: &KnownChange) -> anyhow::Result<()> {
        self.call(format!("known {change:?}"))
    }

    fn media(&self, change: &MediaChange) -> anyhow::Result<()> {
        self.call(format!("media {change:?}"))
    }

    fn may_close(&self, media: &Ports) -> Result<(), Uncovered> {
        let message = format!("nobody reserves {media}");
        let open = self.unreserved.load(Ordering::Relaxed);
        if open { Err(Uncovered { message, command: format!("reserve {media}") }) } else { Ok(()) }
    }

    fn follow_drops(&self, wanted: Wanted) -> anyhow::Result<Follower> {
        Ok(self.drops.follow(wanted)?)
    }

    fn explain(&self, _: IpAddr) -> anyhow::Result<KernelView> {
        Ok(self.view.lock().unwrap().clone())
    }

    fn hits(&self, prefix: &Prefix, _: Action) -> Hits {
        Hits { packets: u64::from(prefix.len()), last_seen: Some(BEGIN), estimated: !prefix.is_host() }
    }

    fn counters(&self) -> anyhow::Result<Vec<InterfaceCounters>> {
        let reasons =
            vec![ReasonCount { reason: "manual_block".into(), outcome: Outcome::Dropped, packets: 5, bytes: 320 }];
        Ok(vec![InterfaceCounters { interface: "eth0".into(), reasons }])
    }

    fn top(&self, limit: usize) -> Vec<Talker> {
        let source = "198.51.100.9".parse().unwrap();
        let talker = Talker { source, packets_per_second: 900, blocked: None, last_seen: Some(BEGIN) };
        std::iter::repeat_n(talker, limit.min(3)).collect()
    }

    fn status(&self) -> FilterStatus {
        let (settings, settings_revision) = self.settings.lock().unwrap().clone();
        FilterStatus {
            loaded: true,
            problem: None,
            mode: settings.map_or(Enforcement::Monitor, |settings| settings.filter.mode),
            settings_revision,
            interfaces: Vec::new(),
            guard_active: false,
            automatic_full: false,
            usage: Vec::new(),
            memory: 0,
            not_enforced: Vec::new(),
        }
    }

    fn attach(&self, interface: &str) -> anyhow::Result<()> {
        self.call(format!("attach {interface}"))
    }

    fn detach(&self, interface: &str) -> anyhow::Result<()> {
        self.call(format!("detach {interface}"))
    }

    fn doctor(&self) -> Vec<Finding> {
        vec![Finding { severity: Severity::Ok, subject: "tables".into(), message: "equal".into(), advice: None }]
    }

    fn test_frames(&self, frames: &[(u64, Vec<u8>)]) -> anyhow::Result<Vec<TestVerdict>> {
        let verdict = |frame| TestVerdict { frame, outcome: Outcome::Passed, reason: "other".into(), source: None };
        Ok((0..frames.len()).map(verdict).collect())
    }
}

/// Operations on a real store in a folder of their own, a fake filter, and a clock that stands still.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) operations: Operations,
    pub(crate) filter: Arc<FakeFilter>,
    pub(crate) signalling: Arc<FakeSignalling>,
    pub(crate) surroundings: Arc<Mutex<Surroundings>>,
    /// The surroundings cannot be read.
    pub(crate) blind: Arc<AtomicBool>,
    /// Bytes that are free on the disk.
    pub(crate) free: Arc<AtomicU64>,
    clock: Arc<AtomicI64>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap(), Arc::default()).await
    }

    /// The next daemon on the same store and filter.
    pub(crate) async fn restarted(self) -> (Self, State) {
        let Self { folder, operations, filter, clock, .. } = self;
        operations.store().close().await;
        drop(operations);
        let now = Timestamp::from_millis(clock.load(Ordering::Relaxed));
        let store = Store::open(&folder.path().join("pbx.db")).await.unwrap();
        let state = State::load(&store, now).await.unwrap();
        store.close().await;
        (Self::on(folder, filter).await, state)
    }

    async fn on(folder: tempfile::TempDir, filter: Arc<FakeFilter>) -> Self {
        let surroundings = Arc::new(Mutex::new(Surroundings {
            own: vec!["192.0.2.5".parse().unwrap()],
            gateways: vec!["192.0.2.254".parse().unwrap()],
            peers: vec![Peer { addr: "203.0.113.50".parse().unwrap(), service: "ssh".into(), port: 22 }],
            ssh_ports: vec![22],
            ..Surroundings::default()
        }));
        let blind = Arc::new(AtomicBool::new(false));
        let clock = Arc::new(AtomicI64::new(BEGIN.as_millis()));
        let store = Store::open(&folder.path().join("pbx.db")).await.unwrap();
        let secrets = Secrets::open(&store, folder.path(), None).await.unwrap();
        let accounts = Accounts::load(&store, &secrets, BEGIN).await.unwrap();
        let state = State::load(&store, BEGIN).await.unwrap();
        *filter.transports.lock().unwrap() = state.transports.clone();
        let signalling = Arc::new(FakeSignalling::default());
        let free = Arc::new(AtomicU64::new(50 << 30));
        let environment = Environment {
            filter: filter.clone(),
            guard: crate::guard::Watch::new(
                &pbx_core::settings::Settings::default(),
                [],
                Default::default(),
                [1, 2],
                crate::net::Clock::start(),
            ),
            signalling: signalling.clone(),
            secrets,
            surroundings: {
                let (surroundings, blind) = (surroundings.clone(), blind.clone());
                Arc::new(move || {
                    if blind.load(Ordering::Relaxed) {
                        return Err("/proc/thread-self/net/tcp: permission denied".to_owned());
                    }
                    Ok(surroundings.lock().unwrap().clone())
                })
            },
            disk: {
                let free = free.clone();
                Arc::new(move || Ok(Disk { size: 100 << 30, free: free.load(Ordering::Relaxed) }))
            },
            web: Web::new(),
            feed_limits: Limits { whole: Duration::from_millis(500), ..FEED_LIMITS },
            clock: {
                let clock = clock.clone();
                Arc::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)))
            },
        };
        let operations = Operations::new(store, state, accounts, environment);
        operations.start_signalling().await.unwrap();
        signalling.called();
        Self { folder, operations, filter, signalling, surroundings, blind, free, clock }
    }

    /// Mail and webhook on loopback; the webhook's server, which takes everything, and the webhook is tested and off.
    pub(crate) async fn receivers(&self) -> Server {
        let server = Server::start(|_, _| status("204 No Content")).await;
        let context = Context::daemon();
        let mail = SetMail {
            host: Some("127.0.0.1".into()),
            security: Some(Security::None),
            from: Some("pbx@example.com".into()),
            to: Some(vec!["admin@example.com".into()]),
            ..SetMail::default()
        };
        self.operations.set_mail(&context, mail).await.unwrap();
        let webhook = SetWebhook { url: Some(server.url("/hook").to_string()), ..SetWebhook::default() };
        self.operations.set_webhook(&context, webhook).await.unwrap();
        self.operations.test_notify(&context, "webhook").await.unwrap();
        server
    }

    /// A feed `listed` of one address, in the bench's folder.
    pub(crate) async fn list(&self) {
        let source = self.folder.path().join("listed.txt");
        std::fs::write(&source, "198.51.100.40\n").unwrap();
        let feed = AddFeed { name: "listed".into(), source: source.display().to_string(), ..AddFeed::default() };
        self.operations.add_feed(&Context::daemon(), feed).await.unwrap();
    }

    /// An extension 101 that a phone is registered for, a second tenant, a call that goes on and one that has ended.
    pub(crate) async fn fill(&self) {
        let context = Context::daemon();
        let extension = AddExtension { extension_number: "101".into(), ..AddExtension::default() };
        self.operations.add_extension(&context, extension).await.unwrap();
        let tenant = AddTenant { name: "second".into(), ..AddTenant::default() };
        self.operations.add_tenant(&context, tenant).await.unwrap();
        self.signalling.register("phone", 1, "198.51.100.77:5062");
        self.signalling.talk("00000000000000ab");
        self.store().keep_calls(&[ended_call(0xcd)]).await.unwrap();
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.clock.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// The clock, for whoever lets it run (milliseconds).
    pub(crate) fn clock(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.operations.now()
    }

    pub(crate) fn store(&self) -> &Store {
        self.operations.store()
    }

    pub(crate) fn block_automatically(&self, prefix: &str) {
        self.filter.automatic.lock().unwrap().push(AutomaticBlock {
            prefix: prefix.parse().unwrap(),
            reason: Detector::Level1,
            since: self.now(),
            expires_at: self.now().saturating_add(Duration::from_secs(30)),
            packets: 700,
            last_seen: Some(self.now()),
            enforced: true,
            web_only: false,
        });
    }

    pub(crate) fn kernel_says(&self, action: Action) {
        self.filter.view.lock().unwrap().manual = Some(ManualVerdict { action, prefix: None, expires_at: None });
    }
}

/// The record of a call of extension 1 to 102 that went on for a minute.
pub(crate) fn ended_call(id: u64) -> Record {
    let at = |seconds| BEGIN.saturating_add(Duration::from_secs(seconds));
    let leg = |kind, number: &str| RecordLeg {
        kind,
        number: number.into(),
        remote: "198.51.100.77:5062".into(),
        started: BEGIN,
        ringing: Some(at(1)),
        answered: Some(at(3)),
        ended: Some(at(64)),
        status: 200,
        codec: "PCMA/8000".into(),
        media: Some(Stats { packets: 3050, bytes: 524_600, lost: 2, jitter: 125, ..Stats::default() }),
    };
    Record {
        id: CallId(id),
        tenant: TenantId(1),
        caller: ExtensionId(1),
        caller_number: "101".into(),
        caller_name: "Alice".into(),
        dialled: "102".into(),
        callee_number: "102".into(),
        started: BEGIN,
        ringing: Some(at(1)),
        answered: Some(at(3)),
        ended: Some(at(64)),
        billed: Duration::from_millis(60_001),
        disposition: Disposition::Answered,
        status: 200,
        cause: 16,
        ended_by: Some(EndedBy::Callee),
        why: "".into(),
        codec: "PCMA/8000".into(),
        legs: vec![leg(LegKind::Caller, "101"), leg(LegKind::Branch, "102")],
    }
}
