//! What an answer may be, as arguments say it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::error::CliError;
use super::output::note;
use crate::generate::{Choice, Constraint, Grammar, GrammarCompiler, MAX_GRAMMAR_BYTES};
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

    /// Answer with one of these texts; their probabilities are computed exactly
    #[arg(long, value_name = "A,B,C", group = "answer", value_delimiter = ',')]
    choices: Vec<String>,
}

impl GrammarArgs {
    /// Whether it takes memory with every command; choices do not with `smolt run`.
    pub(super) fn takes_memory(&self) -> bool {
        self.schema.is_some() || self.regex.is_some() || self.grammar.is_some()
    }

    /// Reads the grammar, if there is one.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(super) fn read(&self) -> Result<Option<Grammar>, CliError> {
        Ok(match self {
            Self { schema: Some(path), .. } => Some(Grammar::Schema(read_file(path)?)),
            Self { grammar: Some(path), .. } => Some(Grammar::Lark(read_file(path)?)),
            Self { regex: Some(regex), .. } => Some(Grammar::Regex(regex.clone())),
            Self { choices, .. } if !choices.is_empty() => Some(Grammar::Choices(choices.clone())),
            _ => None,
        })
    }
}

/// The text of a file, at most one byte more than a grammar may have.
///
/// # Errors
/// If it cannot be read or is not UTF-8.
pub(super) fn read_file(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::ReadGrammar { file: path.display().to_string(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = vec![];
    file.take(MAX_GRAMMAR_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| failed(std::io::Error::other(error.utf8_error())))
}

/// Compiles a grammar for the tokens of a model.
///
/// # Errors
/// If it is wrong or cannot be followed.
pub(super) fn compile(grammar: &Grammar, tokenizer: &Arc<Tokenizer>) -> Result<Constraint, CliError> {
    Ok(GrammarCompiler::new(Arc::clone(tokenizer))?.compile(grammar)?)
}

/// A choice in machine-readable form.
#[derive(Serialize)]
pub(super) struct ChoiceReport<'a> {
    text: &'a str,
    /// Natural logarithm of the probability that the model says it and ends; null if it rules it out.
    logprob: Option<f64>,
    /// Its share among the choices.
    probability: f64,
}

impl<'a> ChoiceReport<'a> {
    pub(super) fn new(choice: &'a Choice) -> ChoiceReport<'a> {
        let logprob = Some(choice.logprob).filter(|logprob| logprob.is_finite());
        ChoiceReport { text: &choice.text, logprob, probability: choice.probability }
    }
}

/// Lists the choices on standard error, the most likely first.
pub(super) fn note_choices(choices: &[Choice]) {
    let mut sorted: Vec<&Choice> = choices.iter().collect();
    sorted.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let lines: Vec<String> = sorted
        .iter()
        .map(|choice| format!("  {:.6}  {:>10.4}  {:?}", choice.probability, choice.logprob, choice.text))
        .collect();
    note(format_args!("probability, log-probability of each choice\n{}", lines.join("\n")));
}
