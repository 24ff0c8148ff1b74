//! Everything that can go wrong in a command.

use std::io;

use crate::eval::EvalError;
use crate::eval::batch::BatchError;
use crate::eval::tasks::TaskError;
use crate::files::{ReadError, WriteError};
use crate::generate::{GenerateError, GrammarError, SavedError};
use crate::gguf::GgufError;
use crate::kernels::KernelError;
use crate::load::{DoesNotFit, LoadError};
use crate::model::ModelError;
use crate::store::StoreError;
use crate::text::{TemplateError, TextError};

use super::chat::ChatError;
use super::config::ConfigError;
#[cfg(feature = "serve")]
use super::connect::ConnectError;
#[cfg(feature = "trust")]
use super::demand::DemandError;
use super::preset::PresetError;
use super::session::SessionError;
#[cfg(feature = "trust")]
use super::slots::SlotsError;
use super::usage::UsageError;

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum CliError {
    #[error(transparent)]
    Gguf(GgufError),
    #[error(transparent)]
    Model(ModelError),
    #[cfg(feature = "trust")]
    #[error(transparent)]
    Demand(#[from] DemandError),
    #[cfg(feature = "trust")]
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    #[error("{file}: {source}")]
    Tools { file: String, source: crate::generate::ToolError },
    #[error(transparent)]
    Calls(#[from] crate::generate::CallError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error("there is no task to evaluate")]
    NoTask,
    #[error("the model has no chat template")]
    NoTemplate,
    #[error("the model has no chat template, without which the page cannot answer anybody")]
    KioskTemplate,
    #[error("there is no result {found}; there are: {known}")]
    NoMetric { found: String, known: String },
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[cfg(feature = "trust")]
    #[error(transparent)]
    Update(#[from] crate::updates::UpdateError),
    #[cfg(feature = "trust")]
    #[error(transparent)]
    Slots(#[from] SlotsError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error(transparent)]
    Preset(#[from] PresetError),
    #[error("{name} is a preset, and here a model is expected")]
    OnlyPreset { name: String },
    #[error("{name} cannot be an alias: it is {what} already")]
    TakenAlias { name: String, what: &'static str },
    #[error("{} is not UTF-8", .path.display())]
    NotUtf8Path { path: std::path::PathBuf },
    #[error("{what} would be removed; nobody is there to be asked")]
    NotAsked { what: String },
    #[error(transparent)]
    Load(LoadError),
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Serve(#[from] crate::serve::ServeError),
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Kiosk(#[from] crate::serve::KioskError),
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Warm(#[from] crate::serve::WarmError),
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the system refuses a thread")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Stats(#[from] crate::stats::StatsError),
    #[error("no file of counts is named")]
    NoStats,
    #[error("there is no prompt")]
    NoPrompt,
    #[error("there is no prompt: {model} is the model")]
    OnlyModel { model: String },
    #[error("the prompt is given twice: with --prompt, and as {words:?}")]
    TwoPrompts { words: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    #[error("{found:?} is not a token id; the vocabulary has {tokens} tokens")]
    BadId { found: String, tokens: usize },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("cannot catch Ctrl-C")]
    Interrupt(#[source] ctrlc::Error),
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
}

impl From<GgufError> for CliError {
    fn from(error: GgufError) -> CliError {
        match error {
            // What checks a file while it is read can say so only as an error of reading.
            #[cfg(feature = "trust")]
            GgufError::Io { file, action, source } => match source.downcast() {
                Ok(verdict) => CliError::Trust(verdict),
                Err(source) => CliError::Gguf(GgufError::Io { file, action, source }),
            },
            error => CliError::Gguf(error),
        }
    }
}

impl From<ModelError> for CliError {
    fn from(error: ModelError) -> CliError {
        match error {
            ModelError::Gguf(error @ GgufError::Io { .. }) => error.into(),
            error => CliError::Model(error),
        }
    }
}

impl From<LoadError> for CliError {
    fn from(error: LoadError) -> CliError {
        match error {
            LoadError::Gguf(error) => error.into(),
            LoadError::Kernel(error) => CliError::Kernel(error),
            LoadError::Model(error) => error.into(),
            LoadError::Text(error) => CliError::Text(error),
            LoadError::Template(error) => CliError::Template(error),
            LoadError::Generate(error) => CliError::Generate(error),
            error => CliError::Load(error),
        }
    }
}

impl From<DoesNotFit> for CliError {
    fn from(error: DoesNotFit) -> CliError {
        CliError::Load(LoadError::DoesNotFit(error))
    }
}
