//! Functions that a model may call, as their caller defines them. See [`Tools`].

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// Most functions.
pub const MAX_TOOLS: usize = 128;
/// Bytes of all definitions.
pub const MAX_TOOLS_BYTES: usize = 256 << 10;
/// Longest name of a function.
const MAX_NAME_BYTES: usize = 64;

/// Definitions that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message explains its fields")]
pub enum ToolError {
    #[error("the tools have {found} bytes, at most {limit} are allowed")]
    TooLong { found: usize, limit: usize },
    #[error("the tools are not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    #[error("the tools are {found}, expected a list of functions")]
    NotAList { found: &'static str },
    #[error("there are {found} tools, allowed are 1 to {limit}")]
    Count { found: usize, limit: usize },
    #[error("tool {number}: {key} {reason}")]
    Tool { number: usize, key: String, reason: String },
    #[error("there is no tool {found:?} to choose; there are: {known}")]
    UnknownChoice { found: String, known: String },
    #[error(
        "the tool {name} cannot be held to its parameters in this model's format: {keyword} at {path} is not supported"
    )]
    Parameters { name: String, keyword: String, path: String },
}

/// Whether a model calls functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// Not at all: it is not told of them.
    None,
    /// One of them.
    Required,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// As [`Self::named`] reads it.
    pub fn name(&self) -> &str {
        match self {
            ToolChoice::Auto => "auto",
            ToolChoice::None => "none",
            ToolChoice::Required => "required",
            ToolChoice::Named(name) => name,
        }
    }

    /// `auto`, `none`, `required`, or the name of a function.
    pub fn named(name: &str) -> ToolChoice {
        match name {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            name => ToolChoice::Named(name.to_owned()),
        }
    }
}

/// A function.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    /// JSON Schema of its arguments, an object.
    pub(super) parameters: Map<String, Value>,
    /// The whole definition.
    function: Value,
}

/// Functions that a model may call. Their texts are as untrusted as messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    pub(super) list: Vec<Tool>,
}

impl Tools {
    /// Reads a list of functions as OpenAI's interface has it, `[{"type": "function", "function": {"name": ...,
    /// "description": ..., "parameters": JSON Schema}}]`, or of the inner objects alone.
    ///
    /// # Errors
    /// If it is no such list, too long, or a definition is wrong or there twice.
    pub fn from_json(text: &str) -> Result<Tools, ToolError> {
        if text.len() > MAX_TOOLS_BYTES {
            return Err(ToolError::TooLong { found: text.len(), limit: MAX_TOOLS_BYTES });
        }
        Tools::from_value(&serde_json::from_str(text).map_err(ToolError::NotJson)?)
    }

    /// As [`Tools::from_json`], of JSON that was read.
    ///
    /// # Errors
    /// As these.
    pub fn from_value(value: &Value) -> Result<Tools, ToolError> {
        let Value::Array(items) = value else { return Err(ToolError::NotAList { found: kind(value) }) };
        if !(1..=MAX_TOOLS).contains(&items.len()) {
            return Err(ToolError::Count { found: items.len(), limit: MAX_TOOLS });
        }
        let (mut list, mut seen) = (vec![], HashSet::new());
        for (number, item) in (1..).zip(items) {
            let tool = Tool::read(item).map_err(|(key, reason)| ToolError::Tool {
                number,
                key: key.to_owned(),
                reason,
            })?;
            if !seen.insert(tool.name.clone()) {
                let reason = format!("{:?} is there twice", tool.name);
                return Err(ToolError::Tool { number, key: "name".to_owned(), reason });
            }
            list.push(tool);
        }
        Ok(Tools { list })
    }

    /// The definitions as templates take them.
    pub fn to_json(&self) -> Value {
        let entries = self.list.iter().map(|tool| json!({"type": "function", "function": tool.function}));
        Value::Array(entries.collect())
    }

    /// The functions that a choice leaves.
    ///
    /// # Errors
    /// If it names one that is not there.
    pub(super) fn chosen(&self, choice: &ToolChoice) -> Result<Vec<&Tool>, ToolError> {
        let ToolChoice::Named(name) = choice else { return Ok(self.list.iter().collect()) };
        let chosen: Vec<&Tool> = self.list.iter().filter(|tool| tool.name == *name).collect();
        if chosen.is_empty() {
            let found = name.chars().take(MAX_NAME_BYTES).collect();
            let known: Vec<&str> = self.list.iter().map(|tool| tool.name.as_str()).take(16).collect();
            return Err(ToolError::UnknownChoice { found, known: known.join(", ") });
        }
        Ok(chosen)
    }
}

impl Tool {
    /// Reads a definition; what is wrong with it is a key and a reason.
    fn read(item: &Value) -> Result<Tool, (&'static str, String)> {
        let found = |value: &Value| format!("is {}", kind(value));
        let outer = item.as_object().ok_or_else(|| ("the definition", found(item)))?;
        if let Some(given) = outer.get("type").filter(|_| outer.contains_key("function"))
            && given != "function"
        {
            return Err(("type", format!("is {given}, expected \"function\"")));
        }
        let function = outer.get("function").unwrap_or(item);
        let map = function.as_object().ok_or_else(|| ("function", found(function)))?;
        let name = match map.get("name") {
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(("name", format!("{}, expected a text", found(other)))),
            None => return Err(("name", "is missing".to_owned())),
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || name.len() > MAX_NAME_BYTES || !name.chars().all(is_part) {
            let rule = "has to be 1 to 64 letters, digits and _ - . beginning with a letter or _";
            return Err(("name", format!("{rule}, found {:?}", name.chars().take(80).collect::<String>())));
        }
        if let Some(other) = map.get("description").filter(|value| !value.is_string() && !value.is_null()) {
            return Err(("description", format!("{}, expected a text", found(other))));
        }
        let parameters = match map.get("parameters") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(schema)) => schema.clone(),
            Some(other) => return Err(("parameters", format!("{}, expected a JSON Schema", found(other)))),
        };
        if let Some(given) = parameters.get("type").filter(|given| *given != "object") {
            return Err(("parameters", format!("are of type {given}, expected \"object\"")));
        }
        let mut function = map.clone();
        // Templates read these without asking whether they are there.
        function.entry("description").or_insert_with(|| Value::from(""));
        let empty = || json!({"type": "object", "properties": {}});
        let given = function.entry("parameters").or_insert_with(empty);
        if given.is_null() {
            *given = empty();
        }
        Ok(Tool { name, parameters, function: Value::Object(function) })
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_read_in_both_forms() {
        let text = r#"[{"type": "function", "function": {"name": "a", "parameters": {"type": "object"}, "x": 1}},
            {"name": "b.c-d", "description": "B"}]"#;
        let tools = Tools::from_json(text).unwrap();
        let json = tools.to_json();
        assert_eq!(
            json[0]["function"],
            json!({"name": "a", "parameters": {"type": "object"}, "x": 1, "description": ""})
        );
        assert_eq!(json[1]["function"]["parameters"], json!({"type": "object", "properties": {}}));
        assert_eq!(tools.chosen(&ToolChoice::named("b.c-d")).unwrap().len(), 1);
        assert_eq!(tools.chosen(&ToolChoice::named("auto")).unwrap().len(), 2);
        let error = tools.chosen(&ToolChoice::named("e")).unwrap_err().to_string();
        assert!(error.contains("a, b.c-d"), "{error}");
    }

    #[test]
    fn wrong_definitions_name_the_tool_and_the_key() {
        let many = format!("[{}]", vec!["{\"name\": \"a\"}"; MAX_TOOLS + 1].join(","));
        for (text, part) in [
            ("[{", "line 1 column 2"),
            ("{\"name\": \"a\"}", "an object, expected a list"),
            ("[]", "0 tools"),
            (many.as_str(), "129 tools"),
            ("[1]", "tool 1: the definition is a number"),
            ("[{\"name\": \"a\"}, {\"name\": \"a\"}]", "tool 2: name \"a\" is there twice"),
            ("[{}]", "tool 1: name is missing"),
            ("[{\"name\": 1}]", "name is a number, expected a text"),
            ("[{\"name\": \"a b\"}]", "letters, digits"),
            ("[{\"name\": \"\"}]", "letters, digits"),
            ("[{\"type\": \"retrieval\", \"function\": {\"name\": \"a\"}}]", "type is \"retrieval\""),
            ("[{\"name\": \"a\", \"parameters\": 3}]", "parameters is a number"),
            ("[{\"name\": \"a\", \"parameters\": {\"type\": \"array\"}}]", "type \"array\""),
            ("[{\"name\": \"a\", \"description\": []}]", "description is a list"),
        ] {
            let error = Tools::from_json(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(matches!(Tools::from_json(&" ".repeat(MAX_TOOLS_BYTES + 1)), Err(ToolError::TooLong { .. })));
    }
}
