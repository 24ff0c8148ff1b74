//! Real vocabularies, where the shared data is present.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::gguf::GgufFile;
use crate::text::{Detokenizer, Tokenizer, TokenizerOptions};

use super::{PLAIN, encode};

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";
const VOCABULARIES: [&str; 4] = ["gpt-2", "llama-bpe", "llama-spm", "qwen2"];

/// A file of the shared data, or `None` (said on stderr) when it is absent.
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SMOLT_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is absent, set SMOLT_SHARED", path.display());
    None
}

fn load(path: &Path) -> Tokenizer {
    let file = GgufFile::open(path).unwrap();
    Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap()
}

/// Strings and ids of one vocabulary's test files. Both end in an empty case: no text, no ids.
fn cases(vocabulary: &Path) -> Vec<(String, Vec<u32>)> {
    let beside =
        |ending: &str| std::fs::read_to_string(format!("{}.{ending}", vocabulary.display())).unwrap();
    let (inputs, outputs) = (beside("inp"), beside("out"));
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let texts: Vec<String> = inputs.split(SEPARATOR).map(str::to_owned).collect();
    let ids: Vec<Vec<u32>> = outputs.split('\n').map(ids).collect();
    assert_eq!(texts.len(), ids.len());
    texts.into_iter().zip(ids).collect()
}

#[test]
fn reference_strings_match() {
    for name in VOCABULARIES {
        let Some(path) = shared(&format!("data/vocab/ggml-vocab-{name}.gguf")) else { continue };
        let tokenizer = load(&path);
        let cases = cases(&path);
        let mut failures = Vec::new();
        for (text, expected) in &cases {
            let found = encode(&tokenizer, text, PLAIN);
            if found != *expected {
                failures.push(format!("{text:?}\n  expected {expected:?}\n  found    {found:?}"));
            }
            assert_eq!(tokenizer.decode(&found, false), text.as_bytes(), "{name}: {text:?}");
            let mut stream = Detokenizer::new(&tokenizer, &[], false);
            let mut streamed = String::new();
            for id in found {
                streamed.push_str(stream.push(&tokenizer, id));
            }
            assert_eq!(streamed, *text, "{name}");
        }
        println!("{name}: {}/{}", cases.len() - failures.len(), cases.len());
        assert!(failures.is_empty(), "{name}:\n{}", failures.join("\n"));
    }
}

#[test]
fn prompts_of_the_trained_model_match() {
    let Some(model) = shared("models/s288/gguf/s288-f16.gguf") else { return };
    let Some(figures) = shared("models/s288/greedy-f32.json") else { return };
    let tokenizer = load(&model);
    let cases: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(figures).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let ids: Vec<u32> = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
        assert_eq!(encode(&tokenizer, case["prompt"].as_str().unwrap(), PLAIN), ids);
    }
}

/// One kind of character repeated is the worst case of pre-tokenizers and merging. The bounds are loose enough
/// for an unoptimised build on a busy machine and far below what quadratic work would take.
#[test]
fn long_runs_take_linear_time() {
    for name in VOCABULARIES {
        let Some(path) = shared(&format!("data/vocab/ggml-vocab-{name}.gguf")) else { continue };
        let tokenizer = load(&path);
        for unit in ["A", " ", ".", "\n", "7", "日", "\u{1F600}", "\u{301}"] {
            let timed = |bytes: usize| {
                let text = unit.repeat(bytes / unit.len());
                let start = Instant::now();
                let ids = encode(&tokenizer, &text, PLAIN);
                (text, ids, start.elapsed())
            };
            let (.., eighth) = timed(1 << 17);
            let (text, ids, took) = timed(1 << 20);
            // Quadratic work would take 64 times as long.
            assert!(took < 32 * eighth + Duration::from_millis(100), "{name} {unit:?}: {eighth:?}, {took:?}");
            assert_eq!(tokenizer.decode(&ids, false), text.as_bytes());
            println!("{name} {unit:?}: {} ids, {took:.2?}", ids.len());
            assert!(took < Duration::from_secs(20), "{name} {unit:?}: {took:?}");
        }
    }
}
