//! Whether the first word of a line is the model, as in `smolt run MODEL "…"`.
//!
//! It is where it names one and `-m` was not typed: a GGUF file, a preset, an alias, an installed model or `demo`. What was taken
//! for a model is said. Words after `--` are never one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::super::commands::{Command, Words};
use super::super::error::{CliError, UsageError};
use super::super::named::{has_extension, named};
use super::super::output::note;

/// A word that is the model.
pub(super) struct Taken {
    name: PathBuf,
    /// Whether it was the first of a text.
    is_of_text: bool,
}

/// Decides what the words are; the one that is the model.
///
/// # Errors
/// If the model is given twice.
pub(super) fn settle(
    command: &mut Command,
    matches: &ArgMatches,
    arguments: &[OsString],
) -> Result<Option<Taken>, CliError> {
    let Some((_, given)) = matches.subcommand() else { return Ok(None) };
    let Some(model) = command.model() else { return Ok(None) };
    let is_typed = given.value_source("model") == Some(ValueSource::CommandLine);
    let before = model.model.clone();
    let is_of_text = matches!(command.words(), Some(Words::Text(_)));
    let word = match command.words() {
        Some(Words::Model(word)) => match (word.take(), before) {
            (Some(word), Some(model)) if is_typed => return Err(UsageError::two_models(&model, &word).into()),
            (word, _) => word,
        },
        Some(Words::Text(words))
            if !is_typed && !are_after_dashes(words, arguments) && means_model(words) =>
        {
            let word = words.remove(0);
            command.take_model(&word);
            Some(PathBuf::from(word))
        }
        _ => None,
    };
    if let (Some(model), Some(word)) = (command.model(), &word) {
        model.model = Some(word.clone());
    }
    Ok(word.map(|name| Taken { name, is_of_text }))
}

impl Taken {
    /// Says which word is the model, where it may have been meant for one of a text. Of one that is not there it is said what
    /// is wrong.
    pub(super) fn say(&self) {
        if self.is_of_text && named(&self.name).is_some() {
            note(format_args!("using {}", self.name.display()));
        }
    }
}

/// Whether all words were typed after `--`.
fn are_after_dashes(words: &[String], arguments: &[OsString]) -> bool {
    let after = arguments.iter().position(|argument| argument == "--").map(|at| arguments.len() - at - 1);
    after.is_some_and(|after| after == words.len())
}

/// Whether the first word is the model.
fn means_model(words: &[String]) -> bool {
    let Some(first) = words.first() else { return false };
    let is_one_word = !first.contains(char::is_whitespace);
    named(Path::new(first)).is_some()
        // That there is none is said by name.
        || is_one_word && has_extension(Path::new(first))
        || matches!(words, [_, prompt] if prompt.contains(char::is_whitespace) && looks_like_a_model(first))
}

/// Whether a word is like `qwen3:0.6b` or `org/model-135m`.
fn looks_like_a_model(word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
    let has_digit = word.contains(|c: char| c.is_ascii_digit());
    let starts = word.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = word.ends_with(|c: char| c.is_ascii_alphanumeric());
    starts && ends && has_digit && word.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().copied().map(str::to_owned).collect()
    }

    #[test]
    fn what_looks_like_a_model_is_none_of_a_sentence() {
        for name in ["llama3.2", "qwen3:0.6b", "org/model-135m", "gpt-2"] {
            assert!(looks_like_a_model(name), "{name}");
        }
        for word in ["Translate", "Summarize:", "3.5", "21", "and/or", "What's", "(2)", "2nd", "B2-", ""] {
            assert!(!looks_like_a_model(word), "{word}");
        }
        assert!(means_model(&words(&["llama3.2", "Why is the sky blue?"])));
        assert!(!means_model(&words(&["llama3.2", "is", "a", "model"])));
        assert!(!means_model(&words(&["Translate", "Guten Tag"])));
        assert!(means_model(&words(&["absent.gguf"])) && !means_model(&words(&[".gguf files are what?"])));
    }

    #[test]
    fn words_after_dashes_are_known() {
        let arguments: Vec<OsString> = ["smolt", "run", "-n", "3", "--", "a", "b"].map(Into::into).into();
        assert!(are_after_dashes(&words(&["a", "b"]), &arguments));
        assert!(!are_after_dashes(&words(&["x", "a", "b"]), &arguments));
    }
}
