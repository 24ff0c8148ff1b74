//! What the model is told before, and how messages become its prompt.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::CliError;
use super::output::note;
use crate::generate::Format;
use crate::text::{ChatTemplate, MAX_TEMPLATE_BYTES, Tokenizer};

/// How messages become a prompt.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PromptArgs {
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", env = "SMOLT_SYSTEM", conflicts_with = "raw")]
    system: Option<String>,

    /// Chat template in place of the model's: a file, one of the model's by name, or a built-in one such as chatml
    #[arg(long, value_name = "NAME|FILE", env = "SMOLT_TEMPLATE", conflicts_with = "raw")]
    template: Option<String>,

    /// Give the prompt to the model as it is: no chat template, and control tokens in it count
    #[arg(long)]
    raw: bool,
}

impl PromptArgs {
    /// The system prompt, if one was given; one of a configuration file is not for raw prompts.
    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_deref().filter(|_| !self.raw)
    }

    /// The format; says so if the model has no template.
    ///
    /// # Errors
    /// If the template cannot be read or used.
    pub(super) fn format(&self, tokenizer: &Tokenizer) -> Result<Format, CliError> {
        let template = match &self.template {
            _ if self.raw => return Ok(Format::Raw { control: true }),
            Some(wanted) => Some(template(wanted, tokenizer)?),
            None => ChatTemplate::of(tokenizer)?,
        };
        Ok(template.map_or_else(
            || {
                note("the model has no chat template; it continues the prompt as it is (--raw expects that)");
                Format::Raw { control: false }
            },
            |template| Format::Template(Box::new(template)),
        ))
    }
}

/// The template of this file, else the model's or the built-in one of this name.
fn template(wanted: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, CliError> {
    if Path::new(wanted).is_file() {
        let fail = |source| CliError::ReadTemplate { file: wanted.to_owned(), source };
        let mut source = String::new();
        let limit = MAX_TEMPLATE_BYTES as u64 + 1;
        File::open(wanted).and_then(|file| file.take(limit).read_to_string(&mut source)).map_err(fail)?;
        return Ok(ChatTemplate::compile(&source, tokenizer)?);
    }
    match tokenizer.named_chat_template(wanted) {
        Some(source) => Ok(ChatTemplate::compile(source, tokenizer)?),
        None => Ok(ChatTemplate::builtin(wanted, tokenizer)?),
    }
}
