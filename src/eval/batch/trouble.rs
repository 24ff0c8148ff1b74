//! Why an item has no answer: something about it, or about the system at this moment.

use std::error::Error;
use std::io::ErrorKind;

use crate::runtime::AllocError;

/// Why an item has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError {
    pub(super) message: String,
    /// Whether it says nothing about the item: the system had no thread or no memory to give.
    pub(super) is_passing: bool,
}

impl ItemError {
    /// What an error means for an item.
    pub fn new(error: &(dyn Error + 'static)) -> Self {
        let errors =
            || std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
        let is_passing = errors().any(|error| {
            let io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            matches!(io, Some(ErrorKind::WouldBlock | ErrorKind::OutOfMemory)) || error.is::<AllocError>()
        });
        let text = errors().skip(1).fold(error.to_string(), |text, source| {
            let source = source.to_string();
            // Some messages hold their cause already.
            if text.contains(&source) { text } else { format!("{text}: {source}") }
        });
        Self { message: text, is_passing }
    }
}

impl From<String> for ItemError {
    fn from(message: String) -> Self {
        Self { message, is_passing: false }
    }
}

impl From<&str> for ItemError {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}
