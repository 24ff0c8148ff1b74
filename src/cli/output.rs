//! Standard output and standard error.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::Serialize;
use serde_json::json;

use super::error::CliError;
use super::terminal::{self, When};
use super::wrap::Wrap;
use crate::console::{Code, Screen, Stream};
pub(super) use crate::console::{escaped, printable};
use crate::text::ToolCall;

/// Whether a program listens, as [`events`] was told.
static EVENTS: AtomicBool = AtomicBool::new(false);

/// What a program is told, one JSON object a line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Event<'a> {
    /// Messages may be sent; the context where it is known.
    Start { model: &'a str, context: Option<usize>, turns: usize },
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
        /// Where they are known.
        tokens: Option<usize>,
        prompt_tokens: Option<usize>,
        cached_tokens: Option<usize>,
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
    Stream::Out.write_json(format!("{json}\n").as_bytes()).map_err(CliError::Output)
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
    let width = terminal::width().filter(|_| WRAPS.load(Ordering::Relaxed) && Stream::Err.is_terminal());
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
    when.unwrap_or_default().holds(Stream::Err.is_terminal())
}

/// A style, where there are colours.
fn style(code: Code) -> Option<Code> {
    has_colours().then_some(code)
}

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
    Screen::new().styled(style(Code::Dim), &fitted(&format!("smolt: {text}"))).text("\n").say();
}

/// Says something on standard error whose answer follows on the same line.
pub(super) fn ask(text: impl std::fmt::Display) {
    Screen::new().text(&format!("smolt: {text}")).say();
}

/// Says several lines on standard error, as they are but for control characters.
pub(super) fn say(text: &str) {
    if told(&Event::Output { text }) {
        return;
    }
    Screen::new().text(&fitted(text)).text("\n").say();
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
    let message = format!("smolt: {message}");
    let hint = error.hint().map_or(String::new(), |hint| format!("\n{}", fitted(&format!("hint: {hint}"))));
    Screen::new().styled(style(Code::Red), &fitted(&message)).text(&hint).text("\n").say();
}

/// Writes to standard output and flushes it: what a script may read. On a terminal it is escaped.
///
/// # Errors
/// If it cannot be written to; [`super::execute`] takes a closed pipe for a normal end.
pub(super) fn write(bytes: &[u8]) -> Result<(), CliError> {
    Stream::Out.write(bytes).map_err(CliError::Output)
}

/// Writes what people read to standard output, escaped wherever it goes: names in it come from files.
///
/// # Errors
/// As [`write`].
pub(super) fn table(text: &str) -> Result<(), CliError> {
    Screen::new().text(text).write(Stream::Out).map_err(CliError::Output)
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// As [`write`].
pub(super) fn write_json(value: &impl Serialize) -> Result<(), CliError> {
    let json = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
    Stream::Out.write_json(format!("{json}\n").as_bytes()).map_err(CliError::Output)
}

/// Prints the calls of an answer behind its text, one line of JSON each.
///
/// # Errors
/// As [`write`].
pub(super) fn write_calls(tool_calls: &[ToolCall]) -> Result<(), CliError> {
    calls(tool_calls).iter().try_for_each(write_json)
}

/// The calls of an answer.
pub(super) fn calls(tool_calls: &[ToolCall]) -> Vec<serde_json::Value> {
    let call = |call: &ToolCall| json!({"name": call.name, "arguments": call.arguments});
    tool_calls.iter().map(call).collect()
}

/// Whether a person sees standard output.
pub(super) fn is_terminal() -> bool {
    Stream::Out.is_terminal()
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
