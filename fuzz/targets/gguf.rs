//! Fuzzes `smolt_fuzz::gguf`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| {
    smolt_fuzz::gguf(data);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    smolt_fuzz::mend(&mut data[..size], seed);
    size
});
