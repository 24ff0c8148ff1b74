//! The command `report`: values, JSON, table, page, faults.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use smolt::eval::synthetic::{SHAPES, Shape, Synthetic};

use crate::fixture::{Outcome, Scratch, quantize, run, tiny};

/// A model, two quantized versions and a text that has at least 60 chunks of 32 tokens.
struct Files {
    scratch: Scratch,
    base: PathBuf,
    q4: PathBuf,
    q8: PathBuf,
    text: PathBuf,
}

impl Files {
    fn new() -> Self {
        let scratch = Scratch::new();
        let base = scratch.file("base.gguf", &tiny("f32"));
        let text = scratch.file("text.txt", words(8000).as_bytes());
        let [q4, q8] = ["q4_0", "q8_0"].map(|name| {
            let path = scratch.path(&format!("{name}.gguf"));
            assert_eq!(quantize(&base, &path, &["--type", name]).code, 0);
            path
        });
        Self { scratch, base, q4, q8, text }
    }

    /// Runs `report` on 60 chunks of 32 tokens.
    fn report(&self, files: &[&Path], more: &[&str]) -> Outcome {
        report(files, &self.text, &[["-c", "32", "--chunks", "60"].as_slice(), more].concat())
    }

    fn json(&self, files: &[&Path], more: &[&str]) -> Value {
        let done = self.report(files, &[["--json"].as_slice(), more].concat());
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        serde_json::from_str(&done.stdout).unwrap()
    }
}

fn report(files: &[&Path], text: &Path, more: &[&str]) -> Outcome {
    let files = files.iter().map(|file| file.to_str().unwrap());
    let mut arguments: Vec<&str> = ["report"].into_iter().chain(files).collect();
    arguments.extend(["--text", text.to_str().unwrap()]);
    arguments.extend(more);
    run(&arguments)
}

/// Letters without a pattern, in words.
fn words(letters: usize) -> String {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    (0..letters).map(|_| if next() < 40 { ' ' } else { char::from(b'a' + (next() % 26) as u8) }).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

#[test]
fn a_file_does_not_differ_from_itself() {
    let files = Files::new();
    let json = files.json(&[&files.base, &files.base, &files.base], &[]);
    let file = &json["files"][0];
    for key in ["mean_kl", "median_kl", "kl_99", "ln_ppl_ratio", "embedding_error", "unfolded_channels"] {
        assert_eq!(number(&file[key]), 0.0, "{key}");
    }
    assert_eq!(number(&file["same_top"]), 1.0);
    assert_eq!((&file["ppl"], &file["ppl_stderr"]), (&json["base"]["ppl"], &json["base"]["ppl_stderr"]));
    assert_eq!(numbers(&file["layer_errors"]), [0.0; 3]);
    let tensors = file["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 2 + 3 * 9);
    assert!(tensors.iter().all(|tensor| number(&tensor["relative_square"]) == 0.0));
    let against = &json["files"][1]["against_first"];
    assert_eq!((&against["verdict"], number(&against["kl_ratio"]["estimate"])), (&"unclear".into(), 1.0));
    // The perplexity is the one that smolt itself measures.
    let gguf = smolt::gguf::GgufFile::open(&files.base).unwrap();
    let tokenizer = smolt::text::Tokenizer::from_gguf(&gguf, Default::default()).unwrap();
    let text = std::fs::read_to_string(&files.text).unwrap();
    let corpus = smolt::eval::perplexity::Corpus::new(&tokenizer, &text).unwrap();
    let kernels = smolt::kernels::Kernels::detect().unwrap();
    let model = std::sync::Arc::new(smolt::model::Model::load(&gguf, kernels).unwrap());
    let options = smolt::model::RunOptions {
        context: 32,
        threads: 1,
        slots: 1,
        logit_rows: 8,
        kv: smolt::kernels::KvType::F16,
    };
    let runner = smolt::model::Runner::new(model, &options).unwrap();
    let mut session = smolt::generate::Session::new(runner, std::sync::Arc::new(tokenizer));
    let options = smolt::eval::perplexity::PerplexityOptions { n_ctx: 32, chunks: Some(60) };
    let ppl = smolt::eval::perplexity::perplexity(&mut session, &corpus, &options, &mut |_, _| ()).unwrap();
    // That one rounds exponentials to f32.
    assert!(
        (number(&json["base"]["ppl"]) / ppl.ppl - 1.0).abs() < 1e-6,
        "{} {}",
        json["base"]["ppl"],
        ppl.ppl
    );
    assert_eq!(json["scored_tokens"], ppl.scored_tokens);
}

#[test]
fn eight_bits_are_better_than_four_in_every_figure() {
    let files = Files::new();
    let json = files.json(&[&files.base, &files.q4, &files.q8], &[]);
    let (q4, q8) = (&json["files"][0], &json["files"][1]);
    for key in ["mean_kl", "mean_kl_stderr", "median_kl", "kl_99", "ln_ppl_ratio_stderr"] {
        assert!(number(&q8[key]) > 0.0 && number(&q8[key]) < 0.5 * number(&q4[key]), "{key}");
    }
    assert!(number(&q8["ln_ppl_ratio"]).abs() < number(&q4["ln_ppl_ratio"]).abs());
    assert!(number(&q8["same_top"]) > number(&q4["same_top"]));
    let (four, eight) = (numbers(&q4["layer_errors"]), numbers(&q8["layer_errors"]));
    assert_eq!((four.len(), eight.len()), (3, 3));
    assert!(
        four.iter().zip(&eight).all(|(four, eight)| *eight > 0.0 && *eight < 0.1 * four),
        "{four:?} {eight:?}"
    );
    let worst = |file: &Value| number(&file["tensors"][0]["relative_square"]);
    assert!(worst(q8) > 0.0 && worst(q8) < 0.02 * worst(q4), "{} {}", worst(q8), worst(q4));
    // The embedding is Q8_0 in both.
    assert_eq!(q4["embedding_error"], q8["embedding_error"]);
    assert!(number(&q8["bytes"]) > number(&q4["bytes"]));
    assert!(number(&q8["bits_per_weight"]) > number(&q4["bits_per_weight"]));
    let against = &q8["against_first"];
    assert_eq!(against["verdict"], "better");
    let kl = &against["kl_ratio"];
    assert!((number(&kl["estimate"]) - number(&q8["mean_kl"]) / number(&q4["mean_kl"])).abs() < 1e-9);
    assert!(number(&kl["low"]) < number(&kl["estimate"]) && number(&kl["estimate"]) < number(&kl["high"]));
    assert!(number(&kl["high"]) < 1.0);
    let difference = number(&q8["ln_ppl_ratio"]) - number(&q4["ln_ppl_ratio"]);
    assert!((number(&against["ln_ppl_difference"]["estimate"]) - difference).abs() < 1e-9);
    let difference = number(&q8["same_top"]) - number(&q4["same_top"]);
    assert!((number(&against["same_top_difference"]["estimate"]) - difference).abs() < 1e-9);
    let reversed = files.json(&[&files.base, &files.q8, &files.q4], &[]);
    assert_eq!(reversed["files"][1]["against_first"]["verdict"], "worse");
}

#[test]
fn json_has_the_keys_that_scripts_read() {
    let files = Files::new();
    let json = files.json(&[&files.base, &files.q4, &files.q8], &[]);
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys(&json), "base chunks files layer_chunks n_ctx scored_tokens text");
    assert_eq!(keys(&json["base"]), "bits_per_weight bytes file ppl ppl_stderr");
    let file = &json["files"][1];
    assert_eq!(
        keys(file),
        "against_first bits_per_weight bytes embedding_error file kl_99 layer_errors ln_ppl_ratio \
         ln_ppl_ratio_stderr mean_kl mean_kl_stderr median_kl ppl ppl_stderr same_top same_top_stderr tensors \
         unfolded_channels"
    );
    assert_eq!(keys(&file["against_first"]), "kl_ratio ln_ppl_difference same_top_difference verdict");
    assert_eq!(keys(&file["against_first"]["kl_ratio"]), "estimate high low verdict");
    assert_eq!(keys(&file["tensors"][0]), "name relative_square type");
    assert_eq!(json["files"][0]["against_first"], Value::Null);
    assert_eq!(json["base"]["file"], files.base.to_str().unwrap());
    assert_eq!(file["bytes"], std::fs::metadata(&files.q8).unwrap().len());
    // 60 chunks of 32 tokens: positions 16 to 30 are scored.
    assert_eq!((&json["n_ctx"], &json["chunks"], &json["layer_chunks"]), (&32.into(), &60.into(), &8.into()));
    assert_eq!(json["scored_tokens"], 60 * 15);
}

#[test]
fn the_table_fits_a_terminal() {
    let files = Files::new();
    let long = files.scratch.path(&format!("{}-q4_0.gguf", "a-long-name-".repeat(12)));
    std::fs::copy(&files.q4, &long).unwrap();
    let done = files.report(&[&files.base, &files.q4, &long, &files.q8], &["--worst", "2"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let widest = done.stdout.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest}\n{}", done.stdout);
    for expected in [
        "text.txt: 60 chunks of 32 tokens, 900 tokens scored",
        "base.gguf (base)",
        "…",
        "-q4_0.gguf and q4_0.gguf cannot be told apart:",
        "q8_0.gguf is better than q4_0.gguf:",
        "largest errors of weights in q8_0.gguf:",
    ] {
        assert!(done.stdout.contains(expected), "{expected}\n{}", done.stdout);
    }
    assert_eq!(done.stdout.matches("  Q4_0  ").count(), 2 * 2, "{}", done.stdout);
}

#[test]
fn few_chunks_give_no_verdict() {
    let files = Files::new();
    let options = ["-c", "32", "--chunks", "9"];
    let done = report(&[&files.base, &files.q4, &files.q8], &files.text, &options);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("no verdict: it takes 10 chunks, 9 were read"), "{}", done.stdout);
    assert!(!done.stdout.contains("better"), "{}", done.stdout);
}

/// Checks that every element is closed in order and every `&` starts a reference.
fn assert_well_formed(page: &str) {
    let mut open = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        assert!(!text.contains('>') || open.last() == Some(&"style"), "{text}");
        let (tag, after) = rest[at + 1..].split_once('>').unwrap();
        rest = after;
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match tag {
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "{tag}"),
            _ if tag.ends_with('/') => {}
            _ => open.push(name),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    for reference in page.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(known.iter().any(|name| reference.starts_with(name)), "&{}", &reference[..8]);
    }
}

#[test]
#[cfg(unix)]
fn the_page_is_complete_and_escapes_names() {
    let files = Files::new();
    let evil = files.scratch.path("<img src=x onerror=\"alert('1')\"> & \u{202e}.gguf");
    std::fs::copy(&files.q4, &evil).unwrap();
    let html = files.scratch.path("report.html");
    let done = files.report(&[&files.base, &evil, &files.q8], &["--html", html.to_str().unwrap()]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let page = std::fs::read_to_string(&html).unwrap();
    assert_well_formed(&page);
    assert!(!page.contains("<img") && !page.contains('\u{202e}') && !page.contains("<script"), "{page}");
    assert!(page.contains("&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt; &amp; \u{fffd}.gguf"));
    assert!(!done.stdout.contains('\u{202e}'), "{}", done.stdout);
    // Nothing is fetched.
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url("), "{page}");
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 2);
    // A point of each file in the first chart; in the second a line and a mark after the embedding and three layers.
    let charts: Vec<&str> = page.split("<svg class=\"chart\"").skip(1).collect();
    let chart = |index: usize| charts[index].split("</svg>").next().unwrap();
    let marks = |index: usize| chart(index).matches("class=\"dot").count();
    assert_eq!((marks(0), marks(1)), (2, 2 * 4));
    assert_eq!(chart(1).matches("class=\"line").count(), 2);
    assert!(chart(0).contains("q8_0.gguf"), "{}", chart(0));
    for expected in ["q8_0.gguf is better than", "text.txt", "60 chunks of 32 tokens", "How it was measured"]
    {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(!files.scratch.names().iter().any(|name| name.contains("tmp")), "{:?}", files.scratch.names());
}

#[test]
fn a_page_of_equal_files_says_so() {
    let files = Files::new();
    let html = files.scratch.path("report.html");
    let done = files.report(&[&files.base, &files.base], &["--html", html.to_str().unwrap()]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let page = std::fs::read_to_string(&html).unwrap();
    assert_well_formed(&page);
    assert!(
        page.contains("No file&#39;s predictions differ") || page.contains("No file's predictions differ")
    );
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let files = Files::new();
    let outputs = ["1", "2"].map(|threads| {
        let html = files.scratch.path(&format!("{threads}.html"));
        let more = ["--threads", threads, "--html", html.to_str().unwrap(), "--json"];
        let done = files.report(&[&files.base, &files.q4, &files.q8], &more);
        assert_eq!(done.code, 0, "{}", done.stderr);
        (done.stdout, std::fs::read(&html).unwrap())
    });
    assert!(outputs[0] == outputs[1], "one and two threads differ");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let files = Files::new();
    let shape = Shape {
        name: "other",
        layers: 3,
        dim: 96,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        hidden: 256,
        vocab: 1500,
        context: 64,
        rotary_dim: 16,
        ..SHAPES[0]
    };
    let model = |name: &str, shape: Shape, seed| {
        let bytes = Synthetic { shape, recipe: "q8_0".parse().unwrap(), seed }.to_vec().unwrap();
        files.scratch.file(name, &bytes)
    };
    let vocab = model("vocab.gguf", Shape { vocab: 1400, ..shape }, 1);
    let tokens = model("tokens.gguf", shape, 2);
    let layers = model("layers.gguf", Shape { layers: 2, ..shape }, 1);
    let hidden = model("hidden.gguf", Shape { hidden: 128, ..shape }, 1);
    let garbage = files.scratch.file("garbage.gguf", b"not a model");
    let cut = files.scratch.file("cut.gguf", &tiny("q8_0")[..5000]);
    let missing = files.scratch.path("missing.gguf");
    for (file, code, expected) in [
        (&vocab, 2, "vocab.gguf has 1400 tokens in its vocabulary"),
        (&tokens, 2, "in tokens.gguf"),
        (&layers, 2, "the number of layers of"),
        (&hidden, 2, "the width of the feed-forward layers of"),
        (&garbage, 3, "not a GGUF file"),
        (&cut, 3, "cut short"),
        (&missing, 3, "no such file"),
    ] {
        let name = file.file_name().unwrap().to_str().unwrap();
        let html = files.scratch.path("report.html");
        let refused = files.report(&[&files.base, &files.q4, file], &["--html", html.to_str().unwrap()]);
        assert_eq!((refused.code, refused.stdout.as_str()), (code, ""), "{name}: {}", refused.stderr);
        let message = refused.stderr.replace(&format!("{}/", file.parent().unwrap().display()), "");
        assert!(message.contains(expected) && message.contains(name), "{name}: {message}");
        if code == 2 {
            assert!(message.contains("not versions of one model; name the file first"), "{message}");
        }
        assert!(!html.exists());
    }
}

#[test]
fn texts_that_cannot_be_read_exit_with_2() {
    let files = Files::new();
    let pair = [files.base.as_path(), &files.q4];
    let short = files.scratch.file("short.txt", b"a few words");
    let binary = files.scratch.file("binary.txt", b"caf\xe9");
    let missing = files.scratch.path("missing.txt");
    for (text, more, expected) in [
        (&missing, [].as_slice(), "missing.txt"),
        (&binary, &[], "binary.txt"),
        (&short, &[], "a longer text with --text, or a smaller -c"),
        (&files.text, &["-c", "2"], "choose a larger -c"),
        (&files.text, &["--chunks", "0"], "--chunks must be at least 1"),
    ] {
        let refused = report(&pair, text, more);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    assert_eq!(run(&["report", files.base.to_str().unwrap()]).code, 2);
}

#[test]
fn pages_that_cannot_be_written_are_refused_first() {
    let files = Files::new();
    let before = std::fs::read(&files.q4).unwrap();
    let text = files.scratch.file("short.txt", b"too short to be measured");
    let missing = files.scratch.path("missing/report.html");
    let directory = files.scratch.path(".");
    for (html, code, expected) in [
        (&missing, 1, "cannot find its directory"),
        (&directory, 2, "is not a regular file"),
        (&files.q4, 2, "is read for the report; give --html another name"),
        (&text, 2, "is read for the report"),
    ] {
        let refused = report(&[&files.base, &files.q4], &text, &["--html", html.to_str().unwrap()]);
        assert_eq!(refused.code, code, "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    assert_eq!(std::fs::read(&files.q4).unwrap(), before);
}

#[test]
#[cfg(unix)]
fn a_report_that_is_stopped_leaves_no_page() {
    let files = Files::new();
    let text = files.scratch.file("long.txt", words(4_000_000).as_bytes());
    let html = files.scratch.path("report.html");
    let old = "an older report";
    std::fs::write(&html, old).unwrap();
    let names = files.scratch.names();
    let mut child = Command::new(env!("CARGO_BIN_EXE_smolt-quantize"))
        .arg("report")
        .args([&files.base, &files.q4])
        .args(["--text".as_ref(), text.as_os_str(), "--html".as_ref(), html.as_os_str()])
        .args(["-c", "64"])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    // Not the signal of Ctrl-C, which jobs in the background of a shell are born deaf to.
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert!(!status.success(), "it was done before");
    assert_eq!(std::fs::read_to_string(&html).unwrap(), old);
    assert_eq!(files.scratch.names(), names);
}

/// llama.cpp's figures for its own Q4_0 of the small trained model: a mean divergence of 0.0071.
#[test]
fn divergence_agrees_with_llama_cpp() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let root = std::env::var_os("SMOLT_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let gguf = |name: &str| root.join("models/s288/gguf").join(name);
    let text = root.join("data/text/eval-reviews.txt");
    if !text.exists() {
        eprintln!("SKIPPED: no shared data at {} (set SMOLT_SHARED)", root.display());
        return;
    }
    let files = [gguf("s288-f16.gguf"), gguf("s288-Q4_0.gguf"), gguf("s288-Q8_0.gguf")];
    let files = files.each_ref().map(PathBuf::as_path);
    let done = report(&files, &text, &["--chunks", "40", "--json"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    let mean = number(&json["files"][0]["mean_kl"]);
    assert!((mean / 0.0071 - 1.0).abs() < 0.02, "{mean}");
    assert_eq!(json["files"][1]["against_first"]["verdict"], "better");
}
