//! `pbx_tests::fuzz::sdp::description` under libFuzzer.
#![no_main]

#[allow(dead_code)]
#[path = "../../src/fuzz.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::sdp::description(data);
});
