//! The unix socket: bound, accepted, bounded. Anybody on the machine may connect, so nobody gets many
//! connections, and none stays that sends no request.

use std::{
    collections::HashMap,
    fs::Permissions,
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
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
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use super::identity::Peer;

/// Connections of one user; root has as many as there are.
const CONNECTIONS_OF_ONE: usize = 32;
/// Connections of all.
const CONNECTIONS: usize = 512;
/// How long a connection may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests that are under way may take when the daemon ends.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed accept (no file descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the socket; everybody may connect, and is asked who they are. A socket that an earlier daemon left
/// is taken away: the caller holds the lock that makes sure that it is not in use.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
        // Only a folder of our own is opened to others; /tmp and the like stay as they are.
        if folder.ends_with("pbx") {
            std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        }
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!("another pbx answers on {}: stop it first, or set another `socket`", path.display()),
                ));
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is there and no socket: remove it or set another `socket`", path.display()),
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// The accepting end.
pub struct Server {
    listener: UnixListener,
    router: Router,
    ending: watch::Receiver<bool>,
    open: Arc<Mutex<HashMap<u32, usize>>>,
}

impl Server {
    /// A server of `router` that ends when `ending` turns true.
    pub fn new(listener: UnixListener, router: Router, ending: watch::Receiver<bool>) -> Self {
        Self { listener, router, ending, open: Arc::default() }
    }

    /// Serves until it is told to end; requests that are under way are finished, for a bounded time.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        let mut ending = self.ending.clone();
        loop {
            tokio::select! {
                () = ended(&mut ending) => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.take(stream, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(END_TIMEOUT, all).await.is_err() {
            tracing::info!("requests that did not end were cut off");
        }
    }

    fn take(&self, stream: UnixStream, connections: &mut JoinSet<()>) {
        let Ok(credentials) = stream.peer_cred() else { return };
        let Some(place) = Place::take(&self.open, credentials.uid()) else {
            tracing::debug!(uid = credentials.uid(), "too many connections");
            return;
        };
        let peer = Peer::new(credentials.uid(), credentials.gid());
        let router = TowerToHyperService::new(self.router.clone());
        let mut ending = self.ending.clone();
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer.clone());
                router.call(request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
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
        });
    }
}

/// Waits for the end, which is also when nobody is left who could tell of it.
pub(super) async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

/// A place among the open connections, free again when dropped.
struct Place {
    open: Arc<Mutex<HashMap<u32, usize>>>,
    uid: u32,
}

impl Place {
    fn take(open: &Arc<Mutex<HashMap<u32, usize>>>, uid: u32) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.get(&uid).copied().unwrap_or(0);
        let all: usize = counts.values().sum();
        // root gets in even when everybody else has taken everything.
        if uid != 0 && (own >= CONNECTIONS_OF_ONE || all >= CONNECTIONS) {
            return None;
        }
        if uid == 0 && own >= CONNECTIONS {
            return None;
        }
        counts.insert(uid, own + 1);
        drop(counts);
        Some(Self { open: Arc::clone(open), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_places_and_gets_them_back() {
        let open = Arc::default();
        let mut places: Vec<Place> = (0..CONNECTIONS_OF_ONE).map(|_| Place::take(&open, 1000).unwrap()).collect();
        assert!(Place::take(&open, 1000).is_none());
        assert!(Place::take(&open, 1001).is_some());
        places.pop();
        assert!(Place::take(&open, 1000).is_some());
        drop(places);
        assert!(open.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_socket_that_was_left_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pbx.sock");
        drop(bind(&path).unwrap());
        let again = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        drop(again);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(bind(&path).unwrap_err().to_string().contains("no socket"));
    }
}
