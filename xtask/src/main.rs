//! Set up, run, test, check and measure pbx.
fn main() {}
