//! Why an item has no answer: something about it, or about the system at this moment.

use std::error::Error;
use std::io::ErrorKind;

use crate::generate::{GenerateError, OptionError};
use crate::runtime::AllocError;
use crate::text::{TemplateError, TextError};

/// Why an item has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ItemError {
    /// For people.
    pub message: String,
    /// For programs.
    pub trouble: Trouble,
    /// The key that is wrong, where that is known.
    pub param: Option<&'static str>,
}

/// What kind of trouble an item is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The item is wrong.
    Item,
    /// It does not fit into the context.
    TooLong,
    /// It says nothing about the item: the system had no thread or no memory to give.
    Passing,
    /// Too many wait already.
    QueueFull,
    /// The model failed.
    Model,
}

impl ItemError {
    /// What an error means for an item.
    pub fn new(error: &(dyn Error + 'static)) -> Self {
        let errors =
            || std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
        let text = errors().skip(1).fold(error.to_string(), |text, source| {
            let source = source.to_string();
            // Some messages hold their cause already.
            if text.contains(&source) { text } else { format!("{text}: {source}") }
        });
        let trouble = errors().find_map(Trouble::of).unwrap_or(Trouble::Item);
        let param = errors().find_map(|error| error.downcast_ref::<OptionError>()).or_else(|| {
            errors().find_map(|error| match error.downcast_ref() {
                Some(GenerateError::Option(option)) => Some(option),
                _ => None,
            })
        });
        Self { message: text, trouble, param: param.map(|option| option.option) }
    }

    /// Says which key is wrong, if that is not known yet.
    #[must_use]
    pub fn with_param(self, param: &'static str) -> Self {
        Self { param: self.param.or(Some(param)), ..self }
    }

    /// Whether it says nothing about the item, which may be asked again.
    pub fn is_passing(&self) -> bool {
        self.trouble == Trouble::Passing
    }
}

impl Trouble {
    fn of(error: &(dyn Error + 'static)) -> Option<Trouble> {
        let io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(io, Some(ErrorKind::WouldBlock | ErrorKind::OutOfMemory)) || error.is::<AllocError>() {
            return Some(Trouble::Passing);
        }
        let text = match error.downcast_ref() {
            Some(TemplateError::Text(text)) => Some(text),
            _ => error.downcast_ref(),
        };
        if let Some(TextError::TooLong { .. }) = text {
            return Some(Trouble::TooLong);
        }
        match error.downcast_ref()? {
            GenerateError::PromptTooLong { .. } => Some(Trouble::TooLong),
            GenerateError::QueueFull { .. } => Some(Trouble::QueueFull),
            GenerateError::NotFinite { .. } | GenerateError::Step(_) => Some(Trouble::Model),
            _ => None,
        }
    }
}

impl From<String> for ItemError {
    fn from(message: String) -> Self {
        Self { message, trouble: Trouble::Item, param: None }
    }
}

impl From<&str> for ItemError {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}
