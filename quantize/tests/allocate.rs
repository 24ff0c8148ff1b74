//! Types chosen for a size, end to end on the demo model.

use std::path::{Path, PathBuf};

use smolt::eval::perplexity::PerplexityOptions;
use smolt::gguf::GgufFile;
use smolt_quantize::compare::{CompareOptions, Text, compare};

use crate::calibrate::{dialogues, repository};
use crate::fixture::{Outcome, Scratch, quantize, tiny};

fn demo(path: &str) -> PathBuf {
    repository("tests/data/demo").join(path)
}

/// Quantizes the demo model, calibrated on the first half of its dialogues.
fn demo_as(scratch: &Scratch, name: &str, tokens: &str, more: &[&str]) -> (Outcome, PathBuf) {
    let text = scratch.file("text.txt", dialogues()[0].as_bytes());
    let output = scratch.path(name);
    let calibration = ["--calibration", text.to_str().unwrap(), "--calibration-tokens", tokens];
    let asked = [&calibration[..], more].concat();
    (quantize(&demo("demo-f16.gguf"), &output, &asked), output)
}

/// Mean divergences from the demo model on the second half of its dialogues.
fn divergences(files: &[&Path]) -> Vec<f64> {
    let [_, text] = dialogues();
    let files: Vec<GgufFile> = files.iter().map(|path| GgufFile::open(path).unwrap()).collect();
    let options = CompareOptions { text: PerplexityOptions { n_ctx: 128, chunks: Some(15) }, threads: 2 };
    let base = GgufFile::open(&demo("demo-f16.gguf")).unwrap();
    let compared =
        compare(&base, &files, Text { name: "dialogues", content: &text }, &options, &mut |_, _| {});
    compared.unwrap().files.iter().map(|one| one.summary.mean_kl).collect()
}

#[test]
fn a_mix_of_the_same_size_is_closer_than_one_type() {
    let scratch = Scratch::new();
    let (one, uniform) =
        demo_as(&scratch, "uniform.gguf", "2048", &["--type", "q5_0", "--embedding-type", "q5_0"]);
    assert_eq!(one.code, 0, "{}", one.stderr);
    let size = std::fs::metadata(&uniform).unwrap().len();
    let (two, mixed) = demo_as(&scratch, "mixed.gguf", "2048", &["--size", &size.to_string()]);
    assert_eq!(two.code, 0, "{}", two.stderr);
    let spent = std::fs::metadata(&mixed).unwrap().len();
    assert!(spent <= size && spent * 100 > size * 99, "{spent} of {size}");
    let kl = divergences(&[&uniform, &mixed]);
    eprintln!("mean KL {:.6} in one type, {:.6} mixed", kl[0], kl[1]);
    assert!(kl[1] < 0.8 * kl[0], "{kl:?}");
    let file = GgufFile::open(&mixed).unwrap();
    let types: std::collections::BTreeSet<_> =
        file.tensors().iter().map(|tensor| tensor.block_type.name()).collect();
    assert!(types.len() > 3, "{types:?}");
    assert_eq!(scratch.names(), ["mixed.gguf", "text.txt", "uniform.gguf"]);
}

#[test]
fn what_is_asked_for_is_kept() {
    let scratch = Scratch::new();
    let asked =
        ["--bpw", "5.6", "--mix", "q4_0,q8_0", "--embedding-type", "q5_1", "--tensor-type", "attn_v=q4_1"];
    let (done, output) = demo_as(&scratch, "out.gguf", "512", &[&asked[..], &["--threads", "1"]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    let file = GgufFile::open(&output).unwrap();
    let named = |name: &str| file.tensor(name).unwrap().block_type.name();
    assert_eq!((named("token_embd.weight"), named("blk.1.attn_v.weight")), ("Q5_1", "Q4_1"));
    for tensor in file.tensors().iter().filter(|one| one.name.contains("ffn_") && one.rows() > 1) {
        assert!(["Q4_0", "Q8_0"].contains(&tensor.block_type.name()), "{tensor:?}");
    }
    let bytes: u64 = file.tensors().iter().map(|tensor| tensor.bytes).sum();
    let weights: usize = file.tensors().iter().map(|tensor| tensor.elements()).sum();
    let bits = bytes as f64 * 8.0 / weights as f64;
    assert!(bits <= 5.6 && bits > 5.4, "{bits}");
    // The choice does not depend on the number of threads.
    let (again, other) = demo_as(&scratch, "other.gguf", "512", &[&asked[..], &["--threads", "3"]].concat());
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(std::fs::read(output).unwrap() == std::fs::read(other).unwrap());
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let scratch = Scratch::new();
    let input = scratch.file("in.gguf", &tiny("f16"));
    let output = scratch.path("out.gguf");
    let text = scratch.file("text.txt", dialogues()[0].as_bytes());
    let calibration = ["--calibration", text.to_str().unwrap(), "--calibration-tokens", "1024"];
    for (asked, expected) in [
        (&["--size", "1000"][..], "1000 bytes is asked for; the smallest with the types to choose from has"),
        (&["--bpw", "4.6", "--mix", "q8_0"], "the smallest with the types to choose from has"),
        (&["--size", "big"], "86M"),
        (&["--size", "1M", "--type", "q4_0"], "cannot be used with"),
        (&["--size", "1M", "--bpw", "4.6"], "cannot be used with"),
        (&["--size", "1M", "--mix", "q4_0,f16"], "F16 is not a quantized type"),
    ] {
        let refused = quantize(&input, &output, &[asked, &calibration].concat());
        assert_eq!(refused.code, 2, "{asked:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{asked:?}: {}", refused.stderr);
        assert!(!output.exists());
    }
    let no_text = quantize(&input, &output, &["--size", "1M"]);
    assert!(no_text.code == 2 && no_text.stderr.contains("--calibration"), "{}", no_text.stderr);
}

#[test]
fn a_dry_run_chooses_and_writes_nothing() {
    let scratch = Scratch::new();
    let input = scratch.file("in.gguf", &tiny("f16"));
    let text = scratch.file("text.txt", dialogues()[0].as_bytes());
    let asked = ["--bpw", "6", "--calibration", text.to_str().unwrap(), "--calibration-tokens", "1024"];
    let output = scratch.path("out.gguf");
    let dry = quantize(&input, &output, &[&asked[..], &["--dry-run", "--json"]].concat());
    assert_eq!(dry.code, 0, "{}", dry.stderr);
    assert_eq!(scratch.names(), ["in.gguf", "text.txt"]);
    let report: serde_json::Value = serde_json::from_str(&dry.stdout).unwrap();
    assert!(report["bits_per_weight"].as_f64().unwrap() <= 6.0);
    let done = quantize(&input, &output, &[&asked[..], &["--json"]].concat());
    let written: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["file_bytes"], written["file_bytes"]);
}

/// A disk that is full while the calibration keeps what it has finished: an error, and no output.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told() {
    let scratch = Scratch::new();
    let input = scratch.file("in.gguf", &tiny("f16"));
    let text = scratch.file("text.txt", dialogues()[0].as_bytes());
    // A limit on the size of files, in blocks of 512 or 1024 bytes; without the signal, writing fails as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 60; exec \"$0\" quantize in.gguf out.gguf --type q4_0 \
                  --calibration text.txt --calibration-tokens 1024";
    let done = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_smolt-quantize")])
        .current_dir(input.parent().unwrap())
        .output()
        .unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot keep what the calibration has finished"), "{stderr}");
    assert!(!scratch.path("out.gguf").exists());
    // With room, the same command goes on.
    let done = quantize(
        &input,
        &scratch.path("out.gguf"),
        &["--type", "q4_0", "--calibration", text.to_str().unwrap(), "--calibration-tokens", "1024"],
    );
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(scratch.names(), ["in.gguf", "out.gguf", "text.txt"]);
}
