//! Values of the operator's file, with their places for messages.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::files::ReadError;

/// Most characters of a text that the page shows.
const MAX_TEXT: usize = 600;

/// Why a kiosk's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum KioskError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{file}, line {line}: {problem}")]
    Syntax { file: String, line: usize, problem: String },
    #[error("{file}, line {line}: unknown key {key:?}; known are {}", .known.join(", "))]
    UnknownKey { file: String, line: usize, key: String, known: Vec<String> },
    #[error("{file}, line {line}: {key}: expected {expected}, found {found}")]
    Value { file: String, line: usize, key: String, expected: String, found: String },
}

/// The file.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// What the file says.
    ///
    /// # Errors
    /// If it is no TOML.
    pub(super) fn table(&self) -> Result<Spanned<DeTable<'a>>, KioskError> {
        DeTable::parse(self.text).map_err(|error| KioskError::Syntax {
            file: self.file.to_owned(),
            line: self.line(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }
}

/// A value with its place.
pub(super) struct Field<'a> {
    source: &'a Source<'a>,
    name: &'a str,
    /// With the tables that it is in, e.g. `language.en.greeting`.
    key: String,
    at: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Field<'a> {
    /// The fields of a table. `inside` is its own key and a dot, or nothing.
    pub(super) fn all(
        source: &'a Source<'a>,
        inside: &str,
        table: &'a DeTable<'a>,
    ) -> impl Iterator<Item = Field<'a>> {
        table.iter().map(move |(key, value)| Field {
            source,
            name: key.get_ref(),
            key: format!("{inside}{}", key.get_ref()),
            at: key.span().start,
            value: value.get_ref(),
        })
    }

    /// Its key in its own table.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// The fields of this one, which is a table.
    pub(super) fn fields(&self) -> Result<Vec<Field<'a>>, KioskError> {
        match self.value {
            DeValue::Table(table) => Ok(Field::all(self.source, &format!("{}.", self.key), table).collect()),
            value => Err(self.wrong("a table", value.type_str())),
        }
    }

    /// The texts of a list, each with its place.
    pub(super) fn items(&self, most: usize) -> Result<Vec<Field<'a>>, KioskError> {
        let DeValue::Array(items) = self.value else {
            return Err(self.wrong("a list of texts", self.value.type_str()));
        };
        if items.len() > most {
            return Err(self.wrong(format!("at most {most} texts"), items.len()));
        }
        let field = |item: &'a Spanned<DeValue<'a>>| Field {
            source: self.source,
            name: self.name,
            key: self.key.clone(),
            at: item.span().start,
            value: item.get_ref(),
        };
        Ok(items.iter().map(field).collect())
    }

    /// A text that may have many lines and be long.
    pub(super) fn long_text(&self) -> Result<String, KioskError> {
        match self.value {
            DeValue::String(text) => Ok(text.to_string()),
            value => Err(self.wrong("a text in quotes", value.type_str())),
        }
    }

    /// A text of one line, which may be empty.
    pub(super) fn text_or_none(&self) -> Result<String, KioskError> {
        let text = self.long_text()?;
        let count = text.chars().count();
        if count > MAX_TEXT {
            return Err(self.wrong(format!("at most {MAX_TEXT} characters"), count));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(found) => {
                Err(self.wrong("a text of one line, without control characters", format!("{found:?}")))
            }
            None => Ok(text),
        }
    }

    /// A text of one line.
    pub(super) fn text(&self) -> Result<String, KioskError> {
        let text = self.text_or_none()?;
        if text.trim().is_empty() {
            return Err(self.wrong("a text", "an empty one"));
        }
        Ok(text)
    }

    /// A whole number.
    pub(super) fn number(&self, within: RangeInclusive<usize>) -> Result<usize, KioskError> {
        let expected = || format!("a whole number from {} to {}", within.start(), within.end());
        let DeValue::Integer(number) = self.value else {
            return Err(self.wrong(expected(), self.value.type_str()));
        };
        let read = usize::from_str_radix(number.as_str(), number.radix());
        read.ok().filter(|number| within.contains(number)).ok_or_else(|| self.wrong(expected(), number))
    }

    /// A share, from 0 to 1.
    pub(super) fn share(&self) -> Result<f64, KioskError> {
        let text = match self.value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) => number.as_str(),
            value => return Err(self.wrong("a number from 0 to 1", value.type_str())),
        };
        let read = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        read.ok_or_else(|| self.wrong("a number from 0 to 1", text))
    }

    /// True or false.
    pub(super) fn flag(&self) -> Result<bool, KioskError> {
        match self.value {
            DeValue::Boolean(flag) => Ok(*flag),
            value => Err(self.wrong("true or false", value.type_str())),
        }
    }

    /// The error for a value that is not what was expected.
    pub(super) fn wrong(&self, expected: impl Into<String>, found: impl Display) -> KioskError {
        KioskError::Value {
            file: self.source.file.to_owned(),
            line: self.source.line(self.at),
            key: self.key.clone(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// The error for a key that there is not.
    pub(super) fn unknown<'k>(&self, known: impl IntoIterator<Item = &'k str>) -> KioskError {
        KioskError::UnknownKey {
            file: self.source.file.to_owned(),
            line: self.source.line(self.at),
            key: self.key.clone(),
            known: known.into_iter().map(str::to_owned).collect(),
        }
    }
}
