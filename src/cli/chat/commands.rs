//! The commands of a chat, as data.

use super::super::error::ChatError;
use crate::text::nearest;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Help,
    Exit,
    Reset,
    System,
    Set,
    Show,
    Save,
    Load,
    Retry,
    Continue,
    Undo,
    Edit,
    Result,
    Context,
    Stats,
    Tokens,
    Model,
}

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// Other names.
    also: &'static [&'static str],
    /// What follows the name.
    pub(super) usage: &'static str,
    help: &'static str,
    pub(super) action: Action,
    /// Whether a file name follows.
    pub(super) takes_file: bool,
}

const fn command(name: &'static str, usage: &'static str, help: &'static str, action: Action) -> Command {
    let takes_file = matches!(action, Action::Save | Action::Load | Action::Model);
    Command { name, also: &[], usage, help, action, takes_file }
}

/// All commands, in the order of `/help`.
pub(super) const COMMANDS: &[Command] = &[
    Command { also: &["?"], ..command("help", "", "list the commands", Action::Help) },
    Command { also: &["quit", "bye"], ..command("exit", "", "leave; so does Ctrl-D", Action::Exit) },
    Command { also: &["clear"], ..command("reset", "", "forget all turns", Action::Reset) },
    command("retry", "", "answer the last message again", Action::Retry),
    command("continue", "", "go on with an answer that was cut off", Action::Continue),
    command("undo", "", "take the last message and its answer back", Action::Undo),
    command("edit", "", "write the last message anew in $EDITOR and ask it instead", Action::Edit),
    command("result", "TEXT", "give the result of a function that was called", Action::Result),
    command("system", "[TEXT|none]", "show or change the system prompt", Action::System),
    command("set", "[NAME VALUE]", "show or change settings; the value may be default", Action::Set),
    command("show", "[history]", "show model, settings and system prompt, or all turns", Action::Show),
    command("context", "", "show how full the context is", Action::Context),
    command("stats", "", "show counts and times of the last answer", Action::Stats),
    command("tokens", "[TEXT]", "show the tokens of a text, or of the last answer", Action::Tokens),
    command("save", "FILE", "save the session with what was computed", Action::Save),
    command("load", "FILE", "go on with a saved session", Action::Load),
    command("model", "[NAME]", "show the model, or go on with another", Action::Model),
];

/// A line that was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    /// For the model.
    Message(&'a str),
    /// A command and what follows it.
    Command(Action, &'a str),
}

impl Input<'_> {
    /// Reads a line. `//` starts a message that starts with `/`.
    ///
    /// # Errors
    /// If there is no such command.
    pub(super) fn parse(line: &str) -> Result<Input<'_>, ChatError> {
        let Some(rest) = line.strip_prefix('/') else { return Ok(Input::Message(line)) };
        if rest.starts_with('/') {
            return Ok(Input::Message(rest));
        }
        let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let found = COMMANDS.iter().find(|command| command.name == name || command.also.contains(&name));
        match found {
            Some(command) => Ok(Input::Command(command.action, argument.trim())),
            None => Err(ChatError::UnknownCommand {
                found: name.chars().take(32).collect(),
                nearest: nearest(name, COMMANDS.iter().map(|command| command.name)),
            }),
        }
    }
}

/// What `/help` says.
pub(super) fn help() -> String {
    let mut text = String::new();
    for command in COMMANDS {
        let call = format!("/{} {}", command.name, command.usage);
        text.push_str(&format!("  {call:<20} {}\n", command.help));
    }
    // A line that continues a string would lose the spaces it starts with.
    text + "  \"\"\"                  starts and ends a message of several lines
  //                   starts a message that starts with /
Ctrl-C stops an answer or clears the line; Tab completes; the arrow keys bring earlier lines back."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(Input::parse("Hi /there").unwrap(), Input::Message("Hi /there"));
        assert_eq!(Input::parse("//etc").unwrap(), Input::Message("/etc"));
        assert_eq!(Input::parse("/system  Be short. ").unwrap(), Input::Command(Action::System, "Be short."));
        assert_eq!(Input::parse("/system\nA\nB").unwrap(), Input::Command(Action::System, "A\nB"));
        assert_eq!(Input::parse("/quit").unwrap(), Input::Command(Action::Exit, ""));
        assert_eq!(Input::parse("/?").unwrap(), Input::Command(Action::Help, ""));
    }

    #[test]
    fn unknown_commands_tell_the_nearest() {
        let near = |line| match Input::parse(line).unwrap_err() {
            ChatError::UnknownCommand { nearest, .. } => nearest,
            other => panic!("{other}"),
        };
        assert_eq!(near("/hlep"), Some("help"));
        assert_eq!(near("/contex"), Some("context"));
        assert_eq!(near("/sav file"), Some("save"));
        assert_eq!(near("/xyzzyxyzzy"), None);
        assert_eq!(near("/"), None);
    }

    #[test]
    fn every_command_is_explained() {
        let help = help();
        for command in COMMANDS {
            assert!(help.contains(&format!("/{}", command.name)) && !command.help.is_empty());
            assert!(COMMANDS.iter().filter(|other| other.action == command.action).count() == 1);
        }
    }
}
