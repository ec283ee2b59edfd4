//! The `pbx` binary: the daemon (`pbx serve`) and every command.
fn main() {}
