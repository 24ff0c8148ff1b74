//! What the model is told before, and how messages become its prompt.

use std::path::Path;

use super::error::CliError;
use super::output::note;
use crate::files::read_text;
use crate::generate::{Format, Thinking};
use crate::text::{ChatTemplate, MAX_TEMPLATE_BYTES, TemplateError, TemplateVariables, Tokenizer};

/// How messages become a prompt.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PromptArgs {
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", env = "SMOLT_SYSTEM", conflicts_with = "raw")]
    system: Option<String>,

    /// Chat template in place of the model's: a file, one of the model's by name, or a built-in one such as chatml
    #[arg(long, value_name = "NAME|FILE", env = "SMOLT_TEMPLATE", conflicts_with = "raw")]
    template: Option<String>,

    /// A variable of the chat template, e.g. enable_thinking=false: JSON if it is that, else text; may be given several
    /// times
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, conflicts_with = "raw")]
    template_var: Vec<(String, String)>,

    /// Whether the model thinks before it answers: on shows what it thinks on standard error, hide does not, off asks for
    /// none [default: what the chat template does; shown on a terminal]
    #[arg(long, value_name = "on|off|hide", env = "SMOLT_THINK", value_parser = thinking, conflicts_with = "raw")]
    think: Option<Thinking>,

    /// Give the prompt to the model as it is: no chat template, and control tokens in it count
    #[arg(long)]
    raw: bool,
}

impl PromptArgs {
    /// The chat template that was asked for.
    pub(super) fn template_name(&self) -> Option<&str> {
        self.template.as_deref()
    }

    /// Asks for a chat template; without one, for the model's.
    pub(super) fn set_template(&mut self, template: Option<&str>) {
        self.template = template.map(str::to_owned);
    }

    /// Whether prompts are given to the model as they are.
    pub(super) fn is_raw(&self) -> bool {
        self.raw
    }

    /// The system prompt, if one was given; one of a configuration file is not for raw prompts.
    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_deref().filter(|_| !self.raw)
    }

    /// What was said about thinking; it is not for raw prompts.
    pub(super) fn think(&self) -> Option<Thinking> {
        self.think.filter(|_| !self.raw)
    }

    /// The variables of the chat template, and what it is asked for.
    ///
    /// # Errors
    /// If there are too many.
    pub(super) fn variables(&self) -> Result<TemplateVariables, TemplateError> {
        let mut variables = TemplateVariables::default();
        self.template_var.iter().try_for_each(|(name, text)| variables.set(name, text))?;
        variables.set_thinking(self.think().map(Thinking::is_asked));
        Ok(variables)
    }

    /// The format; says so if the model has no template, or one that does not use a variable that was given.
    ///
    /// # Errors
    /// If the template cannot be read or used.
    pub(super) fn format(&self, tokenizer: &Tokenizer) -> Result<Format, CliError> {
        let mut template = self.template(tokenizer)?;
        match &mut template {
            Some(template) => set_variables(template, self.variables()?),
            None if !self.raw => {
                note("the model has no chat template; it continues the prompt as it is (--raw expects that)");
            }
            None => {}
        }
        Ok(match template {
            Some(template) => Format::Template(Box::new(template)),
            None => Format::Raw { control: self.raw },
        })
    }

    /// The chat template, unless prompts are raw or the model has none.
    fn template(&self, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, CliError> {
        Ok(match &self.template {
            _ if self.raw => None,
            Some(wanted) => Some(template(wanted, tokenizer)?),
            None => ChatTemplate::of(tokenizer)?,
        })
    }
}

/// Renders with these variables from now on; says so if the template does not use one.
pub(super) fn set_variables(template: &mut ChatTemplate, variables: TemplateVariables) {
    for name in variables.names().filter(|name| !template.uses(name)) {
        note(format_args!("the chat template does not use {name}"));
    }
    if variables.thinking().is_some() && !template.can_switch_thinking() {
        note("the chat template knows nothing of thinking; --think changes nothing");
    }
    template.set_variables(variables);
}

/// Reads how a model is to think.
///
/// # Errors
/// If it is none of the ways.
pub(super) fn thinking(text: &str) -> Result<Thinking, String> {
    Thinking::named(text).ok_or_else(|| "expected on, off or hide".to_owned())
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// If it is not that, or no template can have such a variable.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, e.g. enable_thinking=false")?;
    TemplateVariables::default().set(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The template of this file, else the model's or the built-in one of this name.
fn template(wanted: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, CliError> {
    if Path::new(wanted).is_file() {
        // Jinja reads every line end as a line feed.
        let source = read_text(Path::new(wanted), MAX_TEMPLATE_BYTES as u64)?.replace("\r\n", "\n");
        return Ok(ChatTemplate::compile(&source, tokenizer)?);
    }
    match tokenizer.named_chat_template(wanted) {
        Some(source) => Ok(ChatTemplate::compile(source, tokenizer)?),
        None => Ok(ChatTemplate::builtin(wanted, tokenizer)?),
    }
}
