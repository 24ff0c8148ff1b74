//! What can go wrong with what was typed.

use std::path::Path;

use crate::console::is_unsafe;

/// Characters of what was typed that are shown.
const SHOWN_CHARS: usize = 80;

/// A command line that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct UsageError {
    pub(in crate::cli) problem: String,
    pub(in crate::cli) hint: Option<String>,
}

impl UsageError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }

    /// An option of another program.
    pub(in crate::cli) fn foreign(option: &str, instead: &str) -> UsageError {
        UsageError {
            problem: format!("there is no option {}", shown(option)),
            hint: Some(instead.to_owned()),
        }
    }

    /// A number that does not belong to the option before it.
    pub(in crate::cli) fn equals(option: &str, found: &str, expected: &str) -> UsageError {
        let problem = format!("{option}: a value follows after =, found the word {found:?}");
        UsageError { problem, hint: Some(format!("{expected}, or the prompt before {option}")) }
    }

    /// The model as a word and with `-m`.
    pub(in crate::cli) fn two_models(model: &Path, word: &Path) -> UsageError {
        let problem = format!(
            "the model is given twice: -m {} and {}",
            model.display(),
            shown(&word.to_string_lossy())
        );
        UsageError { problem, hint: Some("leave one out".to_owned()) }
    }
}

/// What was typed, shortened, and without what could move the cursor.
pub(in crate::cli) fn shown(text: &str) -> String {
    let mut chars =
        text.chars().map(|c| if is_unsafe(c) || c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let mut start: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        start.push('…');
    }
    start
}
