//! Turns of a conversation, as templates see them.

use minijinja::Value;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the roles")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::System, Role::User, Role::Assistant, Role::Tool];

    /// The name templates know.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A function that the assistant calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Tells the call from others of its answer; nine letters and digits, as some templates ask for.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// Its arguments by name.
    pub arguments: serde_json::Map<String, serde_json::Value>,
}

impl ToolCall {
    /// Reads a call as OpenAI's interface has it, `{"id": ..., "function": {"name": ..., "arguments": object or its
    /// text}}`, or the inner object alone. One without an id is given the one of its place.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(value: &serde_json::Value, place: usize) -> Result<ToolCall, String> {
        let function = value.get("function").unwrap_or(value);
        let text = |value: Option<&serde_json::Value>| value.and_then(|v| v.as_str()).map(str::to_owned);
        let name = text(function.get("name")).ok_or("a tool call has no name")?;
        let arguments = match function.get("arguments") {
            None | Some(serde_json::Value::Null) => serde_json::Map::new(),
            Some(serde_json::Value::Object(map)) => map.clone(),
            Some(serde_json::Value::String(text)) if text.trim().is_empty() => serde_json::Map::new(),
            Some(serde_json::Value::String(text)) => serde_json::from_str(text)
                .map_err(|error| format!("the arguments of {name} are no JSON object: {error}"))?,
            Some(_) => return Err(format!("the arguments of {name} are neither an object nor a text")),
        };
        let id = text(value.get("id")).unwrap_or_else(|| ToolCall::place_id(place));
        Ok(ToolCall { id, name, arguments })
    }

    /// The id of a call that has no other.
    pub fn place_id(place: usize) -> String {
        format!("call{place:05}")
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// What the assistant thought before it spoke.
    pub reasoning: Option<String>,
    /// The functions that the assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's result, the call's id and the function's name.
    pub result_of: Option<(String, String)>,
}

impl Message {
    /// A turn.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message { role, content: content.into(), reasoning: None, tool_calls: vec![], result_of: None }
    }

    /// Bytes of all texts, about.
    pub(super) fn bytes(&self) -> usize {
        let calls = self.tool_calls.iter().map(|call| {
            let arguments = serde_json::to_string(&call.arguments).map_or(0, |text| text.len());
            call.id.len() + call.name.len() + arguments
        });
        let result = self.result_of.as_ref().map_or(0, |(id, name)| id.len() + name.len());
        self.content.len() + self.reasoning.as_ref().map_or(0, String::len) + result + calls.sum::<usize>()
    }

    /// The keys of a message beside `role` and `content`, named as `transformers` names them; what is absent is not
    /// defined.
    pub(super) fn further(&self) -> Vec<(&'static str, Value)> {
        let mut entries = vec![];
        entries.extend(self.reasoning.as_deref().map(|text| ("reasoning_content", Value::from(text))));
        if !self.tool_calls.is_empty() {
            entries.push(("tool_calls", self.tool_calls.iter().map(call).collect()));
        }
        if let Some((id, name)) = &self.result_of {
            entries.push(("tool_call_id", Value::from(id.as_str())));
            entries.push(("name", Value::from(name.as_str())));
        }
        entries
    }
}

fn call(call: &ToolCall) -> Value {
    let entry = |key: &str, value: Value| (Value::from(key), value);
    let function = Value::from_pairs([
        entry("name", Value::from(call.name.as_str())),
        entry("arguments", Value::from(Serde(&call.arguments))),
    ]);
    Value::from_pairs([
        entry("id", Value::from(call.id.as_str())),
        entry("type", Value::from("function")),
        entry("function", function),
    ])
}

/// The messages with a leading system message put in front of the first user message.
pub(super) fn fold_system(messages: &[Message]) -> Option<Vec<Message>> {
    let (system, rest) = messages.split_first().filter(|(first, _)| first.role == Role::System)?;
    let mut folded = rest.to_vec();
    let user = folded.iter_mut().find(|message| message.role == Role::User)?;
    user.content = format!("{}\n\n{}", system.content, user.content);
    Some(folded)
}
