//! The one way to standard output and standard error, and what a terminal may be shown.
//!
//! # Design
//!
//! A terminal obeys some of what it is shown: escape sequences move its cursor, rename its window or fill the clipboard,
//! and marks of writing direction make a text read as another. Files, names and models are strangers, so their texts reach
//! a terminal only without such characters. There are two ways to write, and `tests/console.rs` checks that no other
//! module has one of its own:
//!
//! * [`Stream::write`] and [`Stream::write_json`]: what a program may read. Exact in a pipe or a file, escaped on a terminal.
//! * [`Screen`]: what people read. Its texts are without such characters wherever they go; the control sequences are
//!   those of [`Code`].

mod characters;

pub use self::characters::{Pieces, escaped, is_unsafe, printable};

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

/// Where a program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// Whether a person sees it.
    pub fn is_terminal(self) -> bool {
        static OUT: OnceLock<bool> = OnceLock::new();
        static ERR: OnceLock<bool> = OnceLock::new();
        match self {
            Stream::Out => *OUT.get_or_init(|| io::stdout().is_terminal()),
            Stream::Err => *ERR.get_or_init(|| io::stderr().is_terminal()),
        }
    }

    /// Writes at once, so that what a terminal echoes or others write does not come between, and flushes.
    fn raw(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Out => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Stream::Err => io::stderr().write_all(bytes),
        }
    }

    /// Writes bytes as they are; on a terminal, as text with escapes.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn write(self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_terminal() {
            return self.raw(bytes);
        }
        self.raw(escaped(&String::from_utf8_lossy(bytes)).as_bytes())
    }

    /// Writes JSON as it is; on a terminal, with the escapes of JSON, so that it stays the same value.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn write_json(self, json: &[u8]) -> io::Result<()> {
        if self.is_terminal() { self.raw(&characters::json(json)) } else { self.raw(json) }
    }
}

/// A control sequence that the programs themselves give a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// What follows is dim.
    Dim,
    /// What follows is red.
    Red,
    /// What follows has neither colour nor weight.
    Plain,
    /// What stands on the line is taken away.
    ClearLine,
    /// Pasted text comes between marks.
    PasteOn,
    /// Pasted text comes as if it was typed.
    PasteOff,
}

impl Code {
    const fn sequence(self) -> &'static str {
        match self {
            Code::Dim => "\x1b[2m",
            Code::Red => "\x1b[31m",
            Code::Plain => "\x1b[0m",
            Code::ClearLine => "\r\x1b[K",
            Code::PasteOn => "\x1b[?2004h",
            Code::PasteOff => "\x1b[?2004l",
        }
    }
}

/// What a person is shown: texts of strangers, and control sequences of our own. It is written at once.
#[derive(Debug, Default)]
#[must_use]
pub struct Screen(String);

impl Screen {
    /// Begins with nothing.
    pub fn new() -> Screen {
        Screen::default()
    }

    /// Adds a control sequence.
    pub fn code(mut self, code: Code) -> Screen {
        self.0.push_str(code.sequence());
        self
    }

    /// Adds a text; what a terminal would obey is escaped.
    pub fn text(mut self, text: &str) -> Screen {
        self.0.push_str(&escaped(text));
        self
    }

    /// Adds a text in a style, if there is one.
    pub fn styled(self, style: Option<Code>, text: &str) -> Screen {
        match style.filter(|_| !text.is_empty()) {
            Some(code) => self.code(code).text(text).code(Code::Plain),
            None => self.text(text),
        }
    }

    /// Adds what a model writes; what a terminal would obey is shown as U+FFFD.
    pub fn answer(mut self, text: &str) -> Screen {
        self.0.push_str(&printable(text));
        self
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn write(self, to: Stream) -> io::Result<()> {
        if self.0.is_empty() { Ok(()) } else { to.raw(self.0.as_bytes()) }
    }

    /// Writes it to standard error. If nobody listens, nothing is lost.
    pub fn say(self) {
        let _ = self.write(Stream::Err);
    }
}

/// Lines of JSON for standard output or for a device, which may be a terminal.
#[derive(Debug)]
pub struct JsonLines(Option<File>);

impl JsonLines {
    /// Lines for standard output.
    pub fn of_output() -> JsonLines {
        JsonLines(None)
    }

    /// Lines for what is no regular file.
    pub fn of_device(device: File) -> JsonLines {
        JsonLines(Some(device))
    }
}

impl Write for JsonLines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            None => Stream::Out.write_json(lines)?,
            Some(device) => {
                let is_terminal = device.is_terminal();
                let lines = if is_terminal { characters::json(lines) } else { Cow::Borrowed(lines) };
                device.write_all(&lines)?;
            }
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says panics of this process on standard error, their messages escaped: they may quote what was read.
pub fn report_panics(program: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        let trace = match std::env::var_os("RUST_BACKTRACE").is_some_and(|set| set != "0") {
            true => format!("\n{}", std::backtrace::Backtrace::force_capture()),
            false => String::new(),
        };
        let what = format!("{program}: a fault of this program, please report it: {panic}{trace}\n");
        Screen::new().text(&what).say();
    }));
}
