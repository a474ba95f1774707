//! See `quorate_sim::fuzz::frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_sim::fuzz::frames(data));
