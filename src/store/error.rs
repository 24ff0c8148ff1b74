//! What can go wrong with the models of this computer.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::{ReadError, WriteError};

/// Why a model cannot be found, fetched or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum StoreError {
    #[error("there is no home directory to keep models in")]
    NoHome,
    #[error("{name:?} is not the name of a model on the hub: {problem}")]
    BadName { name: String, problem: &'static str },
    #[error(
        "{name:?} cannot be an alias: expected letters, digits, '.', '-' and '_', at most 64, a letter or digit first"
    )]
    BadAlias { name: String },
    #[error("there is no model {name}: no such file, alias or installed model")]
    NotInstalled { name: String },
    #[error("{name} may be {}", .matches.join(" or "))]
    Ambiguous { name: String, matches: Vec<String> },
    #[error("the alias {alias} stands for {target}, which is not there")]
    Dangling { alias: String, target: String },
    #[error("{} holds more than {limit} files and folders; not all are listed", .folder.display())]
    TooMany { folder: PathBuf, limit: usize },
    #[error("there is no alias {name}")]
    NoAlias { name: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot {action} {}", .file.display())]
    Io { action: &'static str, file: PathBuf, source: io::Error },
    #[error("{}: {problem}", .file.display())]
    BadRecord { file: PathBuf, problem: String },
    #[error("{variable} forbids the network, and {name} is not installed")]
    Offline { variable: &'static str, name: String },
    #[error("{variable}: {problem}, found {found:?}")]
    BadVariable { variable: &'static str, found: String, problem: &'static str },
    #[error("{repository} has no revision {revision}, or does not exist")]
    NoRepository { repository: String, revision: String },
    #[error(
        "the hub refuses {repository} (status {status}): it does not exist, is private or asks for consent"
    )]
    Refused { repository: String, status: u16, with_token: bool },
    #[error("{repository} has no file {file}; it has {}", list(.files))]
    NoFile { repository: String, file: String, files: Vec<String> },
    #[error("{repository} has no model in GGUF format")]
    NoModel { repository: String },
    #[error("{repository} has its model in several files, which are not fetched: {}", list(.files))]
    OnlyParts { repository: String, files: Vec<String> },
    #[error("{repository} has several models: {}", list(.files))]
    NoChoice { repository: String, files: Vec<String> },
    #[error("{url}: status {status}")]
    Status { url: String, status: u16 },
    #[error("{url}: {problem}")]
    Response { url: String, problem: String },
    #[error("cannot reach {url}")]
    Network { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("no secure connection to {url}")]
    NotSecure { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{file}: expected {expected} bytes, the hub sends {found}")]
    WrongSize { file: String, expected: u64, found: u64 },
    #[error("{file}: expected SHA-256 {expected}, found {found}; nothing was installed")]
    WrongHash { file: String, expected: String, found: String },
}

impl StoreError {
    pub(super) fn io(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io { action, file: file.to_owned(), source }
    }
}

fn list(files: &[String]) -> String {
    if files.is_empty() { "none".to_owned() } else { files.join(", ") }
}
