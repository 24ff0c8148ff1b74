//! What to do about each error; those of the layers below know nothing of commands and options.

use std::path::Path;

use super::all::CliError;
#[cfg(feature = "serve")]
use super::serve;
#[cfg(feature = "trust")]
use super::{slots, trust};
use crate::eval::EvalError;
use crate::files::Kind;
use crate::generate::{GenerateError, SavedError};
use crate::gguf::GgufError;
use crate::kernels::KernelError;
use crate::load::{DoesNotFit, LoadError};
use crate::model::ModelError;
use crate::store::{HubName, Store, StoreError};
use crate::text::{TemplateError, TextError, nearest};

/// Most files of a folder that are named.
const MAX_NAMED: usize = 5;

impl CliError {
    /// What to do next, where the message does not say it.
    pub fn hint(&self) -> Option<String> {
        if let Some(hint) = of_below(self) {
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
            Self::Serve(error) => return serve::hint(error).map(str::to_owned),
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

/// The hint for an error of the layers below, if there is one.
fn of_below(error: &CliError) -> Option<String> {
    let hint = match error {
        CliError::Gguf(error) | CliError::Model(ModelError::Gguf(error)) => return of_file(error),
        CliError::Store(error) => return of_store(error),
        #[cfg(feature = "trust")]
        CliError::Demand(error) => error.hint(),
        #[cfg(feature = "trust")]
        CliError::Trust(error) => return trust::hint(error),
        #[cfg(feature = "trust")]
        CliError::Update(error) => return slots::hint_of(error).map(str::to_owned),
        #[cfg(feature = "trust")]
        CliError::Slots(error) => return error.hint().map(str::to_owned),
        #[cfg(feature = "serve")]
        CliError::Connect(error) => return error.hint().map(str::to_owned),
        CliError::Model(error) | CliError::Generate(GenerateError::Model(error)) => return of_model(error),
        CliError::Kernel(KernelError::UnknownIsa { .. } | KernelError::MissingIsa { .. }) => {
            "SMOLT_ISA names it; without, the best set of this processor is used"
        }
        CliError::Text(TextError::MissingPre { .. } | TextError::UnknownPre { .. }) => {
            "if it splits text like one of these, name that one with --pre NAME"
        }
        CliError::Eval(EvalError::Model(error)) => return of_model(error),
        CliError::Eval(EvalError::Alloc(_)) => "use a smaller context (-c) or model",
        CliError::Eval(EvalError::TextTooShort { .. }) => "use a longer text or a smaller -c",
        CliError::Eval(EvalError::ChunkTooShort { .. }) => "choose a larger -c",
        CliError::Eval(EvalError::NoChunks) => "--chunks must be at least 1",
        CliError::Eval(EvalError::OutOfRange { what, .. }) => return of_range(what),
        CliError::Eval(EvalError::NoTests) => "give -p or -n numbers above 0",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What sets a number of [`bench`](crate::eval::bench).
fn of_range(what: &str) -> Option<String> {
    let option = match what {
        "the number of repetitions" => "-r sets it",
        "the number of threads" => "-t sets it",
        "the depth" => "-d sets it",
        "the number of tokens" => "-p and -n set it",
        _ => return None,
    };
    Some(option.to_owned())
}

fn of_model(error: &ModelError) -> Option<String> {
    let hint = match error {
        ModelError::ContextSize { .. } => "choose another context with -c",
        ModelError::ContextFull { .. } => "use a larger context (-c) or a shorter prompt",
        ModelError::Alloc(_) => "use a smaller context (-c) or model",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_file(error: &GgufError) -> Option<String> {
    match error {
        GgufError::IsDirectory { file } => of_folder(Path::new(file)),
        GgufError::OtherKind { file, found: Kind::Safetensors | Kind::PyTorch } => {
            let folder = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty());
            Some(convert(folder.unwrap_or(Path::new("."))))
        }
        _ => None,
    }
}

fn convert(folder: &Path) -> String {
    format!("smolt-quantize convert {} model.gguf makes a GGUF file of it", folder.display())
}

/// What can be done with a folder that was given for a model.
fn of_folder(folder: &Path) -> Option<String> {
    if folder.join("adapter_config.json").is_file() {
        return Some(
            "it holds a LoRA adapter; merge it into its model first, and convert the result".to_owned(),
        );
    }
    let models = models_in(folder);
    if let [first, ..] = models.as_slice() {
        let names: Vec<String> = models.iter().take(MAX_NAMED).cloned().collect();
        let more = if models.len() > MAX_NAMED { ", …" } else { "" };
        let path = folder.join(first);
        return Some(format!("it holds {}{more}; name one, e.g. -m {}", names.join(", "), path.display()));
    }
    let is_published = folder.join("config.json").is_file();
    if is_published { Some(convert(folder)) } else { Some("name a GGUF file".to_owned()) }
}

/// The names of the GGUF files of a folder, in order.
fn models_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_model =
        |name: &String| Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let mut names: Vec<String> =
        names.filter(is_model).filter(|name| !name.contains(char::is_control)).collect();
    names.sort();
    names
}

fn of_store(error: &StoreError) -> Option<String> {
    let hint = match error {
        StoreError::NoHome => "set SMOLT_HOME to a folder",
        StoreError::NotInstalled { name } => return Some(of_missing(name)),
        StoreError::BadName { .. } => "ORG/REPO or ORG/REPO:FILE, e.g. ORG/REPO:Q4_0",
        StoreError::Dangling { .. } => "pull it again, or remove the alias with smolt rm",
        StoreError::Ambiguous { .. } => "give the whole name",
        StoreError::NoAlias { .. } => "smolt alias lists them",
        StoreError::Offline { .. } => "unset it to download",
        StoreError::NoRepository { .. } => "check the name; --revision gives a branch, tag or commit",
        StoreError::Refused { with_token: false, .. } => "check the name; set HF_TOKEN if you have access",
        StoreError::Refused { .. } => "check the name; the token that is set may lack access to it",
        StoreError::NoModel { .. } => {
            "look for a repository whose name ends in -GGUF, or convert it with smolt-quantize"
        }
        StoreError::OnlyParts { .. } => {
            "fetch all parts into one folder yourself and name the first with -m, or look for a repository with single files"
        }
        StoreError::NoChoice { .. } => "name one after a colon: ORG/REPO:FILE",
        StoreError::Network { .. } => "what was downloaded is kept; the same command goes on from there",
        StoreError::NotSecure { .. } => {
            "check the clock; SSL_CERT_FILE names the certificates of a proxy that looks inside"
        }
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "make room; what was downloaded is kept, the same command goes on from there"
        }
        StoreError::WrongHash { .. } => "pull it again; if it happens again, the file was changed on its way",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What may have been meant by a name that leads to nothing.
fn of_missing(name: &str) -> String {
    let mut known: Vec<String> = vec![];
    if let Ok(store) = Store::of_user() {
        known.extend(store.aliases().into_iter().flatten().map(|alias| alias.name));
        for model in store.list().into_iter().flatten() {
            let file = model.name.rsplit(['/', ':']).next().unwrap_or_default().to_owned();
            let repository = model.name.split(':').next().unwrap_or_default().to_owned();
            known.extend([file.trim_end_matches(".gguf").to_owned(), file, repository, model.name]);
        }
    }
    let path = Path::new(name);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let beside = models_in(folder.unwrap_or(Path::new(".")));
    known.extend(beside.iter().map(|file| path.with_file_name(file).display().to_string()));
    if let Some(meant) = nearest(name, known.iter().map(String::as_str)) {
        return format!("did you mean {meant}?");
    }
    let is_of_hub = HubName::parse(name).is_ok_and(|hub| hub.file().is_some() || !name.ends_with(".gguf"));
    if cfg!(feature = "pull") && is_of_hub {
        return format!("smolt pull {name} fetches it from the hub; smolt list shows what is installed");
    }
    "check the path; smolt list shows what is installed".to_owned()
}
