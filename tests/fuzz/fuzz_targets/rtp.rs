//! `pbx_tests::fuzz::rtp::packets` under libFuzzer.
#![no_main]

#[allow(dead_code)]
#[path = "../../src/fuzz.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::rtp::packets(data);
});
