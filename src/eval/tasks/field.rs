//! From a document to the texts of a task: the name of a field, a template, or a constant.

use serde_json::Value;

use super::documents::Document;
use super::{TaskError, literal};
use crate::ask::keys::shown;
use crate::text::DocumentTemplate;

/// Most choices of a document.
pub const MAX_CHOICES: usize = 1 << 10;

/// Where a text comes from.
#[derive(Debug)]
pub(super) enum Source {
    Name(String),
    Template(Box<DocumentTemplate>),
    Constant(Value),
}

/// A `doc_to_...` of a task.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) source: Source,
    is_spaced: bool,
}

/// A document with its place, for messages.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) task: &'a str,
    pub(super) index: usize,
    pub(super) document: &'a Document,
}

impl Field {
    /// What `value` means over documents with the fields of `example`. A template without tags is a constant.
    pub(super) fn new(key: &'static str, value: &Value, example: &Document) -> Result<Field, TaskError> {
        let source = match value {
            Value::String(name) if example.contains_key(name) => Source::Name(name.clone()),
            Value::String(source)
                if source.contains("{{") || source.contains("{%") || source.contains("{#") =>
            {
                Source::Template(Box::new(DocumentTemplate::compile(source)?))
            }
            Value::Object(map) => Source::Constant(map.values().cloned().collect()),
            constant => Source::Constant(constant.clone()),
        };
        let is_spaced = value.as_str().is_some_and(|text| text.ends_with(char::is_whitespace));
        Ok(Field { key, source, is_spaced })
    }

    /// Whether it is written with white space at its end.
    pub(super) fn ends_with_space(&self) -> bool {
        self.is_spaced
    }

    fn fail(&self, at: Place<'_>, message: impl Into<String>) -> TaskError {
        TaskError::Field {
            task: at.task.to_owned(),
            key: self.key,
            document: at.index,
            message: message.into(),
        }
    }

    /// As it is: of a template, its text.
    fn value(&self, at: Place<'_>) -> Result<Value, TaskError> {
        match &self.source {
            Source::Name(name) => Ok(at.document.get(name).cloned().unwrap_or_default()),
            Source::Template(template) => match template.render(at.document) {
                Ok(text) => Ok(Value::from(text)),
                Err(error) => Err(self.fail(at, error.to_string())),
            },
            Source::Constant(value) => Ok(value.clone()),
        }
    }

    /// A text.
    pub(super) fn text(&self, at: Place<'_>) -> Result<String, TaskError> {
        match self.value(at)? {
            Value::String(text) => Ok(text),
            other => Err(self.fail(at, format!("found {}, expected a text", shown(&other)))),
        }
    }

    /// A text, a list of texts, or where there are choices, an index or a list of them.
    pub(super) fn target(&self, at: Place<'_>, has_choices: bool) -> Result<Value, TaskError> {
        let value = self.value(at)?;
        let Value::String(text) = &value else { return Ok(value) };
        if matches!(self.source, Source::Name(_)) {
            return Ok(value);
        }
        if has_choices && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let index: u32 = text.parse().map_err(|_| self.fail(at, "the index is too large"))?;
            return Ok(Value::from(index));
        }
        if text.len() >= 2 && text.starts_with('[') && text.ends_with(']') {
            return Ok(literal::parse(text).unwrap_or(value));
        }
        Ok(value)
    }

    /// A list of texts.
    pub(super) fn choices(&self, at: Place<'_>) -> Result<Vec<String>, TaskError> {
        let value = match (&self.source, self.value(at)?) {
            (Source::Name(_), value) => value,
            (_, Value::String(text)) => literal::parse(&text)
                .ok_or_else(|| self.fail(at, format!("{} is not a list", shown(&Value::from(text)))))?,
            (_, value) => value,
        };
        let texts = value.as_array().map(|items| items.iter().map(|item| item.as_str().map(str::to_owned)));
        let texts: Option<Vec<String>> = texts.and_then(Iterator::collect);
        match texts {
            Some(texts) if texts.is_empty() || texts.len() > MAX_CHOICES => {
                Err(self
                    .fail(at, format!("there are {} choices, 1 to {MAX_CHOICES} are accepted", texts.len())))
            }
            Some(texts) => Ok(texts),
            None => Err(self.fail(at, format!("found {}, expected a list of texts", shown(&value)))),
        }
    }
}
