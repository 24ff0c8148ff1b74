//! An answer that has ended, wherever it came from.

use crate::generate::{FinishReason, Outcome, Timings};
use crate::text::ToolCall;

/// An answer that has ended.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) text: String,
    /// What the model thought before.
    pub(super) reasoning: Option<String>,
    /// The functions that it calls.
    pub(super) tool_calls: Vec<ToolCall>,
    pub(super) finish: FinishReason,
    /// Whether it has reached the end of its form.
    pub(super) whole: bool,
    /// Where they are known.
    pub(super) counts: Option<Counts>,
    /// Its tokens, where the model is here.
    pub(super) tokens: Vec<u32>,
    pub(super) timings: Timings,
}

/// Tokens that an answer took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) answer: usize,
    pub(super) prompt: usize,
    /// Of the prompt, those that had been read before.
    pub(super) cached: usize,
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Reply {
        let counts = Counts {
            answer: outcome.tokens.len(),
            prompt: outcome.prompt_tokens,
            cached: outcome.cached_tokens,
        };
        Reply {
            text: outcome.text,
            reasoning: outcome.reasoning,
            tool_calls: outcome.tool_calls,
            finish: outcome.finish,
            whole: outcome.whole,
            counts: Some(counts),
            tokens: outcome.tokens,
            timings: outcome.timings,
        }
    }
}
