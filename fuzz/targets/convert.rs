//! Fuzzes `smolt_fuzz::convert`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    smolt_fuzz::convert(data);
});
