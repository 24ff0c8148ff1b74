//! What an answer may be, as arguments say it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CliError;
use super::output::{note, report};
use crate::ask::Form;
use crate::files::{ReadError, read_text};
use crate::generate::{
    Calling, CancelHandle, Choice, Constraint, Draw, Grammar, GrammarCompiler, MAX_GRAMMAR_BYTES,
    MAX_TOOLS_BYTES, ToolChoice, Tools,
};
use crate::text::Tokenizer;

/// At most one grammar.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Constrained output")]
pub(super) struct GrammarArgs {
    /// Answer with JSON that the JSON Schema in FILE allows, on one line. Unless the schema says otherwise, objects have
    /// all the keys it declares and no others. As with --regex and --grammar, an answer ends within -n and the context;
    /// one that is cut off all the same, as by --stop, gives exit code 6
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

    /// Functions that the model may call, a JSON list as OpenAI's interface has it; calls are held to the model's format
    /// and their parameters, and printed as one line of JSON each
    #[arg(long, value_name = "FILE", group = "answer")]
    tools: Option<PathBuf>,

    /// Whether to call a function: auto, none, required (one call), or the name of the one to call
    #[arg(
        long,
        value_name = "CHOICE",
        requires = "tools",
        default_value = "auto",
        hide_default_value = true
    )]
    tool_choice: String,
}

impl GrammarArgs {
    /// Whether it takes memory; choices do not.
    pub(super) fn takes_memory(&self) -> bool {
        self.schema.is_some() || self.regex.is_some() || self.grammar.is_some() || self.tools.is_some()
    }

    /// Whether answers are held to a form.
    pub(super) fn is_given(&self) -> bool {
        self.takes_memory() || !self.choices.is_empty()
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
            Self { tools: Some(path), .. } => Some(Form::Calls(calling(path, &self.tool_choice)?)),
            Self { choices, .. } if !choices.is_empty() => Some(Form::Choices(choices.clone())),
            _ => None,
        })
    }
}

/// Reads the functions of a file.
///
/// # Errors
/// If they cannot be read, or the choice is none of them.
pub(super) fn calling(path: &Path, choice: &str) -> Result<Calling, CliError> {
    let failed = |source| CliError::Tools { file: path.display().to_string(), source };
    let tools = Tools::from_json(&read_text(path, MAX_TOOLS_BYTES as u64)?).map_err(failed)?;
    Calling::new(Arc::new(tools), ToolChoice::named(choice)).map_err(failed)
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
pub(super) fn compile(
    grammar: &Grammar,
    tokenizer: &Arc<Tokenizer>,
    cancel: &CancelHandle,
) -> Result<Constraint, CliError> {
    Ok(GrammarCompiler::new(Arc::clone(tokenizer))?.compile_unless(grammar, cancel)?)
}

/// Says that an answer has not the form it was to have, if it is not `whole`.
pub(super) fn note_unfinished(whole: bool, form: Option<&Form>) {
    if let Some(Form::Grammar(grammar)) = form
        && !whole
    {
        note(format_args!("the answer was cut off before the end of its form, the {}", grammar.what()));
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
    report(format_args!("probability, log-probability of each choice\n{}", lines.join("\n")));
}
