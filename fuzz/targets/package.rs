//! Fuzzes `smolt_fuzz::package`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    smolt_fuzz::package(data);
});
