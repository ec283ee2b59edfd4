//! The composition root: opens the store, loads the filter, binds the socket, wires them, shuts down.

use crate::config::Config;

/// Runs the daemon until it is told to end.
pub async fn run(config: Config) -> anyhow::Result<()> {
    anyhow::bail!("not wired yet: {}", config.socket.display())
}
