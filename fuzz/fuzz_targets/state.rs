//! See `quorate_sim::fuzz::state`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_sim::fuzz::state(data));
