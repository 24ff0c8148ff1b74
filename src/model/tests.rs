//! Small models made here: what a header may say, and layers whose result can be computed by hand.

use super::*;
use crate::blocks::BlockType;
use crate::gguf::{GgufFile, GgufWriter};
use crate::kernels::{Kernels, KvType};
use std::sync::Arc;

mod company;
mod families;
mod streamed;

const DIM: usize = 32;
const HIDDEN: usize = 64;
const KV: usize = 16;
const VOCAB: usize = 40;

/// A Llama of one layer: 4 heads, 2 KV heads. `value(tensor, row, column)` gives the weights.
struct Small<'a> {
    settings: &'a [(&'a str, u32)],
    biases: bool,
    value: &'a dyn Fn(&str, usize, usize) -> f32,
}

impl Small<'_> {
    fn tensors(&self) -> Vec<(String, usize, usize)> {
        let mut tensors = vec![("token_embd.weight".to_owned(), VOCAB, DIM)];
        tensors.push(("output_norm.weight".to_owned(), 1, DIM));
        for (name, rows, cols) in [
            ("attn_q", DIM, DIM),
            ("attn_k", KV, DIM),
            ("attn_v", KV, DIM),
            ("attn_output", DIM, DIM),
            ("ffn_gate", HIDDEN, DIM),
            ("ffn_up", HIDDEN, DIM),
            ("ffn_down", DIM, HIDDEN),
        ] {
            tensors.push((format!("blk.0.{name}.weight"), rows, cols));
            if self.biases {
                tensors.push((format!("blk.0.{name}.bias"), 1, rows));
            }
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.0.{name}.weight"), 1, DIM));
        }
        tensors
    }

    fn file(&self) -> GgufFile {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", "llama");
        for (key, value) in [
            ("context_length", 64),
            ("embedding_length", DIM as u32),
            ("block_count", 1),
            ("feed_forward_length", HIDDEN as u32),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
        ] {
            writer.set(format!("llama.{key}"), value);
        }
        for (key, value) in self.settings {
            writer.set(format!("llama.{key}"), *value);
        }
        let tensors = self.tensors();
        for (name, rows, cols) in &tensors {
            let shape = if *rows == 1 { vec![*cols as u64] } else { vec![*cols as u64, *rows as u64] };
            writer.add_tensor(name.clone(), &shape, BlockType::F32);
        }
        let bytes = writer.to_vec("small", |info, out| {
            let (name, rows, cols) =
                tensors.iter().find(|(name, ..)| *name == info.name).expect("a tensor of ours");
            for row in 0..*rows {
                for col in 0..*cols {
                    out.write_all(&(self.value)(name, row, col).to_le_bytes())?;
                }
            }
            Ok(())
        });
        GgufFile::from_vec("small", bytes.unwrap()).unwrap()
    }

    fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let model = Arc::new(Model::load(&self.file(), Kernels::detect().unwrap()).unwrap());
        let mut runner = Runner::new(
            model,
            &RunOptions { context: 64, threads: 1, slots: 1, logit_rows: 1, kv: KvType::F16 },
        )
        .unwrap();
        runner.feed(tokens, &|| false).unwrap().to_vec()
    }

    fn refused(&self) -> String {
        Spec::read(&self.file()).unwrap_err().to_string()
    }
}

fn embedding(row: usize, col: usize) -> f32 {
    ((row * 7 + col * 3) % 11) as f32 * 0.125 - 0.5
}

/// Values of bias `i`, exact as halves.
fn bias(name: &str, i: usize) -> f32 {
    (name.len() + i) as f32 % 5.0 * 0.25 - 0.5
}

/// Matrices are zero but for the embedding, and identities after attention and feed-forward, so that only
/// biases speak: each layer adds its value bias, its output biases and `silu(gate bias) * up bias`.
fn only_biases(name: &str, row: usize, col: usize) -> f32 {
    match name {
        "token_embd.weight" => embedding(row, col),
        "blk.0.attn_output.weight" | "blk.0.ffn_down.weight" => f32::from(u8::from(row == col)),
        _ if name.ends_with(".bias") => bias(name, col),
        _ if name.ends_with("norm.weight") => 1.0,
        _ => 0.0,
    }
}

#[test]
fn biases_are_added() {
    let found = Small { settings: &[], biases: true, value: &only_biases }.logits(&[3, 1, 4]);
    let residual: Vec<f64> = (0..DIM)
        .map(|i| {
            // Two query heads of 8 share each KV head.
            let value = bias("blk.0.attn_v.bias", i / 16 * 8 + i % 8);
            let (gate, up) =
                (f64::from(bias("blk.0.ffn_gate.bias", i)), f64::from(bias("blk.0.ffn_up.bias", i)));
            let outputs = bias("blk.0.attn_output.bias", i) + bias("blk.0.ffn_down.bias", i);
            f64::from(embedding(4, i) + value + outputs) + gate / (1.0 + (-gate).exp()) * up
        })
        .collect();
    let mean = residual.iter().map(|x| x * x).sum::<f64>() / DIM as f64;
    for (token, found) in found.iter().enumerate() {
        let dot: f64 = (0..DIM).map(|i| f64::from(embedding(token, i)) * residual[i]).sum();
        let expected = dot / (mean + 1e-5).sqrt();
        assert!((f64::from(*found) - expected).abs() < 1e-4, "{token}: {found}, expected {expected}");
    }
}

/// Query and key biases change where attention looks.
#[test]
fn query_and_key_biases_are_used() {
    let random = |name: &str, row: usize, col: usize| {
        let seed = name.len() * 131 + row * 31 + col * 17;
        (seed * seed % 97) as f32 / 97.0 - 0.5
    };
    let all = Small { settings: &[], biases: true, value: &random }.logits(&[3, 1, 4]);
    for part in ["attn_q", "attn_k"] {
        let without = |name: &str, row: usize, col: usize| match name {
            _ if name.contains(part) && name.ends_with("bias") => 0.0,
            _ => random(name, row, col),
        };
        assert_ne!(Small { settings: &[], biases: true, value: &without }.logits(&[3, 1, 4]), all, "{part}");
    }
}

#[test]
fn impossible_headers_are_refused() {
    let cases: &[(&str, u32, &str)] = &[
        ("attention.head_count_kv", 3, "a divisor of the 4 heads"),
        ("attention.head_count_kv", 0, "1..=4"),
        ("block_count", 100_000, "1..=512"),
        ("embedding_length", 0, "1..="),
        ("rope.dimension_count", 7, "an even number"),
        ("rope.dimension_count", 64, "1..=8"),
        ("attention.value_length", 4, "the key length, 8"),
    ];
    for (key, value, expected) in cases {
        let error = Small { settings: &[(key, *value)], biases: false, value: &only_biases }.refused();
        assert!(error.contains(key) && error.contains(expected), "{key} {value}: {error}");
    }
}

#[test]
fn shapes_are_checked_before_loading() {
    for (key, value, expected) in [
        ("embedding_length", 64, "token_embd.weight"),
        ("feed_forward_length", 32, "ffn_gate.weight"),
        ("block_count", 2, "blk.1.attn_norm.weight is missing"),
    ] {
        let small = Small { settings: &[(key, value)], biases: false, value: &only_biases };
        let options = RunOptions { context: 16, threads: 1, slots: 1, logit_rows: 1, kv: KvType::F16 };
        let error = Plan::new(&small.file(), Kernels::detect().unwrap(), &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn the_cache_has_its_limits() {
    let small = Small { settings: &[], biases: false, value: &only_biases };
    let model = Arc::new(Model::load(&small.file(), Kernels::detect().unwrap()).unwrap());
    let options = RunOptions { context: 5, threads: 1, slots: 1, logit_rows: 1, kv: KvType::F16 };
    let mut runner = Runner::new(Arc::clone(&model), &options).unwrap();
    let mut feed = |tokens: &[u32]| runner.feed(tokens, &|| false).map(<[f32]>::to_vec);
    assert!(matches!(feed(&[]), Err(ModelError::NoTokens)));
    assert!(matches!(feed(&[VOCAB as u32]), Err(ModelError::TokenOutOfRange { .. })));
    assert!(matches!(feed(&[1; 6]), Err(ModelError::ContextFull { needed: 6, context: 5 })));
    let whole = feed(&[1, 2, 3, 4, 5]).unwrap();
    assert!(matches!(feed(&[1]), Err(ModelError::ContextFull { .. })));
    runner.truncate(2);
    assert_eq!(runner.position(), 2);
    assert_eq!(runner.feed(&[3, 4, 5], &|| false).unwrap(), whole, "a kept prefix");
    assert!(matches!(runner.feed(&[1], &|| true), Err(ModelError::ContextFull { .. })));
    runner.truncate(0);
    assert!(matches!(runner.feed(&[1], &|| true), Err(ModelError::Cancelled)));
    assert_eq!(runner.position(), 0);
    for context in [0, MAX_CONTEXT + 1] {
        let options = RunOptions { context, ..options };
        assert!(matches!(Runner::new(Arc::clone(&model), &options), Err(ModelError::ContextSize { .. })));
    }
}

#[test]
fn every_family_is_found_by_its_name() {
    for family in FAMILIES {
        assert_eq!(Family::named(family.architecture), Some(family));
    }
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "perceptron");
    let file = GgufFile::from_vec("odd", writer.to_vec("odd", |_, _| Ok(())).unwrap()).unwrap();
    let error = Spec::read(&file).unwrap_err().to_string();
    assert!(error.contains("perceptron") && error.contains("llama"), "{error}");
}
