//! A tiny model's folder as `transformers` would write it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use smolt::gguf::GgufFile;
use smolt::text::BYTE_CHARS;
use smolt_quantize::convert::{Conversion, ConvertError, ConvertOptions};

use crate::fixture::{Outcome, Scratch, run};

/// A tensor of a safetensors file.
#[derive(Clone)]
pub(super) struct Weights {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Weights {
    pub(super) fn floats(dtype: Dtype, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| match dtype {
            Dtype::F16 => half::f16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::BF16 => half::bf16::from_f32(*value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        });
        Self { dtype, shape: shape.to_vec(), bytes: bytes.collect() }
    }

    pub(super) fn integers(shape: &[usize], values: &[u32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::I32, shape: shape.to_vec(), bytes }
    }

    /// The numbers as they are stored.
    pub(super) fn values(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F16 => {
                let halves = self.bytes.chunks_exact(2);
                halves.map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            Dtype::BF16 => {
                let halves = self.bytes.chunks_exact(2);
                halves.map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            _ => self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        }
    }
}

/// Numbers from -1 to 1 that differ between seeds.
pub(super) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The folder. Fields may be changed before it is written.
pub(super) struct Folder {
    pub(super) scratch: Scratch,
    pub(super) config: Value,
    pub(super) tokenizer: Value,
    pub(super) tensors: BTreeMap<String, Weights>,
}

pub(super) const WIDTH: usize = 64;
pub(super) const HIDDEN: usize = 96;
pub(super) const HEADS: usize = 4;
pub(super) const KV_HEADS: usize = 2;
pub(super) const HEAD_DIM: usize = 16;
pub(super) const VOCAB: usize = 270;
pub(super) const LAYERS: usize = 2;

/// Matrices of a layer: name, rows, columns.
pub(super) const MATRICES: [(&str, usize, usize); 7] = [
    ("self_attn.q_proj", HEADS * HEAD_DIM, WIDTH),
    ("self_attn.k_proj", KV_HEADS * HEAD_DIM, WIDTH),
    ("self_attn.v_proj", KV_HEADS * HEAD_DIM, WIDTH),
    ("self_attn.o_proj", WIDTH, HEADS * HEAD_DIM),
    ("mlp.gate_proj", HIDDEN, WIDTH),
    ("mlp.up_proj", HIDDEN, WIDTH),
    ("mlp.down_proj", WIDTH, HIDDEN),
];

impl Folder {
    /// A Llama with a separate head, weights of type `dtype`, and a byte-level tokenizer.
    pub(super) fn llama(dtype: Dtype) -> Self {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "rope_scaling": null, "tie_word_embeddings": false, "attention_bias": false,
            "bos_token_id": 0, "eos_token_id": 0,
        });
        let mut folder =
            Self { scratch: Scratch::new(), config, tokenizer: byte_level(), tensors: BTreeMap::new() };
        folder.put(dtype, "model.embed_tokens", VOCAB, WIDTH);
        folder.put(dtype, "lm_head", VOCAB, WIDTH);
        folder.put_norm(dtype, "model.norm");
        for layer in 0..LAYERS {
            for (name, rows, cols) in MATRICES {
                folder.put(dtype, &format!("model.layers.{layer}.{name}"), rows, cols);
            }
            for name in ["input_layernorm", "post_attention_layernorm"] {
                folder.put_norm(dtype, &format!("model.layers.{layer}.{name}"));
            }
        }
        folder
    }

    fn put(&mut self, dtype: Dtype, name: &str, rows: usize, cols: usize) {
        let scale = (3.0 / cols as f32).sqrt();
        let values: Vec<f32> = self.noise(rows * cols).iter().map(|value| value * scale).collect();
        let weights = Weights::floats(dtype, &[rows, cols], &values);
        self.tensors.insert(format!("{name}.weight"), weights);
    }

    fn put_norm(&mut self, dtype: Dtype, name: &str) {
        let values: Vec<f32> = self.noise(WIDTH).iter().map(|value| 1.0 + 0.3 * value).collect();
        self.tensors.insert(format!("{name}.weight"), Weights::floats(dtype, &[WIDTH], &values));
    }

    pub(super) fn noise(&self, len: usize) -> Vec<f32> {
        noise(self.tensors.len() as u64 + 1, len)
    }

    /// Lets the embedding serve as the head.
    pub(super) fn tie(&mut self) {
        self.config["tie_word_embeddings"] = true.into();
        self.tensors.remove("lm_head.weight");
    }

    pub(super) fn write_json(&self, name: &str, value: &Value) {
        self.scratch.file(name, value.to_string().as_bytes());
    }

    fn write_configs(&self) {
        self.write_json("config.json", &self.config);
        self.write_json("tokenizer.json", &self.tokenizer);
    }

    pub(super) fn write(&self) {
        self.write_configs();
        let all: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        self.scratch.file("model.safetensors", &self.safetensors(&all));
    }

    /// Two files: tensors are dealt out in turn.
    pub(super) fn write_sharded(&self) {
        self.write_configs();
        let names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        let mut map = serde_json::Map::new();
        for part in 0..2 {
            let file = shard(part);
            let part: Vec<&str> = names.iter().skip(part).step_by(2).copied().collect();
            self.scratch.file(&file, &self.safetensors(&part));
            map.extend(part.iter().map(|name| ((*name).to_owned(), file.clone().into())));
        }
        self.write_json("model.safetensors.index.json", &json!({"metadata": {}, "weight_map": map}));
    }

    /// A safetensors file with these tensors.
    pub(super) fn safetensors(&self, names: &[&str]) -> Vec<u8> {
        let view = |name: &&str| {
            let weights = &self.tensors[*name];
            let view = TensorView::new(weights.dtype, weights.shape.clone(), &weights.bytes).unwrap();
            ((*name).to_owned(), view)
        };
        safetensors::serialize(names.iter().map(view), None).unwrap()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.scratch.path("")
    }

    pub(super) fn output(&self) -> PathBuf {
        self.scratch.path("out.gguf")
    }

    /// Converts what was written.
    pub(super) fn try_convert(
        &self,
        options: &ConvertOptions,
    ) -> Result<(GgufFile, Vec<String>), ConvertError> {
        let conversion = Conversion::open(&self.path(), options)?;
        let mut read = 0;
        conversion.write(&self.output(), &mut |bytes| read += bytes)?;
        assert_eq!(read, conversion.source_bytes());
        let file = GgufFile::open(&self.output()).unwrap();
        assert_eq!(file.file_bytes(), conversion.file_bytes());
        Ok((file, conversion.notes().to_vec()))
    }

    /// Writes and converts.
    pub(super) fn convert(&self, options: &ConvertOptions) -> (GgufFile, Vec<String>) {
        self.write();
        self.try_convert(options).unwrap()
    }

    /// Runs the command on what was written.
    pub(super) fn command(&self, more: &[&str]) -> Outcome {
        let (folder, output) = (self.path(), self.output());
        let arguments = ["convert", folder.to_str().unwrap(), output.to_str().unwrap()];
        run(&[&arguments, more].concat())
    }
}

pub(super) fn shard(part: usize) -> String {
    format!("model-0000{}-of-00002.safetensors", part + 1)
}

/// The numbers of a tensor of the output.
pub(super) fn decoded(file: &GgufFile, name: &str) -> Vec<f32> {
    let info = file.tensor(name).unwrap_or_else(|| panic!("tensor {name}"));
    let mut values = vec![0.0; info.elements()];
    info.block_type.decode(file.data(info).unwrap(), &mut values);
    values
}

/// `<|end|>`, all bytes and some merges: 265 tokens, with the pre-tokenizer of GPT-2.
pub(super) fn byte_level() -> Value {
    let merges =
        [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("l", "l"), ("1", "2"), ("Ġ", "Ġ"), ("'", "s"), ("Ġ", "1")];
    let mut texts = vec!["<|end|>".to_owned()];
    texts.extend(BYTE_CHARS.map(String::from));
    texts.extend(merges.map(|(left, right)| format!("{left}{right}")));
    let vocab: serde_json::Map<_, _> =
        texts.into_iter().enumerate().map(|(id, text)| (text, id.into())).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 0, "content": "<|end|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    })
}
