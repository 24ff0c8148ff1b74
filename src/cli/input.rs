//! Standard input, and the prompt made of it.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::error::CliError;
use super::output::note;
use crate::files::{self, ReadError, read_text_from};

/// The argument that stands for standard input.
pub(super) const STDIN: &str = "-";
/// What messages call standard input.
pub(super) const STDIN_NAME: &str = "standard input";
/// Time after which a person is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads all of standard input as text.
///
/// # Errors
/// If it has more than `limit` bytes, is not UTF-8 or cannot be read.
pub(super) fn read_text(limit: usize) -> Result<String, ReadError> {
    read_text_from(std::io::stdin().lock(), STDIN_NAME, limit as u64)
}

/// Reads standard input as [`read_text`] does. If it gives nothing for a while, says that it is waited for.
fn read_patiently(limit: usize) -> Result<String, ReadError> {
    let (came, waiting) = mpsc::channel::<()>();
    let watch = move || {
        if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            note("waiting for standard input; Ctrl-D ends it, --no-stdin ignores it");
        }
    };
    // Without the thread nothing is said, that is all.
    let watcher = std::thread::Builder::new().spawn(watch);
    let input = Watched { input: std::io::stdin().lock(), came: Some(came) };
    let text = read_text_from(input, STDIN_NAME, limit as u64);
    // Has ended, or ends when it finds the channel closed.
    drop(watcher.map(std::thread::JoinHandle::join));
    text
}

/// A source that closes a channel with its first byte, or at its end.
struct Watched<R> {
    input: R,
    came: Option<mpsc::Sender<()>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer);
        self.came = None;
        read
    }
}

/// What a prompt is made of.
pub(super) struct PromptParts<'a> {
    pub(super) argument: Option<&'a str>,
    pub(super) files: &'a [PathBuf],
    /// Whether standard input is read where the argument does not ask for it.
    pub(super) reads_input: bool,
    /// Whether line ends stay as they are; else CR LF becomes LF.
    pub(super) is_raw: bool,
}

impl PromptParts<'_> {
    /// Joins the argument, then the files, then standard input unless that is a terminal. `-` stands for standard input,
    /// terminal or not.
    ///
    /// # Errors
    /// If a part has more than `limit` bytes, is not UTF-8 or cannot be read, and if there is nothing but white space.
    pub(super) fn read(&self, limit: usize) -> Result<String, CliError> {
        let argument = self.argument.filter(|argument| *argument != STDIN).unwrap_or_default();
        // As in "$(cat FILE)".
        let mut prompt = files::without_mark(argument).to_owned();
        for path in self.files {
            prompt = join(&prompt, &files::read_text(path, limit as u64)?);
        }
        if self.argument == Some(STDIN) || (self.reads_input && !std::io::stdin().is_terminal()) {
            prompt = join(&prompt, &read_patiently(limit)?);
        }
        if !self.is_raw && prompt.contains("\r\n") {
            prompt = prompt.replace("\r\n", "\n");
        }
        if prompt.trim().is_empty() { Err(CliError::NoPrompt) } else { Ok(prompt) }
    }
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
