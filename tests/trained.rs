//! Against references made with other engines on small trained models of the shared data.

use crate::shared;
use smolt::generate::{Request, SamplerOptions, Session};
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{LanguageModel, Model, RunOptions, Runner};
use smolt::text::{EncodeOptions, Tokenizer, TokenizerOptions};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

fn runner(path: &Path, threads: usize) -> Runner {
    let file = GgufFile::open(path).unwrap();
    let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
    Runner::new(model, &RunOptions { context: 512, threads, slots: 1, logit_rows: 8, kv: KvType::F16 })
        .unwrap()
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best }).unwrap() as u32
}

/// Differences where the reference's two best logits are closer than this are rounding.
const ROUNDING_GAP: f64 = 0.02;

/// Greedy continuations equal those of `transformers` in f32 on the same F16 weights.
#[test]
fn greedy_tokens_equal_the_reference() {
    let (Some(golden), Some(model)) =
        (shared::file("models/s288/greedy-f32.json"), shared::file("models/s288/gguf/s288-f16.gguf"))
    else {
        return;
    };
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let ids = |v: &serde_json::Value| -> Vec<u32> {
        v.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let mut runner = runner(&model, 2);
    let mut equal = 0;
    for case in golden.as_array().unwrap() {
        let (prompt, expected) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
        runner.truncate(0);
        let mut next = argmax(runner.feed(&prompt, &|| false).unwrap());
        let mut same = true;
        for (i, &expected) in expected.iter().enumerate() {
            if next != expected {
                let gap = case["top1_minus_top2"][i].as_f64().unwrap();
                eprintln!("prompt {:?}: differs at {i}, reference gap {gap}", case["prompt"]);
                assert!(gap < ROUNDING_GAP, "token {i} is {next}, expected {expected}, gap {gap}");
                same = false;
                break;
            }
            next = argmax(runner.feed(&[next], &|| false).unwrap());
        }
        equal += usize::from(same);
    }
    eprintln!("{equal} of {} continuations equal", golden.as_array().unwrap().len());
    assert!(equal >= 10);
}

/// The same bits for any number of threads and any split of the prompt, for every file.
#[test]
fn logits_do_not_depend_on_threads_or_split() {
    for name in ["s288-f16", "s288-Q4_0", "s288-Q4_K_M", "s288-Q8_0"] {
        let Some(path) = shared::file(&format!("models/s288/gguf/{name}.gguf")) else { return };
        let tokens: Vec<u32> = (0..150).map(|i| (i * 7919) % 8192).collect();
        let feed = |threads: usize, chunks: &[usize]| -> Vec<u32> {
            let mut runner = runner(&path, threads);
            let mut at = 0;
            let mut logits = vec![];
            for &n in chunks {
                logits = runner
                    .feed(&tokens[at..at + n], &|| false)
                    .unwrap()
                    .iter()
                    .map(|v| v.to_bits())
                    .collect();
                at += n;
            }
            assert_eq!(at, tokens.len());
            logits
        };
        let reference = feed(1, &[1; 150]);
        for threads in 1..=4 {
            assert!(feed(threads, &[150]) == reference, "{name}, {threads} threads");
            assert!(feed(threads, &[1, 63, 2, 84]) == reference, "{name}, {threads} threads, in parts");
        }
    }
}

/// Guessing ahead changes no token of a continuation, greedy or drawn, and is right where a text repeats.
#[test]
fn lookup_changes_no_token() {
    let (Some(path), Some(text)) =
        (shared::file("models/s288/gguf/s288-Q4_0.gguf"), shared::file("data/text/eval-speeches.txt"))
    else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap());
    let mut session = Session::new(runner(&path, 2), Arc::clone(&tokenizer));
    let text = std::fs::read_to_string(text).unwrap();
    let mut right = 0;
    for (seed, start) in text.match_indices(". ").map(|(at, _)| at + 2).step_by(60).take(16).enumerate() {
        let passage: String = text[start..].chars().take(400).collect();
        let mut prompt = vec![];
        tokenizer.encode(&passage, EncodeOptions::default(), &mut prompt).unwrap();
        let drawn = SamplerOptions { seed: seed as u64, ..SamplerOptions::default() };
        for sampler in [SamplerOptions::greedy(), drawn] {
            let mut ask = |lookup| {
                let max_tokens = Some(120);
                let request =
                    Request { sampler: sampler.clone(), max_tokens, lookup, ..Request::new(&prompt) };
                session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap()
            };
            let plain = ask(0);
            for lookup in [3, 7] {
                let guessed = ask(lookup);
                assert_eq!((&guessed.tokens, guessed.finish), (&plain.tokens, plain.finish), "{passage}");
                right += guessed.timings.accepted_tokens;
            }
        }
    }
    eprintln!("{right} guesses right");
    assert!(right > 500);
}
