//! How messages become a prompt, and what its answers look like.

use crate::text::{ChatTemplate, TemplateError, Tokenizer};

use super::{CallError, CallFormat, Calling, Grammar, Layout};

/// How turns become a prompt.
#[derive(Debug)]
pub enum Format {
    /// By a chat template.
    Template(Box<ChatTemplate>),
    /// One after the other, as the text that the model continues; of base models.
    Raw {
        /// Whether control tokens in the text count.
        control: bool,
    },
}

impl Format {
    /// Takes the model's own chat template; without one, prompts are text that is continued.
    ///
    /// # Errors
    /// If the template is not valid.
    pub fn of(tokenizer: &Tokenizer) -> Result<Format, TemplateError> {
        Ok(match ChatTemplate::of(tokenizer)? {
            Some(template) => Format::Template(Box::new(template)),
            None => Format::Raw { control: false },
        })
    }

    /// The token that the template writes behind an answer.
    pub fn turn_end(&self, tokenizer: &Tokenizer) -> Option<u32> {
        match self {
            Format::Template(template) => template.turn_end(tokenizer),
            Format::Raw { .. } => None,
        }
    }

    /// A number that differs (with high probability) between formats.
    pub fn fingerprint(&self) -> u64 {
        match self {
            Format::Template(template) => template.fingerprint(),
            Format::Raw { control } => u64::from(*control),
        }
    }

    /// The parts of an answer; of what follows a raw text there are none.
    pub fn layout(&self, tokenizer: &Tokenizer, calling: Option<&Calling>) -> Option<Layout> {
        let Format::Template(template) = self else { return None };
        let calling = calling.filter(|calling| !calling.is_off());
        let format = calling.map(|_| CallFormat::find(template, tokenizer));
        Some(Layout::new(tokenizer, template.reasoning_marks(), format)).filter(|layout| !layout.is_empty())
    }

    /// What answers with calls may be.
    ///
    /// # Errors
    /// As [`Calling::grammar`], and if there is no template to tell the model of the functions.
    pub fn calls(&self, calling: &Calling, tokenizer: &Tokenizer) -> Result<Option<Grammar>, CallError> {
        match self {
            Format::Template(template) => calling.grammar(template, tokenizer),
            Format::Raw { .. } if calling.is_off() => Ok(None),
            Format::Raw { .. } => Err(CallError::NoTemplate),
        }
    }

    /// Tells every prompt of the functions from now on.
    pub fn tell(&mut self, calling: &Calling) {
        if let Format::Template(template) = self {
            template.set_tools(calling.to_json());
        }
    }
}
