//! An answer, as OpenAI's clients know it.

use serde::Serialize;
use serde_json::Value;

use crate::generate::{FinishReason, Outcome};
use crate::text::ToolCall;

/// What the model said.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "serve", derive(schemars::JsonSchema))]
pub struct AnswerMessage {
    /// Always assistant.
    pub role: &'static str,
    /// The text; null if there are only calls.
    pub content: Option<String>,
    /// Always null.
    pub refusal: Option<String>,
    /// What it thought before; absent if nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The functions it calls; absent if none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<FunctionCall>,
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "serve", derive(schemars::JsonSchema))]
pub struct FunctionCall {
    /// Its place among the calls of a streamed answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// What its result refers to.
    pub id: String,
    /// Always function.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Which function, and how.
    pub function: CalledFunction,
}

/// A function with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "serve", derive(schemars::JsonSchema))]
pub struct CalledFunction {
    /// The function.
    pub name: String,
    /// A JSON object, as text.
    pub arguments: String,
}

impl FunctionCall {
    /// A call, without a place.
    pub fn new(call: &ToolCall) -> Self {
        let arguments = Value::Object(call.arguments.clone()).to_string();
        let function = CalledFunction { name: call.name.clone(), arguments };
        Self { index: None, id: call.id.clone(), kind: "function", function }
    }
}

impl AnswerMessage {
    /// The message of an answer.
    pub fn new(outcome: &Outcome) -> Self {
        let tool_calls: Vec<FunctionCall> = outcome.tool_calls.iter().map(FunctionCall::new).collect();
        let content = (!outcome.text.is_empty() || tool_calls.is_empty()).then(|| outcome.text.clone());
        let reasoning_content = outcome.reasoning.clone();
        Self { role: "assistant", content, refusal: None, reasoning_content, tool_calls }
    }
}

/// Why an answer ended: stop, length or tool_calls.
pub fn finish_reason(outcome: &Outcome) -> &'static str {
    match outcome.finish {
        finish if finish.is_limit() => "length",
        FinishReason::Cancelled => "length",
        _ if !outcome.tool_calls.is_empty() => "tool_calls",
        _ => "stop",
    }
}
