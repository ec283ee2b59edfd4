//! Who controls the filter: this daemon, nobody on purpose, or nobody because the start failed; then the daemon
//! tries again until it does.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::watch;

use super::{follow, notify, now};
use crate::{
    config::{Attach, Xdp},
    filter::Filter,
    host::Snapshot,
    ops::{Operations, State},
    store::{EventKind, NewEvent},
    xdp::{self, Disabled, Start, Told, UserFilter, XdpFilter},
};

/// The pause before a lost filter is tried again, at first; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

const FILTERING: &str = "filtering";

/// The filter as the start left it.
pub(super) enum Opened {
    /// Ours.
    Held(Arc<XdpFilter>),
    /// In the daemon, because the configuration keeps it out of the kernel.
    User(Arc<UserFilter>),
    /// Not taken over, for this reason.
    Lost(Arc<Disabled>, String),
}

/// Takes the filter over, or off, as the configuration says. An error is a second daemon.
pub(super) fn open(config: &Xdp, state: &State, snapshot: &Snapshot) -> anyhow::Result<(Opened, Vec<Told>)> {
    if config.attach == Attach::Off {
        let why = "attach = \"off\" in the configuration".to_owned();
        // What an earlier start pinned would go on filtering.
        xdp::take_off(&config.pin_dir)?;
        tracing::warn!("the filter is not in the kernel, only the daemon's own sockets are guarded: {why}");
        let stored = (&state.rules[..], &state.settings, &state.transports[..], state.settings_revision);
        let user = UserFilter::new(why, xdp::random_seed()?, stored, &state.automatic, snapshot)?;
        return Ok((Opened::User(Arc::new(user)), Vec::new()));
    }
    match xdp::take_over(start(config, state), snapshot) {
        Ok((filter, told)) => Ok((Opened::Held(Arc::new(filter)), told)),
        Err(error) if error.is::<xdp::Claimed>() => Err(error),
        Err(error) => {
            let (disabled, why) = lost(config, &error);
            Ok((Opened::Lost(disabled, why), Vec::new()))
        }
    }
}

impl Opened {
    /// As the operations see it.
    pub(super) fn shared(&self) -> Arc<dyn Filter> {
        match self {
            Self::Held(filter) => filter.clone(),
            Self::User(filter) => filter.clone(),
            Self::Lost(disabled, _) => disabled.clone(),
        }
    }

    /// The filter that the daemon's own sockets ask.
    pub(super) fn user(&self) -> Option<Arc<UserFilter>> {
        match self {
            Self::User(filter) => Some(Arc::clone(filter)),
            Self::Held(_) | Self::Lost(..) => None,
        }
    }

    pub(super) const fn is_held(&self) -> bool {
        matches!(self, Self::Held(_) | Self::User(_))
    }

    /// For the service manager's one line.
    pub(super) const fn in_words(&self) -> &'static str {
        match self {
            Self::Held(_) => FILTERING,
            Self::User(_) => "filtering at the daemon's own sockets: attach = \"off\"",
            Self::Lost(..) => "the filter is not under control: `pbx doctor` says why",
        }
    }

    /// What there is to do for the filter until the end. `held` gets it when it is ours.
    pub(super) fn keep(
        self,
        config: Xdp,
        held: Arc<OnceLock<Arc<XdpFilter>>>,
        operations: Operations,
        ending: watch::Receiver<bool>,
    ) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        match self {
            Self::User(filter) => Some(Box::pin(follow::follow_user(filter, operations, ending))),
            Self::Held(filter) => {
                let filter = Arc::clone(held.get_or_init(|| filter));
                Some(Box::pin(follow::follow(filter, operations, ending)))
            }
            Self::Lost(_, why) => Some(Box::pin(async move {
                if let Some(filter) = regain(config, why, &operations, ending.clone()).await {
                    let filter = Arc::clone(held.get_or_init(|| filter));
                    follow::follow(filter, operations, ending).await;
                }
            })),
        }
    }
}

/// Tries until the filter is ours; none: the daemon ends. Says a cause once.
async fn regain(
    config: Xdp,
    mut why: String,
    operations: &Operations,
    mut ending: watch::Receiver<bool>,
) -> Option<Arc<XdpFilter>> {
    let mut pause = FIRST_PAUSE;
    loop {
        if tokio::time::timeout(pause, follow::ended(&mut ending)).await.is_ok() {
            return None;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        let xdp = config.clone();
        let regained = operations.regain(move |state| {
            let snapshot = Snapshot::read().context("cannot look at the interfaces")?;
            let (filter, told) = xdp::take_over(start(&xdp, state), &snapshot)?;
            let filter = Arc::new(filter);
            Ok((filter.clone() as Arc<dyn Filter>, (filter, told)))
        });
        match regained.await {
            Ok((filter, told)) => {
                let message = "the filter is under control again".to_owned();
                tracing::info!("{message}");
                notify(&[sd_notify::NotifyState::Status(FILTERING)]);
                let again = NewEvent { at: now(), kind: EventKind::Daemon, prefix: None, interface: None, message };
                let told = told.into_iter().map(|told| told.event(now()));
                operations.record(std::iter::once(again).chain(told).collect()).await;
                return Some(filter);
            }
            Err(error) if format!("{error:#}") == why => {}
            Err(error) => {
                let (disabled, other) = lost(&config, &error);
                operations.use_filter(disabled);
                why = other;
            }
        }
    }
}

fn start<'a>(config: &'a Xdp, state: &'a State) -> Start<'a> {
    Start {
        config,
        rules: &state.rules,
        settings: &state.settings,
        transports: &state.transports,
        revision: state.settings_revision,
        automatic: &state.automatic,
    }
}

/// What an earlier daemon pinned goes on enforcing; this one says loudly that it cannot change it.
fn lost(config: &Xdp, error: &anyhow::Error) -> (Arc<Disabled>, String) {
    let why = format!("{error:#}");
    tracing::error!("the filter is not under control: {why}");
    (Arc::new(Disabled { why: why.clone(), pin_dir: config.pin_dir.clone() }), why)
}
