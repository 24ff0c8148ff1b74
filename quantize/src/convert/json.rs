//! JSON files and typed access to them. Every error names the file and the path of the key.

use std::path::Path;

use serde_json::{Map, Value};
use smolt::files::read_text_if_there;

use super::ConvertError;
use super::family::Flag;

/// Characters of a value that are shown in a message.
const SHOWN_CHARS: usize = 80;

/// A JSON file whose value is an object.
#[derive(Debug)]
pub(super) struct Json {
    file: String,
    map: Map<String, Value>,
}

impl Json {
    /// Reads a file of at most `limit` bytes; `None` where there is none.
    pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Self>, ConvertError> {
        let Some(text) = read_text_if_there(path, limit)? else { return Ok(None) };
        let file = path.display().to_string();
        match serde_json::from_str(&text) {
            Ok(map) => Ok(Some(Self { file, map })),
            Err(source) => Err(ConvertError::json(&file, text.as_bytes(), source)),
        }
    }

    /// The whole value.
    pub(super) fn root(&self) -> Object<'_> {
        Object { file: &self.file, path: String::new(), map: &self.map }
    }
}

/// A JSON object and where it is.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    file: &'a str,
    /// Keys that lead to it, each followed by a dot.
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The file, for messages.
    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    /// A value that is present and not null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The first of these keys that is present and not null; the first of all where none is.
    pub(super) fn first_of(&self, keys: &[&'static str]) -> &'static str {
        let present = keys.iter().find(|key| self.get(key).is_some());
        present.or(keys.first()).copied().unwrap_or_default()
    }

    /// A boolean.
    pub(super) fn is(&self, flag: Flag) -> Result<bool, ConvertError> {
        Ok(self.flag(self.first_of(flag.keys))?.unwrap_or(flag.absent))
    }

    /// The error of a key whose value is not as expected.
    pub(super) fn bad(&self, key: &str, expected: impl Into<String>) -> ConvertError {
        ConvertError::Value {
            file: self.file.to_owned(),
            key: format!("{}{key}", self.path),
            expected: expected.into(),
            found: self.get(key).map_or_else(|| "nothing".to_owned(), shown),
        }
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.bad(key, expected))
    }

    /// An integer from 1 to `most`.
    pub(super) fn count(&self, key: &str, most: u64) -> Result<Option<u64>, ConvertError> {
        let expected = format!("an integer from 1 to {most}");
        self.typed(key, &expected, |value| value.as_u64().filter(|n| (1..=most).contains(n)))
    }

    /// A finite number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        self.typed(key, "a number", finite)
    }

    /// A list of so many finite numbers.
    pub(super) fn numbers(&self, key: &str, len: usize) -> Result<Option<Vec<f64>>, ConvertError> {
        let read = |value: &Value| -> Option<Vec<f64>> {
            let list = value.as_array().filter(|list| list.len() == len)?;
            list.iter().map(finite).collect()
        };
        self.typed(key, &format!("a list of {len} numbers"), read)
    }

    /// A positive number.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        self.typed(key, "a positive number", |value| value.as_f64().filter(|x| x.is_finite() && *x > 0.0))
    }

    /// A boolean that is present and not null.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ConvertError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A string.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ConvertError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A list.
    pub(super) fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ConvertError> {
        self.typed(key, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// An object.
    pub(super) fn object(&self, key: &str) -> Result<Option<Object<'a>>, ConvertError> {
        let path = format!("{}{key}.", self.path);
        let map = self.typed(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Object { file: self.file, path, map }))
    }
}

fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

/// A value as JSON, cut short.
pub(super) fn shown(value: &Value) -> String {
    cut(&value.to_string(), SHOWN_CHARS)
}

/// The first `most` characters of a text, and `…` where that is not all.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
