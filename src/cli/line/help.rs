//! What `-h` and `--help` show: the most used on one screen, and all.
//!
//! Commands write their explanation once, in `after_help`: paragraphs in lines of any length, and examples. Lines of a
//! paragraph are joined here, so that clap can break them as wide as the terminal is.

use clap::{Arg, Command};

/// Options that the short help shows of commands with many, in this order.
const MOST_USED: &[&str] = &[
    "model",
    "file",
    "output",
    "chat",
    "system",
    "synthetic",
    "prompt",
    "tokens",
    "max-tokens",
    "temp",
    "think",
    "tools",
    "schema",
    "samples",
    "compare",
    "limit",
    "min",
    "context",
    "threads",
    "max-memory",
    "stats",
    "json",
    "quiet",
];
/// Options with a heading of their own, which comes after the others.
const RESOURCES: &[&str] = &["context", "threads", "kv", "max-memory", "lookup"];
/// Most options of a command whose short help shows all.
const FEW: usize = 10;
/// Examples that the short help shows.
const EXAMPLES: usize = 3;
/// Where options stand that are not among the most used.
const LATER: usize = 100;

/// A command with both kinds of help.
pub(super) fn explained(command: Command) -> Command {
    let options = command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).count();
    let has_many = options > FEW;
    let answers = command.get_arguments().any(|arg| arg.get_long() == Some("system"));
    let mut number = LATER;
    let command = command.mut_args(|arg| {
        number += 1;
        let arg = if has_many { sorted(arg, number, answers) } else { arg };
        with_variable(arg)
    });
    let Some(text) = command.get_after_help().map(ToString::to_string) else { return command };
    let name = command.get_name().to_owned();
    let is_root = name == "smolt";
    let long = flowing(&text);
    let short =
        if has_many || is_root { shortened(&text, if is_root { "" } else { &name }) } else { long.clone() };
    command.after_help(short).after_long_help(long)
}

/// The most used first; the others are not in the short help.
fn sorted(arg: Arg, number: usize, answers: bool) -> Arg {
    if arg.is_positional() {
        return arg;
    }
    let is = |names: &[&str]| arg.get_long().and_then(|long| names.iter().position(|name| *name == long));
    let place = is(MOST_USED);
    // Who wants an answer seldom looks for what it takes.
    let place = place.filter(|_| !answers || is(RESOURCES).is_none());
    let arg = if is(RESOURCES).is_some() { arg.help_heading("Resources") } else { arg };
    let Some(help) = arg.get_help().map(ToString::to_string) else { return arg };
    let arg = arg.long_help(help.clone()).help(brief(&help).to_owned());
    arg.display_order(place.unwrap_or(number)).hide_short_help(place.is_none())
}

/// The beginning of what an option's help says: neither its default nor more than one sentence.
fn brief(help: &str) -> &str {
    let end = [help.find(" ["), help.find("; ")].into_iter().flatten().min();
    &help[..end.unwrap_or(help.len())]
}

/// The variable is for who reads all.
fn with_variable(arg: Arg) -> Arg {
    let Some(variable) = arg.get_env().map(|name| name.to_string_lossy().into_owned()) else { return arg };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    arg.hide_env(true).long_help(format!("{help} [variable: {variable}]"))
}

/// The text with a line for each paragraph; lines that begin with a space stay.
fn flowing(text: &str) -> String {
    let mut flowing = String::with_capacity(text.len());
    let mut is_open = false;
    for line in text.lines() {
        let is_own = line.is_empty() || line.starts_with(' ');
        if !flowing.is_empty() {
            flowing.push(if is_open && !is_own { ' ' } else { '\n' });
        }
        flowing += line;
        is_open = !is_own;
    }
    flowing
}

/// The first examples, and where the rest is.
fn shortened(text: &str, command: &str) -> String {
    let examples = text.split("\n\n").find(|section| section.starts_with("Example")).unwrap_or_default();
    let shown: Vec<&str> = examples.lines().take(1 + EXAMPLES).collect();
    let more = match command {
        "" => "smolt help COMMAND explains a command, smolt --help tells the exit codes.".to_owned(),
        command => format!("smolt help {command} explains every option."),
    };
    format!("{}\n\n{more}", shown.join("\n")).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_flow_and_examples_stay() {
        let text = "One\ntwo.\n\n  key = 1\n\nThen:\n  a    b\nlast\nline";
        assert_eq!(flowing(text), "One two.\n\n  key = 1\n\nThen:\n  a    b\nlast line");
        assert_eq!(brief("Threads [default: 4]"), "Threads");
        assert_eq!(brief("Heat; 0 for none [default: 1]"), "Heat");
        assert_eq!(
            shortened("Text.\n\nExamples:\n  a\n  b\n  c\n  d", "run"),
            "Examples:\n  a\n  b\n  c\n\nsmolt help run explains every option."
        );
    }
}
