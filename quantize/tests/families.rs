//! Every family that can be converted, on the tiny models of `tests/data/families` (made by
//! `scripts/make_families.py`): from the folder through the converter and the runner, against `transformers`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use smolt::blocks::BlockType;
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{FAMILIES, LanguageModel, Model, RunOptions, Runner};
use smolt_quantize::convert::{Conversion, ConvertOptions, FloatType, classes};

use crate::fixture::{Scratch, quantize};

/// Largest difference of a logit where both sides keep keys and values alike: in F32, or rounded to halves.
const LARGEST_DIFFERENCE: f64 = 1e-3;
/// Largest difference of Q8_0 matrices, as a part of the logits' standard deviation (root mean squares over all
/// rows). Rounding weights and activations to 8 bits costs about 1 % per matrix, and up to a few dozen follow each
/// other.
const Q8_0_ERROR: f64 = 0.1;
/// Greedy tokens may differ where the best leads by less.
const ROUNDING_GAP: f64 = 1e-3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/families")
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Defines one test for each model and the list of their names; folders have `-` for `_`.
macro_rules! fixtures {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            Fixture::new(stringify!($name)).check();
        })*
    };
}

fixtures! {
    bloom cerebras falcon_h1 gemma3 gpt2 gptneo gptneox gptneox_sequential granite lfm2 llama mobilellm olmo olmo2
    opt opt_post_norm phi qwen2 qwen3 smollm3 stablelm
}

/// Classes whose models become those of another class with the same weights, which tests/convert/hybrid.rs compares.
const WITHOUT_FIXTURE: [&str; 1] = ["GraniteMoeHybridForCausalLM"];

#[test]
fn every_family_has_a_fixture_and_a_runtime() {
    let mut folders: Vec<String> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().replace('-', "_"))
        .collect();
    folders.sort();
    assert_eq!(folders, NAMES, "folders of {} and tests", root().display());
    let of_fixtures: Vec<String> = NAMES
        .iter()
        .map(|name| {
            let config = read_json(&root().join(name.replace('_', "-")).join("config.json"));
            config["architectures"][0].as_str().unwrap().to_owned()
        })
        .collect();
    let mut faults = Vec::new();
    for (class, architecture) in classes() {
        if !of_fixtures.iter().any(|found| found == class) && !WITHOUT_FIXTURE.contains(&class) {
            faults.push(format!("{class} has no fixture"));
        }
        if !FAMILIES.iter().any(|family| family.architecture == architecture) {
            faults.push(format!("{class} is converted to {architecture}, which cannot be run"));
        }
    }
    for family in FAMILIES {
        if !classes().any(|(_, architecture)| architecture == family.architecture) {
            faults.push(format!("{} can be run, but nothing is converted to it", family.architecture));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A model's folder with the tokenizer that all share.
struct Fixture {
    scratch: Scratch,
    golden: Value,
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn largest(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
    differences.fold(0.0, |most, x| if x.is_nan() { f64::INFINITY } else { most.max(x) })
}

/// Sums of the squares of the differences, and of those from the mean.
fn squares(found: &[f32], expected: &[f64]) -> [f64; 2] {
    let mean = expected.iter().sum::<f64>() / expected.len() as f64;
    let spread = expected.iter().map(|x| (x - mean).powi(2)).sum();
    [found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum(), spread]
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best }).unwrap() as u32
}

fn runner(path: &Path, kv: KvType) -> Runner {
    let file = GgufFile::open(path).unwrap();
    let model = Model::load(&file, Kernels::detect().unwrap()).unwrap_or_else(|error| panic!("{error}"));
    let options = RunOptions { context: 128, threads: 2, slots: 1, logit_rows: 8, kv };
    Runner::new(Arc::new(model), &options).unwrap()
}

/// The logits after each token.
fn all_logits(runner: &mut Runner, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    runner.truncate(0);
    runner.score(tokens, 0, &mut |_, logits| all.push(logits.to_vec())).unwrap();
    all
}

impl Fixture {
    fn new(name: &str) -> Self {
        let folder = root().join(name.replace('_', "-"));
        let scratch = Scratch::new();
        for path in ["config.json", "model.safetensors"].map(|file| folder.join(file)) {
            std::fs::copy(&path, scratch.path(&path.file_name().unwrap().to_string_lossy())).unwrap();
        }
        std::fs::copy(root().join("tokenizer.json"), scratch.path("tokenizer.json")).unwrap();
        Self { scratch, golden: read_json(&folder.join("golden.json")) }
    }

    fn convert(&self, float: FloatType) -> PathBuf {
        let output = self.scratch.path(&format!("{float:?}.gguf"));
        let options = ConvertOptions { float, pre: None };
        let conversion = Conversion::open(&self.scratch.path(""), &options).unwrap_or_else(|e| panic!("{e}"));
        let mut read = 0;
        conversion.write(&output, &mut |bytes| read += bytes).unwrap();
        assert_eq!(read, conversion.source_bytes());
        output
    }

    fn check(&self) {
        // The weights are F16 numbers: stored as such nothing is lost.
        for float in [FloatType::F32, FloatType::F16] {
            let path = self.convert(float);
            for (kv, key) in [(KvType::F32, "values"), (KvType::F16, "half_cache")] {
                let mut runner = runner(&path, kv);
                self.check_logits(&mut runner, key, &format!("{float:?}, cache {kv:?}"));
                self.check_greedy(&mut runner);
                self.check_splits(&mut runner);
            }
        }
        let (f16, q8_0) = (self.scratch.path("F16.gguf"), self.scratch.path("q8_0.gguf"));
        let done = quantize(&f16, &q8_0, &["--type", "q8_0"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        let file = GgufFile::open(&q8_0).unwrap();
        let matrices = file.tensors().iter().filter(|tensor| tensor.block_type == BlockType::Q8_0).count();
        eprintln!("Q8_0: {matrices} matrices");
        // Rows that are no whole blocks stay F16; with nothing but those there would be no error to bound.
        assert!(matrices > 2, "{matrices}");
        self.check_quantized(&mut runner(&q8_0, KvType::F32));
    }

    fn prompts(&self) -> impl Iterator<Item = (Vec<u32>, &Vec<Value>)> {
        let prompts = self.golden["prompts"].as_array().unwrap();
        assert!(prompts.len() >= 3);
        prompts.iter().map(|prompt| (ids(&prompt["ids"]), prompt["logits"].as_array().unwrap()))
    }

    /// Compares the logits under `key`, which every prompt has.
    fn check_logits(&self, runner: &mut Runner, key: &str, what: &str) {
        let mut worst = 0.0f64;
        for (tokens, rows) in self.prompts() {
            let found = all_logits(runner, &tokens);
            let rows: Vec<&Value> = rows.iter().filter(|row| row.get(key).is_some()).collect();
            assert!(!rows.is_empty(), "{key}");
            for row in rows {
                let found = &found[row["position"].as_u64().unwrap() as usize];
                worst = worst.max(largest(found, &numbers(&row[key])));
            }
        }
        eprintln!("{what}: largest difference {worst:.1e}");
        assert!(worst <= LARGEST_DIFFERENCE, "{what}: {worst}");
    }

    fn check_greedy(&self, runner: &mut Runner) {
        let golden = &self.golden["greedy"];
        let (expected, gaps) = (ids(&golden["tokens"]), numbers(&golden["gaps"]));
        assert!(expected.len() >= 32);
        runner.truncate(0);
        let mut next = argmax(runner.feed(&ids(&golden["prompt"]), &|| false).unwrap());
        for (i, (expected, gap)) in expected.into_iter().zip(gaps).enumerate() {
            if next != expected {
                assert!(
                    gap < ROUNDING_GAP,
                    "greedy token {i} is {next}, expected {expected}, which leads by {gap}"
                );
                eprintln!("greedy token {i} differs; it leads by {gap}");
                break;
            }
            next = argmax(runner.feed(&[next], &|| false).unwrap());
        }
    }

    /// Logits do not depend on how the tokens are fed.
    fn check_splits(&self, runner: &mut Runner) {
        for (tokens, _) in self.prompts() {
            let expected = all_logits(runner, &tokens);
            for size in [1, 7, tokens.len()] {
                runner.truncate(0);
                let mut read = 0;
                for part in tokens.chunks(size) {
                    read += part.len();
                    let found = runner.feed(part, &|| false).unwrap();
                    let same = found.iter().zip(&expected[read - 1]).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{read} tokens in parts of {size}");
                }
            }
        }
    }

    fn check_quantized(&self, runner: &mut Runner) {
        let (mut error, mut spread) = (0.0, 0.0);
        for (tokens, rows) in self.prompts() {
            let found = all_logits(runner, &tokens);
            for row in rows {
                let found = &found[row["position"].as_u64().unwrap() as usize];
                let sums = squares(found, &numbers(&row["values"]));
                error += sums[0];
                spread += sums[1];
            }
        }
        let error = (error / spread).sqrt();
        eprintln!("Q8_0: relative error {error:.3}");
        assert!(error <= Q8_0_ERROR, "{error}");
    }
}

impl Fixture {
    /// Changes config.json: keys that become null are removed.
    fn reconfigure(&self, changes: &Value) {
        let mut config = read_json(&self.scratch.path("config.json"));
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.scratch.file("config.json", config.to_string().as_bytes());
    }
}

#[test]
fn older_configurations_give_the_same_file() {
    let cases = [
        ("bloom", json!({"hidden_size": null, "n_embed": 64, "n_head": null, "num_attention_heads": 4})),
        ("opt", json!({"tie_word_embeddings": null, "word_embed_proj_dim": null})),
        (
            "lfm2",
            json!({"layer_types": null, "full_attn_idxs": [1, 3], "tie_word_embeddings": null,
                "tie_embedding": true, "intermediate_size": null, "block_ff_dim": 140}),
        ),
        (
            "gemma3",
            json!({"layer_types": null, "_sliding_window_pattern": null, "sliding_window_pattern": 6,
                "rope_parameters": null, "rope_theta": 1e6, "rope_local_base_freq": 1e4}),
        ),
        ("smollm3", json!({"no_rope_layers": null, "layer_types": null})),
        ("phi", json!({"rope_parameters": null, "rope_theta": 1e4, "partial_rotary_factor": 0.5})),
    ];
    for (name, changes) in cases {
        let fixture = Fixture::new(name);
        let expected = std::fs::read(fixture.convert(FloatType::F16)).unwrap();
        fixture.reconfigure(&changes);
        assert!(std::fs::read(fixture.convert(FloatType::F16)).unwrap() == expected, "{name}");
    }
}

#[test]
fn what_is_not_known_of_a_family_is_refused_by_key() {
    let cases = [
        ("gemma3", json!({"_sliding_window_pattern": 4}), "_sliding_window_pattern: expected 6, found 4"),
        ("gemma3", json!({"query_pre_attn_scalar": 256}), "query_pre_attn_scalar: expected 16, found 256"),
        ("gemma3", json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping: expected null"),
        ("smollm3", json!({"no_rope_layers": [1, 1, 1, 1, 1]}), "no_rope_layers: expected 5 entries"),
        ("gptneo", json!({"attention_types": [[["global"], 9]]}), "attention_types: expected 4 of"),
        ("lfm2", json!({"layer_types": ["conv"]}), "layer_types: expected 4 of"),
        ("lfm2", json!({"layer_types": null, "full_attn_idxs": [4]}), "full_attn_idxs: expected a list"),
        ("gpt2", json!({"activation_function": "swish"}), "activation_function: expected \"gelu_new\""),
        ("stablelm", json!({"qk_layernorm": true}), "qk_layernorm: expected false, found true"),
        ("olmo", json!({"clip_qkv": 8.0}), "clip_qkv: expected null, found 8.0"),
        ("falcon-h1", json!({"mamba_rms_norm": true}), "mamba_rms_norm: expected false"),
        ("falcon-h1", json!({"ssm_multipliers": [1.0]}), "ssm_multipliers: expected a list of 5 numbers"),
        ("falcon-h1", json!({"time_step_limit": [0.0, 0.5]}), "time_step_limit: expected [0, Infinity]"),
        ("gptneox", json!({"rotary_pct": 0.1}), "rotary_pct: expected a part of the 16"),
        ("opt", json!({"activation_function": "gelu"}), "activation_function: expected \"relu\""),
        ("qwen2", json!({"use_sliding_window": true}), "use_sliding_window: expected false"),
    ];
    for (name, changes, words) in cases {
        let fixture = Fixture::new(name);
        fixture.reconfigure(&changes);
        let error = Conversion::open(&fixture.scratch.path(""), &ConvertOptions::default()).unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}
