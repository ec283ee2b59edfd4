//! The kernel program's own log, for development: `PBX_FILTER_LOG=debug RUST_LOG=debug pbx serve` logs every
//! dropped packet. The level is a constant of the loaded program; without the variable the program logs nothing
//! and pays nothing.

use aya_log::EbpfLogger;
use pbx_xdp::Loaded;
use tokio::io::{Interest, unix::AsyncFd};

/// The variable that switches it on: `error`, `warn`, `info`, `debug` or `trace`.
const VARIABLE: &str = "PBX_FILTER_LOG";

/// The level to load the program with; 0: none.
pub(super) fn level() -> u8 {
    let Ok(wanted) = std::env::var(VARIABLE) else { return 0 };
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let found = levels.iter().position(|level| *level == wanted);
    if found.is_none() {
        tracing::warn!("{VARIABLE}={wanted} is none of {levels:?}: the kernel program does not log");
    }
    found.map_or(0, |level| level as u8)
}

/// Logs what the program logs, for as long as the runtime lives.
pub(super) fn follow(loaded: &mut Loaded) {
    if level() == 0 {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    match EbpfLogger::init(loaded.ebpf()) {
        Ok(logger) => drop(runtime.spawn(drain(logger))),
        Err(error) => tracing::warn!(%error, "the kernel program's log cannot be read"),
    }
}

async fn drain(logger: EbpfLogger<&'static dyn log::Log>) {
    // SAFETY: the logger owns its ring's descriptor and gives the same one as long as it lives.
    let Ok(mut logger) = (unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }) else { return };
    while let Ok(mut ready) = logger.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}
