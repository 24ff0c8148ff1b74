//! What can be wrong with a grammar.

use super::{pattern, shorten};

/// A grammar that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message explains its fields")]
pub enum GrammarError {
    #[error("the {what} has {found} bytes, at most {limit} are allowed")]
    TooLong { what: &'static str, found: usize, limit: usize },
    #[error("the schema is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// A keyword that would not be enforced, or a value it cannot have.
    #[error("the schema's {keyword} at {path} is not supported: {reason}")]
    Keyword { keyword: String, path: String, reason: String },
    #[error("line {line} of the grammar: {reason}")]
    Lark { line: usize, reason: String },
    #[error("the regular expression cannot be read: {0}")]
    Regex(String),
    #[error("choice {number}, {text:?}, is not possible: {reason}")]
    Choice { number: usize, text: String, reason: &'static str },
    #[error("there are {found} choices, allowed are 1 to {limit}")]
    ChoiceCount { found: usize, limit: usize },
    /// The library refused it, or it is beyond a limit.
    #[error("the {what} cannot be followed: {reason}")]
    Refused { what: &'static str, reason: String },
    #[error("the {what} takes more than {seconds} s to prepare; simplify it")]
    TooSlow { what: &'static str, seconds: u64 },
    #[error("the {what} was not prepared: it was cancelled")]
    Cancelled { what: &'static str },
    #[error("this vocabulary cannot be constrained: {0}")]
    Vocabulary(String),
    /// While generating: no token continues what was said, or a limit was reached.
    #[error("the {what} cannot be followed any further: {reason}")]
    Stuck { what: &'static str, reason: String },
    #[error("no thread could be started to prepare the grammar")]
    Thread(#[source] std::io::Error),
}

/// The first line of the library's message: below it are parts of the grammar, dumps of its state or backtraces.
pub(super) fn message(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    if text.contains("regex parse error") {
        return pattern::describe(&text);
    }
    match text.lines().next().unwrap_or_default().trim() {
        "" | "NoExtensionBias" => "no token can follow".to_owned(),
        line => shorten(line),
    }
}
