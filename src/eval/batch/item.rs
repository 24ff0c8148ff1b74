//! Lines of the input.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::generate::SamplerOptions;

/// Longest line of the input.
pub const MAX_LINE_BYTES: usize = 8 << 20;

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Vec<String> {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Several(texts) => texts,
        }
    }
}

/// A line of the input. Unknown keys are errors, so that a misspelt parameter is not overlooked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Anything; repeated in the output.
    pub id: Option<Value>,
    /// What the user says. Either this or `messages`.
    pub prompt: Option<String>,
    /// A conversation that ends with the user.
    pub messages: Option<Vec<ItemMessage>>,
    /// What the model is told before the prompt.
    pub system: Option<String>,
    /// Whether the prompt goes to the model without chat template.
    pub raw: Option<bool>,
    /// Variables of the chat template by name.
    #[serde(alias = "chat_template_kwargs")]
    pub template_vars: Option<Map<String, Value>>,
    /// Tokens of the answer at most.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer.
    pub stop: Option<Texts>,
    /// As in [`SamplerOptions`], like the next five.
    pub temperature: Option<f32>,
    #[expect(missing_docs, reason = "see temperature")]
    pub top_k: Option<usize>,
    #[expect(missing_docs, reason = "see temperature")]
    pub top_p: Option<f32>,
    #[expect(missing_docs, reason = "see temperature")]
    pub min_p: Option<f32>,
    #[expect(missing_docs, reason = "see temperature")]
    pub repeat_penalty: Option<f32>,
    /// The item's own seed.
    pub seed: Option<u64>,
    /// Whether the answer is ended if it goes in circles.
    pub loop_guard: Option<bool>,
    /// The answer matches this JSON Schema.
    pub schema: Option<Value>,
    /// The answer matches this regular expression.
    pub regex: Option<String>,
    /// The answer matches this Lark grammar.
    pub grammar: Option<String>,
    /// The answer is one of these.
    pub choices: Option<Vec<String>>,
}

impl Item {
    /// Parses a line.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        serde_json::from_str(line).map_err(|error| format!("not an item: {error}"))
    }

    /// Refuses an item without a prompt, or with two.
    pub(super) fn check(&self) -> Result<(), String> {
        match (&self.prompt, &self.messages) {
            (Some(_), Some(_)) => Err("the item has both prompt and messages".to_owned()),
            (None, None) => Err("the item has neither prompt nor messages".to_owned()),
            _ => Ok(()),
        }
    }

    /// The sampler of item `index`.
    pub(super) fn sampler(&self, options: &SamplerOptions, index: usize) -> SamplerOptions {
        SamplerOptions {
            temperature: self.temperature.unwrap_or(options.temperature),
            top_k: self.top_k.unwrap_or(options.top_k),
            top_p: self.top_p.unwrap_or(options.top_p),
            min_p: self.min_p.unwrap_or(options.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(options.repeat_penalty),
            seed: self.seed.unwrap_or_else(|| mixed(options.seed, index as u64)),
            ..options.clone()
        }
    }
}

/// A seed of its own for each index, below 2^32 for readers of JSON that know only doubles: the finalizer of
/// SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators").
fn mixed(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 32
}
