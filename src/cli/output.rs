//! Standard output and standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::error::CliError;

/// Says something on standard error. If nobody listens, nothing is lost.
pub(super) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "smolt: {text}");
}

/// Writes to standard output and flushes it.
///
/// # Errors
/// If it cannot be written to; [`super::execute`] takes a closed pipe for a normal end.
pub(super) fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// As [`write`].
pub(super) fn write_json(value: &impl Serialize) -> Result<(), CliError> {
    let json = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
    write(format!("{json}\n").as_bytes())
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

    /// Writes a part of the answer. On a terminal, control characters are shown as U+FFFD: what a model writes
    /// may not move the cursor or worse.
    ///
    /// # Errors
    /// As [`write`].
    pub(super) fn push(&mut self, text: &str) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        self.last = text.chars().last();
        if self.terminal && text.chars().any(is_unsafe) {
            let shown: String =
                text.chars().map(|c| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
            return write(shown.as_bytes());
        }
        write(text.as_bytes())
    }

    /// Ends the line on a terminal.
    ///
    /// # Errors
    /// As [`write`].
    pub(super) fn finish(&self) -> Result<(), CliError> {
        if self.terminal && self.last.is_some_and(|last| last != '\n') { write(b"\n") } else { Ok(()) }
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}
