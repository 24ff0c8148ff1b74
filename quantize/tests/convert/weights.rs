//! Tensors and sizes: every weight arrives, in its place.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama;
use safetensors::Dtype;
use serde_json::json;
use smolt::blocks::BlockType;
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{Model, RunOptions, Runner};
use smolt_quantize::convert::{ConvertOptions, FloatType};

use super::folder::{
    Folder, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, MATRICES, WIDTH, Weights, decoded, shard,
};

const NAMES: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

fn options(float: FloatType) -> ConvertOptions {
    ConvertOptions { float, pre: None }
}

/// Rows of heads from halves to adjacent pairs: rows 0, n/2, 1, n/2 + 1, … of each head.
fn adjacent(values: &[f32], cols: usize) -> Vec<f32> {
    let heads = values.chunks_exact(HEAD_DIM * cols);
    let rows = heads.flat_map(|head| {
        let (first, second) = head.split_at(HEAD_DIM / 2 * cols);
        first.chunks_exact(cols).zip(second.chunks_exact(cols)).flat_map(|(a, b)| [a, b])
    });
    rows.flatten().copied().collect()
}

fn expected(weights: &Weights, name: &str) -> Vec<f32> {
    let values = weights.values();
    let cols = weights.shape.get(1).copied().unwrap_or(1);
    if name.contains("q_proj") || name.contains("k_proj") { adjacent(&values, cols) } else { values }
}

#[test]
fn every_weight_arrives_from_and_as_every_type() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (float, block_type) in [
            (FloatType::F16, BlockType::F16),
            (FloatType::Bf16, BlockType::BF16),
            (FloatType::F32, BlockType::F32),
        ] {
            let folder = Folder::llama(dtype);
            let (file, notes) = folder.convert(&options(float));
            assert_eq!(notes, ["5 of 270 rows of the embedding have no token"]);
            let check = |hf: &str, gguf: &str, block_type: BlockType| {
                let weights = &folder.tensors[&format!("{hf}.weight")];
                let info = file.tensor(&format!("{gguf}.weight")).unwrap();
                let shape: Vec<u64> = weights.shape.iter().rev().map(|&n| n as u64).collect();
                assert_eq!((info.block_type, &info.shape), (block_type, &shape), "{gguf}");
                let rounded: Vec<f32> = expected(weights, hf)
                    .into_iter()
                    .map(|value| match block_type {
                        BlockType::F16 => half::f16::from_f32(value).to_f32(),
                        BlockType::BF16 => half::bf16::from_f32(value).to_f32(),
                        _ => value,
                    })
                    .collect();
                assert!(decoded(&file, &info.name) == rounded, "{dtype:?} as {block_type}: {gguf}");
            };
            for layer in 0..LAYERS {
                for (hf, gguf) in NAMES {
                    check(&format!("model.layers.{layer}.{hf}"), &format!("blk.{layer}.{gguf}"), block_type);
                }
                for (hf, gguf) in [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")]
                {
                    check(
                        &format!("model.layers.{layer}.{hf}"),
                        &format!("blk.{layer}.{gguf}"),
                        BlockType::F32,
                    );
                }
            }
            check("model.embed_tokens", "token_embd", block_type);
            check("lm_head", "output", block_type);
            check("model.norm", "output_norm", BlockType::F32);
            assert_eq!(file.tensors().len(), folder.tensors.len());
        }
    }
}

#[test]
fn sizes_become_metadata() {
    let folder = Folder::llama(Dtype::F32);
    let (file, _) = folder.convert(&options(FloatType::Bf16));
    for (key, value) in [
        ("general.file_type", 32),
        ("llama.block_count", LAYERS),
        ("llama.context_length", 128),
        ("llama.embedding_length", WIDTH),
        ("llama.feed_forward_length", HIDDEN),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", KV_HEADS),
        ("llama.attention.key_length", HEAD_DIM),
        ("llama.attention.value_length", HEAD_DIM),
        ("llama.rope.dimension_count", HEAD_DIM),
        ("llama.vocab_size", 270),
    ] {
        assert_eq!(file.u32(key).unwrap(), Some(value as u32), "{key}");
    }
    assert_eq!(file.f32("llama.attention.layer_norm_rms_epsilon").unwrap(), Some(1e-5));
    assert_eq!(file.f32("llama.rope.freq_base").unwrap(), Some(10_000.0));
    assert_eq!(file.str("llama.rope.scaling.type").unwrap(), None);
    assert_eq!(file.str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(file.str("general.size_label").unwrap(), Some("96K"));
}

#[test]
fn the_same_folder_gives_the_same_bytes_however_it_is_sharded() {
    let mut folder = Folder::llama(Dtype::F16);
    folder.config["_name_or_path"] = "someone/tiny-llama".into();
    let (single, _) = folder.convert(&ConvertOptions::default());
    assert_eq!(single.str("general.name").unwrap(), Some("tiny-llama"));
    let (again, _) = folder.try_convert(&ConvertOptions::default()).unwrap();
    assert!(single.as_bytes().unwrap() == again.as_bytes().unwrap());
    let sharded = Folder { scratch: crate::fixture::Scratch::new(), ..folder };
    sharded.write_sharded();
    let names = sharded.scratch.names();
    assert!(names.contains(&shard(1)) && !names.contains(&"model.safetensors".to_owned()));
    let (sharded, _) = sharded.try_convert(&ConvertOptions::default()).unwrap();
    assert!(single.as_bytes().unwrap() == sharded.as_bytes().unwrap());
}

#[test]
fn a_tied_model_has_no_head() {
    let mut folder = Folder::llama(Dtype::F32);
    folder.config["tie_word_embeddings"] = true.into();
    let inv_freq = Weights::floats(Dtype::F32, &[8], &[1.0; 8]);
    folder.tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), inv_freq);
    let (file, notes) = folder.convert(&ConvertOptions::default());
    assert!(file.tensor("output.weight").is_none());
    let note = "lm_head.weight is left out: config.json says that the model does not use it";
    assert!(notes.iter().any(|found| found == note), "{notes:?}");
    folder.tie();
    let (without, notes) = folder.convert(&ConvertOptions::default());
    assert!(file.as_bytes().unwrap() == without.as_bytes().unwrap());
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn biases_follow_their_matrices() {
    let mut folder = Folder::llama(Dtype::F32);
    folder.config["attention_bias"] = true.into();
    folder.config["mlp_bias"] = true.into();
    for layer in 0..LAYERS {
        for (name, rows, _) in MATRICES {
            let bias = Weights::floats(Dtype::F32, &[rows], &folder.noise(rows));
            folder.tensors.insert(format!("model.layers.{layer}.{name}.bias"), bias);
        }
    }
    let (file, _) = folder.convert(&ConvertOptions::default());
    for (hf, gguf) in NAMES {
        let weights = &folder.tensors[&format!("model.layers.1.{hf}.bias")];
        let name = format!("blk.1.{gguf}.bias");
        assert_eq!(file.tensor(&name).unwrap().block_type, BlockType::F32);
        assert!(decoded(&file, &name) == expected(weights, hf), "{name}");
    }
    Model::load(&file, Kernels::detect().unwrap()).unwrap();
}

#[test]
fn rotary_scaling_is_read_in_both_forms() {
    let old = |scaling| json!({"rope_theta": 500.0, "rope_scaling": scaling});
    let new = |mut scaling: serde_json::Value| {
        scaling["rope_theta"] = 500.0.into();
        json!({"rope_theta": 7.0, "rope_scaling": null, "rope_parameters": scaling})
    };
    let linear = |key: &str| json!({key: "linear", "factor": 4.0});
    for change in [old(linear("type")), old(linear("rope_type")), new(linear("rope_type"))] {
        let mut folder = Folder::llama(Dtype::F32);
        for (key, value) in change.as_object().unwrap() {
            folder.config[key] = value.clone();
        }
        let (file, _) = folder.convert(&ConvertOptions::default());
        assert_eq!(file.f32("llama.rope.freq_base").unwrap(), Some(500.0));
        assert_eq!(file.str("llama.rope.scaling.type").unwrap(), Some("linear"));
        assert_eq!(file.f32("llama.rope.scaling.factor").unwrap(), Some(4.0));
        assert!(file.tensor("rope_freqs.weight").is_none());
    }
    let mut folder = Folder::llama(Dtype::F32);
    folder.config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 900.0});
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_eq!(file.f32("llama.rope.freq_base").unwrap(), Some(900.0));
    assert_eq!(file.str("llama.rope.scaling.type").unwrap(), None);
}

/// The logits of the last of some tokens, by candle from the folder itself and by the runner from the output.
fn logits(folder: &Folder, file: &GgufFile) -> (Vec<f32>, Vec<f32>) {
    let tokens: Vec<u32> = (0..100).map(|i| (i * 79 + 13) % 270).collect();
    let config: llama::LlamaConfig = serde_json::from_value(folder.config.clone()).unwrap();
    let config = config.into_config(false);
    let path = folder.scratch.path("model.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let vars = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let model = llama::Llama::load(vars, &config).unwrap();
    let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu).unwrap();
    let input = Tensor::new(&tokens[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let expected = model.forward(&input, 0, &mut cache).unwrap();
    let model = std::sync::Arc::new(Model::load(file, Kernels::detect().unwrap()).unwrap());
    let options = RunOptions { context: 128, threads: 1, slots: 1, logit_rows: 8, kv: KvType::F16 };
    let mut last = Vec::new();
    let mut runner = Runner::new(model, &options).unwrap();
    runner.score(&tokens, 0, &mut |_, logits| last = logits.to_vec()).unwrap();
    (last, expected.flatten_all().unwrap().to_vec1::<f32>().unwrap())
}

/// What differs is the order of additions and our half-precision KV cache.
#[test]
fn logits_equal_candle_on_the_folder() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32});
    for (tied, scaling) in [(false, json!(null)), (true, scaling)] {
        let mut folder = Folder::llama(Dtype::F32);
        folder.config["rope_scaling"] = scaling.clone();
        if tied {
            folder.tie();
        }
        let (file, _) = folder.convert(&options(FloatType::F32));
        assert_eq!(file.tensor("rope_freqs.weight").is_some(), !scaling.is_null());
        let (found, expected) = logits(&folder, &file);
        let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let size = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        eprintln!("tied {tied}: largest difference {largest:.2e} of {size:.2}");
        assert!(size > 1.0 && largest < 4e-3, "{largest} of {size}");
    }
}

/// The converter of llama.cpp made the reference from the same folder. Its name is the folder's, capitalised, and
/// it leaves out whether tokens are added, which is then false for this pre-tokenizer.
#[test]
fn the_output_is_that_of_llama_cpp() {
    let Some(root) = super::tokenizers::shared("models/s288") else { return };
    let scratch = crate::fixture::Scratch::new();
    let output = scratch.path("out.gguf");
    let folder = root.join("hf");
    let done =
        crate::fixture::run(&["convert", folder.to_str().unwrap(), output.to_str().unwrap(), "--json"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&report["weights"], &report["architecture"]), (&json!(7_837_344), &json!("llama")));
    let ours = GgufFile::open(&output).unwrap();
    let theirs = GgufFile::open(&root.join("gguf/s288-f16.gguf")).unwrap();
    assert_eq!(ours.tensors(), theirs.tensors());
    for tensor in theirs.tensors() {
        assert!(ours.data(tensor).unwrap() == theirs.data(tensor).unwrap(), "{}", tensor.name);
    }
    let metadata = |file: &GgufFile| -> Vec<(String, String)> {
        let entry = |(key, _): (&str, _)| (key.to_owned(), format!("{:?}", file.get(key).map(text)));
        let mut all: Vec<_> = file.metadata().map(entry).collect();
        all.retain(|(key, _)| key != "general.name" && !key.starts_with("tokenizer.ggml.add_"));
        all.sort();
        all
    };
    assert_eq!(metadata(&ours), metadata(&theirs));
    assert_eq!(ours.str("general.name").unwrap(), Some("hf"));
    for key in ["tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"] {
        assert_eq!((ours.bool(key).unwrap(), theirs.bool(key).unwrap()), (Some(false), None));
    }
}

/// A value in full; the debug form of an array is short.
fn text(value: smolt::gguf::Value<'_>) -> String {
    match value {
        smolt::gguf::Value::Array(array) => {
            format!("{:?} {:?}", array.kind(), array.iter().collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}
