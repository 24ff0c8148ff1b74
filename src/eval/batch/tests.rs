//! Batches on a tiny model, cut off at every kind of place.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::*;
use crate::eval::synthetic::{Shape, Synthetic};
use crate::files::ReadError;
use crate::gguf::GgufFile;
use crate::kernels::{Kernels, KvType};
use crate::model::{Model, RunOptions, Runner};
use crate::text::{EncodeOptions, Tokenizer, TokenizerOptions};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("smolt-batch-{}-{number}.jsonl", std::process::id()));
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Prompts go to the model as they are.
struct Raw(Arc<Tokenizer>);

impl Prepare for Raw {
    fn encode(&self, item: &Item, tokens: &mut Vec<u32>) -> Result<(), String> {
        let prompt = item.prompt.as_deref().ok_or("no prompt")?;
        let options = EncodeOptions { add_special: true, parse_special: false };
        self.0.encode(prompt, options, tokens).map_err(|error| error.to_string())
    }

    fn rule(&self, item: &Item) -> Result<Rule, String> {
        Ok(item.choices.clone().map_or(Rule::Free, Rule::Choices))
    }
}

fn session() -> Session<Runner> {
    let shape = Shape {
        name: "tiny",
        architecture: "llama",
        layers: 1,
        dim: 32,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        rotary_dim: 16,
        hidden: 64,
        vocab: 600,
        context: 96,
        rope_base: 10_000.0,
        norm_eps: 1e-5,
        tied: true,
    };
    let bytes = Synthetic { shape, recipe: "f16".parse().unwrap(), seed: 1 }.to_vec().unwrap();
    let file = GgufFile::from_vec("tiny", bytes).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap());
    let model = Model::load(&file, Kernels::detect().unwrap()).unwrap();
    let options = RunOptions { context: 96, threads: 1, logit_rows: 1, kv: KvType::F16 };
    Session::new(Runner::new(Arc::new(model), &options).unwrap(), tokenizer)
}

fn input() -> String {
    let mut lines: Vec<String> =
        (0..12).map(|i| format!(r#"{{"id": "q{i}", "prompt": "A common beginning, then {i}"}}"#)).collect();
    lines[2] = r#"{"prompt": "Other", "temperature": 0, "max_tokens": 3, "stop": "x", "seed": 7}"#.to_owned();
    lines[4] = r#"{"prompt": "misspelt", "temprature": 1}"#.to_owned();
    lines[5] = r#"{"id": 5}"#.to_owned();
    lines[7] = format!(r#"{{"prompt": "{}"}}"#, "too long ".repeat(200));
    lines.join("\n") + "\n\n"
}

fn options() -> BatchOptions {
    BatchOptions { max_tokens: Some(6), ..BatchOptions::default() }
}

fn run(
    session: &mut Session<Runner>,
    input: &str,
    output: &mut Journal,
    options: &BatchOptions,
) -> Result<Progress, BatchError> {
    let prepare = Raw(session.tokenizer().clone());
    let mut batch = Batch { session, prepare: &prepare, options, cancel: &CancelHandle::new(), energy: None };
    batch.run(&mut Lines::new(input.as_bytes(), "input", MAX_LINE_BYTES as u64), output, &mut |_| {})
}

/// Lines without what differs from run to run.
fn lines(bytes: &[u8]) -> Vec<Value> {
    let parse = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("timings");
        value
    };
    std::str::from_utf8(bytes).unwrap().lines().map(parse).collect()
}

fn whole(scratch: &Scratch, session: &mut Session<Runner>) -> Vec<u8> {
    let done = run(session, &input(), &mut Journal::open(&scratch.0).unwrap(), &options()).unwrap();
    assert_eq!((done.done, done.resumed, done.failed, done.cancelled), (12, 0, 3, false));
    std::fs::read(&scratch.0).unwrap()
}

#[test]
fn every_item_has_a_line() {
    let scratch = Scratch::new();
    let lines = lines(&whole(&scratch, &mut session()));
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], i);
        let is_wrong = [4, 5, 7].contains(&i);
        assert_eq!(line.get("error").is_some(), is_wrong, "{line}");
        if !is_wrong {
            let tokens = line["tokens"].as_array().unwrap().len();
            assert!(tokens <= 6 && line["logprob"].as_f64().unwrap() < 0.0, "{line}");
        }
    }
    assert_eq!((&lines[0]["id"], &lines[5]["id"], lines[2].get("id")), (&"q0".into(), &5.into(), None));
    assert!(lines[4]["error"].as_str().unwrap().contains("temprature"), "{}", lines[4]);
    assert_eq!(lines[2]["seed"], 7);
    assert_ne!(lines[0]["seed"], lines[1]["seed"]);
}

/// Cut after any byte, as a power cut does, a batch goes on to the same lines.
#[test]
fn a_batch_goes_on_after_a_cut_anywhere() {
    let scratch = Scratch::new();
    let mut session = session();
    let all = whole(&scratch, &mut session);
    let expected = lines(&all);
    for cut in (0..50).map(|i| (i * 7919 + 13) % all.len()).chain([0, 1, all.len() - 1, all.len()]) {
        std::fs::write(&scratch.0, &all[..cut]).unwrap();
        session.clear();
        let mut journal = Journal::open(&scratch.0).unwrap();
        let done = run(&mut session, &input(), &mut journal, &options()).unwrap();
        let kept = all[..cut].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!((done.done, done.resumed), (12, kept), "cut at {cut}");
        assert_eq!(lines(&std::fs::read(&scratch.0).unwrap()), expected, "cut at {cut}");
    }
}

#[test]
fn other_prompts_are_not_mixed_in() {
    let scratch = Scratch::new();
    let mut session = session();
    whole(&scratch, &mut session);
    let mut again = |input: &str, options: &BatchOptions| {
        run(&mut session, input, &mut Journal::open(&scratch.0).unwrap(), options)
    };
    let other = input().replace("then 1\"", "then one\"");
    let refused = again(&other, &options());
    assert!(matches!(refused, Err(BatchError::OtherInput { line: 2, index: 1, .. })), "{refused:?}");
    let shorter: String = input().lines().take(10).map(|line| format!("{line}\n")).collect();
    let refused = again(&shorter, &options());
    assert!(matches!(refused, Err(BatchError::TooManyLines { extra: 2, .. })), "{refused:?}");
    let shard = BatchOptions { shard: (1, 2), ..options() };
    assert!(matches!(again(&input(), &shard), Err(BatchError::OtherInput { .. })));
    std::fs::write(&scratch.0, "a letter\n").unwrap();
    assert!(matches!(Journal::open(&scratch.0), Err(BatchError::Foreign { line: 1, .. })));
    assert_eq!(std::fs::read(&scratch.0).unwrap(), b"a letter\n");
}

#[test]
fn shards_together_are_the_whole() {
    let scratch = Scratch::new();
    let mut session = session();
    let expected = lines(&whole(&scratch, &mut session));
    let mut merged = Vec::new();
    for part in 0..3 {
        std::fs::remove_file(&scratch.0).unwrap();
        let options = BatchOptions { shard: (part, 3), ..options() };
        run(&mut session, &input(), &mut Journal::open(&scratch.0).unwrap(), &options).unwrap();
        merged.extend(lines(&std::fs::read(&scratch.0).unwrap()));
    }
    merged.sort_by_key(|line| line["index"].as_u64());
    assert_eq!(merged, expected);
}

#[test]
fn a_limit_counts_what_was_done_before() {
    let scratch = Scratch::new();
    let mut session = session();
    for (limit, resumed) in [(3, 0), (5, 3), (5, 5)] {
        let options = BatchOptions { limit: Some(limit), ..options() };
        let done = run(&mut session, &input(), &mut Journal::open(&scratch.0).unwrap(), &options).unwrap();
        assert_eq!((done.done, done.resumed), (limit, resumed));
    }
}

#[test]
fn a_file_has_one_writer() {
    let scratch = Scratch::new();
    let _first = Journal::open(&scratch.0).unwrap();
    assert!(matches!(Journal::open(&scratch.0), Err(BatchError::Locked { .. })));
}

#[test]
fn inputs_that_are_not_lines_of_text_end_the_batch() {
    let mut session = session();
    let mut out = |bytes: &[u8]| {
        let prepare = Raw(session.tokenizer().clone());
        let (options, cancel) = (options(), CancelHandle::new());
        let mut journal = Journal::stream("out", Box::new(std::io::sink()));
        Batch { session: &mut session, prepare: &prepare, options: &options, cancel: &cancel, energy: None }
            .run(&mut Lines::new(bytes, "input", MAX_LINE_BYTES as u64), &mut journal, &mut |_| {})
    };
    assert!(matches!(out(b"\n\xFF\n"), Err(BatchError::Read(ReadError::NotUtf8 { line: 2, .. }))));
    let long = vec![b'x'; MAX_LINE_BYTES + 1];
    assert!(matches!(out(&long), Err(BatchError::Read(ReadError::LineTooLong { line: 1, .. }))));
    assert_eq!(out(b"").unwrap(), Progress::default());
}
