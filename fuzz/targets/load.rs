//! Fuzzes `smolt_fuzz::load`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    smolt_fuzz::load(data);
});
