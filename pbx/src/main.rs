//! The `pbx` binary: the daemon (`pbx serve`) and every command.

use std::process::ExitCode;

fn main() -> ExitCode {
    pbx::cli::main()
}
