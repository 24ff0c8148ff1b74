//! What an answer may be.

use std::borrow::Cow;

use crate::files::Fnv;
use crate::generate::{CallError, Calling, Format, Grammar};
use crate::text::Tokenizer;

/// What an answer may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Text that a grammar allows.
    Grammar(Grammar),
    /// One of these, whose probabilities are computed.
    Choices(Vec<String>),
    /// Text, or calls of functions.
    Calls(Calling),
}

impl Form {
    /// The functions that may be called.
    pub fn calling(&self) -> Option<&Calling> {
        match self {
            Form::Calls(calling) => Some(calling),
            Form::Grammar(_) | Form::Choices(_) => None,
        }
    }

    /// Adds it to a hash.
    pub(super) fn add_to(&self, hash: &mut Fnv) {
        match self {
            Form::Grammar(Grammar::Schema(text)) => {
                ["schema", text].iter().for_each(|text| hash.add_text(text))
            }
            Form::Grammar(Grammar::Regex(text)) => {
                ["regex", text].iter().for_each(|text| hash.add_text(text))
            }
            Form::Grammar(Grammar::Lark(text)) => ["lark", text].iter().for_each(|text| hash.add_text(text)),
            // It is made of the calls and the model's format.
            Form::Grammar(Grammar::Calls(_)) => hash.add_text("calls"),
            Form::Choices(texts) => {
                hash.add_text("choices");
                texts.iter().for_each(|text| hash.add_text(text));
            }
            Form::Calls(calling) => {
                hash.add_text("tools");
                hash.add_text(&calling.to_json().map(|tools| tools.to_string()).unwrap_or_default());
                hash.add_text(calling.choice().name());
            }
        }
    }

    /// The grammar that answers are held to; none where choices are scored or nothing may be called.
    ///
    /// # Errors
    /// If parameters of functions cannot be enforced in the model's format.
    pub fn grammar<'a>(
        &'a self,
        format: &Format,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Cow<'a, Grammar>>, CallError> {
        match self {
            Form::Choices(_) => Ok(None),
            Form::Grammar(grammar) => Ok(Some(Cow::Borrowed(grammar))),
            Form::Calls(calling) => Ok(format.calls(calling, tokenizer)?.map(Cow::Owned)),
        }
    }
}
