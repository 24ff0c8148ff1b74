//! The commands and their options, with what is the same for all of them.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory};

use super::super::commands::Cli;
use super::super::value::is_number;
use super::help;

/// What other programs call an option. These names work and are not shown.
const OTHER_NAMES: &[(&str, &[&str])] = &[
    ("context", &["ctx-size", "num-ctx"]),
    ("max-tokens", &["n-predict", "num-predict", "predict"]),
    ("quiet", &["silent"]),
    ("repeat-penalty", &["repetition-penalty"]),
    ("stats", &["verbose", "show-timings"]),
    ("stop", &["reverse-prompt"]),
    ("system", &["system-prompt"]),
    ("temp", &["temperature"]),
    ("template", &["chat-template", "chat-template-file"]),
];

/// All commands.
pub(in crate::cli) fn command() -> Command {
    all(Cli::command())
}

/// All commands, of which only the one that was typed is shaped: shaping all takes longer than reading the line.
pub(super) fn command_of(arguments: &[OsString]) -> Command {
    let command = Cli::command();
    let mut words = arguments.iter().skip(1).filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let typed = words.next().and_then(|word| command.find_subcommand(word));
    match typed.map(|typed| typed.get_name().to_owned()) {
        Some(name) => help::explained(command.mut_args(shaped)).mut_subcommand(name, all),
        None => all(command),
    }
}

fn all(command: Command) -> Command {
    help::explained(command.mut_args(shaped)).mut_subcommands(all)
}

fn shaped(arg: Arg) -> Arg {
    let names = OTHER_NAMES.iter().find(|(name, _)| arg.get_long() == Some(name));
    let names = names.map_or(&[][..], |(_, names)| names);
    // Of a negative number the range is said, not that there is no such option.
    let is_number = arg.get_action().takes_values() && is_number(&arg);
    let arg = if is_number { arg.allow_negative_numbers(true) } else { arg };
    arg.aliases(names.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn negative_numbers_are_values() {
        for command in command().get_subcommands() {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values() && is_number(arg))
            {
                assert!(arg.is_allow_negative_numbers_set(), "{} {arg:?}", command.get_name());
            }
        }
    }

    #[test]
    fn every_other_name_is_of_an_option() {
        let command = command();
        let args: Vec<&Arg> =
            command.get_subcommands().chain([&command]).flat_map(Command::get_arguments).collect();
        for (name, _) in OTHER_NAMES {
            assert!(args.iter().any(|arg| arg.get_long() == Some(name)), "{name}");
        }
    }
}
