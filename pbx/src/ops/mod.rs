//! The operations: everything that somebody can ask of the appliance, one file a noun. API, command line and
//! daemon call these and nothing below them.
//!
//! A change goes: validate → would it lock somebody out → does it fit → store → filter → memory. When the
//! filter does not take it, the store is put back and the error says so. Changes are made one after the
//! other, and a change that has begun is finished even when whoever asked hangs up.

mod accounts;
mod audit;
mod automatic;
mod backup;
mod blocks;
mod book;
mod calls;
mod cdrs;
mod change;
mod control;
mod csv;
mod enforcement;
mod error;
mod events;
mod evidence;
mod explain;
mod extensions;
mod feeds;
mod filter;
mod guard;
mod import;
mod ip_filter;
mod lockout;
mod notify;
mod pcap;
mod pending;
mod query;
mod registrations;
mod rehearsal;
mod retention;
mod rules;
mod rules_csv;
mod settings;
mod state;
mod tenants;
mod trace;
mod transports;
mod upkeep;
mod web;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicUsize},
};

use pbx_core::{lockout::Surroundings, settings::Settings, time::Timestamp};
use tokio::sync::broadcast;

use self::pending::Waiting;
pub use self::{
    accounts::Accounts,
    audit::ExportAudit,
    automatic::Recorded,
    backup::{BackupAnswer, BackupFile, MakeBackup},
    blocks::{BlockEntry, BlockKind, RemoveBlock, Removed},
    book::Book,
    calls::{CallState, CallView},
    cdrs::{CdrDetail, CdrLegView, CdrView, ExportCdrs, ExportFormat, LegMedia},
    error::{Kind, OpError},
    evidence::{BlockShown, CounterView, EvidenceView, OffenceView, PairView},
    explain::{Explanation, Fate, KnownHere, Step},
    extensions::{
        AddExtension, ExtensionAnswer, ExtensionsImported, ImportExtensions, NewPassword, SetPassword, UpdateExtension,
        User,
    },
    feeds::{AddFeed, FEED_LIMITS, FeedAnswer, FeedView, RefreshFeed, UpdateFeed},
    filter::{Status, TestReport},
    import::{ImportAnswer, ImportFormat, ImportRequest},
    ip_filter::{AddRule, Did, How, IpFilter, RuleAnswer, UpdateRule},
    notify::{Delivery, Message, NotifyAnswer, NotifyView, ReceiverView, SetMail, SetWebhook},
    pending::PendingChange,
    query::{ListOptions, PAGE, Page},
    registrations::{PingView, RegistrationView, UserStatus},
    rehearsal::{RehearsalView, Rehearsed},
    settings::{
        SetSettings, SettingChange, SettingDifference, SettingView, SettingsAnswer, SettingsDiff, SettingsHow,
        SettingsView,
    },
    state::State,
    tenants::{AddTenant, TenantAnswer, TenantView, UpdateTenant},
    trace::{DroppedPackets, DroppedView, MessageView, Messages},
    transports::{
        AddTransport, CertificateView, SetCertificate, TransportAnswer, TransportState, TransportStatusView,
        TransportView, UpdateTransport,
    },
    web::CertificateAnswer,
};
use crate::{
    filter::{BlockKey, Filter},
    guard::Watch,
    host::{OTHER_SERVICE, ROOT_SERVICE, disk::Disk},
    secrets::Secrets,
    signalling::Signalling,
    store::{Event, Store, StoredBlock},
    web::{Limits, Web},
};

/// Events that a follower may lag behind before it loses some, and is told how many.
const EVENT_BACKLOG: usize = 1024;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    View,
    /// Reads and changes.
    Admin,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The name that audit and rules keep.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// Over which way they came.
    pub origin: &'static str,
}

impl Context {
    /// The daemon itself.
    pub fn daemon() -> Self {
        Self { actor: "pbx".to_owned(), role: Role::Admin, origin: "daemon" }
    }

    fn may_change(&self) -> Result<(), OpError> {
        if self.role == Role::Admin {
            return Ok(());
        }
        Err(OpError::denied(format!(
            "{} may look and not change: ask root, or join the group pbx-admin (`usermod -aG pbx-admin {}`)",
            self.actor, self.actor
        )))
    }

    /// Whether they may look at `what`, which says who calls whom.
    fn may_see_who_calls(&self, what: &str) -> Result<(), OpError> {
        if self.role == Role::Admin {
            return Ok(());
        }
        Err(OpError::denied(format!(
            "{0} may not look at {what}, which say who calls whom: ask root, or join the group pbx-admin \
             (`usermod -aG pbx-admin {0}`)",
            self.actor
        )))
    }
}

/// What the operations need from outside.
#[derive(Clone)]
pub struct Environment {
    /// Where the rules take effect.
    pub filter: Arc<dyn Filter>,
    /// Where phones register.
    pub signalling: Arc<dyn Signalling>,
    /// What counts attacks, and blocks.
    pub guard: Arc<Watch>,
    /// What opens the passwords and keys in the store.
    pub secrets: Secrets,
    /// What the machine looks like now, or why nobody knows: then nothing changes that could lock somebody out.
    pub surroundings: Arc<dyn Fn() -> Result<Surroundings, String> + Send + Sync>,
    /// The time of day.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// What asks web servers.
    pub web: Web,
    /// What reading a feed may cost.
    pub feed_limits: Limits,
    /// How full the disk is that has the store.
    pub disk: Arc<dyn Fn() -> std::io::Result<Disk> + Send + Sync>,
}

/// Every operation. A handle: clones share one state.
#[derive(Clone)]
pub struct Operations {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// Another one than the environment's once a lost filter was taken over.
    filter: RwLock<Arc<dyn Filter>>,
    environment: Environment,
    book: RwLock<Book>,
    settings: RwLock<(Settings, i64)>,
    accounts: RwLock<Accounts>,
    /// Automatic blocks as the store has them.
    kept: Mutex<HashMap<BlockKey, StoredBlock>>,
    /// Automatic blocks that the store should have and has not.
    unsaved: AtomicUsize,
    /// A change of settings that waits to be confirmed, as the store has it.
    waiting: Mutex<Waiting>,
    /// Held by the change that is under way.
    changing: tokio::sync::Mutex<()>,
    /// Held by whoever makes a backup.
    saving: tokio::sync::Mutex<()>,
    /// Held by whoever reads a feed: one after the other.
    reading: tokio::sync::Mutex<()>,
    /// Feeds were added or changed.
    feeds_changed: tokio::sync::Notify,
    /// A receiver of digests was changed.
    notify_changed: tokio::sync::Notify,
    /// How telling the receivers goes.
    healths: Mutex<notify::Healths>,
    /// What somebody was told of that wears out.
    worn: Mutex<upkeep::Worn>,
    /// The web server's certificate, once there is one.
    web: Mutex<Option<web::Presenting>>,
    /// Held by the doctor, who holds the filter's tables for long.
    examining: Arc<tokio::sync::Mutex<()>>,
    followers: broadcast::Sender<Arc<Event>>,
}

impl Operations {
    /// The operations on a loaded state; the filter already has it. Signalling gets its own by `start_signalling`.
    pub fn new(store: Store, state: State, accounts: Accounts, environment: Environment) -> Self {
        let State { rules, next_rule_id, settings, settings_revision, settings_pending, automatic, .. } = state;
        let kept = automatic.into_iter().map(|block| (block.key(), block)).collect();
        Self {
            inner: Arc::new(Inner {
                store,
                filter: RwLock::new(Arc::clone(&environment.filter)),
                environment,
                book: RwLock::new(Book::new(rules, next_rule_id)),
                settings: RwLock::new((settings, settings_revision)),
                accounts: RwLock::new(accounts),
                kept: Mutex::new(kept),
                unsaved: AtomicUsize::new(0),
                waiting: Mutex::new(Waiting { change: settings_pending, failed: None }),
                changing: tokio::sync::Mutex::new(()),
                saving: tokio::sync::Mutex::new(()),
                reading: tokio::sync::Mutex::new(()),
                feeds_changed: tokio::sync::Notify::new(),
                notify_changed: tokio::sync::Notify::new(),
                healths: Mutex::default(),
                worn: Mutex::default(),
                web: Mutex::default(),
                examining: Arc::default(),
                followers: broadcast::channel(EVENT_BACKLOG).0,
            }),
        }
    }

    /// The settings as they are now, and their revision.
    pub fn current_settings(&self) -> (Settings, i64) {
        self.inner.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the machine looks like now.
    pub async fn surroundings(&self) -> Result<Surroundings, OpError> {
        self.look_around().await
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.inner.environment.clock)()
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.inner.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn book_mut(&self) -> RwLockWriteGuard<'_, Book> {
        self.inner.book.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn accounts(&self) -> RwLockReadGuard<'_, Accounts> {
        self.inner.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn accounts_mut(&self) -> RwLockWriteGuard<'_, Accounts> {
        self.inner.accounts.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn guard(&self) -> &Watch {
        &self.inner.environment.guard
    }

    fn secrets(&self) -> &Secrets {
        &self.inner.environment.secrets
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<BlockKey, StoredBlock>> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change to its end, even when whoever waits for it goes away.
    async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, OpError>> + Send + 'static,
    ) -> Result<T, OpError> {
        match tokio::spawn(change).await {
            Ok(outcome) => outcome,
            Err(error) => Err(OpError::internal(format!(
                "the change broke off: {error}; `pbx doctor` says whether store and filter agree"
            ))),
        }
    }

    /// Calls the filter, which may take its time, off the async threads.
    async fn with_filter<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Filter) -> T + Send + 'static,
    ) -> Result<T, OpError> {
        let filter = self.filter();
        tokio::task::spawn_blocking(move || call(filter.as_ref()))
            .await
            .map_err(|error| OpError::internal(format!("the filter broke off: {error}")))
    }

    /// As [`Self::with_filter`], with the signalling side.
    async fn with_signalling<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Signalling) -> T + Send + 'static,
    ) -> Result<T, OpError> {
        let signalling = Arc::clone(&self.inner.environment.signalling);
        tokio::task::spawn_blocking(move || call(signalling.as_ref()))
            .await
            .map_err(|error| OpError::internal(format!("the signalling side broke off: {error}")))
    }

    /// As [`Self::with_filter`], with the surroundings, which are read from the system as well. Phones are no
    /// administrators: connections to protected ports count only when they are known to be ssh or ours.
    async fn look_around(&self) -> Result<Surroundings, OpError> {
        let mut found = self.everybody_around().await?;
        let is_protected = self.protected_ports();
        found.peers.retain(|peer| match peer.service.as_str() {
            OTHER_SERVICE => false,
            ROOT_SERVICE => !is_protected(peer.port),
            _ => true,
        });
        Ok(found)
    }

    /// Whether a local port is one that strangers may be kept from.
    fn protected_ports(&self) -> impl Fn(u16) -> bool + use<> {
        let (settings, _) = self.current_settings();
        let (protected, web) = (settings.filter.protected_ports, settings.filter.web_ports);
        let ports = self.accounts().ports();
        move |port| protected.contains(port) || web.contains(port) || ports.contains(&port)
    }

    /// The same with the peers of protected ports, who need not be administrators.
    async fn everybody_around(&self) -> Result<Surroundings, OpError> {
        let surroundings = Arc::clone(&self.inner.environment.surroundings);
        let found = tokio::task::spawn_blocking(move || surroundings()).await.map_err(|error| error.to_string());
        found.flatten().map_err(|error| {
            OpError::internal(format!(
                "cannot see what this machine depends on and who is connected to it, so nothing was changed: {error}; repeat the command, the daemon's log says more"
            ))
            .with_code("SURROUNDINGS")
        })
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
pub(crate) mod fake_signalling;
#[cfg(test)]
mod tests;
