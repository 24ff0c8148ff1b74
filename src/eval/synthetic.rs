//! Models with random weights in the shapes of real ones, to measure speed and memory without a download.
//!
//! Weights are normally distributed with variance 1/columns, so that activations keep their size through all
//! layers. For each type and row length a few thousand blocks are encoded once; tensors are random draws of
//! them, which takes no longer than writing the file. The tokenizer is invented too: a byte-level BPE of the
//! real size whose merges make words of random letters.
//!
//! The same shape, recipe and seed give the same bytes on every machine.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::blocks::BlockType;
use crate::gguf::{
    EMBEDDING_TENSOR, FILE_TYPE_KEY, GgufError, GgufWriter, HEAD_TENSOR, Layout, OwnedValue,
    QUANTIZATION_VERSION, QUANTIZATION_VERSION_KEY, Recipe, TensorInfo,
};
use crate::model::{Family, NormKind, Parallel, Positions};
use crate::text::{BYTE_CHARS, TokenKind};

/// Elements of a run of blocks: a whole number of blocks of every type.
const RUN: usize = 256;
/// Distinct runs of one type and row length.
const RUNS: usize = 1024;
/// Most letters of an invented token.
const MAX_LETTERS: usize = 12;
/// Tokens with a meaning of their own; the first ends a text.
const CONTROL_TOKENS: &[&str] = &["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Shape of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Name on the command line.
    pub name: &'static str,
    /// Its family's architecture: one that differs from Llama in norms, positions and feed-forward layers only.
    pub architecture: &'static str,
    /// Transformer layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub dim: u32,
    /// Query heads.
    pub heads: u32,
    /// KV heads.
    pub kv_heads: u32,
    /// Values per head.
    pub head_dim: u32,
    /// Values of a head that rotate; 0 where positions are learned.
    pub rotary_dim: u32,
    /// Width of the feed-forward layer.
    pub hidden: u32,
    /// Tokens; at least 259.
    pub vocab: u32,
    /// Positions the model was trained for.
    pub context: u32,
    /// Base of the rotary frequencies, if there are any.
    pub rope_base: f32,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// The token embedding serves as the output head.
    pub tied: bool,
}

/// The known shapes, from the models' own `config.json`.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "smollm2-135m",
        architecture: "llama",
        layers: 30,
        dim: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        rotary_dim: 64,
        hidden: 1536,
        vocab: 49_152,
        context: 8192,
        rope_base: 100_000.0,
        norm_eps: 1e-5,
        tied: true,
    },
    Shape {
        name: "smollm2-360m",
        architecture: "llama",
        layers: 32,
        dim: 960,
        heads: 15,
        kv_heads: 5,
        head_dim: 64,
        rotary_dim: 64,
        hidden: 2560,
        vocab: 49_152,
        context: 8192,
        rope_base: 100_000.0,
        norm_eps: 1e-5,
        tied: true,
    },
    // JackFram/llama-160m: rows divisible by 256 and a head of its own.
    Shape {
        name: "llama-160m",
        architecture: "llama",
        layers: 12,
        dim: 768,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        rotary_dim: 64,
        hidden: 3072,
        vocab: 32_000,
        context: 2048,
        rope_base: 10_000.0,
        norm_eps: 1e-6,
        tied: false,
    },
    // openai-community/gpt2.
    Shape {
        name: "gpt2-124m",
        architecture: "gpt2",
        layers: 12,
        dim: 768,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        rotary_dim: 0,
        hidden: 3072,
        vocab: 50_257,
        context: 1024,
        rope_base: 10_000.0,
        norm_eps: 1e-5,
        tied: true,
    },
    // EleutherAI/pythia-160m.
    Shape {
        name: "pythia-160m",
        architecture: "gptneox",
        layers: 12,
        dim: 768,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        rotary_dim: 16,
        hidden: 3072,
        vocab: 50_304,
        context: 2048,
        rope_base: 10_000.0,
        norm_eps: 1e-5,
        tied: false,
    },
];

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = SHAPES.iter().find(|shape| shape.name.eq_ignore_ascii_case(name));
        found.copied().ok_or_else(|| {
            let known: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
            format!("unknown shape {name:?}; known: {}", known.join(", "))
        })
    }
}

impl Shape {
    fn family(&self) -> &'static Family {
        Family::named(self.architecture).expect("every shape's architecture is in the table of families")
    }

    /// Name and axes (columns first) of every tensor, in file order.
    fn tensors(&self) -> Vec<(String, Vec<u32>)> {
        let mut tensors = vec![];
        if !self.tied {
            tensors.push((HEAD_TENSOR.to_owned(), vec![self.dim, self.vocab]));
        }
        tensors.extend(self.norm("output_norm"));
        tensors.push((EMBEDDING_TENSOR.to_owned(), vec![self.dim, self.vocab]));
        if self.family().positions == Positions::Learned {
            tensors.push(("position_embd.weight".to_owned(), vec![self.dim, self.context]));
        }
        for layer in 0..self.layers {
            let parts = if self.family().gated { self.gated_layer() } else { self.plain_layer() };
            tensors.extend(parts.into_iter().map(|(part, axes)| (format!("blk.{layer}.{part}"), axes)));
        }
        tensors
    }

    /// A layer without biases whose feed-forward part has a gate.
    fn gated_layer(&self) -> Vec<(String, Vec<u32>)> {
        let (dim, hidden) = (self.dim, self.hidden);
        let (query, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut tensors = vec![];
        let matrix = |name: &str, axes: [u32; 2]| [(format!("{name}.weight"), axes.to_vec())];
        tensors.extend(matrix("attn_k", [dim, kv]));
        tensors.extend(self.norm("attn_norm"));
        tensors.extend(matrix("attn_output", [query, dim]));
        tensors.extend(matrix("attn_q", [dim, query]));
        tensors.extend(matrix("attn_v", [dim, kv]));
        tensors.extend(matrix("ffn_down", [hidden, dim]));
        tensors.extend(matrix("ffn_gate", [dim, hidden]));
        tensors.extend(self.norm("ffn_norm"));
        tensors.extend(matrix("ffn_up", [dim, hidden]));
        tensors
    }

    /// A layer with biases, one matrix for queries, keys and values, and no gate.
    fn plain_layer(&self) -> Vec<(String, Vec<u32>)> {
        let (dim, hidden, query) = (self.dim, self.hidden, self.heads * self.head_dim);
        let qkv = query + 2 * self.kv_heads * self.head_dim;
        let mut tensors = vec![];
        let matrix = |name: &str, [cols, rows]: [u32; 2]| {
            [(format!("{name}.weight"), vec![cols, rows]), (format!("{name}.bias"), vec![rows])]
        };
        tensors.extend(self.norm("attn_norm"));
        tensors.extend(matrix("attn_qkv", [dim, qkv]));
        tensors.extend(matrix("attn_output", [query, dim]));
        tensors.extend(self.norm("ffn_norm"));
        tensors.extend(matrix("ffn_up", [dim, hidden]));
        tensors.extend(matrix("ffn_down", [hidden, dim]));
        tensors
    }

    /// The tensors of a norm.
    fn norm(&self, name: &str) -> impl Iterator<Item = (String, Vec<u32>)> {
        let parts: &[&str] = match self.family().norm {
            NormKind::Rms => &["weight"],
            NormKind::Layer => &["weight", "bias"],
        };
        parts.iter().map(move |part| (format!("{name}.{part}"), vec![self.dim]))
    }

    fn metadata(&self) -> Vec<(&'static str, OwnedValue)> {
        let mut metadata: Vec<(&'static str, OwnedValue)> = vec![
            ("block_count", self.layers.into()),
            ("context_length", self.context.into()),
            ("embedding_length", self.dim.into()),
            ("feed_forward_length", self.hidden.into()),
            ("attention.head_count", self.heads.into()),
            ("attention.head_count_kv", self.kv_heads.into()),
            ("attention.key_length", self.head_dim.into()),
            ("attention.value_length", self.head_dim.into()),
            (self.family().norm.epsilon_key(), self.norm_eps.into()),
            ("vocab_size", self.vocab.into()),
        ];
        if matches!(self.family().positions, Positions::Rotary(_)) {
            metadata.push(("rope.dimension_count", self.rotary_dim.into()));
            metadata.push(("rope.freq_base", self.rope_base.into()));
        }
        if self.family().parallel == Parallel::ByKey {
            metadata.push(("use_parallel_residual", true.into()));
        }
        metadata
    }
}

/// A synthetic model, not yet built.
///
/// ```no_run
/// let model: smolt::eval::synthetic::Synthetic = "smollm2-135m:q4_0".parse()?;
/// let file = smolt::gguf::GgufFile::from_vec("synthetic", model.to_vec()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synthetic {
    /// The shape.
    pub shape: Shape,
    /// Types of the tensors.
    pub recipe: Recipe,
    /// Seed of weights and tokens.
    pub seed: u64,
}

impl FromStr for Synthetic {
    type Err = String;

    /// Parses `SHAPE:TYPE`, e.g. `smollm2-135m:q4_0`; the seed is 0.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':');
        let (shape, recipe) =
            parts.ok_or_else(|| format!("{text:?} is not SHAPE:TYPE, e.g. smollm2-135m:q4_0"))?;
        Ok(Self { shape: shape.parse()?, recipe: recipe.parse()?, seed: 0 })
    }
}

impl Synthetic {
    /// The GGUF file, in memory.
    ///
    /// # Errors
    /// If the shape is not one a file can hold.
    pub fn to_vec(&self) -> Result<Vec<u8>, GgufError> {
        let mut weights = Weights::new(self.seed);
        self.writer().to_vec(self.shape.name, |tensor, out| weights.write(tensor, out))
    }

    /// Writes the GGUF file and returns its size in bytes.
    ///
    /// # Errors
    /// If the shape is not one a file can hold, or the disk refuses.
    pub fn write_to(&self, path: &Path) -> Result<u64, GgufError> {
        let mut weights = Weights::new(self.seed);
        self.writer().write_to(path, |tensor, out| weights.write(tensor, out))
    }

    /// Metadata and tensor descriptions.
    fn writer(&self) -> GgufWriter {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", self.shape.architecture);
        writer.set("general.type", "model");
        writer.set("general.name", format!("{} with random weights", self.shape.name));
        for (key, value) in self.shape.metadata() {
            writer.set(format!("{}.{key}", self.shape.architecture), value);
        }
        Vocabulary::invent(self.shape.vocab as usize, self.seed).describe(&mut writer);
        writer.set(QUANTIZATION_VERSION_KEY, QUANTIZATION_VERSION);
        writer.set(FILE_TYPE_KEY, self.recipe.file_type());
        let tensors = self.shape.tensors();
        let layout = Layout::of(tensors.iter().map(|(name, _)| name.as_str()));
        for (name, axes) in tensors {
            let shape: Vec<u64> = axes.into_iter().map(u64::from).collect();
            let tensor = TensorInfo { name, shape, block_type: BlockType::F32, offset: 0, bytes: 0, part: 0 };
            writer.add_tensor(&tensor.name, &tensor.shape, self.recipe.choose(layout, &tensor).stored);
        }
        writer
    }
}

/// Draws the weights of one tensor after the other.
struct Weights {
    random: ChaCha8Rng,
    /// Encoded runs by type and row length.
    runs: HashMap<(BlockType, usize), Vec<u8>>,
}

impl Weights {
    fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), runs: HashMap::new() }
    }

    fn write(&mut self, tensor: &TensorInfo, out: &mut dyn Write) -> io::Result<()> {
        if tensor.rows() == 1 {
            // Norms' weights are near 1, biases near 0.
            let mean = if tensor.name.ends_with(".bias") { 0.0 } else { 1.0 };
            return self.write_vector(mean, tensor.elements(), out);
        }
        let random = &mut self.random;
        let key = (tensor.block_type, tensor.cols());
        let runs = self.runs.entry(key).or_insert_with(|| encoded_runs(random, key.0, key.1));
        let run_bytes = runs.len() / RUNS;
        let mut left = tensor.bytes as usize;
        while left > 0 {
            let start = self.random.random_range(0..RUNS) * run_bytes;
            let bytes = run_bytes.min(left);
            out.write_all(&runs[start..start + bytes])?;
            left -= bytes;
        }
        Ok(())
    }

    fn write_vector(&mut self, mean: f32, elements: usize, out: &mut dyn Write) -> io::Result<()> {
        (0..elements).try_for_each(|_| {
            let weight = mean + 0.05 * normal(&mut self.random);
            out.write_all(&weight.to_le_bytes())
        })
    }
}

/// [`RUNS`] encoded runs of weights with variance 1/`cols`.
fn encoded_runs(random: &mut ChaCha8Rng, block_type: BlockType, cols: usize) -> Vec<u8> {
    let scale = 1.0 / (cols as f32).sqrt();
    let mut values = [0.0; RUN];
    let run_bytes = RUN / block_type.block_len() * block_type.block_bytes();
    let mut runs = vec![0; RUNS * run_bytes];
    for run in runs.chunks_exact_mut(run_bytes) {
        values.fill_with(|| scale * normal(random));
        block_type.encode(&values, run);
    }
    runs
}

/// Nearly a standard normal value: the sum of twelve uniform ones, each of variance 1/12. Sums of integers are
/// the same on every machine, which logarithms are not.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let words: [u64; 3] = random.random();
    let sum: u64 = words.iter().flat_map(|word| [0, 16, 32, 48].map(|shift| word >> shift & 0xFFFF)).sum();
    (sum as f32 - 6.0 * 65_535.0) / 65_536.0
}

/// An invented byte-level BPE.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    /// `left right`, best first.
    merges: Vec<String>,
}

impl Vocabulary {
    /// Control tokens, all bytes, then words that grow by one letter at a time.
    fn invent(size: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tokens: Vec<String> = CONTROL_TOKENS.iter().map(|text| (*text).to_owned()).collect();
        tokens.extend(BYTE_CHARS.iter().map(|c| c.to_string()));
        let space = BYTE_CHARS[usize::from(b' ')];
        let mut words: Vec<String> = ('a'..='z').chain([space]).map(|c| c.to_string()).collect();
        let mut known: HashSet<String> = words.iter().cloned().collect();
        let mut merges = vec![];
        while tokens.len() < size {
            let start = &words[random.random_range(0..words.len())];
            let letter = char::from(random.random_range(b'a'..=b'z'));
            let word = format!("{start}{letter}");
            if word.chars().count() <= MAX_LETTERS && known.insert(word.clone()) {
                merges.push(format!("{start} {letter}"));
                tokens.push(word.clone());
                words.push(word);
            }
        }
        let mut kinds = vec![TokenKind::Control as i32; CONTROL_TOKENS.len()];
        kinds.resize(tokens.len(), TokenKind::Normal as i32);
        Self { tokens, kinds, merges }
    }

    fn describe(self, writer: &mut GgufWriter) {
        writer.set("tokenizer.ggml.model", "gpt2");
        writer.set("tokenizer.ggml.pre", "gpt-2");
        writer.set("tokenizer.ggml.tokens", self.tokens);
        writer.set("tokenizer.ggml.token_type", self.kinds);
        writer.set("tokenizer.ggml.merges", self.merges);
        writer.set("tokenizer.ggml.bos_token_id", 0u32);
        writer.set("tokenizer.ggml.eos_token_id", 0u32);
        writer.set("tokenizer.ggml.add_bos_token", false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgufFile;
    use crate::kernels::Kernels;
    use crate::model::Model;

    const TINY: Shape = Shape {
        name: "tiny",
        architecture: "llama",
        layers: 8,
        dim: 96,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        rotary_dim: 16,
        hidden: 256,
        vocab: 400,
        context: 64,
        rope_base: 10_000.0,
        norm_eps: 1e-5,
        tied: false,
    };

    fn tiny(recipe: &str) -> Synthetic {
        Synthetic { shape: TINY, recipe: recipe.parse().unwrap(), seed: 7 }
    }

    fn check_weights(model: Synthetic) {
        let file = GgufFile::from_vec("tiny", model.to_vec().unwrap()).unwrap();
        let recipe = model.recipe;
        assert_eq!(file.u32(FILE_TYPE_KEY).unwrap(), Some(recipe.file_type()));
        for tensor in file.tensors() {
            let mut values = vec![0.0; tensor.elements()];
            tensor.block_type.decode(file.data(tensor).unwrap(), &mut values);
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            if tensor.rows() == 1 {
                let expected = if tensor.name.ends_with(".bias") { 0.0 } else { 1.0 };
                assert!((mean - expected).abs() < 0.05, "{recipe} {}: mean {mean}", tensor.name);
                continue;
            }
            let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
            let gain = square * tensor.cols() as f32;
            assert!((0.85..1.15).contains(&gain), "{recipe} {}: gain {gain}", tensor.name);
            assert!(mean.abs() < 0.01, "{recipe} {}: mean {mean}", tensor.name);
        }
    }

    #[test]
    fn every_recipe_gives_a_readable_file_with_sane_weights() {
        for recipe in Recipe::ALL {
            check_weights(tiny(recipe.name()));
        }
        let gpt2 = Shape { architecture: "gpt2", rotary_dim: 0, kv_heads: 6, ..TINY };
        let gptneox = Shape { architecture: "gptneox", rotary_dim: 4, kv_heads: 6, ..TINY };
        for shape in [gpt2, gptneox] {
            check_weights(Synthetic { shape, ..tiny("q4_0") });
        }
    }

    #[test]
    fn every_shape_can_be_loaded() {
        for shape in SHAPES {
            let shape = Shape { layers: 1, vocab: 300, context: 64, ..*shape };
            let bytes = Synthetic { shape, ..tiny("q4_0") }.to_vec().unwrap();
            let file = GgufFile::from_vec(shape.name, bytes).unwrap();
            let model = Model::load(&file, Kernels::detect().unwrap()).unwrap();
            let spec = model.spec();
            assert_eq!(spec.family.architecture, shape.architecture);
            assert_eq!(spec.rope.pairs, shape.rotary_dim as usize / 2, "{}", shape.name);
        }
    }

    #[test]
    fn the_seed_decides_every_byte() {
        let one = tiny("q4_k_m").to_vec().unwrap();
        assert_eq!(one, tiny("q4_k_m").to_vec().unwrap());
        assert_ne!(one, Synthetic { seed: 8, ..tiny("q4_k_m") }.to_vec().unwrap());
    }

    #[test]
    fn tensors_have_the_types_llama_quantize_gives_them() {
        let types = |recipe: &str, shape: &str| {
            let model = Synthetic { shape: shape.parse().unwrap(), ..tiny(recipe) };
            let tensors = model.shape.tensors();
            let layout = Layout::of(tensors.iter().map(|(name, _)| name.as_str()));
            let mut bytes = HashMap::<&str, u64>::new();
            for (name, axes) in tensors {
                let shape: Vec<u64> = axes.into_iter().map(u64::from).collect();
                let mut tensor =
                    TensorInfo { name, shape, block_type: BlockType::F32, offset: 0, bytes: 0, part: 0 };
                tensor.block_type = model.recipe.choose(layout, &tensor).stored;
                let row = tensor.block_type.row_bytes(tensor.cols()).unwrap();
                *bytes.entry(tensor.block_type.name()).or_default() += (row * tensor.rows()) as u64;
            }
            bytes
        };
        // SmolLM2-135M's published files are 98.87 MiB of tensors as Q4_K_M and 85.8 as Q4_0.
        let mix = types("q4_k_m", "smollm2-135m");
        let mib = mix.values().sum::<u64>() as f64 / f64::from(1 << 20);
        assert!((98.8..99.0).contains(&mib), "{mib} MiB {mix:?}");
        let q4_0 = types("q4_0", "smollm2-135m");
        let mib = q4_0.values().sum::<u64>() as f64 / f64::from(1 << 20);
        assert!((85.7..85.9).contains(&mib), "{mib} MiB {q4_0:?}");
        let names: HashSet<_> = types("q4_k_m", "llama-160m").into_keys().collect();
        assert_eq!(names, HashSet::from(["F32", "Q4_K", "Q6_K"]));
    }

    #[test]
    fn the_invented_tokenizer_has_unique_tokens_made_by_its_merges() {
        let vocabulary = Vocabulary::invent(2000, 1);
        let unique: HashSet<_> = vocabulary.tokens.iter().collect();
        assert_eq!((unique.len(), vocabulary.kinds.len()), (2000, 2000));
        let merged: Vec<_> = vocabulary.merges.iter().map(|merge| merge.replace(' ', "")).collect();
        assert_eq!(merged, vocabulary.tokens[CONTROL_TOKENS.len() + 256..]);
        assert!(vocabulary.merges.iter().all(|m| m.split(' ').all(|part| unique.contains(&part.to_owned()))));
    }

    #[test]
    fn names_are_parsed() {
        let model: Synthetic = "SmolLM2-360M:Q8_0".parse().unwrap();
        assert_eq!((model.shape.name, model.recipe.name(), model.seed), ("smollm2-360m", "q8_0", 0));
        for (text, expected) in
            [("smollm2-135m", "SHAPE:TYPE"), ("x:q4_0", "smollm2-135m"), ("smollm2-135m:q3", "q4_k_m")]
        {
            let error = text.parse::<Synthetic>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
