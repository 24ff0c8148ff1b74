//! What can go wrong, the exit code it gives and what to do about it.

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
use super::hint;
use super::line::UsageError;
use super::preset::PresetError;
use super::session::SessionError;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It failed while running; also if weights turn out to be damaged.
    Runtime = 1,
    /// Arguments or input that make no sense.
    Usage = 2,
    /// The model is missing, unreadable or not supported.
    Model = 3,
    /// It does not fit into the memory there is or is allowed, or into the context.
    DoesNotFit = 4,
    /// A result of an evaluation is not what `--min` or `--max` ask for.
    Threshold = 5,
    /// An answer did not reach the end of the form it was to have.
    Unfinished = 6,
    /// Something is not what was signed, or not by whom is trusted.
    Untrusted = 7,
    /// What is signed is not for this store: old, expired, or another model.
    Refused = 8,
    /// Another process changes the store.
    Busy = 9,
    /// There is no space on the disk of the store.
    NoSpace = 10,
    /// No version of the store may run.
    NoVersion = 11,
    /// A new version failed its trial.
    TrialFailed = 12,
    /// SIGHUP: the terminal is gone.
    HungUp = 129,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

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
    Demand(#[from] super::trusted::DemandError),
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
    Slots(#[from] super::slots::SlotsError),
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
    Connect(#[from] super::connect::ConnectError),
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

impl CliError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        if is_lack_of_memory(self) {
            return Exit::DoesNotFit;
        }
        match self {
            Self::Load(LoadError::DoesNotFit(_)) => Exit::DoesNotFit,
            Self::Load(LoadError::OutOfRange { .. }) => Exit::Usage,
            Self::Gguf(_) | Self::Load(_) => Exit::Model,
            Self::Model(error) => model_exit(error),
            Self::Text(error) | Self::Template(TemplateError::Text(error)) => text_exit(error),
            Self::Generate(error) => generate_exit(error),
            Self::Chat(error) => error.exit(),
            Self::Session(error) => error.exit(),
            Self::Grammar(error) => grammar_exit(error),
            Self::Eval(error) => eval_exit(error),
            Self::Batch(error) => batch_exit(error),
            Self::Store(error) => store_exit(error),
            #[cfg(feature = "trust")]
            Self::Demand(_) | Self::Trust(_) | Self::Update(_) | Self::Slots(_) => trust_exit(self),
            Self::Preset(PresetError::Io { .. }) => Exit::Runtime,
            Self::Config(_)
            | Self::Usage(_)
            | Self::Preset(_)
            | Self::TakenAlias { .. }
            | Self::OnlyPreset { .. }
            | Self::NotUtf8Path { .. }
            | Self::NotAsked { .. } => Exit::Usage,
            Self::Task(error) => task_exit(error),
            Self::Kernel(_)
            | Self::NoTask
            | Self::NoTemplate
            | Self::KioskTemplate
            | Self::NoStats
            | Self::Stats(_)
            | Self::NoMetric { .. }
            | Self::NoPrompt
            | Self::Tools { .. }
            | Self::Calls(_)
            | Self::Read(_)
            | Self::OnlyModel { .. }
            | Self::TwoPrompts { .. }
            | Self::Template(TemplateError::UnknownName { .. })
            | Self::BadId { .. } => Exit::Usage,
            Self::Saved(SavedError::Write(_) | SavedError::Append { .. }) => Exit::Runtime,
            Self::Saved(_) => Exit::Usage,
            Self::Write(WriteError::Foreign { .. } | WriteError::Link { .. }) => Exit::Usage,
            Self::Template(_)
            | Self::Write(_)
            | Self::Input(_)
            | Self::Output(_)
            | Self::Interrupt(_)
            | Self::Thread(_)
            | Self::Signals(_) => Exit::Runtime,
            #[cfg(feature = "serve")]
            Self::Warm(_) | Self::Kiosk(_) | Self::Serve(_) | Self::Connect(_) => served_exit(self),
        }
    }

    /// What to do next, where the message does not say it.
    pub fn hint(&self) -> Option<String> {
        if let Some(hint) = hint::of(self) {
            return Some(hint);
        }
        let hint = match self {
            Self::Load(LoadError::DoesNotFit(DoesNotFit { slots: 2.., .. })) => {
                "work on fewer answers at once: a smaller --parallel"
            }
            Self::Load(LoadError::DoesNotFit(DoesNotFit { largest: Some(context), .. })) => {
                return Some(format!("a context of {context} fits: -c {context}"));
            }
            Self::Load(LoadError::DoesNotFit(_)) => "use a smaller model or a stronger quantization",
            Self::NoTask => "name a task file (YAML) or documents (JSONL); see smolt eval --help",
            Self::NoStats => "name the file, or set SMOLT_STATS to it",
            Self::KioskTemplate => "take a model that is tuned for chat, or name a template with --template",
            Self::NoTemplate => "leave --chat off, or name a template with --template",
            Self::NoPrompt => "give it as an argument, on standard input, or both; see smolt run --help",
            Self::OnlyModel { model } => {
                return Some(format!(
                    "smolt chat {model} talks with it, smolt run {model} \"…\" asks it; after -- every word is the prompt"
                ));
            }
            Self::TwoPrompts { .. } => "leave one out",
            #[cfg(feature = "serve")]
            Self::Serve(error) => return serve_hint(error).map(str::to_owned),
            Self::Chat(error) => return error.hint(),
            Self::Session(error) => return error.hint(),
            Self::Saved(SavedError::Read { .. } | SavedError::Write(_) | SavedError::Append { .. }) => {
                return None;
            }
            Self::Saved(_) => "remove it or name another; a new session needs no file",
            Self::Config(error) => return error.hint(),
            Self::Usage(error) => return error.hint(),
            Self::Preset(error) => return error.hint().map(str::to_owned),
            Self::TakenAlias { .. } => "choose another name",
            Self::OnlyPreset { name } => {
                return Some(format!(
                    "smolt chat {name} begins with it; smolt preset show {name} tells its model"
                ));
            }
            Self::NotAsked { .. } => "--yes removes without a question",
            Self::Text(TextError::TooLong { .. })
            | Self::Template(TemplateError::Text(TextError::TooLong { .. })) => "-c N sets the context",
            Self::Template(TemplateError::Text(_)) => return None,
            Self::Template(TemplateError::UnknownName { .. }) => "give one of these, or a file",
            Self::Template(_) => "--raw runs without the chat template",
            Self::Generate(GenerateError::PromptTooLong { .. }) => "-c N sets the context",
            Self::Generate(GenerateError::FormTooLong { .. }) => {
                "-n N allows more tokens, -c N a longer context"
            }
            Self::Model(ModelError::NoFile { .. }) => "the built-in model needs no pack; name a file with -m",
            Self::Model(ModelError::UnknownArchitecture { .. } | ModelError::TensorShape { .. }) => {
                "see smolt plan --help for what can be read, or convert another model"
            }
            Self::Model(
                ModelError::MissingTensor { .. } | ModelError::NotFinite { .. } | ModelError::Pack { .. },
            ) => "fetch or convert the model again",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// The exit code of an error of the feature `trust`.
#[cfg(feature = "trust")]
fn trust_exit(error: &CliError) -> Exit {
    match error {
        CliError::Demand(error) => error.exit(),
        CliError::Trust(error) => super::trust::exit(error),
        CliError::Update(error) => super::slots::exit_of(error),
        CliError::Slots(error) => error.exit(),
        _ => Exit::Runtime,
    }
}

/// The exit code of an error of the feature `serve`.
#[cfg(feature = "serve")]
fn served_exit(error: &CliError) -> Exit {
    use crate::serve::WarmError;
    match error {
        CliError::Warm(WarmError::Template(TemplateError::Text(error))) => text_exit(error),
        CliError::Kiosk(_) => Exit::Usage,
        CliError::Serve(error) => super::serve::exit_of(error),
        CliError::Connect(error) => error.exit(),
        _ => Exit::Runtime,
    }
}

#[cfg(feature = "serve")]
fn serve_hint(error: &crate::serve::ServeError) -> Option<&'static str> {
    use crate::serve::ServeError::{Bind, Remote};
    match error {
        Bind { source, .. } => match source.kind() {
            io::ErrorKind::AddrInUse => {
                Some("another program listens there; --port 0 takes a port that is free")
            }
            io::ErrorKind::PermissionDenied => Some("ports below 1024 are for root; --port N takes another"),
            io::ErrorKind::AddrNotAvailable => Some("--host takes an address of this computer"),
            _ => None,
        },
        Remote { .. } => {
            Some("--allow-remote and --token-file FILE let it; --host 127.0.0.1 is for this computer only")
        }
        _ => None,
    }
}

/// Whether the system had no memory to give, for a map or for the stack of a thread.
fn is_lack_of_memory(error: &CliError) -> bool {
    let is_thread = match error {
        CliError::Interrupt(_) | CliError::Signals(_) => true,
        CliError::Grammar(error) | CliError::Generate(GenerateError::Grammar(error)) => {
            matches!(error, GrammarError::Thread(_))
        }
        CliError::Template(error) => matches!(error, TemplateError::Thread { .. }),
        _ => false,
    };
    let sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
    is_thread
        || sources
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::OutOfMemory)
}

fn model_exit(error: &ModelError) -> Exit {
    match error {
        ModelError::Alloc(_) | ModelError::ContextFull { .. } => Exit::DoesNotFit,
        ModelError::ContextSize { .. } | ModelError::NoFile { .. } => Exit::Usage,
        ModelError::TokenOutOfRange { .. }
        | ModelError::LogitRows { .. }
        | ModelError::NoTokens
        | ModelError::Cancelled
        | ModelError::ForeignPack { .. }
        | ModelError::WritePack(_) => Exit::Runtime,
        _ => Exit::Model,
    }
}

fn text_exit(error: &TextError) -> Exit {
    match error {
        TextError::NoTokenForByte { .. } | TextError::NoTokenForChar { .. } => Exit::Runtime,
        TextError::TooLong { .. } => Exit::DoesNotFit,
        _ => Exit::Model,
    }
}

fn generate_exit(error: &GenerateError) -> Exit {
    match error {
        GenerateError::Option(_) | GenerateError::EmptyPrompt => Exit::Usage,
        GenerateError::PromptTooLong { .. } | GenerateError::FormTooLong { .. } => Exit::DoesNotFit,
        GenerateError::Grammar(error) => grammar_exit(error),
        GenerateError::Model(error) => model_exit(error),
        _ => Exit::Runtime,
    }
}

fn grammar_exit(error: &GrammarError) -> Exit {
    match error {
        GrammarError::Vocabulary(_) => Exit::Model,
        GrammarError::Thread(_) => Exit::Runtime,
        GrammarError::Cancelled { .. } => Exit::Interrupted,
        _ => Exit::Usage,
    }
}

fn eval_exit(error: &EvalError) -> Exit {
    match error {
        EvalError::Model(error) => model_exit(error),
        EvalError::Generate(error) => generate_exit(error),
        EvalError::Text(error) => text_exit(error),
        EvalError::Alloc(_) => Exit::DoesNotFit,
        EvalError::NotFinite { .. } | EvalError::FrozenClock => Exit::Runtime,
        _ => Exit::Usage,
    }
}

fn batch_exit(error: &BatchError) -> Exit {
    match error {
        BatchError::NoRoom { .. } => Exit::DoesNotFit,
        BatchError::Replace(error) if error.is_about_the_name() => Exit::Usage,
        BatchError::Read(ReadError::Io { .. }) | BatchError::Write { .. } | BatchError::Replace(_) => {
            Exit::Runtime
        }
        _ => Exit::Usage,
    }
}

fn store_exit(error: &StoreError) -> Exit {
    match error {
        StoreError::NotInstalled { .. }
        | StoreError::Ambiguous { .. }
        | StoreError::Dangling { .. }
        | StoreError::NoRepository { .. }
        | StoreError::Refused { .. }
        | StoreError::NoFile { .. }
        | StoreError::NoModel { .. }
        | StoreError::OnlyParts { .. }
        | StoreError::NoChoice { .. } => Exit::Model,
        StoreError::BadName { .. }
        | StoreError::BadAlias { .. }
        | StoreError::NoAlias { .. }
        | StoreError::BadVariable { .. }
        | StoreError::NoHome => Exit::Usage,
        _ => Exit::Runtime,
    }
}

fn task_exit(error: &TaskError) -> Exit {
    match error {
        TaskError::Generate(error) => generate_exit(error),
        TaskError::Text(error) => text_exit(error),
        TaskError::Journal(error) => batch_exit(error),
        TaskError::NoRoom { .. } | TaskError::ContinuationTooLong { .. } => Exit::DoesNotFit,
        TaskError::NotFinite { .. } => Exit::Runtime,
        _ => Exit::Usage,
    }
}
