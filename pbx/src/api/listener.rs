//! The unix socket: bound, accepted, bounded. Anybody on the machine may connect, so nobody gets many
//! connections, and none stays that sends no request.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use axum::Router;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    connection::{Open, Place, ended, serve},
    identity::Peer,
};

/// Connections of one user; root has as many as there are.
const CONNECTIONS_OF_ONE: usize = 32;
/// Connections of all.
const CONNECTIONS: usize = 512;
/// How long requests that are under way may take when the daemon ends.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed accept (no file descriptors left), so that it does not spin.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    open: Open<u32>,
}

impl Server {
    /// A server of `router` that ends when `ending` turns true.
    pub fn new(listener: UnixListener, router: Router, ending: watch::Receiver<bool>) -> Self {
        Self { listener, router, ending, open: Open::default() }
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
        let Some(place) = take(&self.open, credentials.uid()) else {
            tracing::debug!(uid = credentials.uid(), "too many connections");
            return;
        };
        let peer = Peer::new(credentials.uid(), credentials.gid());
        let (router, ending) = (self.router.clone(), self.ending.clone());
        connections.spawn(async move {
            let _place = place;
            serve(stream, router, peer, ending).await;
        });
    }
}

/// A place for a user; root gets in even when everybody else has taken everything.
fn take(open: &Open<u32>, uid: u32) -> Option<Place<u32>> {
    match uid {
        0 => Place::take(open, uid, CONNECTIONS, usize::MAX),
        _ => Place::take(open, uid, CONNECTIONS_OF_ONE, CONNECTIONS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_places_and_gets_them_back() {
        let open = Open::default();
        let mut places: Vec<_> = (0..CONNECTIONS_OF_ONE).map(|_| take(&open, 1000).unwrap()).collect();
        assert!(take(&open, 1000).is_none());
        assert!(take(&open, 1001).is_some());
        places.pop();
        assert!(take(&open, 1000).is_some());
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
