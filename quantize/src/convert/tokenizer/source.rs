//! The parts of tokenizer.json that conversion reads.
//!
//! Format: <https://huggingface.co/docs/tokenizers>, as the `tokenizers` crate serializes it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::convert::ConvertError;

/// A tokenizer.json with a BPE model.
#[derive(Debug, Deserialize)]
pub(super) struct Source {
    #[serde(skip)]
    pub(super) file: String,
    pub(super) model: Model,
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    pub(super) normalizer: Option<Value>,
    pub(super) pre_tokenizer: Option<Value>,
    pub(super) post_processor: Option<Value>,
}

/// A BPE model.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    /// Id of every token that merging can make, and of some that it cannot.
    pub(super) vocab: BTreeMap<String, u32>,
    #[serde(default)]
    pub(super) merges: Merges,
    pub(super) unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
}

/// Merges in order of rank, in one of two notations.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Merges {
    Pairs(Vec<(String, String)>),
    /// The parts with a space between them.
    Lines(Vec<String>),
}

impl Default for Merges {
    fn default() -> Self {
        Self::Lines(Vec::new())
    }
}

impl Merges {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Pairs(pairs) => pairs.len(),
            Self::Lines(lines) => lines.len(),
        }
    }

    /// Both parts of a merge; `None` if they are not two texts without spaces.
    pub(super) fn parts(&self, index: usize) -> Option<(&str, &str)> {
        let (left, right) = match self {
            Self::Pairs(pairs) => pairs.get(index).map(|(left, right)| (left.as_str(), right.as_str()))?,
            Self::Lines(lines) => lines.get(index)?.split_once(' ')?,
        };
        let is_part = |part: &str| !part.is_empty() && !part.contains(' ');
        (is_part(left) && is_part(right)).then_some((left, right))
    }
}

/// A token that is found in text before merging.
#[derive(Debug, Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) single_word: bool,
}

/// What tells the kind of model before all of it is read.
#[derive(Deserialize)]
struct Head {
    model: HeadModel,
}

#[derive(Deserialize)]
struct HeadModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    merges: Option<IgnoredAny>,
}

impl Source {
    /// Parses the bytes of `file`. Refuses models other than BPE.
    pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Self, ConvertError> {
        let json = |source| ConvertError::json(file, bytes, source);
        let Head { model } = serde_json::from_slice(bytes).map_err(json)?;
        let kind = model.kind.as_deref().or(model.merges.map(|_| "BPE")).unwrap_or("unknown");
        if kind != "BPE" {
            let reason = format!("is {kind:?}; only BPE tokenizers can be converted");
            return Err(refused(file, "model.type", reason));
        }
        let mut source: Self = serde_json::from_slice(bytes).map_err(json)?;
        source.file = file.to_owned();
        let model = &source.model;
        for (key, affix) in [
            ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
            ("model.end_of_word_suffix", &model.end_of_word_suffix),
        ] {
            if affix.as_ref().is_some_and(|affix| !affix.is_empty()) {
                return Err(refused(file, key, "is not supported by GGUF".to_owned()));
            }
        }
        Ok(source)
    }

    /// The error of a key of this file.
    pub(super) fn refused(&self, key: &str, reason: impl Into<String>) -> ConvertError {
        refused(&self.file, key, reason.into())
    }
}

fn refused(file: &str, key: &str, reason: String) -> ConvertError {
    ConvertError::Tokenizer { file: file.to_owned(), key: key.to_owned(), reason }
}

/// The steps of a normalizer, pre-tokenizer or post-processor: itself, or those of a `Sequence`, however nested
/// (the JSON parser bounds the depth).
pub(super) fn steps<'a>(value: Option<&'a Value>, members: &str) -> Vec<&'a Value> {
    let mut all = Vec::new();
    if let Some(value) = value.filter(|value| !value.is_null()) {
        match value.get(members).and_then(Value::as_array).filter(|_| kind(value) == "Sequence") {
            Some(parts) => all.extend(parts.iter().flat_map(|part| steps(Some(part), members))),
            None => all.push(value),
        }
    }
    all
}

/// The `type` of a step.
pub(super) fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}
