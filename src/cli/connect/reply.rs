//! A streamed answer, part by part.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::error::ConnectError;
use super::sse::Events;
use crate::text::ToolCall;

/// Bytes of an answer, with what was thought before it and the functions it calls.
const MAX_ANSWER: usize = 8 << 20;
/// Functions that an answer calls.
const MAX_CALLS: usize = 128;
/// The last event.
const DONE: &str = "[DONE]";

/// What came of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Part {
    pub(in crate::cli) text: String,
    pub(in crate::cli) reasoning: String,
}

/// What is known at the end of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Replied {
    pub(in crate::cli) calls: Vec<ToolCall>,
    /// Whether it was cut: it was too long, or the context is full.
    pub(in crate::cli) is_cut: bool,
    /// Where the server counts.
    pub(in crate::cli) usage: Option<Usage>,
}

/// Tokens that an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(in crate::cli) struct Usage {
    #[serde(default)]
    pub(in crate::cli) prompt_tokens: usize,
    #[serde(default)]
    pub(in crate::cli) completion_tokens: usize,
    prompt_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
struct Details {
    cached_tokens: Option<usize>,
}

impl Usage {
    /// Tokens of the prompt that had been read before.
    pub(in crate::cli) fn cached_tokens(&self) -> usize {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0)
    }
}

/// An event of a streamed answer, as far as it is read.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<CallPart>>,
}

/// A call, or more of one.
#[derive(Deserialize)]
struct CallPart {
    index: Option<usize>,
    id: Option<String>,
    function: Option<FunctionPart>,
}

#[derive(Deserialize)]
struct FunctionPart {
    name: Option<String>,
    arguments: Option<Value>,
}

/// A call that may go on.
#[derive(Default)]
struct Call {
    id: Option<String>,
    name: String,
    arguments: String,
}

/// An answer under way. Dropping it closes the connection, and the server stops.
pub(in crate::cli) struct Answering {
    events: Events,
    calls: Vec<Call>,
    replied: Replied,
    bytes: usize,
    has_ended: bool,
}

impl Answering {
    pub(super) fn new(events: Events) -> Answering {
        Answering { events, calls: vec![], replied: Replied::default(), bytes: 0, has_ended: false }
    }

    /// What comes next; nothing at the end.
    ///
    /// # Errors
    /// If the server fails, or ends in the middle, or it was cancelled.
    pub(in crate::cli) fn next(&mut self) -> Result<Option<Part>, ConnectError> {
        let event = match self.events.next()? {
            Some(event) if event.trim() != DONE => event,
            Some(_) => return Ok(None),
            None if self.has_ended => return Ok(None),
            None => return Err(ConnectError::Cut),
        };
        let chunk: Chunk = serde_json::from_str(&event)
            .map_err(|error| ConnectError::Foreign { reason: format!("an event cannot be read: {error}") })?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(ConnectError::Failed { message: message_of(&error) });
        }
        self.replied.usage = chunk.usage.or(self.replied.usage);
        let mut part = Part::default();
        for choice in chunk.choices {
            if let Some(reason) = choice.finish_reason {
                self.has_ended = true;
                self.replied.is_cut = reason == "length";
            }
            let Some(delta) = choice.delta else { continue };
            part.text.push_str(&delta.content.unwrap_or_default());
            part.reasoning.push_str(&delta.reasoning_content.unwrap_or_default());
            delta.tool_calls.into_iter().flatten().try_for_each(|call| self.call(call))?;
        }
        self.count(part.text.len() + part.reasoning.len())?;
        Ok(Some(part))
    }

    fn count(&mut self, bytes: usize) -> Result<(), ConnectError> {
        self.bytes += bytes;
        if self.bytes > MAX_ANSWER {
            return Err(ConnectError::TooLong { what: "an answer", limit: MAX_ANSWER });
        }
        Ok(())
    }

    /// Adds a call, or more of one.
    fn call(&mut self, part: CallPart) -> Result<(), ConnectError> {
        let at = part.index.unwrap_or(self.calls.len());
        if at >= MAX_CALLS {
            return Err(ConnectError::Foreign {
                reason: format!("an answer calls more than {MAX_CALLS} functions"),
            });
        }
        if at >= self.calls.len() {
            self.calls.resize_with(at + 1, Call::default);
        }
        let Some(function) = part.function else { return Ok(()) };
        let name = function.name.unwrap_or_default();
        let arguments = match function.arguments {
            Some(Value::String(text)) => text,
            Some(Value::Null) | None => String::new(),
            Some(value) => value.to_string(),
        };
        self.count(name.len() + arguments.len())?;
        let call = &mut self.calls[at];
        call.id = part.id.or(call.id.take());
        call.name.push_str(&name);
        call.arguments.push_str(&arguments);
        Ok(())
    }

    /// What is known at the end.
    ///
    /// # Errors
    /// If a call cannot be read.
    pub(in crate::cli) fn finish(mut self) -> Result<Replied, ConnectError> {
        let calls = self.calls.iter().enumerate().map(|(place, call)| {
            let call = json!({"id": call.id, "function": {"name": call.name, "arguments": call.arguments}});
            ToolCall::from_json(&call, place).map_err(|reason| ConnectError::Foreign { reason })
        });
        self.replied.calls = calls.collect::<Result<_, _>>()?;
        Ok(self.replied)
    }
}

/// What an error says, whatever shape it has.
pub(super) fn message_of(error: &Value) -> String {
    const MAX_CHARS: usize = 500;
    let message = error.get("message").unwrap_or(error);
    let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    message.chars().take(MAX_CHARS).collect()
}
