//! Standard output and standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde_json::json;

use super::error::CliError;
use crate::generate::Outcome;

/// Whether notes are wanted.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out all notes, or does not.
pub(super) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether only answers and errors are wanted.
pub(super) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Says something on standard error, unless only answers and errors are wanted. If nobody listens, nothing is lost.
pub(super) fn note(text: impl std::fmt::Display) {
    if !is_quiet() {
        report(text);
    }
}

/// Says on standard error what was asked for.
pub(super) fn report(text: impl std::fmt::Display) {
    whole(format!("smolt: {text}\n"));
}

/// Says something on standard error whose answer follows on the same line.
pub(super) fn ask(text: impl std::fmt::Display) {
    whole(format!("smolt: {text}"));
}

/// Writes at once, so that what a terminal echoes or others write does not come between.
fn whole(text: String) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Says several lines on standard error, as they are but for control characters.
pub(super) fn say(text: &str) {
    whole(format!("{}\n", printable(text)));
}

/// Text in quotes, with escapes for control characters and for bytes that are not UTF-8, such as those of a character
/// that is split over tokens.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().escape_debug());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    text + "\""
}

/// What went wrong, and why.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some messages hold their cause already.
        if !message.contains(&error.to_string()) {
            message = format!("{message}: {error}");
        }
        cause = error.source();
    }
    message
}

/// Says on standard error what went wrong, why, and what to do about it.
pub(super) fn complain(error: &CliError) {
    let message = with_causes(error);
    let hint = error.hint().map_or(String::new(), |hint| format!("\nhint: {hint}"));
    say(&format!("smolt: {message}{hint}"));
}

/// Text in which control characters are U+FFFD: what a model writes may not move the cursor or worse.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Writes to standard output and flushes it.
///
/// # Errors
/// If it cannot be written to; [`super::execute`] takes a closed pipe for a normal end.
pub(super) fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Writes lines that hold names of files or texts of the user; on a terminal, control characters are shown as U+FFFD.
///
/// # Errors
/// As [`write`].
pub(super) fn write_table(text: &str) -> Result<(), CliError> {
    if is_terminal() { write(printable(text).as_bytes()) } else { write(text.as_bytes()) }
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// As [`write`].
pub(super) fn write_json(value: &impl Serialize) -> Result<(), CliError> {
    let json = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
    write(format!("{json}\n").as_bytes())
}

/// Prints the calls of an answer behind its text, one line of JSON each.
///
/// # Errors
/// As [`write`].
pub(super) fn write_calls(outcome: &Outcome) -> Result<(), CliError> {
    if !outcome.tool_calls.is_empty()
        && !outcome.text.is_empty()
        && !outcome.text.ends_with('\n')
        && !is_terminal()
    {
        write(b"\n")?;
    }
    for call in &outcome.tool_calls {
        write_json(&json!({"name": call.name, "arguments": call.arguments}))?;
    }
    Ok(())
}

/// Whether a person sees standard output.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints an answer as it comes.
pub(super) struct Answer {
    terminal: bool,
    last: Option<char>,
}

impl Answer {
    pub(super) fn new() -> Answer {
        Answer { terminal: is_terminal(), last: None }
    }

    /// Writes a part of the answer. On a terminal, control characters are shown as U+FFFD.
    ///
    /// # Errors
    /// As [`write`].
    pub(super) fn push(&mut self, text: &str) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        self.last = text.chars().last();
        if self.terminal { write(printable(text).as_bytes()) } else { write(text.as_bytes()) }
    }

    /// Whether something was written.
    pub(super) fn is_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Ends the line, terminal or not, also if there is nothing on it.
    ///
    /// # Errors
    /// As [`write`].
    pub(super) fn end_line(&self) -> Result<(), CliError> {
        if self.last == Some('\n') { Ok(()) } else { write(b"\n") }
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_characters_are_quoted_byte_by_byte() {
        let emoji = "😀".as_bytes();
        assert_eq!(quoted(&emoji[..2]), r#""\xF0\x9F""#);
        assert_eq!(quoted(&[b"a\n\"", &emoji[2..], "ü".as_bytes()].concat()), r#""a\n\"\x98\x80ü""#);
    }
}
