//! A model's shape, read from the header and checked before anything is allocated.

use super::error::ModelError;
use super::families::{FAMILIES, Family};
use crate::gguf::GgufFile;

/// Most layers of a model.
const MAX_LAYERS: usize = 512;
/// Widest dimension of a model.
const MAX_WIDTH: usize = 1 << 20;
/// Most query heads that share a KV head.
const MAX_GROUP: usize = 64;

/// Rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Pairs of values that rotate.
    pub pairs: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Positions are divided by this (linear scaling; 1 without).
    pub divisor: f32,
}

/// Shape and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The family.
    pub family: &'static Family,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub hidden: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Positions the model was trained for.
    pub trained_context: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Rotary embedding.
    pub rope: Rope,
}

/// Reads keys under the architecture's prefix.
struct Keys<'a> {
    file: &'a GgufFile,
    prefix: &'static str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn bad(&self, key: &str, expected: impl ToString, found: impl ToString) -> ModelError {
        ModelError::BadValue {
            file: self.file.name().to_owned(),
            key: self.name(key),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn within(&self, key: &str, value: usize, most: usize) -> Result<usize, ModelError> {
        match value {
            0 => Err(self.bad(key, format!("1..={most}"), value)),
            _ if value > most => Err(self.bad(key, format!("1..={most}"), value)),
            _ => Ok(value),
        }
    }

    fn count(&self, key: &str, most: usize) -> Result<usize, ModelError> {
        let value = self.file.require_u32(&self.name(key))?;
        self.within(key, value as usize, most)
    }

    fn count_or(&self, key: &str, default: usize, most: usize) -> Result<usize, ModelError> {
        let value = self.file.u32(&self.name(key))?;
        self.within(key, value.map_or(default, |value| value as usize), most)
    }

    fn positive_or(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        let value = self.file.f32(&self.name(key))?.unwrap_or(default);
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(self.bad(key, "a positive number", value))
        }
    }

    fn rope(&self, head_dim: usize) -> Result<Rope, ModelError> {
        let rotated = self.count_or("rope.dimension_count", head_dim, head_dim)?;
        if rotated % 2 != 0 {
            return Err(self.bad("rope.dimension_count", "an even number", rotated));
        }
        let kind = self.file.str(&self.name("rope.scaling.type"))?.unwrap_or("none");
        let divisor = match kind {
            // Llama 3's scaling is stored as a tensor of factors, rope_freqs.weight.
            "none" | "llama3" => 1.0,
            "linear" => self.positive_or("rope.scaling.factor", 1.0)?,
            other => {
                return Err(self.bad("rope.scaling.type", "none, linear or llama3", format!("{other:?}")));
            }
        };
        // Files from before `rope.scaling.*`.
        let divisor = if kind == "none" { self.positive_or("rope.scale_linear", 1.0)? } else { divisor };
        Ok(Rope { pairs: rotated / 2, base: self.positive_or("rope.freq_base", 10_000.0)?, divisor })
    }
}

impl Spec {
    /// Reads the shape of the model in `file`.
    ///
    /// # Errors
    /// If the family is not supported, or a value is missing, of the wrong type or impossible.
    pub fn read(file: &GgufFile) -> Result<Self, ModelError> {
        let architecture = file.require_str("general.architecture")?;
        let family = Family::named(architecture).ok_or_else(|| ModelError::UnknownArchitecture {
            file: file.name().to_owned(),
            found: architecture.to_owned(),
            supported: FAMILIES.iter().map(|f| f.architecture).collect::<Vec<_>>().join(", "),
        })?;
        let keys = Keys { file, prefix: family.architecture };
        let dim = keys.count("embedding_length", MAX_WIDTH)?;
        let heads = keys.count("attention.head_count", MAX_WIDTH)?;
        let kv_heads = keys.count_or("attention.head_count_kv", heads, heads)?;
        if !heads.is_multiple_of(kv_heads) || heads / kv_heads > MAX_GROUP {
            let expected = format!("a divisor of the {heads} heads, shared by at most {MAX_GROUP}");
            return Err(keys.bad("attention.head_count_kv", expected, kv_heads));
        }
        let head_dim = keys.count_or("attention.key_length", dim / heads, MAX_WIDTH)?;
        let value_dim = keys.count_or("attention.value_length", head_dim, MAX_WIDTH)?;
        if value_dim != head_dim || heads * head_dim > MAX_WIDTH {
            return Err(keys.bad("attention.value_length", format!("the key length, {head_dim}"), value_dim));
        }
        let embedding = file.tensor("token_embd.weight").ok_or_else(|| ModelError::MissingTensor {
            file: file.name().to_owned(),
            tensor: "token_embd.weight".to_owned(),
        })?;
        Ok(Self {
            family,
            layers: keys.count("block_count", MAX_LAYERS)?,
            dim,
            heads,
            kv_heads,
            head_dim,
            hidden: keys.count("feed_forward_length", MAX_WIDTH)?,
            vocab: embedding.rows(),
            trained_context: keys.count("context_length", usize::MAX)?,
            norm_eps: keys.positive_or("attention.layer_norm_rms_epsilon", 1e-5)?,
            rope: keys.rope(head_dim)?,
        })
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all KV heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
