//! JSON objects that a person wrote, read key by key: every message names the place and says what is expected there.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::text::nearest;

/// Characters of a value that a message shows.
const SHOWN_CHARS: usize = 60;
/// Characters before a mistake that a message shows.
const NEAR_CHARS: usize = 20;

/// What is wrong with a value, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum KeyError {
    #[error("wrong JSON at column {column}, after {near}: {problem}")]
    Syntax { column: usize, near: String, problem: &'static str },
    #[error("the key {key:?} is there twice")]
    Twice { key: String },
    #[error("found {found}, expected {expected}")]
    Whole { found: String, expected: &'static str },
    #[error("{key} is {found}; expected {expected}")]
    Value { key: String, found: String, expected: String },
    #[error("{key} is missing; expected {expected}")]
    Missing { key: String, expected: &'static str },
    #[error("unknown key {key}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Unknown { key: String, hint: Option<String> },
    #[error("{key} and {other} say the same; give one of them")]
    Both { key: String, other: String },
}

impl KeyError {
    /// The place of the key, empty if it is none.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Syntax { .. } | Self::Whole { .. } => "",
            Self::Twice { key }
            | Self::Value { key, .. }
            | Self::Missing { key, .. }
            | Self::Unknown { key, .. }
            | Self::Both { key, .. } => key.trim_matches('"'),
        }
    }
}

/// Shows a value in a message, shortened.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Reads one JSON value. Of two equal keys in an object neither is preferred: they are refused.
pub(crate) fn parse(text: &str) -> Result<Value, KeyError> {
    match serde_json::from_str::<Unique>(text) {
        Ok(Unique(value)) => Ok(value),
        Err(error) if error.is_data() => {
            // Data is only refused by `Unique`, with the key as message.
            let message = error.to_string();
            let key = message.rsplit_once(" at line").map_or(message.as_str(), |(key, _)| key).to_owned();
            Err(KeyError::Twice { key })
        }
        Err(error) => Err(syntax(text, &error)),
    }
}

fn syntax(text: &str, error: &serde_json::Error) -> KeyError {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let mut end = error.column().min(line.len());
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let before = &line[..end];
    let start = before.char_indices().rev().nth(NEAR_CHARS - 1).map_or(0, |(start, _)| start);
    let message = error.to_string();
    let problem = if error.is_eof() {
        "the line ends before the value does"
    } else if message.contains("surrogate") || message.contains("hex escape") {
        "half of a surrogate pair; expected both \\u escapes of the character"
    } else if message.contains("control character") {
        "a control character in a text; expected an escape such as \\n"
    } else if message.contains("escape") {
        "an escape that JSON does not have"
    } else if message.contains("trailing characters") {
        "something follows the value; expected one value on the line"
    } else if message.contains("number out of range") {
        "a number that is too large"
    } else if message.contains("recursion") {
        "too many values within values"
    } else {
        "expected a value, a comma or a closing bracket"
    };
    let near = if start == end { "nothing".to_owned() } else { format!("`{}`", &before[start..]) };
    KeyError::Syntax { column: before.chars().count().max(1), near, problem }
}

/// A value whose objects have no key twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = vec![];
        while let Some(Unique(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(key));
            }
            let Unique(value) = access.next_value()?;
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

/// The keys of an object that were not taken yet, with the object's place.
#[derive(Debug)]
pub(crate) struct Keys {
    path: String,
    map: Map<String, Value>,
    /// Names that were asked for.
    known: HashSet<&'static str>,
}

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) path: String,
    pub(crate) value: Value,
}

impl Keys {
    /// Begins with the outermost object.
    pub(crate) fn new(map: Map<String, Value>) -> Self {
        Self { path: String::new(), map, known: HashSet::new() }
    }

    /// The value of a key, which is not taken.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// What was not taken.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.map.iter()
    }

    fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether there is such a key with a value other than null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Takes the value of a key; null is as good as none.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Field> {
        self.known.insert(key);
        let value = self.map.remove(key).filter(|value| !value.is_null())?;
        Some(Field { path: self.path(key), value })
    }

    /// Takes the value of a key that has several names, of which at most one may be given.
    pub(crate) fn take_any(&mut self, names: &[&'static str]) -> Result<Option<Field>, KeyError> {
        let mut found: Option<Field> = None;
        for name in names {
            let field = self.take(name);
            if let (Some(first), Some(second)) = (&found, &field) {
                return Err(KeyError::Both { key: first.path.clone(), other: second.path.clone() });
            }
            found = found.or(field);
        }
        Ok(found)
    }

    /// Takes the value of a key that must be there.
    pub(crate) fn need(&mut self, key: &'static str, expected: &'static str) -> Result<Field, KeyError> {
        self.take(key).ok_or_else(|| KeyError::Missing { key: self.path(key), expected })
    }

    /// Refuses keys that nobody took. `hints` says for some names what to write instead.
    pub(crate) fn finish(self, hints: &[(&str, &str)]) -> Result<(), KeyError> {
        let Some(key) = self.map.keys().next() else { return Ok(()) };
        let hint = hints.iter().find(|(name, _)| name == key).map(|(_, hint)| (*hint).to_owned());
        let similar =
            || nearest(key, self.known.iter().copied()).map(|known| format!("did you mean {known:?}?"));
        Err(KeyError::Unknown { key: self.path(&format!("{key:?}")), hint: hint.or_else(similar) })
    }
}

impl Field {
    /// Says that something else was expected.
    pub(crate) fn expected(&self, expected: impl Into<String>) -> KeyError {
        KeyError::Value { key: self.path.clone(), found: shown(&self.value), expected: expected.into() }
    }

    /// A text.
    pub(crate) fn text(self) -> Result<String, KeyError> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.expected("a text")),
        }
    }

    /// True or false.
    pub(crate) fn flag(self) -> Result<bool, KeyError> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// A whole number from 0 on; 5.0 is one.
    pub(crate) fn whole(self) -> Result<u64, KeyError> {
        let float = self.value.as_f64().filter(|value| value.fract() == 0.0 && (0.0..9e15).contains(value));
        let whole = self.value.as_u64().or(float.map(|value| value as u64));
        whole.ok_or_else(|| self.expected("a whole number from 0 on"))
    }

    /// A whole number from 0 on, as a count.
    pub(crate) fn count(self) -> Result<usize, KeyError> {
        let error = self.expected("a smaller number");
        usize::try_from(self.whole()?).map_err(|_| error)
    }

    /// A number.
    pub(crate) fn number(self) -> Result<f32, KeyError> {
        match self.value.as_f64().map(|value| value as f32).filter(|value| value.is_finite()) {
            Some(value) => Ok(value),
            None => Err(self.expected("a number")),
        }
    }

    /// The items of a list.
    pub(crate) fn list(self, expected: &str) -> Result<Vec<Field>, KeyError> {
        match self.value {
            Value::Array(items) => {
                let item = |(at, value)| Field { path: format!("{}[{at}]", self.path), value };
                Ok(items.into_iter().enumerate().map(item).collect())
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// One text or several.
    pub(crate) fn texts(self) -> Result<Vec<String>, KeyError> {
        match self.value {
            Value::String(text) => Ok(vec![text]),
            _ => self.list("a text or a list of texts")?.into_iter().map(Field::text).collect(),
        }
    }

    /// An object as it is.
    pub(crate) fn map(self, expected: &str) -> Result<Map<String, Value>, KeyError> {
        match self.value {
            Value::Object(map) => Ok(map),
            _ => Err(self.expected(expected)),
        }
    }

    /// The keys of an object.
    pub(crate) fn object(self, expected: &str) -> Result<Keys, KeyError> {
        match self.value {
            Value::Object(map) => Ok(Keys { path: self.path, map, known: HashSet::new() }),
            _ => Err(self.expected(expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(value: Value) -> Keys {
        Keys::new(value.as_object().unwrap().clone())
    }

    #[test]
    fn values_are_named_by_their_place() {
        let mut root = keys(json!({"a": [{"b": "text"}, {"b": 5.0}], "none": null}));
        let mut items = root.take("a").unwrap().list("a list").unwrap().into_iter();
        let object = |field: Field| field.object("an object").unwrap().take("b").unwrap();
        let error = object(items.next().unwrap()).whole().unwrap_err().to_string();
        assert_eq!(error, r#"a[0].b is "text"; expected a whole number from 0 on"#);
        assert_eq!(object(items.next().unwrap()).whole().unwrap(), 5);
        assert!(root.take("none").is_none());
        assert_eq!(root.finish(&[]), Ok(()));
    }

    #[test]
    fn what_nobody_took_is_unknown() {
        let mut root = keys(json!({"temprature": 1}));
        assert!(root.take("temperature").is_none() && root.take("top_p").is_none());
        let error = root.finish(&[]).unwrap_err().to_string();
        assert_eq!(error, r#"unknown key "temprature"; did you mean "temperature"?"#);
        let hints = [("text", "expected prompt")];
        assert_eq!(
            keys(json!({"text": 1})).finish(&hints).unwrap_err().to_string(),
            r#"unknown key "text"; expected prompt"#
        );
        let mut both = keys(json!({"a": 1, "b": 2}));
        assert!(matches!(both.take_any(&["a", "b"]), Err(KeyError::Both { .. })));
    }

    #[test]
    fn wrong_json_is_told_in_plain_words() {
        for (text, column, problem) in [
            ("nothing", 2, "expected a value"),
            (r#"{"a": 1"#, 7, "ends before"),
            (r#"{"a": "\ud83d x"}"#, 14, "surrogate"),
            ("{\"a\": \"\t\"}", 8, "control character"),
            (r#"{"a": 1} 2"#, 10, "follows"),
            (r#"{"a" 1}"#, 6, "expected a value, a comma"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(problem), "{text}: {error}");
            assert!(matches!(error, KeyError::Syntax { column: found, .. } if found == column), "{error:?}");
        }
        assert!(matches!(parse(&"[".repeat(100_000)), Err(KeyError::Syntax { .. })));
        assert_eq!(parse(r#"{"b": {"a": 1, "a": 2}}"#), Err(KeyError::Twice { key: "a".to_owned() }));
        assert_eq!(
            parse(r#"{"é": [1, -1, 0.5, true, null]}"#).unwrap(),
            json!({"é": [1, -1, 0.5, true, null]})
        );
    }
}
