//! Fuzzes `smolt_fuzz::template`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    smolt_fuzz::template(data);
});
