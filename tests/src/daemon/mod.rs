//! The real `pbx`: its configuration in a directory of the test's, the daemon as a process, commands against it.
//! Last of the harness; a test that sees a warning or an error in the log fails unless it expected it.

mod installation;
mod process;

use std::time::Duration;

pub use installation::{Answer, Installation, find};
pub use process::Daemon;

/// The longest that the daemon may take to start, to stop, or to show what a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Time between two looks at something that gives no event.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
