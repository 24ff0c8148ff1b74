//! Standard output and standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::Serialize;
use serde_json::json;

use super::error::CliError;
use super::progress::Progress;
use super::terminal::{self, When};
use super::wrap::Wrap;
use crate::generate::Outcome;
use crate::text::ToolCall;

/// Whether a program listens, as [`events`] was told.
static EVENTS: AtomicBool = AtomicBool::new(false);

/// What a program is told, one JSON object a line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Event<'a> {
    /// Messages may be sent.
    Start { model: &'a str, context: usize, turns: usize },
    /// A part of the answer.
    Text { text: &'a str },
    /// The whole answer, and how it ended.
    Answer {
        text: &'a str,
        /// What the model thought before.
        reasoning: Option<&'a str>,
        /// Functions that it calls.
        tool_calls: Vec<serde_json::Value>,
        finish_reason: &'static str,
        tokens: usize,
        prompt_tokens: usize,
        cached_tokens: usize,
    },
    /// Something that a person would be told.
    Note { text: &'a str },
    /// What a command tells.
    Output { text: &'a str },
    /// A message that could not be asked, or a command that could not be done.
    Error { message: &'a str, hint: Option<String>, exit_code: i32 },
}

/// From now on everything goes to standard output as [`Event`]s, or nothing does.
pub(super) fn events(on: bool) {
    EVENTS.store(on, Ordering::Relaxed);
}

/// Whether a program listens.
pub(super) fn has_events() -> bool {
    EVENTS.load(Ordering::Relaxed)
}

/// Tells a program.
///
/// # Errors
/// As [`write`].
pub(super) fn event(event: &Event<'_>) -> Result<(), CliError> {
    let json = serde_json::to_string(event).map_err(|error| CliError::Output(error.into()))?;
    write(format!("{json}\n").as_bytes())
}

/// Tells a program if one listens; if it does not any more, the next answer will notice.
fn told(what: &Event<'_>) -> bool {
    has_events() && {
        let _ = event(what);
        true
    }
}

/// Whether there are colours, as [`display`] was told.
static COLOURS: AtomicU8 = AtomicU8::new(When::Auto as u8);

/// Whether lines are broken between words on a terminal, as [`display`] was told.
static WRAPS: AtomicBool = AtomicBool::new(true);

/// Says when there are colours, and whether lines are broken between words, from now on.
pub(super) fn display(colours: When, wraps: bool) {
    COLOURS.store(colours as u8, Ordering::Relaxed);
    WRAPS.store(wraps, Ordering::Relaxed);
}

/// Text as it is said on standard error: escaped, and on a terminal with lines that fit.
fn fitted(text: &str) -> Cow<'_, str> {
    let text = escaped(text);
    let width = terminal::width().filter(|_| WRAPS.load(Ordering::Relaxed) && io::stderr().is_terminal());
    let Some(width) = width else { return text };
    let (mut wrap, mut out) = (Wrap::new(), String::new());
    wrap.push(&text, width, &mut out);
    wrap.finish(width, &mut out);
    out.into()
}

/// Whether what is said on standard error has colours.
pub(super) fn has_colours() -> bool {
    let when = [When::Auto, When::Always, When::Never];
    let when = when.into_iter().find(|when| *when as u8 == COLOURS.load(Ordering::Relaxed));
    when.unwrap_or_default().holds(io::stderr().is_terminal())
}

/// Text in a colour, or dim or bold, where there are colours: `code` is that of the terminal.
fn painted(code: &str, text: &str) -> String {
    if has_colours() && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

const DIM: &str = "2";
const RED: &str = "31";

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
    if told(&Event::Note { text: &text.to_string() }) {
        return;
    }
    whole(format!("{}\n", painted(DIM, &fitted(&format!("smolt: {text}")))));
}

/// Says something on standard error whose answer follows on the same line.
pub(super) fn ask(text: impl std::fmt::Display) {
    whole(escaped(&format!("smolt: {text}")).into_owned());
}

/// Writes at once, so that what a terminal echoes or others write does not come between.
fn whole(text: String) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Says several lines on standard error, as they are but for control characters.
pub(super) fn say(text: &str) {
    if told(&Event::Output { text }) {
        return;
    }
    whole(format!("{}\n", fitted(text)));
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
pub fn complain(error: &CliError) {
    let (message, exit_code) = (with_causes(error), error.exit() as i32);
    if told(&Event::Error { message: &message, hint: error.hint(), exit_code }) {
        return;
    }
    let message = painted(RED, &fitted(&format!("smolt: {message}")));
    let hint = error.hint().map_or(String::new(), |hint| format!("\n{}", fitted(&format!("hint: {hint}"))));
    whole(format!("{message}{hint}\n"));
}

/// Text in which control characters and those that turn the direction of writing are U+FFFD: what a model writes may
/// not move the cursor or worse.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Text in which they are written as escapes: what messages and tables take from files, names and models.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_unsafe(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(escape).collect::<String>().into()
}

/// Writes to standard output and flushes it. What a terminal gets is escaped.
///
/// # Errors
/// If it cannot be written to; [`super::execute`] takes a closed pipe for a normal end.
pub(super) fn write(bytes: &[u8]) -> Result<(), CliError> {
    if is_terminal() { raw(escaped(&String::from_utf8_lossy(bytes)).as_bytes()) } else { raw(bytes) }
}

fn raw(bytes: &[u8]) -> Result<(), CliError> {
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

/// Prints the calls of an answer behind its text, one line of JSON each.
///
/// # Errors
/// As [`write`].
pub(super) fn write_calls(outcome: &Outcome) -> Result<(), CliError> {
    calls(outcome).iter().try_for_each(write_json)
}

/// The calls of an answer.
pub(super) fn calls(outcome: &Outcome) -> Vec<serde_json::Value> {
    let call = |call: &ToolCall| json!({"name": call.name, "arguments": call.arguments});
    outcome.tool_calls.iter().map(call).collect()
}

/// Whether a person sees standard output.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints an answer as it comes. On a terminal lines are broken between words, and what may harm is not shown.
pub(super) struct Answer {
    terminal: bool,
    wrap: Option<Wrap>,
    last: Option<char>,
    /// How far the prompt is read.
    reading: Progress,
}

impl Answer {
    /// With `wraps`, lines are broken between words, on a terminal.
    pub(super) fn new(wraps: bool) -> Answer {
        let terminal = is_terminal() && !has_events();
        let wrap = (terminal && wraps).then(Wrap::new);
        Answer { terminal, wrap, last: None, reading: Progress::reading() }
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
            return raw(text.as_bytes());
        }
        let text = printable(text);
        match (&mut self.wrap, terminal::width()) {
            (Some(wrap), Some(width)) => {
                let mut out = String::new();
                wrap.push(&text, width, &mut out);
                if out.is_empty() { Ok(()) } else { raw(out.as_bytes()) }
            }
            _ => raw(text.as_bytes()),
        }
    }

    /// Writes what is held back until its word ends.
    fn flush(&mut self) -> Result<(), CliError> {
        self.reading.clear();
        let Some(wrap) = &mut self.wrap else { return Ok(()) };
        let mut out = String::new();
        wrap.finish(terminal::width().unwrap_or(usize::MAX), &mut out);
        if out.is_empty() { Ok(()) } else { raw(out.as_bytes()) }
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
        if self.last == Some('\n') || has_events() { Ok(()) } else { raw(b"\n") }
    }
}

/// Whether a character does something to a terminal, or turns the direction of what follows.
fn is_unsafe(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    );
    (c.is_control() && c != '\n' && c != '\t') || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_moves_it_or_turns_text() {
        let text = "a\x1b]0;title\x07b\r\u{9b}31m\u{202e}c\u{2066}\u{200f}\u{61c}\n\td\u{301}\u{200d}\u{5d0}";
        let kept = |text: &str| text.chars().filter(|c| is_unsafe(*c)).count();
        assert_eq!(kept(text), 8);
        assert_eq!((kept(&printable(text)), kept(&escaped(text))), (0, 0));
        assert_eq!(printable(text).chars().count(), text.chars().count());
        assert!(
            escaped(text).starts_with(r"a\u{1b}]0;title\u{7}b\u{d}\u{9b}31m\u{202e}c"),
            "{}",
            escaped(text)
        );
        assert!(escaped(text).ends_with("\n\td\u{301}\u{200d}\u{5d0}"), "what is text stays");
    }

    #[test]
    fn parts_of_characters_are_quoted_byte_by_byte() {
        let emoji = "😀".as_bytes();
        assert_eq!(quoted(&emoji[..2]), r#""\xF0\x9F""#);
        assert_eq!(quoted(&[b"a\n\"", &emoji[2..], "ü".as_bytes()].concat()), r#""a\n\"\x98\x80ü""#);
    }
}
