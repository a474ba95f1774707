//! See `quorate_sim::fuzz::recovery`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_sim::fuzz::recovery(data));
