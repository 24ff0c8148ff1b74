//! Fuzzes `smolt_fuzz::session`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    smolt_fuzz::session(data);
});
