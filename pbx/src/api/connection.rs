//! One connection of HTTP/1.1, over whatever carries it, and its place among the others. Slow clients are cut off:
//! a request's head has a time, and so has every write.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_io_timeout::TimeoutStream;

/// How long a connection may take to send a request's head, and may be silent between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD: usize = 16 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;

/// Answers the requests of a connection until it ends; each request carries `who` as an extension.
pub(super) async fn serve<S>(
    stream: S,
    router: Router,
    who: impl Clone + Send + Sync + 'static,
    mut ending: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(who.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = ended(&mut ending) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Waits for the end, which is also when nobody is left who could tell of it.
pub(super) async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

/// How many connections each of them has open.
pub(super) type Open<K> = Arc<Mutex<HashMap<K, usize>>>;

/// A place among the open connections, free again when dropped.
pub(super) struct Place<K: Eq + Hash + Clone> {
    open: Open<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Place<K> {
    /// A place for `key`, who may have `own` and with all others together `all`.
    pub(super) fn take(open: &Open<K>, key: K, own: usize, all: usize) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = counts.get(&key).copied().unwrap_or(0);
        if taken >= own || counts.values().sum::<usize>() >= all {
            return None;
        }
        counts.insert(key.clone(), taken + 1);
        drop(counts);
        Some(Self { open: Arc::clone(open), key })
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
