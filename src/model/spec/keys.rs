//! Metadata under the architecture's prefix, checked.

use super::rope::Rope;
use crate::gguf::{GgufFile, Value};
use crate::model::ModelError;

/// Most query heads that share a KV head.
const MAX_GROUP: usize = 64;

/// Reads keys under the architecture's prefix.
pub(super) struct Keys<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) prefix: &'static str,
    /// Where the file is one of a model's layers: its index there (see [`super::FIRST_LAYER`]).
    pub(super) first_layer: usize,
}

impl Keys<'_> {
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    pub(super) fn bad(&self, key: &str, expected: impl ToString, found: impl ToString) -> ModelError {
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

    pub(super) fn count(&self, key: &str, most: usize) -> Result<usize, ModelError> {
        let value = self.file.require_u32(&self.name(key))?;
        self.within(key, value as usize, most)
    }

    pub(super) fn count_or(&self, key: &str, default: usize, most: usize) -> Result<usize, ModelError> {
        let value = self.file.u32(&self.name(key))?;
        self.within(key, value.map_or(default, |value| value as usize), most)
    }

    pub(super) fn positive_or(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        let value = self.file.f32(&self.name(key))?.unwrap_or(default);
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(self.bad(key, "a positive number", value))
        }
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.file.bool(&self.name(key))?.unwrap_or(default))
    }

    /// The values of an array for `layers` layers; `None` if the key is missing or no array.
    fn per_layer<T>(
        &self,
        key: &str,
        layers: usize,
        read: impl Fn(&Value<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ModelError> {
        let Some(array) = self.file.get(&self.name(key)).and_then(|value| value.as_array()) else {
            return Ok(None);
        };
        let values: Option<Vec<T>> =
            array.iter().skip(self.first_layer).take(layers).map(|value| read(&value)).collect();
        match values {
            Some(values) if values.len() == layers => Ok(Some(values)),
            _ => {
                let expected = format!("a value for each of {} layers", self.first_layer + layers);
                Err(self.bad(key, expected, format!("an array of {} {:?}", array.len(), array.kind())))
            }
        }
    }

    /// KV heads, and which layers attend at all: a layer with 0 KV heads does not.
    pub(super) fn kv_heads(&self, heads: usize, layers: usize) -> Result<(usize, Vec<bool>), ModelError> {
        const KEY: &str = "attention.head_count_kv";
        let (found, attends) = match self.per_layer(KEY, layers, |value| value.as_u32())? {
            None => (self.count_or(KEY, heads, heads)?, vec![true; layers]),
            Some(counts) => {
                let found = counts.iter().copied().find(|count| *count > 0).unwrap_or(heads as u32);
                if counts.iter().any(|count| *count > 0 && *count != found) {
                    return Err(self.bad(KEY, "one count, or 0", format!("{counts:?}")));
                }
                let most = usize::try_from(found).unwrap_or(usize::MAX);
                (self.within(KEY, most, heads)?, counts.iter().map(|count| *count > 0).collect())
            }
        };
        if !heads.is_multiple_of(found) || heads / found > MAX_GROUP {
            let expected = format!("a divisor of the {heads} heads, shared by at most {MAX_GROUP}");
            return Err(self.bad(KEY, expected, found));
        }
        Ok((found, attends))
    }

    /// Which layers have a window, and how many positions it has. Without a pattern all but every `period`-th.
    pub(super) fn windows(&self, period: usize, layers: usize) -> Result<(Vec<bool>, usize), ModelError> {
        const WINDOW: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        let window = self.file.u32(&self.name(WINDOW))?.unwrap_or(0) as usize;
        if window == 0 {
            return Ok((vec![false; layers], usize::MAX));
        }
        let local = match self.per_layer(PATTERN, layers, |value| value.as_bool())? {
            Some(local) => local,
            None => {
                let period = self.count_or(PATTERN, period, u32::MAX as usize)?;
                let index = |layer: usize| self.first_layer + layer;
                (0..layers).map(|layer| !(index(layer) + 1).is_multiple_of(period)).collect()
            }
        };
        Ok((local, window))
    }

    pub(super) fn rope(&self, head_dim: usize) -> Result<Rope, ModelError> {
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
