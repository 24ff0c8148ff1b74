//! Batches on a tiny model, cut off at every kind of place.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::*;
use crate::ask::Rule;
use crate::eval::synthetic::{Shape, Synthetic};
use crate::generate::GrammarError;
use crate::gguf::GgufFile;
use crate::kernels::{Kernels, KvType};
use crate::model::{Model, RunOptions};
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
    fn encode(&self, item: &Item, _context: usize, tokens: &mut Vec<u32>) -> Result<(), ItemError> {
        let prompt = item.prompt.as_deref().ok_or("no prompt")?;
        let options = EncodeOptions { add_special: true, parse_special: false };
        self.0.encode(prompt, options, tokens).map_err(|error| ItemError::new(&error))
    }

    fn rule(&self, item: &Item, _: &CancelHandle) -> Result<Rule, ItemError> {
        Ok(item.choices.clone().map_or(Rule::Free, Rule::Choices))
    }
}

fn slots() -> Slots<'static> {
    several_slots(1)
}

fn several_slots(slots: usize) -> Slots<'static> {
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
    let options = RunOptions { context: 96, threads: 1, slots, logit_rows: 1, kv: KvType::F16 };
    Slots::new(Arc::new(model), &tokenizer, &options, slots).unwrap()
}

fn items() -> String {
    let mut lines: Vec<String> =
        (0..12).map(|i| format!(r#"{{"id": "q{i}", "prompt": "A common beginning, then {i}"}}"#)).collect();
    lines[2] = r#"{"prompt": "Other", "temperature": 0, "max_tokens": 3, "stop": "x", "seed": 7}"#.to_owned();
    lines[4] = r#"{"id": "four", "prompt": "misspelt", "temprature": 1}"#.to_owned();
    lines[5] = r#"{"id": 5}"#.to_owned();
    lines[7] = format!(r#"{{"prompt": "{}"}}"#, "too long ".repeat(200));
    lines.join("\n") + "\n\n"
}

fn options() -> BatchOptions {
    options_of(6)
}

fn options_of(max_tokens: usize) -> BatchOptions {
    let defaults = Defaults { max_tokens: Some(max_tokens), ..Defaults::default() };
    BatchOptions { defaults, ..BatchOptions::default() }
}

/// As the command does: first a survey, then the answers.
fn run(
    slots: &mut Slots<'static>,
    items: &str,
    output: &mut Journal,
    options: &BatchOptions,
) -> Result<Finished, BatchError> {
    let prepare = Raw(slots.tokenizer().clone());
    survey(input(items.as_bytes(), "in"), output, options.shard, options.limit)?;
    let mut batch = Batch { slots, prepare: &prepare, options, cancel: &CancelHandle::new(), energy: None };
    batch.run(input(items.as_bytes(), "in"), output, &mut |_| {})
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

fn whole(scratch: &Scratch, slots: &mut Slots<'static>) -> Vec<u8> {
    let done = run(slots, &items(), &mut Journal::open(&scratch.0).unwrap(), &options()).unwrap();
    assert_eq!(done.failures.len(), 3);
    let done = done.progress;
    assert_eq!((done.done, done.resumed, done.failed, done.cancelled), (12, 0, 3, false));
    std::fs::read(&scratch.0).unwrap()
}

/// Says as often that the system has no thread.
struct Busy(Raw, std::cell::Cell<usize>);

impl Prepare for Busy {
    fn encode(&self, item: &Item, context: usize, tokens: &mut Vec<u32>) -> Result<(), ItemError> {
        self.0.encode(item, context, tokens)
    }

    fn rule(&self, item: &Item, _: &CancelHandle) -> Result<Rule, ItemError> {
        let left = self.1.get();
        self.1.set(left.saturating_sub(1));
        match left {
            0 => self.0.rule(item, &CancelHandle::new()),
            _ => Err(ItemError::new(&GrammarError::Thread(std::io::ErrorKind::WouldBlock.into()))),
        }
    }
}

#[test]
fn what_the_system_refuses_for_a_while_is_no_answer() {
    let items = "{\"prompt\": \"one\"}\n{\"prompt\": \"two\"}\n";
    let (scratch, mut slots, options) = (Scratch::new(), slots(), options());
    let mut go = |refusals: usize| {
        let prepare = Busy(Raw(Arc::clone(slots.tokenizer())), std::cell::Cell::new(refusals));
        let mut output = Journal::open(&scratch.0).unwrap();
        let cancel = CancelHandle::new();
        let mut batch =
            Batch { slots: &mut slots, prepare: &prepare, options: &options, cancel: &cancel, energy: None };
        let done = batch.run(input(items.as_bytes(), "in"), &mut output, &mut |_| {});
        (done, std::fs::read_to_string(&scratch.0).unwrap())
    };
    let (done, text) = go(usize::MAX);
    assert!(matches!(done, Err(BatchError::NoRoom { .. })), "{done:?}");
    assert_eq!(text, "", "a refusal is no line");
    let (done, text) = go(2);
    let progress = done.unwrap().progress;
    assert_eq!((progress.done, progress.failed, text.lines().count()), (2, 0, 2));
    assert!(!text.contains("error"), "{text}");
}

#[test]
fn every_item_has_a_line() {
    let scratch = Scratch::new();
    let lines = lines(&whole(&scratch, &mut slots()));
    for (i, line) in lines.iter().enumerate() {
        assert_eq!((&line["index"], &line["line"]), (&i.into(), &(i + 1).into()));
        let is_wrong = [4, 5, 7].contains(&i);
        assert_eq!(line.get("error").is_some(), is_wrong, "{line}");
        if !is_wrong {
            let tokens = line["tokens"].as_array().unwrap().len();
            assert!(tokens <= 6 && line["logprob"].as_f64().unwrap() < 0.0, "{line}");
        }
    }
    assert_eq!((&lines[0]["id"], &lines[5]["id"], lines[2].get("id")), (&"q0".into(), &5.into(), None));
    assert_eq!(lines[4]["id"], "four");
    let error = r#"in, line 5: unknown key "temprature"; did you mean "temperature"?"#;
    assert_eq!(lines[4]["error"], error);
    assert_eq!(lines[2]["seed"], 7);
    assert_ne!(lines[0]["seed"], lines[1]["seed"]);
}

/// However many items are answered at once, the lines are the same and in the same order.
#[test]
fn several_at_once_give_the_same_lines() {
    let scratch = Scratch::new();
    let expected = lines(&whole(&scratch, &mut slots()));
    for count in [2, 3, 4, 7, 16] {
        let scratch = Scratch::new();
        assert_eq!(lines(&whole(&scratch, &mut several_slots(count))), expected, "{count} at once");
    }
}

/// Cut after any byte, as a power cut does, a batch goes on to the same lines.
#[test]
fn a_batch_goes_on_after_a_cut_anywhere() {
    let scratch = Scratch::new();
    let mut slots = slots();
    let all = whole(&scratch, &mut slots);
    let expected = lines(&all);
    for cut in (0..50).map(|i| (i * 7919 + 13) % all.len()).chain([0, 1, all.len() - 1, all.len()]) {
        std::fs::write(&scratch.0, &all[..cut]).unwrap();
        slots = several_slots(1 + cut % 3);
        // Of a first line so much is needed that nobody else's text begins so.
        if (1..all.iter().position(|byte| *byte == b',').unwrap() + 1).contains(&cut) {
            assert!(matches!(Journal::open(&scratch.0), Err(BatchError::Foreign { .. })), "cut at {cut}");
            continue;
        }
        let mut journal = Journal::open(&scratch.0).unwrap();
        let done = run(&mut slots, &items(), &mut journal, &options()).unwrap().progress;
        let whole = all[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let kept = lines(&all[..whole]).iter().filter(|line| line.get("error").is_none()).count();
        assert_eq!((done.done, done.resumed, done.failed), (12, kept, 3), "cut at {cut}");
        assert_eq!(lines(&std::fs::read(&scratch.0).unwrap()), expected, "cut at {cut}");
    }
}

/// Changed lines are asked, moved and mended ones too, and the output gets one line for each item in the order of the
/// input, with its new place.
#[test]
fn only_what_changed_is_asked_again() {
    let scratch = Scratch::new();
    let mut slots = slots();
    let before = lines(&whole(&scratch, &mut slots));
    let changed = items()
        .replace("temprature", "temperature")
        .replace("then 1\"", "then one\"")
        .replace(r#"{"id": "q9""#, "\n{\"prompt\": \"new\"}\n{\"id\": \"q9\"");
    let done = run(&mut slots, &changed, &mut Journal::open(&scratch.0).unwrap(), &options());
    let done = done.unwrap().progress;
    // Asked: the changed, the mended and the new one, and the two that still fail.
    assert_eq!((done.done, done.resumed, done.failed), (13, 8, 2));
    let after = lines(&std::fs::read(&scratch.0).unwrap());
    let fresh = Scratch::new();
    run(&mut slots, &changed, &mut Journal::open(&fresh.0).unwrap(), &options()).unwrap();
    assert_eq!(after, lines(&std::fs::read(&fresh.0).unwrap()));
    assert_eq!((&after[11]["id"], &after[11]["line"]), (&"q10".into(), &13.into()));
    assert_eq!((&after[11]["tokens"], &after[0]), (&before[10]["tokens"], &before[0]));
}

#[test]
fn failures_are_asked_again_and_bind_nobody() {
    let scratch = Scratch::new();
    let mut slots = slots();
    let wrong = "{\"id\": 1}\n{\"id\": 2}\n";
    for _ in 0..2 {
        let done = run(&mut slots, wrong, &mut Journal::open(&scratch.0).unwrap(), &options()).unwrap();
        assert_eq!((done.progress.done, done.progress.resumed, done.progress.failed), (2, 0, 2));
        assert_eq!(std::fs::read(&scratch.0).unwrap().iter().filter(|byte| **byte == b'\n').count(), 2);
    }
    // With other options and other prompts.
    let other = options_of(2);
    let done = run(&mut slots, "{\"prompt\": \"a\"}", &mut Journal::open(&scratch.0).unwrap(), &other);
    assert_eq!(done.unwrap().progress.failed, 0);
    assert_eq!(lines(&std::fs::read(&scratch.0).unwrap()).len(), 1);
}

/// Of equal lines each has an answer and a seed of its own.
#[test]
fn equal_lines_are_told_apart() {
    let scratch = Scratch::new();
    let mut slots = slots();
    let items = "{\"prompt\": \"a\"}\n".repeat(3);
    for resumed in [0, 3] {
        let done = run(&mut slots, &items, &mut Journal::open(&scratch.0).unwrap(), &options());
        assert_eq!(done.unwrap().progress.resumed, resumed);
    }
    let seeds: Vec<Value> =
        lines(&std::fs::read(&scratch.0).unwrap()).iter().map(|l| l["seed"].clone()).collect();
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2] && seeds[0] != seeds[2], "{seeds:?}");
}

/// No answer is lost because the input is another or a shorter one.
#[test]
fn answers_to_other_prompts_are_not_thrown_away() {
    let scratch = Scratch::new();
    let mut slots = slots();
    let all = whole(&scratch, &mut slots);
    let mut again = |items: &str, options: &BatchOptions| {
        run(&mut slots, items, &mut Journal::open(&scratch.0).unwrap(), options)
    };
    let shorter: String = items().lines().take(10).map(|line| format!("{line}\n")).collect();
    let refused = again(&shorter, &options());
    assert!(matches!(refused, Err(BatchError::OtherInput { lost: 2, answers: 9, .. })), "{refused:?}");
    let other = items().replace("prompt\": \"", "prompt\": \"Now: ");
    let refused = again(&other, &options());
    assert!(matches!(refused, Err(BatchError::OtherInput { lost: 9, .. })), "{refused:?}");
    let shard = BatchOptions { shard: (1, 2), ..options() };
    assert!(matches!(again(&items(), &shard), Err(BatchError::OtherShard { index: 0, .. })));
    let run = options_of(7);
    assert!(matches!(again(&items(), &run), Err(BatchError::OtherRun { .. })));
    assert_eq!(std::fs::read(&scratch.0).unwrap(), all);
    for foreign in ["a letter\n", "a letter", "{\"prompt\": \"a\"}\n", "{\"index\": 0}\n"] {
        std::fs::write(&scratch.0, foreign).unwrap();
        assert!(matches!(Journal::open(&scratch.0), Err(BatchError::Foreign { line: 1, .. })), "{foreign}");
        assert_eq!(std::fs::read_to_string(&scratch.0).unwrap(), foreign);
    }
}

/// From a pipe the input cannot be looked at first: what would be lost is seen at the end, and nothing is.
#[test]
fn a_pipe_of_other_prompts_loses_no_answer() {
    let scratch = Scratch::new();
    let mut slots = slots();
    whole(&scratch, &mut slots);
    let prepare = Raw(slots.tokenizer().clone());
    let (options, cancel) = (options(), CancelHandle::new());
    let slots = &mut slots;
    let mut batch = Batch { slots, prepare: &prepare, options: &options, cancel: &cancel, energy: None };
    let mut journal = Journal::open(&scratch.0).unwrap();
    let refused = batch.run(input(&b"{\"prompt\": \"a\"}"[..], "in"), &mut journal, &mut |_| {});
    assert!(matches!(refused, Err(BatchError::OtherInput { lost: 9, .. })), "{refused:?}");
    assert_eq!(lines(&std::fs::read(&scratch.0).unwrap()).len(), 13);
}

#[test]
fn shards_together_are_the_whole() {
    let scratch = Scratch::new();
    let mut slots = slots();
    let expected = lines(&whole(&scratch, &mut slots));
    let mut merged = Vec::new();
    for part in 0..3 {
        std::fs::remove_file(&scratch.0).unwrap();
        let options = BatchOptions { shard: (part, 3), ..options() };
        run(&mut slots, &items(), &mut Journal::open(&scratch.0).unwrap(), &options).unwrap();
        merged.extend(lines(&std::fs::read(&scratch.0).unwrap()));
    }
    merged.sort_by_key(|line| line["index"].as_u64());
    assert_eq!(merged, expected);
}

#[test]
fn a_limit_counts_what_was_done_before() {
    let scratch = Scratch::new();
    let mut slots = slots();
    // Of five items the fifth fails; a smaller limit takes nothing back.
    for (limit, expected) in [(3, (3, 0, 0)), (5, (5, 3, 1)), (5, (5, 4, 1)), (2, (5, 4, 1))] {
        let options = BatchOptions { limit: Some(limit), ..options() };
        let done = run(&mut slots, &items(), &mut Journal::open(&scratch.0).unwrap(), &options).unwrap();
        let done = done.progress;
        assert_eq!((done.done, done.resumed, done.failed), expected);
    }
}

#[test]
fn a_file_has_one_writer() {
    let scratch = Scratch::new();
    let _first = Journal::open(&scratch.0).unwrap();
    assert!(matches!(Journal::open(&scratch.0), Err(BatchError::Locked { .. })));
}

/// A mark before the text and Windows' line ends are no part of it; a line that is not text fails alone.
#[test]
fn lines_are_read_as_people_save_them() {
    let mut slots = slots();
    let scratch = Scratch::new();
    let mut out = |bytes: &[u8]| {
        let prepare = Raw(slots.tokenizer().clone());
        let (options, cancel) = (options(), CancelHandle::new());
        let _ = std::fs::remove_file(&scratch.0);
        let mut journal = Journal::open(&scratch.0).unwrap();
        let slots = &mut slots;
        let mut batch = Batch { slots, prepare: &prepare, options: &options, cancel: &cancel, energy: None };
        let done = batch.run(input(bytes, "in"), &mut journal, &mut |_| {})?;
        Ok((done.progress, lines(&std::fs::read(&scratch.0).unwrap())))
    };
    let plain = out(b"{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n").unwrap();
    assert_eq!(out(b"\xEF\xBB\xBF{\"prompt\": \"a\"}\r\n{\"prompt\": \"b\"}\r\n").unwrap(), plain);
    let (done, found) = out(b"{\"prompt\": \"a\"}\n\n{\"id\": \"\xE9\"}\n{\"prompt\": \"b\"}").unwrap();
    assert_eq!((done.done, done.failed), (3, 1));
    let error = found[1]["error"].as_str().unwrap();
    assert!(error.contains("line 3") && error.contains("0xE9") && found[1]["line"] == 3, "{error}");
    let refused: Result<_, BatchError> = out(b"\n\xFF\n");
    assert!(matches!(refused, Err(BatchError::Read(_))), "{refused:?}");
    let long = vec![b'x'; MAX_LINE_BYTES as usize + 1];
    assert!(matches!(out(&long), Err(BatchError::Read(_))));
    assert_eq!(out(b"").unwrap().0, Progress::default());
}

#[test]
fn requests_get_responses() {
    let scratch = Scratch::new();
    let request = r#"{"custom_id": "r", "url": "/v1/completions", "body": {"prompt": "a", "max_tokens": 3}}
{"custom_id": "s", "body": {"prompt": "a", "n": 2}}"#;
    let options = BatchOptions { model: "tiny".to_owned(), ..options() };
    run(&mut slots(), request, &mut Journal::open(&scratch.0).unwrap(), &options).unwrap();
    let found = lines(&std::fs::read(&scratch.0).unwrap());
    assert_eq!((&found[0]["custom_id"], &found[0]["error"]), (&"r".into(), &Value::Null));
    let body = &found[0]["response"]["body"];
    assert_eq!(body["choices"][0]["text"], found[0]["text"]);
    assert_eq!((&body["model"], &body["usage"]["completion_tokens"]), (&"tiny".into(), &3.into()));
    assert_eq!(found[1]["custom_id"], "s");
    assert!(found[1]["error"]["message"].as_str().unwrap().contains("body.n is 2"), "{}", found[1]);
}
