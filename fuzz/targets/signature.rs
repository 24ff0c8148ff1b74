//! Fuzzes `smolt_fuzz::signature`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    smolt_fuzz::signature(data);
});
