//! The command line: what is printed, what is written, exit codes.

use smolt::gguf::GgufFile;

use crate::fixture::{Scratch, quantize, run, tiny};

#[test]
fn every_substitution_is_printed() {
    let scratch = Scratch::new();
    let (input, output) = (scratch.file("in.gguf", &tiny("f16")), scratch.path("out.gguf"));
    let done = quantize(&input, &output, &["--type", "q4_k_m"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for expected in [
        "warning: token_embd.weight: Q8_0 instead of Q6_K: rows of 96 are not a multiple of 256",
        "warning: blk.0.attn_q.weight: Q5_0 instead of Q4_K: rows of 96 are not a multiple of 256",
    ] {
        assert!(done.stderr.contains(expected), "{}", done.stderr);
    }
    // The embedding and six of the seven matrices of each layer; ffn_down has rows of 256.
    assert_eq!(done.stderr.matches(" instead of ").count(), 1 + 3 * 6, "{}", done.stderr);
    assert!(!done.stderr.contains("ffn_down"), "{}", done.stderr);
    assert!(done.stdout.contains("bits per weight"), "{}", done.stdout);
    let file = GgufFile::open(&output).unwrap();
    assert_eq!(file.tensor("blk.0.ffn_down.weight").unwrap().block_type.name(), "Q4_K");
}

#[test]
fn strict_refuses_substitutions() {
    let scratch = Scratch::new();
    let (input, output) = (scratch.file("in.gguf", &tiny("f16")), scratch.path("out.gguf"));
    let refused = quantize(&input, &output, &["--type", "q4_0", "--strict"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("token_embd.weight: Q8_0 instead of Q6_K"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--embedding-type"), "{}", refused.stderr);
    assert_eq!(scratch.names(), ["in.gguf"]);
    let asked = ["--type", "q4_0", "--strict", "--embedding-type", "q8_0"];
    let done = quantize(&input, &output, &asked);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[test]
fn a_quantized_input_is_refused_unless_told() {
    let scratch = Scratch::new();
    let (input, output) = (scratch.file("in.gguf", &tiny("q8_0")), scratch.path("out.gguf"));
    let refused = quantize(&input, &output, &["--type", "q4_0"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("(Q8_0)"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--allow-requantize"), "{}", refused.stderr);
    assert_eq!(scratch.names(), ["in.gguf"]);
    let done = quantize(&input, &output, &["--type", "q4_0", "--allow-requantize"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(scratch.names(), ["in.gguf", "out.gguf"]);
}

#[test]
fn a_dry_run_tells_the_size_and_writes_nothing() {
    let scratch = Scratch::new();
    let (input, output) = (scratch.file("in.gguf", &tiny("f16")), scratch.path("out.gguf"));
    let dry = quantize(&input, &output, &["--type", "q5_1", "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.stderr);
    assert_eq!(scratch.names(), ["in.gguf"]);
    let line = dry.stdout.lines().find(|line| line.starts_with("blk.1.ffn_up.weight")).unwrap();
    let fields: Vec<_> = line.split_whitespace().collect();
    assert_eq!(fields, ["blk.1.ffn_up.weight", "[96,", "256]", "F16", "Q5_1", "18432", "6.00"]);
    assert!(dry.stdout.contains("(not Q6_K)"), "{}", dry.stdout);
    let json = quantize(&input, &output, &["--type", "q5_1", "--dry-run", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(scratch.names(), ["in.gguf"]);
    let done = quantize(&input, &output, &["--type", "q5_1", "--json"]);
    let written: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["file_bytes"], std::fs::metadata(&output).unwrap().len());
    assert_eq!(report["tensors"], written["tensors"]);
    assert_eq!((&report["dry_run"], &written["dry_run"]), (&true.into(), &false.into()));
    let without_output = run(&["quantize", input.to_str().unwrap(), "--type", "q5_1", "--dry-run"]);
    assert_eq!((without_output.code, without_output.stdout), (0, dry.stdout));
}

#[test]
fn unreadable_inputs_exit_with_3() {
    let scratch = Scratch::new();
    let whole = tiny("f16");
    for (name, bytes, expected) in [
        ("missing.gguf", None, "no such file"),
        ("empty.gguf", Some(&whole[..0]), "empty"),
        ("header.gguf", Some(&whole[..1000]), "cut short"),
        ("data.gguf", Some(&whole[..whole.len() / 2]), "cut short"),
        ("text.gguf", Some(&b"not a model"[..]), "not a GGUF file"),
    ] {
        let input = bytes.map_or_else(|| scratch.path(name), |bytes| scratch.file(name, bytes));
        let refused = quantize(&input, &scratch.path("out.gguf"), &["--type", "q8_0"]);
        assert_eq!(refused.code, 3, "{name}: {}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{name}: {}", refused.stderr);
        assert!(refused.stderr.contains(name), "{name}: {}", refused.stderr);
    }
    assert!(!scratch.path("out.gguf").exists());
}

#[test]
fn wrong_usage_exits_with_2() {
    let scratch = Scratch::new();
    let bytes = tiny("f16");
    let input = scratch.file("in.gguf", &bytes);
    let same = quantize(&input, &input, &["--type", "q8_0"]);
    assert_eq!(same.code, 2, "{}", same.stderr);
    assert!(same.stderr.contains("both input and output"), "{}", same.stderr);
    assert_eq!(std::fs::read(&input).unwrap(), bytes);
    let unknown = quantize(&input, &scratch.path("out.gguf"), &["--type", "q3_x"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("q4_k_m"), "{}", unknown.stderr);
    let no_output = run(&["quantize", input.to_str().unwrap(), "--type", "q8_0"]);
    assert_eq!(no_output.code, 2);
}

#[test]
fn outputs_that_cannot_be_written_exit_with_1() {
    let scratch = Scratch::new();
    let input = scratch.file("in.gguf", &tiny("f16"));
    let refused = quantize(&input, &scratch.path("missing/out.gguf"), &["--type", "q8_0"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert_eq!(scratch.names(), ["in.gguf"]);
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let scratch = Scratch::new();
    let mut bytes = tiny("f16");
    let file = GgufFile::from_vec("in", bytes.clone()).unwrap();
    let data = file.data(file.tensor("blk.1.attn_q.weight").unwrap()).unwrap();
    let start = data.as_ptr().addr() - file.as_bytes().unwrap().as_ptr().addr();
    for (value, name) in [(0x7E00u16, "NaN"), (0x7C00, "inf"), (0xFC00, "-inf")] {
        let at = start + (2 * 96 + 5) * 2;
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        let input = scratch.file("in.gguf", &bytes);
        let refused = quantize(&input, &scratch.path("out.gguf"), &["--type", "q8_0"]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        let expected = format!("tensor \"blk.1.attn_q.weight\", row 2, column 5: weight {name} ");
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
        assert_eq!(scratch.names(), ["in.gguf"]);
    }
}

#[test]
fn synthetic_models_are_written() {
    let scratch = Scratch::new();
    let output = scratch.path("model.gguf");
    let done = run(&["synth", "SmolLM2-135M", "q4_0", output.to_str().unwrap(), "--seed", "3"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let file = GgufFile::open(&output).unwrap();
    assert!(done.stdout.contains(&format!("{} bytes", file.file_bytes())), "{}", done.stdout);
    assert_eq!(file.u32("llama.embedding_length").unwrap(), Some(576));
    assert_eq!(file.tensors().len(), 2 + 30 * 9);
    let unknown = run(&["synth", "gpt9", "q4_0", output.to_str().unwrap()]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("smollm2-360m"), "{}", unknown.stderr);
}

#[test]
fn types_of_single_tensors_can_be_asked_for() {
    let scratch = Scratch::new();
    let (input, output) = (scratch.file("in.gguf", &tiny("f16")), scratch.path("out.gguf"));
    let rules = ["--tensor-type", "ffn_down=q5_1", "--tensor-type", "^blk\\.1\\..*=q8_0"];
    let done = quantize(&input, &output, &[&["--type", "q4_0"], &rules[..]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    let file = GgufFile::open(&output).unwrap();
    for (name, expected) in [
        ("blk.0.ffn_down.weight", "Q5_1"),
        ("blk.1.ffn_down.weight", "Q8_0"),
        ("blk.1.attn_q.weight", "Q8_0"),
        ("blk.2.attn_q.weight", "Q4_0"),
        ("blk.1.attn_norm.weight", "F32"),
    ] {
        assert_eq!(file.tensor(name).unwrap().block_type.name(), expected, "{name}");
    }
    for (rule, code, expected) in [
        ("no_such_tensor=q8_0", 2, "no matrix has a name that fits \"no_such_tensor\""),
        ("attn_norm=q8_0", 2, "no matrix has a name"),
        ("ffn=q9_9", 2, "q9_9"),
        ("(=q8_0", 2, "regex"),
        ("q8_0", 2, "REGEX=TYPE"),
    ] {
        let refused = quantize(&input, &scratch.path("x.gguf"), &["--type", "q4_0", "--tensor-type", rule]);
        assert_eq!(refused.code, code, "{rule}: {}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{rule}: {}", refused.stderr);
    }
}

/// Names, types and texts of models reach standard error without what a terminal would obey.
#[test]
fn hostile_arguments_and_names_are_escaped() {
    const EVIL: &str = "\x1b]0;pwned\x07\x1b[35;5mred\u{9b}2J\u{202e}live\u{7f}\rback";
    let scratch = Scratch::new();
    let model = scratch.file("in.gguf", &tiny("f16")).display().to_string();
    let named = format!("{}{EVIL}", scratch.path("").display());
    std::fs::write(&named, EVIL).unwrap();
    for (code, args) in [
        (2, &[EVIL][..]),
        (2, &["quantize", &model, "out", "--type", EVIL]),
        (2, &["quantize", &model, "out", &format!("--{EVIL}")]),
        (2, &["quantize", &model, "out", "--type", "q4_0", "--tensor-type", EVIL]),
        (3, &["quantize", &named, "out", "--type", "q4_0"]),
        (3, &["convert", &named, "out"]),
    ] {
        let done = run(args);
        assert_eq!(done.code, code, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains("pwned"), "{args:?}: {}", done.stderr);
        let shown = format!("{}{}", done.stdout, done.stderr);
        assert!(!shown.contains(smolt::console::is_unsafe), "{args:?}: {shown:?}");
    }
}

/// What is there of somebody else is refused before anything is said of going on with it.
#[test]
fn a_foreign_journal_gets_no_note() {
    let scratch = Scratch::new();
    let (input, output) = (scratch.file("in.gguf", &tiny("f16")), scratch.path("out.gguf"));
    let text = scratch.file("text.txt", b"a text\n");
    let journal = scratch.file("out.gguf.calibration", b"my precious note");
    let done = quantize(&input, &output, &["--type", "q4_0", "--calibration", text.to_str().unwrap()]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("was not written by this program"), "{}", done.stderr);
    assert!(!done.stderr.contains("note:"), "{}", done.stderr);
    assert_eq!(std::fs::read(&journal).unwrap(), b"my precious note");
}
