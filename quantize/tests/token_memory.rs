//! No family's forward pass allocates, on the tiny models of `tests/data/families`.
//!
//! One test in its own program: the counters see every thread.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tests/counting.rs"]
mod counting;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use counting::CALLS;
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{FAMILIES, LanguageModel, Model, RunOptions, Runner};
use smolt_quantize::convert::{Conversion, ConvertOptions, FloatType};

/// Longer than any sliding window of the models.
const PROMPT: usize = 45;
const STEPS: usize = 40;

/// Allocations of a prompt and of single tokens after it, with a cache that was used before.
fn allocations(runner: &mut Runner) -> usize {
    let tokens: Vec<u32> = (0..PROMPT + STEPS).map(|i| (i * 79 % 280) as u32).collect();
    let mut pass = || {
        let before = CALLS.load(Relaxed);
        runner.truncate(0);
        runner.feed_rows(&tokens[..PROMPT], 4, &|| false).unwrap();
        for token in &tokens[PROMPT..] {
            runner.feed(&[*token], &|| false).unwrap();
        }
        CALLS.load(Relaxed) - before
    };
    // What happens once is no part of the loop.
    pass();
    pass()
}

#[test]
fn no_family_allocates_per_token() {
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/families");
    let scratch = std::env::temp_dir().join(format!("smolt-token-memory-{}", std::process::id()));
    std::fs::create_dir(&scratch).unwrap();
    let mut seen: Vec<String> = vec![];
    for folder in std::fs::read_dir(&families).unwrap().map(|entry| entry.unwrap().path()) {
        if !folder.is_dir() {
            continue;
        }
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(folder.join(file), scratch.join(file)).unwrap();
        }
        std::fs::copy(families.join("tokenizer.json"), scratch.join("tokenizer.json")).unwrap();
        let output = scratch.join("model.gguf");
        let options = ConvertOptions { float: FloatType::F16, pre: None };
        Conversion::open(&scratch, &options).unwrap().write(&output, &mut |_| {}).unwrap();

        let file = GgufFile::open(&output).unwrap();
        let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
        seen.push(file.str("general.architecture").unwrap().unwrap().to_owned());
        for threads in [1, 2] {
            let options = RunOptions { context: 128, threads, slots: 1, logit_rows: 4, kv: KvType::F16 };
            let count = allocations(&mut Runner::new(Arc::clone(&model), &options).unwrap());
            assert_eq!(count, 0, "{} with {threads} threads", folder.display());
        }
    }
    std::fs::remove_dir_all(&scratch).unwrap();
    for family in FAMILIES {
        assert!(seen.iter().any(|seen| seen == family.architecture), "{} was not run", family.architecture);
    }
}
