//! Why an evaluation cannot begin or go on.

use crate::ask::keys::KeyError;
use crate::eval::batch::BatchError;
use crate::files::ReadError;
use crate::generate::{GenerateError, GrammarError};
use crate::text::{TemplateError, TextError};

/// Errors of evaluation tasks. Lines of samples that were written stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum TaskError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{file} has more than {limit} {what}")]
    TooMany { file: String, what: &'static str, limit: usize },
    #[error("{file} is not a task that can be run: {message}")]
    Yaml { file: String, message: String },
    #[error("{file}: {error}")]
    Keys { file: String, error: KeyError },
    #[error("{file}: include: {error}")]
    Include { file: String, error: ReadError },
    #[error("{file}: includes itself")]
    Cycle { file: String },
    #[error("{file}: {key} is the function {function}, which needs Python; such a task cannot be run here")]
    Python { file: String, key: String, function: String },
    #[error("{file}: is a group; name the files of its tasks{}", named(tasks))]
    Group { file: String, tasks: Vec<String> },
    #[error("{file}: names no task of its own; it is there to be included")]
    Partial { file: String },
    #[error(
        "{file}: the documents are the data set {path}, which is not on this computer; write a task file with include: of this one, dataset_path: json and dataset_kwargs: {{data_files: {{SPLIT: FILE.jsonl}}}}"
    )]
    Remote { file: String, path: String },
    #[error("{file}: {key} is {found}; expected {expected}")]
    Key { file: String, key: String, found: String, expected: String },
    #[error("{file}, line {line}: expected a JSON object; {message}")]
    Document { file: String, line: usize, message: String },
    #[error("{file} has no documents")]
    NoDocuments { file: String },
    #[error("{task}: {key} fails for document {document}: {message}")]
    Field { task: String, key: &'static str, document: usize, message: String },
    #[error("{task}: document {document}: the right answer, {found}, is none of its {choices} choices")]
    Gold { task: String, document: usize, found: String, choices: usize },
    #[error("{task}: {wanted} examples were asked for, there are {found} to choose from")]
    TooFewExamples { task: String, wanted: usize, found: usize },
    #[error("there are two tasks named {task}; run them one by one")]
    SameName { task: String },
    #[error(
        "{task}: {max_tokens} tokens are to be generated, the context holds {context}; set max_gen_toks or give a larger context"
    )]
    NoRoom { task: String, max_tokens: usize, context: usize },
    #[error("{task}: document {document}: the continuation has {tokens} tokens, the context holds {context}")]
    ContinuationTooLong { task: String, document: usize, tokens: usize, context: usize },
    #[error("{task}: document {document}: there is nothing to score")]
    NothingToScore { task: String, document: usize },
    #[error("{task}: document {document}: the logits are not finite; the model file may be damaged")]
    NotFinite { task: String, document: usize },
    #[error("{file}: line {line} is not a sample: {message}")]
    Sample { file: String, line: usize, message: String },
    #[error("{file}: line {line} belongs to another run than the first sample; merge shards of one run")]
    OtherRun { file: String, line: usize },
    #[error("sample {index} is in {file} and in {other}; name every shard once")]
    Twice { index: usize, file: String, other: String },
    #[error(
        "{missing} of {of} samples are missing, the first is number {first}; run the missing shards to their end"
    )]
    Missing { missing: usize, of: usize, first: usize },
    #[error(
        "the samples of {task} are not the same documents in both; compare runs of the same tasks and limit"
    )]
    NotPaired { task: String },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Journal(#[from] BatchError),
}

impl TaskError {
    /// Whether one document is to blame, so that others can be asked about.
    pub(super) fn is_of_document(&self) -> bool {
        match self {
            Self::Field { .. }
            | Self::ContinuationTooLong { .. }
            | Self::NothingToScore { .. }
            | Self::NotFinite { .. }
            | Self::Text(_) => true,
            // Where the system refuses a thread, no document is to blame.
            Self::Template(error) => !matches!(error, TemplateError::Thread { .. }),
            Self::Generate(error) => {
                !matches!(error, GenerateError::Model(_) | GenerateError::Grammar(GrammarError::Thread(_)))
            }
            _ => false,
        }
    }
}

/// Names of tasks, as many as a message holds.
fn named(tasks: &[String]) -> String {
    let more = if tasks.len() > 8 { ", ..." } else { "" };
    let names = tasks.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    if tasks.is_empty() { String::new() } else { format!(": {names}{more}") }
}
