//! Standard input, and the prompt made of it.

use std::io::IsTerminal;
use std::path::PathBuf;

use super::error::CliError;
use crate::files::{self, ReadError, read_text_from};

/// The argument that stands for standard input.
pub(super) const STDIN: &str = "-";
/// What messages call standard input.
pub(super) const STDIN_NAME: &str = "standard input";

/// Reads all of standard input as text.
///
/// # Errors
/// If it has more than `limit` bytes, is not UTF-8 or cannot be read.
pub(super) fn read_text(limit: usize) -> Result<String, ReadError> {
    read_text_from(std::io::stdin().lock(), STDIN_NAME, limit as u64)
}

/// The prompt: the argument, then the files, then standard input unless that is a terminal. `-` stands for standard
/// input, terminal or not.
///
/// # Errors
/// If a part has more than `limit` bytes, is not UTF-8 or cannot be read, and if there is nothing but white space.
pub(super) fn prompt(argument: Option<&str>, paths: &[PathBuf], limit: usize) -> Result<String, CliError> {
    let mut prompt = argument.filter(|argument| *argument != STDIN).unwrap_or_default().to_owned();
    for path in paths {
        prompt = join(&prompt, &files::read_text(path, limit as u64)?);
    }
    if argument == Some(STDIN) || !std::io::stdin().is_terminal() {
        prompt = join(&prompt, &read_text(limit)?);
    }
    if prompt.trim().is_empty() { Err(CliError::NoPrompt) } else { Ok(prompt) }
}

/// Joins with a blank line between; the line break that ends `input` is no part of it.
fn join(argument: &str, input: &str) -> String {
    let input = input.strip_suffix('\n').map_or(input, |line| line.strip_suffix('\r').unwrap_or(line));
    match (argument.is_empty(), input.is_empty()) {
        (false, false) => format!("{argument}\n\n{input}"),
        _ => format!("{argument}{input}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_and_input_are_joined() {
        assert_eq!(join("Sum up:", "one\ntwo\n"), "Sum up:\n\none\ntwo");
        assert_eq!(join("", "one\r\n"), "one");
        assert_eq!(join("a", "\n"), "a");
        assert_eq!(join("", "a\n\n"), "a\n");
    }
}
