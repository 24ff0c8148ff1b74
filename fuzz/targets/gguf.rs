//! Fuzzes `smolt_fuzz::gguf`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| smolt_fuzz::gguf(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    smolt_fuzz::mutated(data, size, max_size, seed)
});
