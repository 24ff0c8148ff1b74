//! Perplexity against llama.cpp's figures for small trained models of the shared data.

use crate::shared;
use smolt::eval::perplexity::{Corpus, Perplexity, PerplexityOptions, perplexity};
use smolt::generate::Session;
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{Model, RunOptions, Runner};
use smolt::text::{Tokenizer, TokenizerOptions};
use std::sync::Arc;

/// Set to measure every file on both texts, which takes minutes without optimisation.
const FULL: &str = "SMOLT_FULL_PERPLEXITY";

/// Text, chunks, type and llama.cpp's perplexity, for a test that runs always; the figure is from
/// llama-cpp-python 0.3.36 with the same protocol.
const SHORT: (&str, Option<usize>, &str, f64) = ("eval-speeches", Some(20), "Q4_0", 113.415_293);

/// llama.cpp's figures: text, chunks of 512 tokens it holds or has been cut to, type, perplexity.
const FIGURES: &[(&str, Option<usize>, &str, f64)] = &[
    ("eval-reviews", Some(120), "f16", 117.268),
    ("eval-reviews", Some(120), "Q8_0", 117.268_643),
    ("eval-reviews", Some(120), "Q4_0", 117.686_613),
    ("eval-reviews", Some(120), "Q4_K_M", 117.516),
    ("eval-speeches", None, "Q8_0", 109.178),
    ("eval-speeches", None, "Q4_0", 109.935),
    ("eval-speeches", None, "Q4_K_M", 109.361),
];

fn measure(text: &str, kind: &str, chunks: Option<usize>, kv: KvType) -> Option<Perplexity> {
    let model = shared::file(&format!("models/s288/gguf/s288-{kind}.gguf"))?;
    let text = shared::file(&format!("data/text/{text}.txt"))?;
    let file = GgufFile::open(&model).unwrap();
    let tokenizer = Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap();
    let corpus = Corpus::new(&tokenizer, &std::fs::read_to_string(text).unwrap()).unwrap();
    let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
    let options = PerplexityOptions { chunks, ..Default::default() };
    let run = RunOptions { context: options.n_ctx, threads: 2, slots: 1, logit_rows: 8, kv };
    let mut session = Session::new(Runner::new(model, &run).unwrap(), Arc::new(tokenizer));
    Some(perplexity(&mut session, &corpus, &options, &mut |_, _| ()).unwrap())
}

fn compare(text: &str, chunks: Option<usize>, kind: &str, expected: f64) {
    let Some(found) = measure(text, kind, chunks, KvType::F16) else { return };
    let difference = (found.ppl / expected - 1.0) * 100.0;
    eprintln!(
        "{text} {kind}: {:.4} +/- {:.4} over {} chunks, llama.cpp {expected:.3}, difference {difference:+.4} %",
        found.ppl,
        found.stderr.unwrap(),
        found.chunks
    );
    assert!(chunks.is_none_or(|chunks| chunks == found.chunks));
    let bound = if kind == "f16" { 0.2 } else { 0.5 };
    assert!(difference.abs() < bound, "{difference} %");
}

#[test]
fn a_quantized_file_has_the_perplexity_that_llama_cpp_finds() {
    let (text, chunks, kind, expected) = SHORT;
    compare(text, chunks, kind, expected);
}

/// Rounding keys, values and queries to 8 bits costs far less than `Q4_0` weights, which cost 0.7 %.
#[test]
fn an_8_bit_cache_keeps_the_perplexity() {
    let found = [KvType::F16, KvType::Q8_0].map(|kv| measure("eval-speeches", "f16", Some(20), kv));
    let [Some(halves), Some(bytes)] = found else { return };
    let difference = (bytes.ppl / halves.ppl - 1.0) * 100.0;
    eprintln!("8-bit cache: {:.4} against {:.4}, difference {difference:+.4} %", bytes.ppl, halves.ppl);
    assert!(difference != 0.0 && difference.abs() < 0.1, "{difference} %");
}

#[test]
fn every_file_has_the_perplexity_that_llama_cpp_finds() {
    if std::env::var_os(FULL).is_none() {
        eprintln!("SKIPPED: set {FULL}=1 to compare all {} figures", FIGURES.len());
        return;
    }
    for &(text, chunks, kind, expected) in FIGURES {
        compare(text, chunks, kind, expected);
    }
}
