//! Lines of the output, after their place and hashes.

use serde::Serialize;
use serde_json::{Value, json};

use crate::ask::{AnswerMessage, Item, finish_reason};
use crate::generate::{Choice, Outcome};
use crate::text::ToolCall;

/// An item's answer.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    /// As in the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a Value>,
    pub(super) text: &'a str,
    /// What the model thought before; absent if nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<&'a str>,
    /// The functions that are called; absent if none.
    #[serde(skip_serializing_if = "<[ToolCall]>::is_empty")]
    pub(super) tool_calls: &'a [ToolCall],
    /// Ids of the answer, without an end token.
    pub(super) tokens: &'a [u32],
    pub(super) prompt_tokens: usize,
    pub(super) finish_reason: &'static str,
    /// Whether it reached the end of its form, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) complete: Option<bool>,
    pub(super) seed: u64,
    /// Sum of the natural log-probabilities of all tokens chosen; of a choice, with its end.
    pub(super) logprob: f64,
    /// With their probabilities, if it was one of some choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) choices: Option<&'a [Choice]>,
    /// Of a request.
    #[serde(flatten)]
    pub(super) response: Option<Response<'a>>,
    pub(super) timings: Timings,
}

/// Why an item has no answer.
#[derive(Serialize)]
pub(super) struct Failure {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    /// Of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_id: Option<Value>,
    error: Value,
}

impl Failure {
    pub(super) fn new(id: Option<Value>, is_request: bool, error: &str) -> Self {
        let custom_id = id.clone().filter(|_| is_request);
        let error = if is_request { json!({"code": "failed", "message": error}) } else { error.into() };
        Self { id, custom_id, error }
    }
}

/// What a line of OpenAI's batch output has.
#[derive(Serialize)]
pub(super) struct Response<'a> {
    custom_id: Option<&'a Value>,
    response: Value,
    /// Null beside an answer.
    error: Value,
}

impl<'a> Response<'a> {
    /// The response to a request; nothing for other items.
    pub(super) fn new(item: &'a Item, input: u64, model: &str, outcome: &Outcome) -> Option<Self> {
        if !item.is_request {
            return None;
        }
        let finish = finish_reason(outcome);
        let text = outcome.text.as_str();
        let (prefix, object, choice) = if item.raw {
            ("cmpl", "text_completion", json!({"index": 0, "text": text, "finish_reason": finish}))
        } else {
            let message = AnswerMessage::new(outcome);
            let choice = json!({"index": 0, "message": message, "finish_reason": finish});
            ("chatcmpl", "chat.completion", choice)
        };
        let (prompt, answer) = (outcome.prompt_tokens, outcome.tokens.len());
        let body = json!({
            "id": format!("{prefix}-{input:016x}"),
            "object": object,
            "model": model,
            "choices": [choice],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": answer,
                "total_tokens": prompt + answer,
            },
        });
        let response = json!({"status_code": 200, "body": body});
        Some(Self { custom_id: item.id.as_ref(), response, error: Value::Null })
    }
}

/// What differs from run to run.
#[derive(Serialize)]
pub(super) struct Timings {
    /// Tokens of the prompt that were in the cache.
    cached_tokens: usize,
    total_ms: f64,
    first_token_ms: Option<f64>,
    prompt_tok_s: Option<f64>,
    decode_tok_s: Option<f64>,
    /// Energy of the whole machine over the item, where the board tells it.
    energy_joules: Option<f64>,
}

impl Timings {
    pub(super) fn new(outcome: &Outcome, energy_joules: Option<f64>) -> Self {
        let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let timings = &outcome.timings;
        Self {
            cached_tokens: outcome.cached_tokens,
            total_ms: milliseconds(timings.total),
            first_token_ms: timings.first_token.map(milliseconds),
            prompt_tok_s: timings.prompt_tokens_per_second(),
            decode_tok_s: timings.decode_tokens_per_second(),
            energy_joules,
        }
    }
}
