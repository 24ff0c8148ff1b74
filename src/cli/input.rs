//! Standard input, and the prompt made of it.

use std::io::{IsTerminal, Read};

use super::error::CliError;

/// The argument that stands for standard input.
const STDIN: &str = "-";

/// Reads all of standard input as text.
///
/// # Errors
/// If it has more than `limit` bytes, is not UTF-8 or cannot be read.
pub(super) fn read_text(limit: usize) -> Result<String, CliError> {
    let mut bytes = vec![];
    let read = std::io::stdin().lock().take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(CliError::Input)?;
    if bytes.len() > limit {
        return Err(CliError::InputTooLong { limit });
    }
    String::from_utf8(bytes)
        .map_err(|error| CliError::InputNotUtf8 { offset: error.utf8_error().valid_up_to() })
}

/// The prompt: the argument, then standard input unless that is a terminal. `-` stands for standard input
/// alone, terminal or not.
///
/// # Errors
/// As [`read_text`], and if there is nothing but white space.
pub(super) fn prompt(argument: Option<&str>, limit: usize) -> Result<String, CliError> {
    let given = argument.filter(|argument| *argument != STDIN);
    let reads_input = argument == Some(STDIN) || !std::io::stdin().is_terminal();
    let input = if reads_input { read_text(limit)? } else { String::new() };
    let prompt = join(given.unwrap_or_default(), &input);
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
