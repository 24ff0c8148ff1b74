//! Calibrated quantization, end to end on the demo model and on a tiny one.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use smolt::eval::perplexity::PerplexityOptions;
use smolt::gguf::GgufFile;
use smolt_quantize::calibrate::{CalibrateOptions, Draw, calibrate};
use smolt_quantize::compare::{CompareOptions, Text, compare};
use smolt_quantize::{Lattices, Plan, QuantizeOptions};

use crate::fixture::{Scratch, quantize, run, tiny};

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The demo's dialogues: first and second half.
pub(crate) fn dialogues() -> [String; 2] {
    let text = std::fs::read_to_string(repository("tests/data/demo/demo-calibration.txt")).unwrap();
    let (first, second) =
        text.split_at(text[text.len() / 2..].find("<|im_start|>user").unwrap() + text.len() / 2);
    [first.to_owned(), second.to_owned()]
}

fn options(threads: usize) -> CalibrateOptions {
    CalibrateOptions {
        draw: Draw { tokens: 4096, sequence: 128, ..Draw::default() },
        threads,
        ..CalibrateOptions::default()
    }
}

fn plan<'a>(input: &'a GgufFile, recipe: &str) -> Plan<'a> {
    let options = QuantizeOptions {
        recipe: recipe.parse().unwrap(),
        rules: vec![],
        chosen: HashMap::new(),
        strict: false,
        allow_requantize: false,
        lattices: Lattices::default(),
    };
    Plan::new(input, &options).unwrap()
}

/// Quantizes with a journal and returns the bytes of the file.
fn calibrated(plan: &Plan<'_>, scratch: &Scratch, options: &CalibrateOptions) -> Vec<u8> {
    let (journal, output) = (scratch.path("journal"), scratch.path("out.gguf"));
    let texts = [("dialogues".to_owned(), dialogues()[0].clone())];
    let done = calibrate(plan, &texts, options, &journal, &mut |_| {}).unwrap();
    plan.write(&output, options.threads, &done, &mut |_| {}).unwrap();
    done.remove().unwrap();
    assert!(!journal.exists());
    std::fs::read(output).unwrap()
}

#[test]
fn calibration_brings_a_trained_model_closer_to_its_original() {
    let scratch = Scratch::new();
    let input = GgufFile::open(&repository("tests/data/demo/demo-f16.gguf")).unwrap();
    for recipe in ["q4_0", "q4_k"] {
        let plan = plan(&input, recipe);
        let ours = scratch.file("calibrated.gguf", &calibrated(&plan, &scratch, &options(2)));
        let nearest = scratch.path("nearest.gguf");
        plan.write(&nearest, 2, &smolt_quantize::calibrate::Calibrated::none(), &mut |_| {}).unwrap();
        let files = [nearest, ours].map(|path| GgufFile::open(&path).unwrap());
        assert_eq!(files[0].file_bytes(), files[1].file_bytes());
        let text = PerplexityOptions { n_ctx: 128, chunks: Some(20) };
        let dialogues = Text { name: "dialogues", content: &dialogues()[1] };
        let compared =
            compare(&input, &files, dialogues, &CompareOptions { text, threads: 2 }, &mut |_, _| {});
        let kl: Vec<f64> = compared.unwrap().files.iter().map(|one| one.summary.mean_kl).collect();
        eprintln!("{recipe}: mean KL {:.6} rounded to nearest, {:.6} calibrated", kl[0], kl[1]);
        assert!(kl[1] < 0.3 * kl[0], "{recipe}: {kl:?}");
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let scratch = Scratch::new();
    let input = GgufFile::from_vec("tiny", tiny("f16")).unwrap();
    let plan = plan(&input, "q4_k_m");
    let draw = Draw { tokens: 1024, sequence: 64, ..Draw::default() };
    let [one, three] = [1, 3].map(|threads| CalibrateOptions { draw, ..options(threads) });
    assert!(calibrated(&plan, &scratch, &one) == calibrated(&plan, &scratch, &three));
}

/// Wherever it is stopped, a calibration goes on to the same bytes, and does not do again what was done.
#[test]
fn a_stopped_calibration_goes_on() {
    let scratch = Scratch::new();
    let input = GgufFile::from_vec("tiny", tiny("f16")).unwrap();
    let plan = plan(&input, "q4_0");
    let draw = Draw { tokens: 1024, sequence: 64, ..Draw::default() };
    let options = CalibrateOptions { draw, ..options(1) };
    let expected = calibrated(&plan, &scratch, &options);
    let texts = [("dialogues".to_owned(), dialogues()[0].clone())];
    for stop in [1, 4, 9, 20] {
        let mut calls = 0;
        let stopped = catch_unwind(AssertUnwindSafe(|| {
            calibrate(&plan, &texts, &options, &scratch.path("journal"), &mut |_| {
                calls += 1;
                assert!(calls < stop, "stopped on purpose");
            })
            .is_ok()
        }));
        assert!(stopped.is_err() && scratch.path("journal").exists());
        let kept = std::fs::metadata(scratch.path("journal")).unwrap().len();
        assert!(kept > 100, "something was kept");
        assert!(calibrated(&plan, &scratch, &options) == expected, "stopped at {stop}");
    }
}

#[test]
fn what_cannot_calibrate_is_refused() {
    let scratch = Scratch::new();
    let input = scratch.file("in.gguf", &tiny("f16"));
    let output = scratch.path("out.gguf");
    let short = scratch.file("short.txt", b"Too short.");
    let empty = scratch.file("empty.txt", b"");
    let binary = scratch.file("binary.txt", &[0xFF, 0xFE, 0x00]);
    let absent = scratch.path("absent.txt");
    for (text, expected) in [
        (&short, "tokens, at least"),
        (&empty, "0 tokens, at least"),
        (&binary, "binary.txt: cannot read the text"),
        (&absent, "absent.txt: cannot read the text"),
    ] {
        let failed = quantize(&input, &output, &["--type", "q4_0", "--calibration", text.to_str().unwrap()]);
        assert_eq!(failed.code, 1, "{}", failed.stderr);
        assert!(failed.stderr.contains(expected), "{}", failed.stderr);
        assert!(!output.exists());
    }
    let text = scratch.file("text.txt", dialogues()[0].as_bytes());
    let asked = ["--type", "q4_0", "--calibration", text.to_str().unwrap()];
    let before = std::fs::read(&input).unwrap();
    let failed = quantize(&input, &input, &asked);
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    assert!(failed.stderr.contains("is both input and output"), "{}", failed.stderr);
    assert!(std::fs::read(&input).unwrap() == before && !scratch.path("in.gguf.calibration").exists());
    let sized = ["--size", "1M", "--calibration", text.to_str().unwrap()];
    assert_eq!(quantize(&input, &input, &sized).code, 2);
    assert!(!scratch.path("in.gguf.sensitivity").exists(), "nothing was measured");
    let nowhere = quantize(&input, &scratch.path("absent/out.gguf"), &asked);
    assert_eq!(nowhere.code, 1, "{}", nowhere.stderr);
    let failed = quantize(&input, &output, &["--type", "q4_0", "--damping", "0.1"]);
    assert_eq!(failed.code, 2, "tuning without a text");
}

#[test]
fn the_command_calibrates_and_leaves_only_the_output() {
    let scratch = Scratch::new();
    let input = scratch.file("in.gguf", &tiny("f16"));
    let output = scratch.path("out.gguf");
    let text = scratch.file("text.txt", dialogues()[0].as_bytes());
    let more =
        ["--type", "q4_0", "--calibration", text.to_str().unwrap(), "--calibration-tokens", "1024", "--json"];
    let done = quantize(&input, &output, &more);
    assert_eq!((done.code, done.stderr.contains("error")), (0, false), "{}", done.stderr);
    assert_eq!(scratch.names(), ["in.gguf", "out.gguf", "text.txt"]);
    let expected = std::fs::read(&output).unwrap();
    // What is no journal is left as it is.
    scratch.file("out.gguf.calibration", b"something else");
    let refused = quantize(&input, &output, &more);
    assert!(refused.code != 0 && refused.stderr.contains("out.gguf.calibration"), "{}", refused.stderr);
    assert_eq!(std::fs::read(scratch.path("out.gguf.calibration")).unwrap(), b"something else");
    // A journal of another calibration is begun anew, and mentioned.
    scratch.file("out.gguf.calibration", b"smolt-calibration-v1\n\0\0\0another key");
    let again = quantize(&input, &output, &more);
    assert!(again.code == 0 && again.stderr.contains("out.gguf.calibration is there"), "{}", again.stderr);
    assert!(std::fs::read(&output).unwrap() == expected);
    assert_eq!(scratch.names(), ["in.gguf", "out.gguf", "text.txt"]);
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let ratios: Vec<f64> =
        report["tensors"].as_array().unwrap().iter().filter_map(|row| row["loss_ratio"].as_f64()).collect();
    assert_eq!(ratios.len(), 1 + 3 * 7, "the embedding and seven matrices of each layer");
    assert!(ratios.iter().all(|ratio| *ratio < 1.0), "{ratios:?}");
}

#[test]
fn each_method_is_closer_than_the_one_before() {
    let scratch = Scratch::new();
    let input = repository("tests/data/demo/demo-f16.gguf");
    let text = scratch.file("text.txt", dialogues()[0].as_bytes());
    let base = GgufFile::open(&input).unwrap();
    let mut files = Vec::new();
    for method in ["rtn", "imatrix", "gptq"] {
        let output = scratch.path(&format!("{method}.gguf"));
        let more = ["--type", "q4_0", "--method", method, "--calibration", text.to_str().unwrap()];
        let done = quantize(&input, &output, &[&more[..], &["--calibration-tokens", "4096"]].concat());
        assert_eq!(done.code, 0, "{}", done.stderr);
        files.push(GgufFile::open(&output).unwrap());
    }
    let text = PerplexityOptions { n_ctx: 128, chunks: Some(10) };
    let dialogues = Text { name: "dialogues", content: &dialogues()[1] };
    let compared = compare(&base, &files, dialogues, &CompareOptions { text, threads: 2 }, &mut |_, _| {});
    let kl: Vec<f64> = compared.unwrap().files.iter().map(|one| one.summary.mean_kl).collect();
    assert!(kl[1] < 0.9 * kl[0] && kl[2] < 0.5 * kl[1], "{kl:?}");
    let refused = quantize(&input, &scratch.path("out.gguf"), &["--type", "q4_0", "--method", "gptq"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("--calibration"), "{}", refused.stderr);
}

/// The tiny models of all families, whose weights are random: what their matrices give is closer when calibrated, and
/// so are their predictions.
#[test]
fn every_family_can_be_calibrated() {
    let root = repository("tests/data/families");
    let mut families = 0;
    for folder in std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()) {
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let scratch = Scratch::new();
        for (from, to) in
            [(&folder, "config.json"), (&folder, "model.safetensors"), (&root, "tokenizer.json")]
        {
            std::fs::copy(from.join(to), scratch.path(to)).unwrap();
        }
        let original = scratch.path("original.gguf");
        let text = scratch.file("text.txt", dialogues()[0].as_bytes());
        let done = run(&["convert", scratch.path("").to_str().unwrap(), original.to_str().unwrap()]);
        assert_eq!(done.code, 0, "{name}: {}", done.stderr);
        let [nearest, calibrated] = ["nearest.gguf", "calibrated.gguf"].map(|file| scratch.path(file));
        let asked = ["--type", "q4_0", "--json"];
        assert_eq!(quantize(&original, &nearest, &asked).code, 0);
        let calibration = ["--calibration", text.to_str().unwrap(), "--calibration-tokens", "4096"];
        let done = quantize(&original, &calibrated, &[&asked[..], &calibration].concat());
        assert_eq!(done.code, 0, "{name}: {}", done.stderr);
        let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        let rows = report["tensors"].as_array().unwrap();
        let ratios: Vec<f64> = rows.iter().filter_map(|row| row["loss_ratio"].as_f64()).collect();
        assert!(ratios.iter().all(|ratio| *ratio < 1.0), "{name}: {ratios:?}");
        let base = GgufFile::open(&original).unwrap();
        let files = [nearest, calibrated].map(|path| GgufFile::open(&path).unwrap());
        let options = CompareOptions { text: PerplexityOptions { n_ctx: 64, chunks: Some(12) }, threads: 2 };
        let dialogues = Text { name: "dialogues", content: &dialogues()[1] };
        let compared = compare(&base, &files, dialogues, &options, &mut |_, _| {}).unwrap();
        let kl: Vec<f64> = compared.files.iter().map(|one| one.summary.mean_kl).collect();
        eprintln!("{name}: mean KL {:.5} to {:.5}, {} matrices", kl[0], kl[1], ratios.len());
        assert!(kl[1] < kl[0] && ratios.len() > 2, "{name}: {kl:?}, {} matrices", ratios.len());
        families += 1;
    }
    assert!(families >= 21, "{families}");
}
