//! For tests: a network namespace of its own on a thread of its own, gone with the thread.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `work` on a thread in a new network namespace, which has nothing but a loopback interface
/// that is down; child processes and threads started there are in it, too.
#[track_caller]
pub(super) fn in_new_namespace(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("these tests make network namespaces: run them as root (CAP_SYS_ADMIN)");
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` with these words; panics with what it printed if it fails.
#[track_caller]
pub(super) fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {errors}");
}
