//! What is said of a line that makes no sense: which option, what was found, what was expected, what to do.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::super::error::{UsageError, shown};
use super::super::named::named;
use super::super::settings::default_in_help;
use super::super::value;
use super::foreign;
use crate::text::nearest;

/// What is said to those who look for a server.
const SERVER: &str = if cfg!(feature = "serve") {
    "smolt serve answers programs and visitors"
} else {
    "this build of smolt has no server; smolt run, chat and batch answer from the command line"
};
/// What people look for, and what smolt calls it.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["ask", "answer", "complete", "completion", "generate", "prompt"], "smolt run \"…\" answers a prompt"),
    (&["repl", "talk", "interactive"], "smolt chat is a conversation"),
    (&["serve", "server", "start", "web", "api"], SERVER),
    (&["ps", "stop"], "a model is loaded while a command runs; smolt list shows those that are installed"),
    (&["cp", "copy", "ln"], "smolt alias NAME MODEL gives a model another name"),
    (&["create", "modelfile", "push"], "smolt-quantize makes models; smolt alias gives them names"),
    (&["download", "fetch", "get", "install"], "smolt pull ORG/REPO fetches a model"),
    (&["info", "inspect"], "smolt show MODEL tells what is in a model"),
    (&["ppl"], "smolt perplexity measures how well a model predicts a text"),
    (&["quantize", "convert", "imatrix"], "smolt-quantize is a program of its own"),
    (&["version"], "smolt --version"),
];

/// What clap has against a line.
pub(super) fn explain(error: &clap::Error, command: &Command, arguments: &[OsString]) -> UsageError {
    Refused::new(error, command, arguments).explain()
}

/// What clap says, with the command that it is about.
struct Refused<'a> {
    error: &'a clap::Error,
    root: &'a Command,
    command: Option<&'a Command>,
    arguments: &'a [OsString],
}

impl<'a> Refused<'a> {
    fn new(error: &'a clap::Error, root: &'a Command, arguments: &'a [OsString]) -> Refused<'a> {
        // The deepest one that is named: `preset save`.
        let mut command = None;
        for argument in arguments.iter().skip(1) {
            command = command.unwrap_or(root).find_subcommand(argument).or(command);
        }
        Refused { error, root, command, arguments }
    }

    fn text(&self, kind: ContextKind) -> String {
        self.texts(kind).join(", ")
    }

    fn texts(&self, kind: ContextKind) -> Vec<String> {
        texts(self.error, kind)
    }

    /// The option that clap writes as `--max-tokens <N>`.
    fn arg(&self) -> Option<&'a Arg> {
        let text = self.text(ContextKind::InvalidArg);
        self.command?.get_arguments().find(|arg| name_of(arg) == first_word(&text))
    }

    /// `--temp`, or `SMOLT_TEMP` if that is where its value is from.
    fn place(&self) -> String {
        self.place_of(first_word(&self.text(ContextKind::InvalidArg)))
    }

    fn place_of(&self, name: &str) -> String {
        let arg = self.command.and_then(|command| command.get_arguments().find(|arg| name_of(arg) == name));
        let Some(arg) = arg else { return name.to_owned() };
        let variable = arg.get_env().filter(|_| !self.is_typed(arg)).map(|name| name.to_string_lossy());
        variable.filter(|name| std::env::var_os(&**name).is_some()).map_or_else(|| name_of(arg), Into::into)
    }

    fn is_typed(&self, arg: &Arg) -> bool {
        let longs: Vec<&str> = arg.get_long_and_visible_aliases().unwrap_or_default();
        let longs: Vec<&str> = longs.into_iter().chain(arg.get_all_aliases().unwrap_or_default()).collect();
        self.arguments.iter().skip(1).filter_map(|argument| argument.to_str()).any(|typed| {
            let name = typed.split('=').next().unwrap_or(typed);
            let long = name.strip_prefix("--").is_some_and(|name| longs.contains(&name));
            let short = !typed.starts_with("--") && typed.starts_with('-');
            long || short && arg.get_short().is_some_and(|short| typed.contains(short))
        })
    }

    fn explain(&self) -> UsageError {
        let (problem, hint) = match self.error.kind() {
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => self.wrong_value(),
            ErrorKind::UnknownArgument => self.unknown(),
            ErrorKind::InvalidSubcommand => self.no_command(),
            ErrorKind::MissingRequiredArgument => self.missing(),
            ErrorKind::ArgumentConflict => self.conflict(),
            ErrorKind::NoEquals => (format!("{}: expected a value after =", self.place()), None),
            ErrorKind::TooManyValues => {
                let found = shown(&self.text(ContextKind::InvalidValue));
                (format!("{}: expected no value, found {found:?}", self.place()), None)
            }
            ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
                let wanted = match self.text(ContextKind::ExpectedNumValues) {
                    wanted if wanted.is_empty() => self.text(ContextKind::MinValues),
                    wanted => wanted,
                };
                let found = self.text(ContextKind::ActualNumValues);
                (format!("{}: expected {wanted} values, found {found}", self.place()), None)
            }
            ErrorKind::InvalidUtf8 => ("an argument is not UTF-8 text".to_owned(), None),
            _ => (self.error.to_string().trim_start_matches("error: ").trim().to_owned(), None),
        };
        UsageError { problem, hint: hint.or_else(|| self.help()) }
    }

    /// Where to read on.
    fn help(&self) -> Option<String> {
        let (mut path, mut command) = (String::new(), self.root);
        for argument in self.arguments.iter().skip(1) {
            if let Some(inner) = command.find_subcommand(argument) {
                command = inner;
                path += &format!(" {}", inner.get_name());
            }
        }
        Some(format!("smolt help{path} explains every option"))
    }

    fn wrong_value(&self) -> (String, Option<String>) {
        let (place, found) = (self.place(), self.text(ContextKind::InvalidValue));
        let arg = self.arg();
        let expected = arg.and_then(|arg| value::refusal(arg, &found)).or_else(|| {
            let cause = std::error::Error::source(self.error)?.to_string();
            Some(cause.trim_start_matches("expected ").to_owned())
        });
        let expected = expected.unwrap_or_else(|| format!("one of {}", self.text(ContextKind::ValidValue)));
        let problem = if found.is_empty() {
            format!("{place}: expected {expected}, found nothing")
        } else {
            format!("{place}: expected {expected}, found {:?}", shown(&found))
        };
        let without = arg.and_then(default_in_help);
        let hint = without.filter(|_| found.starts_with('-'));
        (problem, hint.map(|without| format!("without {place}: {without}")))
    }

    fn unknown(&self) -> (String, Option<String>) {
        let found = self.text(ContextKind::InvalidArg);
        let name = self.command.map(Command::get_name);
        if !found.starts_with('-') {
            let hint = match name {
                Some("chat") => {
                    Some("messages are typed once it runs, or come from a pipe; smolt run \"…\" answers one")
                }
                _ => None,
            };
            let command = name.unwrap_or_default();
            return (
                format!("{command}: there is a word too many, {:?}", shown(&found)),
                hint.map(str::to_owned),
            );
        }
        let problem = format!("there is no option {}", shown(&found));
        if let Some(instead) = foreign::instead(&found) {
            return (problem, Some(instead.to_owned()));
        }
        let known = self.root.get_subcommands().flat_map(Command::get_arguments);
        let is_of_run = known.into_iter().any(|arg| is_called(arg, &found));
        let suggested = self.text(ContextKind::SuggestedArg);
        let before = self.option_before(&found);
        let takes_file = self.command.is_some_and(|command| command.get_positionals().next().is_some());
        let hint = if name.is_some() && takes_file && ["-f", "--file"].contains(&found.as_str()) {
            Some("name the file without an option".to_owned())
        } else if name.is_none() && is_of_run {
            Some("begin with a command: smolt run -m MODEL \"…\"".to_owned())
        } else if let Some(option) = before {
            Some(format!("{option}={} gives {option} this value", shown(&found)))
        } else if found.contains(char::is_whitespace) || found.trim_start_matches('-').is_empty() {
            Some(
                "text that begins with - goes after --, the text of an option after =: --system=\"- …\""
                    .to_owned(),
            )
        } else if !suggested.is_empty() {
            Some(format!("did you mean {suggested}?"))
        } else {
            None
        };
        (problem, hint)
    }

    /// The option with a text for its value that was typed before `found`.
    fn option_before(&self, found: &str) -> Option<String> {
        let at = self.arguments.iter().position(|argument| argument == found)?;
        let before = self.arguments.get(at.checked_sub(1)?)?.to_str()?;
        let arg = self.command?.get_arguments().find(|arg| name_of(arg) == before)?;
        (arg.get_action().takes_values() && !arg.is_require_equals_set()).then(|| before.to_owned())
    }

    fn no_command(&self) -> (String, Option<String>) {
        let found = self.text(ContextKind::InvalidSubcommand);
        let problem = format!("there is no command {}", shown(&found));
        let is_prompt = found.contains(char::is_whitespace);
        let known = COMMANDS.iter().find(|(names, _)| names.contains(&found.as_str()));
        let mut suggested = self.texts(ContextKind::SuggestedSubcommand);
        if suggested.is_empty() {
            let names = self.root.get_subcommands().map(Command::get_name);
            suggested.extend(nearest(&found, names).map(str::to_owned));
        }
        let hint = if let Some((_, hint)) = known {
            (*hint).to_owned()
        } else if is_prompt {
            "smolt run \"…\" answers a prompt".to_owned()
        } else if named(Path::new(&found)).is_some() {
            format!("smolt run {found} \"…\" asks this model, smolt chat {found} talks with it")
        } else if !suggested.is_empty() {
            format!("did you mean {}?", suggested.join(" or "))
        } else {
            let names = self.root.get_subcommands().map(Command::get_name);
            format!("there are {}", names.collect::<Vec<_>>().join(", "))
        };
        (problem, Some(hint))
    }

    fn missing(&self) -> (String, Option<String>) {
        let name = self.command.map_or("smolt", Command::get_name);
        let mut problem = String::new();
        for missing in self.texts(ContextKind::InvalidArg) {
            let arg = self.command.and_then(|command| {
                command
                    .get_arguments()
                    .find(|arg| arg.to_string() == missing || name_of(arg) == first_word(&missing))
            });
            let help = arg.and_then(Arg::get_help).map(|help| format!(" ({help})"));
            let separator = if problem.is_empty() { "" } else { ", " };
            let _ = write!(problem, "{separator}{missing}{}", help.unwrap_or_default());
        }
        (format!("{name}: expected {problem}, found nothing"), None)
    }

    fn conflict(&self) -> (String, Option<String>) {
        let others: Vec<String> =
            self.texts(ContextKind::PriorArg).iter().map(|text| self.place_of(first_word(text))).collect();
        let place = self.place();
        match others.as_slice() {
            [] => (format!("{place} is given more than once"), None),
            [one] if *one == place => (format!("{place} is given more than once"), None),
            others => (
                format!("{place} cannot be used with {}", others.join(", ")),
                Some("leave one out".to_owned()),
            ),
        }
    }
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(ContextValue::StyledStrs(texts)) => texts.iter().map(ToString::to_string).collect(),
        Some(ContextValue::Number(number)) => vec![number.to_string()],
        _ => vec![],
    }
}

/// Whether an option is one of those that cannot be used together.
pub(super) fn is_conflicting(error: &clap::Error, arg: &Arg) -> bool {
    let named = [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| texts(error, kind)).concat();
    error.kind() == ErrorKind::ArgumentConflict && named.iter().any(|name| first_word(name) == name_of(arg))
}

/// Whether an option is called so, with one dash or two.
fn is_called(arg: &Arg, typed: &str) -> bool {
    let name = typed.split('=').next().unwrap_or(typed);
    let long = name.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
    long || arg
        .get_short()
        .is_some_and(|short| typed.strip_prefix('-').is_some_and(|rest| rest.starts_with(short)))
}

/// `--long`, else the name of the value.
fn name_of(arg: &Arg) -> String {
    arg.get_long().map_or_else(|| first_word(&arg.to_string()).to_owned(), |long| format!("--{long}"))
}

fn first_word(text: &str) -> &str {
    text.split([' ', '=', '['])
        .next()
        .filter(|word| !word.is_empty())
        .unwrap_or(text)
        .trim_matches(['<', '>', '.'])
}
