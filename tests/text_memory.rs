//! The heap of a tokenizer against its plan, and a stream of text without allocations.
//!
//! One test in its own program: the counters see every thread.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counting;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use counting::{CALLS, LIVE, PEAK};
use smolt::generate::{Grammar, GrammarCompiler, LogitFilter, planned_grammar_bytes};
use smolt::gguf::{GgufFile, GgufWriter};
use smolt::text::{
    ChatTemplate, Detokenizer, EncodeOptions, Message, Role, Tokenizer, TokenizerOptions, planned_bytes,
    planned_encoding_bytes,
};

struct Measured {
    held: usize,
    peak: usize,
    planned: usize,
}

fn measure(file: &GgufFile) -> (Tokenizer, Measured) {
    let planned = planned_bytes(file) as usize;
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let tokenizer = Tokenizer::from_gguf(file, TokenizerOptions::default()).unwrap();
    let held = LIVE.load(Relaxed) - before;
    let peak = PEAK.load(Relaxed) - before;
    (tokenizer, Measured { held, peak, planned })
}

/// Encodes, then streams the ids back; encoding must leave nothing behind and streaming allocate nothing.
fn check_use(tokenizer: &Tokenizer, name: &str) {
    let text = "hello, 日本語 \u{1F600} naïve 12345\n\n  x".repeat(50);
    let mut ids = Vec::with_capacity(1 << 16);
    let before = LIVE.load(Relaxed);
    let options = EncodeOptions { add_special: true, parse_special: true };
    tokenizer.encode(&text, options, &mut ids).unwrap();
    assert_eq!(LIVE.load(Relaxed), before, "{name}: encoding keeps memory");
    let mut stream = Detokenizer::new(tokenizer, &[], true);
    let mut bytes = 0;
    let calls = CALLS.load(Relaxed);
    for id in ids {
        bytes += stream.push(tokenizer, id).len();
    }
    bytes += stream.finish().len();
    assert_eq!(CALLS.load(Relaxed), calls, "{name}: streaming allocates");
    assert!(bytes >= text.len(), "{name}");
}

/// Encodes texts of one long word: what it takes does not grow with them.
fn check_long(tokenizer: &Tokenizer, name: &str) {
    let planned = planned_encoding_bytes(tokenizer.longest_piece(), 0) as usize;
    for unit in ["x", "ax", "日", "\u{1F600}", " ", "\n"] {
        let text = unit.repeat((1 << 18) / unit.len());
        let mut ids = Vec::with_capacity(4 * text.len());
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        tokenizer.encode(&text, EncodeOptions::default(), &mut ids).unwrap();
        let peak = PEAK.load(Relaxed) - before;
        assert!(peak <= planned, "{name}, {unit:?}: {peak} bytes, {planned} planned");
    }
}

/// What holding answers to a grammar takes, the grammar itself included.
fn measure_grammar(file: &GgufFile, tokenizer: Tokenizer) -> Measured {
    let mut logits = vec![0.0; tokenizer.vocab_size()];
    let planned = planned_grammar_bytes(file) as usize;
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let compiler = GrammarCompiler::new(Arc::new(tokenizer)).unwrap();
    let schema = r#"{"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": [1, 2]}}}"#;
    let mut constraint = compiler.compile(&Grammar::Schema(schema.to_owned())).unwrap();
    constraint.apply(&mut logits).unwrap();
    let held = LIVE.load(Relaxed) - before;
    let peak = PEAK.load(Relaxed) - before;
    Measured { held, peak, planned }
}

/// Opens a file with a long array: it stays where it is.
fn check_open() {
    let mut writer = GgufWriter::new();
    writer.set("many.numbers", vec![7i32; 1 << 22]);
    let bytes = writer.to_vec("many", |_, _| Ok(())).unwrap();
    drop(writer);
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let file = GgufFile::from_vec("many", bytes).unwrap();
    assert!(file.array("many.numbers").unwrap().is_some());
    let peak = PEAK.load(Relaxed) - before;
    assert!(peak < 1 << 20, "{peak} bytes to open a file of 16 MiB");
}

/// Renders templates that double a text as long as they may.
fn check_templates(tokenizer: &Tokenizer) {
    for double in [
        "{% set x = x ~ x %}",
        "{% set x = [x, x] | join %}",
        "{% set x = x | replace('x', 'xx') %}",
        "{% set x %}{{ x }}{{ x }}{% endset %}",
        "{% set x %}{% filter upper %}{{ x }}{{ x }}{% endfilter %}{% endset %}",
        "{% set x = m(x) %}",
    ] {
        let source = format!(
            "{{% macro m(a) %}}{{{{ a }}}}{{{{ a }}}}{{% endmacro %}}{{% set x = 'x' * 1024 %}}{}{{{{ x | length }}}}",
            double.repeat(20)
        );
        let template = ChatTemplate::compile(&source, tokenizer).unwrap();
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        assert!(template.render(&[Message::new(Role::User, "a")]).is_err(), "{double}");
        let peak = PEAK.load(Relaxed) - before;
        assert!(peak <= (16 << 20) + 2 * source.len(), "{double}: {peak} bytes");
    }
}

fn tiny() -> GgufFile {
    let mut writer = GgufWriter::new();
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = bytes.chain(["▁".to_owned(), "a".to_owned()]).collect();
    let kinds: Vec<i32> = (0..tokens.len()).map(|id| if id < 256 { 6 } else { 1 }).collect();
    writer.set("tokenizer.ggml.model", "llama");
    writer.set("tokenizer.ggml.scores", vec![0f32; tokens.len()]);
    writer.set("tokenizer.ggml.token_type", kinds);
    writer.set("tokenizer.ggml.tokens", tokens);
    GgufFile::from_vec("tiny", writer.to_vec("tiny", |_, _| Ok(())).unwrap()).unwrap()
}

#[test]
fn the_plan_covers_the_heap() {
    check_open();
    let file = tiny();
    let (tokenizer, tiny) = measure(&file);
    assert!(tiny.held <= tiny.planned, "{} held, {} planned", tiny.held, tiny.planned);
    check_use(&tokenizer, "tiny");
    check_long(&tokenizer, "tiny");
    check_templates(&tokenizer);
    let Measured { peak, planned, .. } = measure_grammar(&file, tokenizer);
    assert!(peak <= planned, "{peak} for a grammar, {planned} planned");

    let root = std::env::var_os("SMOLT_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    for name in ["gpt-2", "llama-bpe", "llama-spm", "qwen2"] {
        let path = root.join(format!("data/vocab/ggml-vocab-{name}.gguf"));
        if !path.exists() {
            eprintln!("SKIPPED: {} is absent, set SMOLT_SHARED", path.display());
            continue;
        }
        let file = GgufFile::open(&path).unwrap();
        let (tokenizer, Measured { held, peak, planned }) = measure(&file);
        println!("{name}: held {held}, planned {planned}, peak while building {peak}");
        assert!(held <= planned, "{name}: {held} held, {planned} planned");
        assert!(planned * 2 <= held * 3, "{name}: {held} held, {planned} planned is more than 1.5 times");
        check_use(&tokenizer, name);
        check_long(&tokenizer, name);
        let Measured { held, peak, planned } = measure_grammar(&file, tokenizer);
        println!("{name}, grammar: held {held}, planned {planned}, peak while building {peak}");
        assert!(peak <= planned, "{name}: {peak} for a grammar, {planned} planned");
        assert!(
            planned * 2 <= peak * 3,
            "{name}: {peak} for a grammar, {planned} planned is more than 1.5 times"
        );
    }
}
