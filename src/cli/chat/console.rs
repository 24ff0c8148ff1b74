//! Where messages come from: a line editor on a terminal, else the lines of standard input.

use std::io::{self, IsTerminal, StdinLock};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::config::{Behavior, BellStyle, ColorMode, Config};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Editor};

use super::super::error::{ChatError, CliError};
use super::super::input::STDIN_NAME;
use super::super::output::{self, note};
use super::super::session;
use super::super::terminal::{self, Quiet};
use super::helper::Assistant;
use super::message;
use crate::files::{self, ReadError};
use crate::text::MAX_MESSAGE_BYTES;

const PROMPT: &str = "> ";
/// Lines that the history keeps.
const MAX_HISTORY: usize = 1000;
/// Lines that start so are not kept: what a system prompt says may be meant for the model alone.
const SECRET: &str = "/system";

/// What was read.
pub(super) enum Read {
    /// A message or a command, without quotes around it.
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the input.
    End,
}

/// Where messages come from.
pub(super) enum Console {
    Editor(Box<LineEditor>),
    Lines(Lines),
}

/// Whether a prompt waits for the end of a line.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    /// Ends the line of the prompt, if there is one, so that what is said next begins a line.
    pub(super) fn end_line(&self) {
        if self.0.swap(false, Ordering::SeqCst) {
            output::say("");
        }
    }
}

/// A line editor with its history.
pub(super) struct LineEditor {
    /// While no line is typed.
    quiet: Option<Quiet>,
    editor: Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
    waiting: Waiting,
}

/// Lines of standard input.
pub(super) struct Lines {
    /// Whether they may be JSON.
    json: bool,
    lines: files::Lines<StdinLock<'static>>,
}

impl Console {
    /// The line editor if standard input is a terminal that can move its cursor. Without `history`, no line is kept
    /// beyond the end. With `json`, lines may be JSON, terminal or not.
    ///
    /// # Errors
    /// If the terminal cannot be used.
    pub(super) fn open(history: bool, json: bool, colour: bool) -> Result<Console, CliError> {
        if json || !io::stdin().is_terminal() || (terminal::is_dumb() && !output::is_terminal()) {
            return Ok(Console::Lines(Lines {
                json,
                lines: files::Lines::new(io::stdin().lock(), STDIN_NAME, MAX_MESSAGE_BYTES as u64),
            }));
        }
        // Standard output may be a file.
        let behavior = if output::is_terminal() { Behavior::Stdio } else { Behavior::PreferTerm };
        let config = Config::builder()
            .max_history_size(MAX_HISTORY)
            .map_err(ChatError::Terminal)?
            .completion_type(CompletionType::List)
            .color_mode(if colour { ColorMode::Enabled } else { ColorMode::Disabled })
            .bell_style(BellStyle::None)
            .behavior(behavior)
            .build();
        let mut editor = Editor::with_config(config).map_err(ChatError::Terminal)?;
        editor.set_helper(Some(Assistant::new(colour)));
        let history = if history { history_path() } else { None };
        if let Some(path) = &history {
            // There is none at the first start.
            let _ = editor.load_history(path);
        }
        Ok(Console::Editor(Box::new(LineEditor {
            quiet: None,
            editor,
            history,
            waiting: Waiting::default(),
        })))
    }

    /// Whether a prompt waits.
    pub(super) fn waiting(&self) -> Waiting {
        match self {
            Console::Editor(editor) => editor.waiting.clone(),
            Console::Lines(_) => Waiting::default(),
        }
    }

    /// What is typed appears as usual until the next message is read.
    pub(super) fn release(&mut self) {
        if let Console::Editor(editor) = self {
            editor.quiet = None;
        }
    }

    /// Reads the next message that is not blank. What is typed from then on until the next one is read does not appear,
    /// but is read then.
    ///
    /// # Errors
    /// If the input is not text, has too long a message or cannot be read; see [`is_about_a_line`].
    pub(super) fn read(&mut self) -> Result<Read, CliError> {
        loop {
            let lines = match self {
                Console::Editor(editor) => match editor.read()? {
                    Read::Line(lines) => lines,
                    other => return Ok(other),
                },
                Console::Lines(lines) => match lines.read()? {
                    Some(line) if lines.json && message::is_json(&line) => {
                        return Ok(Read::Line(message::from_json(&line)?));
                    }
                    Some(lines) => lines,
                    None => return Ok(Read::End),
                },
            };
            let text = message::content(&lines);
            if !text.trim().is_empty() {
                return Ok(Read::Line(text.to_owned()));
            }
        }
    }
}

impl LineEditor {
    fn read(&mut self) -> Result<Read, CliError> {
        self.quiet = None;
        self.waiting.0.store(true, Ordering::SeqCst);
        let line = self.editor.readline(PROMPT);
        self.waiting.0.store(false, Ordering::SeqCst);
        self.quiet = Some(Quiet::new(true));
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => return Ok(Read::Interrupted),
            Err(ReadlineError::Eof) => return Ok(Read::End),
            Err(error) => return Err(ChatError::Terminal(error).into()),
        };
        if line.len() > MAX_MESSAGE_BYTES {
            return Err(ChatError::MessageTooLong { limit: MAX_MESSAGE_BYTES }.into());
        }
        if !line.trim().is_empty() && !line.starts_with(SECRET) {
            self.remember(&line);
        }
        Ok(Read::Line(line))
    }

    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(path) = self.history.as_ref().filter(|_| added)
            && let Err(error) = append(&mut self.editor, path)
        {
            note(format_args!("the history cannot be kept in {}: {error}", path.display()));
            self.history = None;
        }
    }
}

fn append(editor: &mut Editor<Assistant, FileHistory>, path: &Path) -> rustyline::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    editor.append_history(path)
}

/// `$XDG_STATE_HOME/smolt/history`, by default `~/.local/state/smolt/history`.
fn history_path() -> Option<PathBuf> {
    Some(session::state_folder()?.join("history"))
}

/// Whether a message could not be read and the next can.
pub(super) fn is_about_a_line(error: &CliError) -> bool {
    match error {
        CliError::Read(error) => !matches!(error, ReadError::Io { .. } | ReadError::Folder { .. }),
        CliError::Chat(error) => !matches!(error, ChatError::Terminal(_)),
        _ => false,
    }
}

impl Lines {
    /// Reads lines up to the end of a message; `None` at the end of the input. Of a message of several lines that cannot
    /// be read the other lines are passed over.
    fn read(&mut self) -> Result<Option<String>, CliError> {
        let (mut message, mut failure) = (None::<String>, None::<CliError>);
        loop {
            let is_first = message.is_none();
            let is_open = match self.lines.next() {
                Ok(None) => break,
                Ok(Some(line)) => {
                    let text = message.get_or_insert_default();
                    if !is_first {
                        text.push('\n');
                    }
                    text.push_str(line.text);
                    if text.len() > MAX_MESSAGE_BYTES {
                        text.clear();
                        failure = Some(ChatError::MessageTooLong { limit: MAX_MESSAGE_BYTES }.into());
                    }
                    if is_first { !message::is_complete(line.text) } else { !message::ends(line.text) }
                }
                Err(error) => {
                    let error = CliError::from(error);
                    if !is_about_a_line(&error) {
                        return Err(error);
                    }
                    failure = failure.or(Some(error));
                    !is_first
                }
            };
            if !is_open {
                break;
            }
        }
        failure.map_or(Ok(message), Err)
    }
}
