//! What the line editor asks while a line is typed: completion, hints, whether Enter ends the message.

use std::borrow::Cow;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Context, Helper};

use super::commands::{Action, COMMANDS, Command};
use super::{load_settings, message, settings};
use crate::console::{escaped, is_unsafe, printable};
use crate::store::Store;

/// The helper of the line editor.
pub(super) struct Assistant {
    files: FilenameCompleter,
    /// Whether hints may be dimmed.
    colour: bool,
}

impl Assistant {
    pub(super) fn new(colour: bool) -> Assistant {
        Assistant { files: FilenameCompleter::new(), colour }
    }
}

/// The command that a line starts with, and where what follows starts.
fn typed(line: &str) -> Option<(&'static Command, usize)> {
    let (name, rest) = line.strip_prefix('/')?.split_once(' ')?;
    let command = COMMANDS.iter().find(|command| command.name == name)?;
    Some((command, line.len() - rest.len()))
}

/// Words that may follow a command.
fn words(command: &Command) -> impl Iterator<Item = &'static str> {
    let (words, more): (&[&str], &[&str]) = match command.action {
        Action::Set => (&settings::NAMES, &load_settings::NAMES),
        Action::Show => (&["history"], &[]),
        Action::System => (&["none"], &[]),
        _ => (&[], &[]),
    };
    words.iter().chain(more).copied()
}

/// Those of `names` that begin so.
fn pairs<'a>(names: impl Iterator<Item = &'a str>, prefix: &str) -> Vec<Pair> {
    let matching = names.filter(|name| name.starts_with(prefix));
    matching.map(|name| Pair { display: name.to_owned(), replacement: name.to_owned() }).collect()
}

impl Assistant {
    /// Completes the value of a setting.
    fn complete_value(
        &self,
        line: &str,
        pos: usize,
        (name, value): (&str, &str),
        ctx: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let name = name.replace('-', "_");
        let is_file = name == "template" || value.starts_with("schema ") || value.starts_with("grammar ");
        let start = pos - value.len();
        if !is_file {
            return Ok((start, pairs(settings::values(&name).iter().copied(), value)));
        }
        let (at, mut found) = self.files.complete(line, pos, ctx)?;
        if at == start {
            found.extend(pairs(settings::values(&name).iter().copied(), value));
        }
        Ok((at, found))
    }
}

/// Names of installed models and aliases, as far as they can be read.
fn installed() -> Vec<String> {
    let Ok(store) = Store::of_user() else { return vec![] };
    let (aliases, models) = (store.aliases().unwrap_or_default(), store.list().unwrap_or_default());
    let aliases = aliases.into_iter().map(|alias| alias.name);
    aliases.chain(models.into_iter().map(|model| model.name)).collect()
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..pos];
        if let Some((command, start)) = typed(before) {
            if command.takes_file {
                let (at, mut found) = self.files.complete(line, pos, ctx)?;
                if command.action == Action::Model && at == start {
                    found.extend(pairs(installed().iter().map(String::as_str), &before[start..]));
                }
                return Ok((at, found));
            }
            if command.action == Action::Set
                && let Some((name, value)) = before[start..].split_once(' ')
            {
                return self.complete_value(line, pos, (name, value), ctx);
            }
            return Ok((start, pairs(words(command), &before[start..])));
        }
        match before.strip_prefix('/') {
            Some(prefix) => Ok((1, pairs(COMMANDS.iter().map(|command| command.name), prefix))),
            None => Ok((pos, vec![])),
        }
    }
}

impl Hinter for Assistant {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<String> {
        if pos < line.len() {
            return None;
        }
        if let Some((command, start)) = typed(line) {
            let rest = &line[start..];
            if rest.is_empty() {
                return Some(command.usage.to_owned()).filter(|usage| !usage.is_empty());
            }
            let mut matching = words(command).filter_map(|word| word.strip_prefix(rest));
            return matching.next().filter(|word| !word.is_empty()).map(str::to_owned);
        }
        let prefix = line.strip_prefix('/').filter(|prefix| !prefix.is_empty())?;
        let command = COMMANDS.iter().find(|command| command.name.starts_with(prefix))?;
        Some(format!("{} {}", &command.name[prefix.len()..], command.usage)).filter(|hint| hint != " ")
    }
}

impl Highlighter for Assistant {
    // A line may hold what a terminal obeys: it was pasted, or comes from the history or from the name of a file.
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        printable(line)
    }

    fn highlight_char(&self, line: &str, _: usize, _: CmdKind) -> bool {
        line.contains(is_unsafe)
    }

    fn highlight_candidate<'c>(&self, candidate: &'c str, _: CompletionType) -> Cow<'c, str> {
        escaped(candidate)
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        // While the history is searched, it holds what is searched for.
        let prompt = printable(prompt);
        if self.colour { Cow::Owned(format!("\x1b[1;36m{prompt}\x1b[0m")) } else { prompt }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if self.colour { Cow::Owned(format!("\x1b[2m{hint}\x1b[0m")) } else { Cow::Borrowed(hint) }
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let is_complete = message::is_complete(context.input());
        Ok(if is_complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}
