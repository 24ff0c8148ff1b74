//! The exit code of each error.

use std::io;

use super::all::CliError;
use super::exit::Exit;
use super::preset::PresetError;
#[cfg(feature = "serve")]
use super::serve;
#[cfg(feature = "trust")]
use super::{slots, trust};
use crate::eval::EvalError;
use crate::eval::batch::BatchError;
use crate::eval::tasks::TaskError;
use crate::files::{ReadError, WriteError};
use crate::generate::{GenerateError, GrammarError, SavedError};
use crate::load::LoadError;
use crate::model::ModelError;
use crate::store::StoreError;
use crate::text::{TemplateError, TextError};

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
}

/// The exit code of an error of the feature `trust`.
#[cfg(feature = "trust")]
fn trust_exit(error: &CliError) -> Exit {
    match error {
        CliError::Demand(error) => error.exit(),
        CliError::Trust(error) => trust::exit(error),
        CliError::Update(error) => slots::exit_of(error),
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
        CliError::Serve(error) => serve::exit(error),
        CliError::Connect(error) => error.exit(),
        _ => Exit::Runtime,
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
