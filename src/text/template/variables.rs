//! Variables of a template beside the messages.

use std::sync::Arc;

use minijinja::Value;
use minijinja::value::ValueKind;

use super::{MAX_MESSAGE_BYTES, TemplateError, trace};
use crate::files::Fnv;

/// Most variables.
pub const MAX_VARIABLES: usize = 64;
/// Longest name of a variable.
const MAX_NAME_BYTES: usize = 64;
/// Names that are not for callers to say: what a conversation is made of, and functions.
const RESERVED: [&str; 7] = [
    "messages",
    "tools",
    "bos_token",
    "eos_token",
    "add_generation_prompt",
    "strftime_now",
    "raise_exception",
];

/// What a template may use beside the messages: `enable_thinking`, `documents` and the like. What is absent is not
/// defined. Texts in it are as untrusted as messages; keys are not.
#[derive(Clone, Debug, Default)]
pub struct TemplateVariables {
    /// In the order they were given.
    pub(super) entries: Vec<(String, Value)>,
    /// Whether the model shall think before it answers; `None` for what the template does by itself.
    pub(super) thinking: Option<bool>,
    /// Functions that the model may call.
    pub(super) tools: Option<Arc<serde_json::Value>>,
}

impl TemplateVariables {
    /// The entries of a JSON object, e.g. `{"tools": [...], "enable_thinking": false}`. `add_generation_prompt` is
    /// true unless it is an entry.
    ///
    /// # Errors
    /// If `json` is not an object or too large.
    pub fn from_json(json: &str) -> Result<TemplateVariables, TemplateError> {
        if json.len() > MAX_MESSAGE_BYTES {
            return Err(TemplateError::MessagesTooLarge { found: json.len(), limit: MAX_MESSAGE_BYTES });
        }
        let value: Value = serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
        if value.kind() != ValueKind::Map {
            return Err(bad(format!("found {}", value.kind())));
        }
        let keys = value.try_iter().map_err(|error| bad(error.to_string()))?;
        let entry = |key: Value| Some((key.as_str()?.to_owned(), value.get_item(&key).ok()?));
        Ok(TemplateVariables { entries: keys.filter_map(entry).collect(), ..TemplateVariables::default() })
    }

    /// As [`TemplateVariables::from_json`], of what a user wrote: each entry is checked as
    /// [`TemplateVariables::set`] does.
    ///
    /// # Errors
    /// As these.
    pub fn from_user_json(json: &str) -> Result<TemplateVariables, TemplateError> {
        let mut variables = TemplateVariables::default();
        for (name, value) in TemplateVariables::from_json(json)?.entries {
            variables.insert(&name, value)?;
        }
        Ok(variables)
    }

    /// Sets a variable to what `text` says: JSON if it is that, else the text itself. A later value replaces an
    /// earlier one.
    ///
    /// # Errors
    /// If the name cannot be that of a variable or belongs to the conversation, or there are too many variables, too
    /// long or too deep ones.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(TemplateError::MessagesTooLarge { found: text.len(), limit: MAX_MESSAGE_BYTES });
        }
        let value = serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text));
        self.insert(name, value)
    }

    fn insert(&mut self, name: &str, value: Value) -> Result<(), TemplateError> {
        check_name(name)?;
        if !trace::is_shallow(&value) {
            return Err(bad(format!("{name} is nested more than {} deep", trace::MAX_DEPTH)));
        }
        self.put(name, value);
        if self.entries.len() > MAX_VARIABLES {
            return Err(bad(format!("more than {MAX_VARIABLES}")));
        }
        Ok(())
    }

    /// Sets a variable of the program's own.
    pub(super) fn put(&mut self, name: &str, value: Value) {
        match self.entries.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.entries.push((name.to_owned(), value)),
        }
    }

    /// These variables, and those of `others` in place of them or after them.
    pub fn overlaid(&self, others: &TemplateVariables) -> TemplateVariables {
        let mut all = self.clone();
        for (name, value) in &others.entries {
            all.put(name, value.clone());
        }
        all.thinking = others.thinking.or(all.thinking);
        all.tools = others.tools.clone().or(all.tools);
        all
    }

    /// Asks the model to think before it answers, or not to; `None` for what the template does by itself.
    pub fn set_thinking(&mut self, thinking: Option<bool>) {
        self.thinking = thinking;
    }

    /// Tells of functions, as OpenAI's interface defines them, or of none.
    pub fn set_tools(&mut self, tools: Option<serde_json::Value>) {
        self.tools = tools.map(Arc::new);
    }

    /// As it was set by [`TemplateVariables::set_thinking`].
    pub fn thinking(&self) -> Option<bool> {
        self.thinking
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.thinking.is_none() && self.tools.is_none()
    }

    /// The names, in the order they were given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Each variable as `name=value`, the value in JSON.
    pub fn show(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|(name, value)| format!("{name}={}", json(value)))
    }

    /// The entries as a JSON object.
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let entry = |(name, value): &(String, Value)| Some((name.clone(), serde_json::to_value(value).ok()?));
        self.entries.iter().filter_map(entry).collect()
    }

    /// Adds the variables that `counts` holds for to `hash`.
    pub(super) fn add_to(&self, hash: &mut Fnv, counts: impl Fn(&str) -> bool) {
        if let Some(thinking) = self.thinking {
            hash.add(&[u8::from(thinking)]);
        }
        if let Some(tools) = &self.tools {
            hash.add(tools.to_string().as_bytes());
        }
        for (name, value) in self.entries.iter().filter(|(name, _)| counts(name)) {
            hash.add(format!("\0{name}={}", json(value)).as_bytes());
        }
    }
}

fn json(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn bad(message: String) -> TemplateError {
    TemplateError::Variables { message }
}

fn check_name(name: &str) -> Result<(), TemplateError> {
    let shown = || name.chars().take(MAX_NAME_BYTES).collect::<String>();
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts || name.len() > MAX_NAME_BYTES || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let rule = format!("a name is 1 to {MAX_NAME_BYTES} letters, digits and _");
        return Err(bad(format!("{:?} cannot be a variable; {rule}", shown())));
    }
    if RESERVED.contains(&name) {
        return Err(bad(format!("{name} is not one: it belongs to the conversation")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(variables: &TemplateVariables) -> Vec<String> {
        variables.show().collect()
    }

    #[test]
    fn values_are_json_if_they_can_be() {
        let mut variables = TemplateVariables::default();
        for (name, text) in [
            ("a", "false"),
            ("b", "1.5"),
            ("c", "[1,{\"k\":null}]"),
            ("d", "\"x\""),
            ("e", "yes"),
            ("f", "[1"),
        ] {
            variables.set(name, text).unwrap();
        }
        variables.set("a", "true").unwrap();
        let expected = ["a=true", "b=1.5", "c=[1,{\"k\":null}]", "d=\"x\"", "e=\"yes\"", "f=\"[1\""];
        assert_eq!(shown(&variables), expected);
        let mut others = TemplateVariables::default();
        others.set("e", "no").unwrap();
        others.set("g", "").unwrap();
        assert_eq!(shown(&variables.overlaid(&others))[4..], ["e=\"no\"", "f=\"[1\"", "g=\"\""]);
    }

    #[test]
    fn what_cannot_be_a_variable_is_refused() {
        let long = "x".repeat(65);
        for name in ["", "1a", "a-b", "a.b", "ä", "messages", "tools", "bos_token", &long] {
            let error = TemplateVariables::default().set(name, "1").unwrap_err();
            assert!(matches!(error, TemplateError::Variables { .. }), "{name}");
        }
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert!(TemplateVariables::default().set("a", &deep).unwrap_err().to_string().contains("deep"));
        let mut many = TemplateVariables::default();
        let failed = (0..100).find(|i| many.set(&format!("v{i}"), "1").is_err());
        assert_eq!(failed, Some(MAX_VARIABLES));
        let huge = "x".repeat(MAX_MESSAGE_BYTES + 1);
        assert!(TemplateVariables::default().set("a", &huge).is_err());
        assert!(TemplateVariables::from_user_json("{\"messages\": []}").is_err());
    }
}
