//! What items say of functions and reasoning.

use serde_json::Value;

use super::keys::{Field, KeyError, Keys};
use crate::generate::{Thinking, ToolChoice, Tools};
use crate::text::{Message, Role, ToolCall};

use super::item::Item;

/// Reads the functions that an item may call, and whether the model thinks.
pub(super) fn take(keys: &mut Keys, item: &mut Item) -> Result<(), KeyError> {
    item.think = keys.take("think").map(thinking).transpose()?;
    let tools = keys.take("tools").filter(|field| field.value.as_array().is_none_or(|list| !list.is_empty()));
    item.tools = tools.map(|field| tools_of(&field)).transpose()?;
    item.tool_choice = keys.take("tool_choice").map(choice).transpose()?;
    Ok(())
}

fn thinking(field: Field) -> Result<Thinking, KeyError> {
    let found = match &field.value {
        Value::Bool(true) => Some(Thinking::On),
        Value::Bool(false) => Some(Thinking::Off),
        value => value.as_str().and_then(Thinking::named),
    };
    found.ok_or_else(|| field.expected("on, off, hide, true or false"))
}

fn tools_of(field: &Field) -> Result<Tools, KeyError> {
    Tools::from_value(&field.value)
        .map_err(|error| field.expected(format!("a list of functions, and of this one: {error}")))
}

/// A name, or OpenAI's object with one.
fn choice(field: Field) -> Result<ToolChoice, KeyError> {
    let name = field.value.as_str().or(field.value.pointer("/function/name").and_then(Value::as_str));
    let expected = r#"auto, none, required, a name or {"type": "function", "function": {"name": "..."}}"#;
    name.map(ToolChoice::named).ok_or_else(|| field.expected(expected))
}

/// Reads the calls of a message of the assistant.
pub(super) fn calls(field: Field) -> Result<Vec<ToolCall>, KeyError> {
    let calls = field.list("a list of calls")?.into_iter().enumerate();
    calls
        .map(|(place, field)| {
            ToolCall::from_json(&field.value, place)
                .map_err(|error| field.expected(format!("a call of a function: {error}")))
        })
        .collect()
}

/// Names the calls that results are of: the one with the id that a result has, else the next without a result.
pub(super) fn match_results(messages: &mut [Message]) {
    for at in 0..messages.len() {
        let (before, rest) = messages.split_at_mut(at);
        let Some(message) = rest.first_mut().filter(|message| message.role == Role::Tool) else { continue };
        let given = before.iter().rev().take_while(|message| message.role == Role::Tool).count();
        let calls = before.iter().rev().nth(given).map_or(&[][..], |message| &message.tool_calls);
        let (id, name) = message.result_of.take().unwrap_or_default();
        let call = calls.iter().find(|call| call.id == id).or_else(|| calls.get(given));
        let or =
            |text: String, other: Option<String>| if text.is_empty() { other.unwrap_or(text) } else { text };
        let id = or(id, call.map(|call| call.id.clone()));
        let name = or(name, call.map(|call| call.name.clone()));
        message.result_of = Some((id, name));
    }
}
