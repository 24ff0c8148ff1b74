//! What an answer may be, as arguments say it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CliError;
use super::output::report;
use crate::files::{ReadError, read_text};
use crate::generate::{Choice, Constraint, Draw, Grammar, GrammarCompiler, MAX_GRAMMAR_BYTES};
use crate::text::Tokenizer;

/// At most one grammar.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Constrained output")]
pub(super) struct GrammarArgs {
    /// Answer with JSON that the JSON Schema in FILE allows
    #[arg(long, value_name = "FILE", group = "answer")]
    schema: Option<PathBuf>,

    /// Answer with text that a regular expression matches as a whole
    #[arg(long, value_name = "RE", group = "answer")]
    regex: Option<String>,

    /// Answer with text of the Lark grammar in FILE
    #[arg(long, value_name = "FILE", group = "answer")]
    grammar: Option<PathBuf>,

    /// Answer with the likeliest of these texts; their probabilities are computed exactly. With --temp one is drawn
    /// by them
    #[arg(long, value_name = "A,B,C", group = "answer", value_delimiter = ',')]
    choices: Vec<String>,
}

impl GrammarArgs {
    /// Whether it takes memory; choices do not.
    pub(super) fn takes_memory(&self) -> bool {
        self.schema.is_some() || self.regex.is_some() || self.grammar.is_some()
    }

    /// Reads the grammar, if there is one.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(super) fn read(&self) -> Result<Option<Form>, CliError> {
        Ok(match self {
            Self { schema: Some(path), .. } => Some(Form::Grammar(Grammar::Schema(read_file(path)?))),
            Self { grammar: Some(path), .. } => Some(Form::Grammar(Grammar::Lark(read_file(path)?))),
            Self { regex: Some(regex), .. } => Some(Form::Grammar(Grammar::Regex(regex.clone()))),
            Self { choices, .. } if !choices.is_empty() => Some(Form::Choices(choices.clone())),
            _ => None,
        })
    }
}

/// What an answer may be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Grammar(Grammar),
    /// One of these, whose probabilities are computed.
    Choices(Vec<String>),
}

/// The likeliest choice is taken unless a temperature was asked for.
pub(super) fn draw(temperature: Option<f32>, seed: u64) -> Option<Draw> {
    temperature.map(|temperature| Draw { temperature, seed })
}

/// Reads the file of a grammar.
///
/// # Errors
/// If it cannot be read or is not UTF-8.
pub(super) fn read_file(path: &Path) -> Result<String, ReadError> {
    read_text(path, MAX_GRAMMAR_BYTES as u64)
}

/// Compiles a grammar for the tokens of a model.
///
/// # Errors
/// If it is wrong or cannot be followed.
pub(super) fn compile(grammar: &Grammar, tokenizer: &Arc<Tokenizer>) -> Result<Constraint, CliError> {
    Ok(GrammarCompiler::new(Arc::clone(tokenizer))?.compile(grammar)?)
}

/// Lists the choices on standard error, the most likely first.
pub(super) fn note_choices(choices: &[Choice]) {
    let mut sorted: Vec<&Choice> = choices.iter().collect();
    sorted.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let lines: Vec<String> = sorted
        .iter()
        .map(|choice| format!("  {:.6}  {:>10.4}  {:?}", choice.probability, choice.logprob, choice.text))
        .collect();
    report(format_args!("probability, log-probability of each choice\n{}", lines.join("\n")));
}
