//! An answer on its way to standard output, and how it looks there.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::CliError;
use super::output::{Event, display, event, has_events, is_terminal, write};
use super::progress::Progress;
use super::terminal::{self, When};
use super::wrap::Wrap;
use crate::console::{Pieces, Screen, Stream};

/// How answers look on a terminal.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "Terminal")]
pub(super) struct DisplayArgs {
    /// When there are colours
    #[arg(long, value_name = "WHEN", env = "SMOLT_COLOR", default_value = "auto", value_enum)]
    color: When,

    /// Let the terminal break the lines of answers, wherever they reach its edge
    #[arg(long, env = "SMOLT_NO_WRAP", value_parser = clap::builder::FalseyValueParser::new())]
    no_wrap: bool,
}

impl DisplayArgs {
    /// From now on what is said has these colours and lines.
    pub(super) fn apply(&self) {
        display(self.color, self.wraps());
    }

    /// Whether lines are broken between words.
    pub(super) fn wraps(&self) -> bool {
        !self.no_wrap
    }

    /// Whether the lines that are typed have colours.
    pub(super) fn has_colours(&self) -> bool {
        self.color.holds(true)
    }
}

/// Shows what a model wrote.
fn show(text: &str) -> Result<(), CliError> {
    Screen::new().answer(text).write(Stream::Out).map_err(CliError::Output)
}

/// Prints an answer as it comes. On a terminal lines are broken between words, and what may harm is not shown.
pub(super) struct Answer {
    terminal: bool,
    wrap: Option<Wrap>,
    pieces: Pieces,
    last: Option<char>,
    /// How far the prompt is read.
    reading: Progress,
}

/// The answer under way, which prompt and tokens report to.
pub(super) fn lock(answer: &Mutex<Answer>) -> MutexGuard<'_, Answer> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answer {
    /// With `wraps`, lines are broken between words, on a terminal.
    pub(super) fn new(wraps: bool) -> Answer {
        let terminal = is_terminal() && !has_events();
        let wrap = (terminal && wraps).then(Wrap::new);
        Answer { terminal, wrap, pieces: Pieces::default(), last: None, reading: Progress::reading() }
    }

    /// Shows that a long prompt is being read, once that takes a while; the answer takes its place.
    pub(super) fn read(&mut self, tokens: usize, of: usize) {
        self.reading.show(tokens as u64, Some(of as u64), |tokens| tokens.to_string());
    }

    /// The prompt is read.
    pub(super) fn end_reading(&mut self) {
        self.reading.clear();
    }

    /// Writes a part of the answer. On a terminal, control characters are shown as U+FFFD.
    ///
    /// # Errors
    /// As [`write`].
    pub(super) fn push(&mut self, text: &str) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        self.reading.clear();
        self.last = text.chars().last();
        if has_events() {
            return event(&Event::Text { text });
        }
        if !self.terminal {
            return write(text.as_bytes());
        }
        let text = self.pieces.push(text);
        match (&mut self.wrap, terminal::width()) {
            (Some(wrap), Some(width)) => {
                let mut out = String::new();
                wrap.push(&text, width, &mut out);
                show(&out)
            }
            _ => show(&text),
        }
    }

    /// Writes what is held back until its word ends.
    fn flush(&mut self) -> Result<(), CliError> {
        self.reading.clear();
        let Some(wrap) = &mut self.wrap else { return Ok(()) };
        let mut out = String::new();
        wrap.finish(terminal::width().unwrap_or(usize::MAX), &mut out);
        show(&out)
    }

    /// Whether something was written.
    pub(super) fn is_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Ends the line, terminal or not, also if there is nothing on it.
    ///
    /// # Errors
    /// As [`write`].
    pub(super) fn end_line(&mut self) -> Result<(), CliError> {
        self.flush()?;
        if self.last == Some('\n') || has_events() { Ok(()) } else { show("\n") }
    }
}
