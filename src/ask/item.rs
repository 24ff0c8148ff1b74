//! An item: what is asked, and how it is to be answered.

use serde_json::{Map, Value};

use crate::generate::{SamplerOptions, Thinking, ToolChoice, Tools};
use crate::text::Message;

/// An item of the input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    /// Anything; repeated in the output.
    pub id: Option<Value>,
    /// Whether the item is a request of OpenAI's batch files, so that its line has the response of one too.
    pub is_request: bool,
    /// What the user says. Either this or `messages`.
    pub prompt: Option<String>,
    /// The same as tokens, which go to the model as they are.
    pub tokens: Option<Vec<u32>>,
    /// A conversation.
    pub messages: Option<Vec<Message>>,
    /// What the model is told before the prompt.
    pub system: Option<String>,
    /// Whether the prompt goes to the model without chat template.
    pub raw: bool,
    /// Variables of the chat template by name.
    pub template_vars: Option<Map<String, Value>>,
    /// Whether the model thinks before it answers.
    pub think: Option<Thinking>,
    /// Functions that the answer may call.
    pub tools: Option<Tools>,
    /// Whether it calls one.
    pub tool_choice: Option<ToolChoice>,
    /// Tokens of the answer at most.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer.
    pub stop: Option<Vec<String>>,
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
    /// Taken from the logit of a token for every time it was said, -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// Taken from the logit of a token that was said, -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Added to the logits of these tokens, -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
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
    /// Keys that were given and change nothing.
    pub ignored: Vec<&'static str>,
}

impl Item {
    /// The key that says what the answer may be.
    pub(super) fn form_key(&self) -> &'static str {
        match self {
            Item { schema: Some(_), .. } => "response_format",
            Item { regex: Some(_), .. } => "regex",
            Item { grammar: Some(_), .. } => "grammar",
            Item { choices: Some(_), .. } => "choices",
            Item { tools: Some(_), .. } => "tools",
            _ => "tool_choice",
        }
    }

    /// The key that the prompt is in.
    pub(super) fn prompt_key(&self) -> &'static str {
        if self.messages.is_some() { "messages" } else { "prompt" }
    }

    /// The sampler of an item; `input` is the hash of its line.
    pub(crate) fn sampler(&self, options: &SamplerOptions, input: u64) -> SamplerOptions {
        SamplerOptions {
            temperature: self.temperature.unwrap_or(options.temperature),
            top_k: self.top_k.unwrap_or(options.top_k),
            top_p: self.top_p.unwrap_or(options.top_p),
            min_p: self.min_p.unwrap_or(options.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(options.repeat_penalty),
            seed: self.seed.unwrap_or_else(|| mixed(options.seed, input)),
            ..options.clone()
        }
    }
}

/// A seed of its own for each item, below 2^32 for readers of JSON that know only doubles: the finalizer of
/// SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators").
fn mixed(seed: u64, input: u64) -> u64 {
    let mut z = seed.wrapping_add(input.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 32
}
