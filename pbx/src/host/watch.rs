//! Tells when the machine's network has changed, with a fresh snapshot. After `snapshot`, before
//! the composition root. The kernel's notices only wake it up: what changed is always read anew, so
//! that lost notices (ENOBUFS) lose nothing. `/etc/resolv.conf` gives no notice of its own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::netlink::{self, Netlink};
use super::snapshot::Snapshot;

/// A change comes as several notices: the snapshot waits this long for the rest of them.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// After a failure to read the tables.
const RETRY: Duration = Duration::from_secs(1);
/// Notices read before the snapshot; those of a longer storm cause another one.
const MAX_DRAINED: usize = 4096;
const GROUPS: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_ROUTE;

/// The present snapshot, and from now on each that differs from the one before, at most 100 ms
/// after the change. Ends when the last receiver is dropped. The namespace is this thread's. Needs
/// a tokio runtime with IO and time, and no privilege.
pub fn start() -> io::Result<watch::Receiver<Arc<Snapshot>>> {
    // Open first, read then: a change in between is told.
    let notices = netlink::open(GROUPS as u32)?;
    set_nonblocking(&notices)?;
    // SAFETY: an OwnedFd tells the one descriptor that it owns, open until it is dropped.
    let notices = unsafe { AsyncFd::register_with_interest(notices, Interest::READABLE)? };
    let mut netlink = Netlink::open()?;
    let (sender, receiver) = watch::channel(Arc::new(Snapshot::read_by(&mut netlink)?));
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&notices, netlink, &sender) => {}
            () = sender.closed() => {}
        }
    });
    Ok(receiver)
}

async fn follow(notices: &AsyncFd<OwnedFd>, mut netlink: Netlink, sender: &watch::Sender<Arc<Snapshot>>) {
    loop {
        if let Err(error) = changed(notices).await {
            tracing::warn!(%error, "changes of the network cannot be followed; reading it each second");
            sleep(RETRY).await;
        }
        let read = spawn_blocking(move || {
            let snapshot = Snapshot::read_by(&mut netlink);
            (netlink, snapshot)
        });
        let Ok((socket, snapshot)) = read.await else {
            return;
        };
        netlink = socket;
        match snapshot {
            Ok(fresh) => publish(sender, fresh),
            Err(error) => {
                tracing::warn!(%error, "the network's state cannot be read; trying again in a second");
                sleep(RETRY).await;
            }
        }
    }
}

/// Returns once something has changed and its notices are read.
async fn changed(notices: &AsyncFd<OwnedFd>) -> io::Result<()> {
    notices.readable().await?.retain_ready();
    sleep(DEBOUNCE).await;
    let mut guard = notices.readable().await?;
    // ENOBUFS: notices were lost. That is a notice, too.
    for _ in 0..MAX_DRAINED {
        match recv(notices.get_ref().as_raw_fd(), &mut [0; 64], MsgFlags::MSG_TRUNC) {
            Err(Errno::EAGAIN) => {
                guard.clear_ready();
                break;
            }
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn publish(sender: &watch::Sender<Arc<Snapshot>>, fresh: Snapshot) {
    sender.send_if_modified(|last| {
        let differs = **last != fresh;
        if differs {
            *last = Arc::new(fresh);
        }
        differs
    });
}

fn set_nonblocking(socket: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::links::Kind;
    use super::super::namespace::{in_new_namespace, ip};
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn with_runtime(work: impl Future<Output = ()> + Send + 'static) {
        in_new_namespace(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let all = async { tokio::time::timeout(DEADLINE, work).await };
            runtime.unwrap().block_on(all).expect("no change was seen in ten seconds");
        });
    }

    async fn until(changes: &mut watch::Receiver<Arc<Snapshot>>, seen: impl Fn(&Snapshot) -> bool) {
        changes.wait_for(|snapshot| seen(snapshot)).await.unwrap();
    }

    #[test]
    fn interfaces_addresses_and_routes_that_come_and_go_are_seen() {
        with_runtime(async {
            let mut changes = start().unwrap();
            ip("link add d0 type veth peer name d1");
            until(&mut changes, |now| now.link_named("d0").is_some()).await;
            ip("addr add 192.0.2.2/24 dev d0");
            until(&mut changes, |now| !now.addresses.is_empty()).await;
            ip("link set d0 up");
            ip("link set d1 up");
            ip("route add default via 192.0.2.1");
            until(&mut changes, |now| now.routes.iter().any(|route| route.is_default())).await;
            ip("link del d0");
            until(&mut changes, |now| now.link_named("d0").is_none()).await;
            ip("link add d0 type bridge");
            until(&mut changes, |now| now.link_named("d0").is_some_and(|d| d.kind == Kind::Bridge)).await;
        });
    }

    #[test]
    fn a_flood_of_notices_that_overruns_the_socket_loses_nothing() {
        with_runtime(async {
            let mut changes = start().unwrap();
            ip("link add d0 type veth peer name d1");
            ip("link set d0 up");
            ip("link set d1 up");
            // Nothing reads meanwhile: the runtime has this one thread.
            let file = tempfile::NamedTempFile::new().unwrap();
            let routes = (0..20_000).map(|i| format!("route add 10.{}.{}.0/24 dev d0\n", i / 256, i % 256));
            std::fs::write(file.path(), routes.collect::<String>()).unwrap();
            ip(&format!("-batch {}", file.path().display()));
            assert!(some_notice_was_lost());
            ip("link add last type veth peer name peer");
            until(&mut changes, |now| now.link_named("last").is_some()).await;
            assert!(changes.borrow().routes.len() >= 20_000);
            ip("link del last");
            until(&mut changes, |now| now.link_named("last").is_none()).await;
        });
    }

    /// By the column `Drops` of the kernel's list of netlink sockets.
    fn some_notice_was_lost() -> bool {
        let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        let drops = sockets.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(8));
        drops.map(|count| count.parse::<u64>().unwrap()).any(|count| count > 0)
    }

    #[test]
    fn the_watch_ends_with_its_last_receiver() {
        with_runtime(async {
            let changes = start().unwrap();
            let tasks = tokio::runtime::Handle::current().metrics();
            assert_eq!(tasks.num_alive_tasks(), 1);
            drop(changes);
            while tasks.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}
