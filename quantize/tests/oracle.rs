//! The runner's logits against candle-transformers, an independent implementation, on the same weights. Here and
//! not in the runner's own tests, so that those build without candle.

use candle_core::{DType, Device, Tensor, quantized::gguf_file};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, quantized_llama};
use rand::{RngExt, SeedableRng};
use smolt::blocks::BlockType;
use smolt::gguf::{GgufFile, GgufWriter};
use smolt::kernels::{Kernels, KvType};
use smolt::model::{Model, RunOptions, Runner, Spec};
use std::collections::HashMap;
use std::sync::Arc;

const TOKENS: usize = 90;

fn ours(file: &GgufFile, tokens: &[u32]) -> Vec<Vec<f32>> {
    let model = Arc::new(Model::load(file, Kernels::detect().unwrap()).unwrap());
    let mut runner = Runner::new(
        model,
        &RunOptions { context: 128, threads: 2, slots: 1, logit_rows: 8, kv: KvType::F16 },
    )
    .unwrap();
    let mut rows = vec![];
    runner.score(tokens, 0, &mut |_, logits| rows.push(logits.to_vec())).unwrap();
    rows
}

fn decoded(file: &GgufFile, name: &str) -> (Vec<usize>, Vec<f32>) {
    let info = file.tensor(name).unwrap_or_else(|| panic!("tensor {name}"));
    let mut values = vec![0.0; info.elements()];
    info.block_type.decode(file.data(info).unwrap(), &mut values);
    (info.shape.iter().rev().map(|&n| n as usize).collect(), values)
}

/// Rows of queries and keys from the order of adjacent pairs back to that of halves.
fn halves(values: &[f32], heads: usize, cols: usize) -> Vec<f32> {
    let dim = values.len() / cols / heads;
    let row = |head: usize, i: usize| {
        let from = if i < dim / 2 { 2 * i } else { 2 * (i - dim / 2) + 1 };
        &values[(head * dim + from) * cols..][..cols]
    };
    (0..heads).flat_map(|head| (0..dim).flat_map(move |i| row(head, i)).copied()).collect()
}

/// The file's weights in f32 under their Hugging Face names.
fn tensors(file: &GgufFile, spec: &Spec) -> HashMap<String, Tensor> {
    let mut found = HashMap::new();
    let mut put = |hf: String, gguf: String, heads: Option<usize>| {
        let (shape, mut values) = decoded(file, &gguf);
        if let Some(heads) = heads {
            values = halves(&values, heads, shape[1]);
        }
        found.insert(hf, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    put("model.embed_tokens.weight".into(), "token_embd.weight".into(), None);
    put("model.norm.weight".into(), "output_norm.weight".into(), None);
    if file.tensor("output.weight").is_some() {
        put("lm_head.weight".into(), "output.weight".into(), None);
    }
    for layer in 0..spec.layers {
        for (hf, gguf, heads) in [
            ("input_layernorm", "attn_norm", None),
            ("self_attn.q_proj", "attn_q", Some(spec.heads)),
            ("self_attn.k_proj", "attn_k", Some(spec.kv_heads)),
            ("self_attn.v_proj", "attn_v", None),
            ("self_attn.o_proj", "attn_output", None),
            ("post_attention_layernorm", "ffn_norm", None),
            ("mlp.gate_proj", "ffn_gate", None),
            ("mlp.up_proj", "ffn_up", None),
            ("mlp.down_proj", "ffn_down", None),
        ] {
            put(format!("model.layers.{layer}.{hf}.weight"), format!("blk.{layer}.{gguf}.weight"), heads);
        }
    }
    found
}

fn candle_f32(file: &GgufFile, tokens: &[u32], scaling: Option<llama::Llama3RopeConfig>) -> Vec<Vec<f32>> {
    let spec = Spec::read(file).unwrap();
    let config = llama::Config {
        hidden_size: spec.dim,
        intermediate_size: spec.hidden,
        vocab_size: spec.vocab,
        num_hidden_layers: spec.layers,
        num_attention_heads: spec.heads,
        num_key_value_heads: spec.kv_heads,
        use_flash_attn: false,
        rms_norm_eps: f64::from(spec.norm_eps),
        rope_theta: spec.rope.base,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: scaling,
        max_position_embeddings: 128,
        tie_word_embeddings: file.tensor("output.weight").is_none(),
    };
    let vars = VarBuilder::from_tensors(tensors(file, &spec), DType::F32, &Device::Cpu);
    let model = llama::Llama::load(vars, &config).unwrap();
    let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu).unwrap();
    step(tokens, |input, at| model.forward(input, at, &mut cache).unwrap())
}

fn candle_quantized(bytes: &[u8], tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut reader = std::io::Cursor::new(bytes);
    let content = gguf_file::Content::read(&mut reader).unwrap();
    let mut model = quantized_llama::ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).unwrap();
    step(tokens, |input, at| model.forward(input, at).unwrap())
}

/// Feeds one token at a time and collects the logits.
fn step(tokens: &[u32], mut forward: impl FnMut(&Tensor, usize) -> Tensor) -> Vec<Vec<f32>> {
    let token = |t: u32| Tensor::new(&[[t]], &Device::Cpu).unwrap();
    let logits = |out: Tensor| out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tokens.iter().enumerate().map(|(at, &t)| logits(forward(&token(t), at))).collect()
}

/// Largest difference, and the root mean square of the differences over that of the reference's deviation
/// from its mean.
fn distance(found: &[Vec<f32>], reference: &[Vec<f32>]) -> (f32, f64) {
    assert_eq!(found.len(), reference.len());
    let (mut largest, mut error, mut size) = (0.0f32, 0.0, 0.0);
    for (found, reference) in found.iter().zip(reference) {
        assert_eq!(found.len(), reference.len());
        let mean = reference.iter().sum::<f32>() / reference.len() as f32;
        for (a, b) in found.iter().zip(reference) {
            largest = largest.max((a - b).abs());
            error += f64::from(a - b).powi(2);
            size += f64::from(b - mean).powi(2);
        }
    }
    (largest, (error / size).sqrt())
}

/// A random Llama of 2 layers with a separate head, GQA and Llama 3's rotary factors.
fn random_model(block_type: BlockType, factors: &[f32]) -> Vec<u8> {
    let (dim, heads, kv, hidden, vocab) = (128u64, 4u32, 2u32, 256u64, 300u64);
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "llama").set("llama.block_count", 2u32);
    writer.set("llama.embedding_length", dim as u32).set("llama.context_length", 128u32);
    writer.set("llama.feed_forward_length", hidden as u32).set("llama.attention.head_count", heads);
    writer.set("llama.attention.head_count_kv", kv).set("llama.rope.freq_base", 500_000.0f32);
    writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32).set("llama.rope.dimension_count", 32u32);
    let kv_width = dim / u64::from(heads) * u64::from(kv);
    let mut add = |name: &str, shape: &[u64]| {
        let matrix = shape.len() == 2;
        writer.add_tensor(name, shape, if matrix { block_type } else { BlockType::F32 });
    };
    add("token_embd.weight", &[dim, vocab]);
    add("output.weight", &[dim, vocab]);
    add("output_norm.weight", &[dim]);
    add("rope_freqs.weight", &[factors.len() as u64]);
    for layer in 0..2 {
        for (name, cols, rows) in [
            ("attn_q", dim, dim),
            ("attn_k", dim, kv_width),
            ("attn_v", dim, kv_width),
            ("attn_output", dim, dim),
            ("ffn_gate", dim, hidden),
            ("ffn_up", dim, hidden),
            ("ffn_down", hidden, dim),
        ] {
            add(&format!("blk.{layer}.{name}.weight"), &[cols, rows]);
        }
        add(&format!("blk.{layer}.attn_norm.weight"), &[dim]);
        add(&format!("blk.{layer}.ffn_norm.weight"), &[dim]);
    }
    let mut rng = rand::rngs::ChaCha8Rng::seed_from_u64(3);
    let bytes = writer.to_vec("random", |info, out| {
        let normal =
            |rng: &mut rand::rngs::ChaCha8Rng| (0..6).map(|_| rng.random_range(-0.7f32..0.7)).sum::<f32>();
        let scale = 1.0 / (info.cols() as f32).sqrt();
        let values: Vec<f32> = if info.name == "rope_freqs.weight" {
            factors.to_vec()
        } else if info.shape.len() == 1 {
            (0..info.elements()).map(|_| 1.0 + 0.2 * normal(&mut rng)).collect()
        } else {
            (0..info.elements()).map(|_| scale * normal(&mut rng)).collect()
        };
        let mut bytes = vec![0; info.bytes as usize];
        info.block_type.encode(&values, &mut bytes);
        out.write_all(&bytes)
    });
    bytes.unwrap()
}

fn tokens(vocab: u32) -> Vec<u32> {
    (0..TOKENS as u32).map(|i| (i * 7919 + 13) % vocab).collect()
}

/// f32 weights: what differs is the order of additions and our half-precision KV cache.
#[test]
fn f32_logits_equal_candle() {
    let file = GgufFile::from_vec("random", random_model(BlockType::F32, &[1.0; 16])).unwrap();
    let (largest, relative) = distance(&ours(&file, &tokens(300)), &candle_f32(&file, &tokens(300), None));
    eprintln!("f32: largest difference {largest:.2e}, relative {relative:.2e}");
    assert!(largest < 4e-3 && relative < 5e-4);
}

/// Llama 3's frequency scaling, its factors computed here from the published formula.
#[test]
fn llama3_rope_scaling_equals_candle() {
    let scaling = llama::Llama3RopeConfig {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 32,
        rope_type: llama::Llama3RopeType::Llama3,
    };
    let factors: Vec<f32> = (0..16)
        .map(|i| {
            let frequency = 500_000f64.powf(-f64::from(i) / 16.0);
            let turns = 32.0 * frequency / std::f64::consts::TAU;
            let smooth = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
            (1.0 / ((1.0 - smooth) / 8.0 + smooth)) as f32
        })
        .collect();
    let file = GgufFile::from_vec("random", random_model(BlockType::F32, &factors)).unwrap();
    let found = ours(&file, &tokens(300));
    let (largest, relative) = distance(&found, &candle_f32(&file, &tokens(300), Some(scaling)));
    eprintln!("llama3 scaling: largest difference {largest:.2e}, relative {relative:.2e}");
    assert!(largest < 4e-3 && relative < 5e-4);
    let (_, without) = distance(&found, &candle_f32(&file, &tokens(300), None));
    assert!(without > 0.02, "the scaling must matter here: {without}");
}

/// The same GGUF bytes in both engines. Both round activations to 8 bits per 32 columns, candle with scales
/// stored as halves. What that rounding costs is candle's distance from its own forward pass in f32; we may
/// not be farther from it, and two results with independent rounding differ by the root of two of it.
#[test]
fn quantized_logits_equal_candle() {
    for block_type in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q5_1, BlockType::Q8_0] {
        let bytes = random_model(block_type, &[1.0; 16]);
        let file = GgufFile::from_vec("random", bytes.clone()).unwrap();
        let found = ours(&file, &tokens(300));
        let (quantized, floats) =
            (candle_quantized(&bytes, &tokens(300)), candle_f32(&file, &tokens(300), None));
        let (_, rounding) = distance(&quantized, &floats);
        let (_, own) = distance(&found, &floats);
        let (largest, between) = distance(&found, &quantized);
        eprintln!(
            "{block_type}: relative to f32: candle {rounding:.2e}, ours {own:.2e}; between them {between:.2e}, \
             at most {largest:.2e}"
        );
        assert!(rounding < 5e-2, "{block_type}: the oracle itself is {rounding} off");
        assert!(own <= 1.1 * rounding, "{block_type}: {own}, candle {rounding}");
        assert!(between <= 1.05 * 2f64.sqrt() * rounding, "{block_type}: {between}, rounding {rounding}");
    }
}

/// The embedded demo model's float original.
#[test]
fn demo_logits_equal_candle() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/demo/demo-f16.gguf");
    let file = GgufFile::open(path.as_ref()).unwrap();
    let tokens = tokens(Spec::read(&file).unwrap().vocab as u32);
    let found = ours(&file, &tokens);
    let (largest, relative) = distance(&found, &candle_f32(&file, &tokens, None));
    eprintln!("demo f16 against f32: largest difference {largest:.2e}, relative {relative:.2e}");
    assert!(largest < 5e-2 && relative < 2e-3);
    let (_, relative) = distance(&found, &candle_quantized(&std::fs::read(path).unwrap(), &tokens));
    eprintln!("demo f16, same file: relative {relative:.2e}");
    assert!(relative < 2e-3);
}
