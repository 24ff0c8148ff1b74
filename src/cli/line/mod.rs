//! From what was typed to a command.
//!
//! # Design
//!
//! ```text
//! declare   the options as clap knows them, with their other names
//! help      what -h and --help show
//! words     whether the first word is the model
//! usage     what is said of a line that makes no sense
//! foreign   options of llama.cpp and ollama that there are not
//! ```
//!
//! A command declares its options once, with clap. All that is done to every command alike is done here.

mod declare;
mod foreign;
mod help;
mod usage;
mod words;

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{ArgMatches, Command, FromArgMatches};

pub(super) use self::declare::command;

use self::declare::command_of;
use self::words::Taken;

use super::args::with_continue;
use super::commands::Cli;
use super::error::CliError;
use super::named::settle_demo;
use super::{output, presets, settings};

/// Reads the command line, with configuration files below it; asked for help, it ends the process as clap does.
///
/// # Errors
/// If a configuration file cannot be used, or the line makes no sense.
pub(super) fn parse() -> Result<Cli, CliError> {
    let arguments: Vec<OsString> = with_continue(std::env::args_os());
    let plain = command_of(&arguments);
    let known = settings::settings(&plain);
    let layers = match settings::layers(&known) {
        Ok(layers) => layers,
        Err(error) => {
            // Help is given all the same.
            if let Err(other) = plain.try_get_matches_from(&arguments)
                && !other.use_stderr()
            {
                other.exit();
            }
            return Err(error.into());
        }
    };
    let mut configured = settings::without_empty(settings::configured(plain, &layers));
    foreign::refuse(&configured, &arguments)?;
    let mut line = Line::read(&mut configured, &arguments)?;
    output::set_quiet(line.cli.quiet);
    let named = line.cli.command.model().and_then(|model| model.model.clone());
    let preset = named.map_or(Ok(None), |name| presets::find(&name, &known))?;
    if let Some(preset) = &preset {
        // What is typed wins over what the preset says: it is read again.
        drop(configured);
        let anew =
            settings::with_preset(settings::configured(command_of(&arguments), &layers), &preset.layer);
        line = Line::read(&mut settings::without_empty(anew), &arguments)?;
    }
    let Line { mut cli, matches, word } = line;
    word.iter().for_each(Taken::say);
    let is_named = word.is_some() || preset.is_some();
    settings::note_local(&layers, &matches, preset.as_ref().map(|preset| &preset.layer), is_named);
    if let Some(model) = cli.command.model() {
        if let Some(preset) = preset {
            model.model = Some(preset.model.into());
        }
        settle_demo(model);
    }
    Ok(cli)
}

/// What was typed, as clap understands it.
struct Line {
    cli: Cli,
    matches: ArgMatches,
    /// The word that is the model.
    word: Option<Taken>,
}

impl Line {
    fn read(command: &mut Command, arguments: &[OsString]) -> Result<Line, CliError> {
        let mut matches = command.try_get_matches_from_mut(arguments);
        while let Err(error) = &matches {
            // What was typed wins over a variable that it cannot be used with.
            if !drop_variables(command, error) {
                break;
            }
            matches = command.try_get_matches_from_mut(arguments);
        }
        let fail = |error| explained(&error, command, arguments);
        let matches = matches.map_err(fail)?;
        let mut cli = Cli::from_arg_matches(&matches).map_err(fail)?;
        let word = words::settle(&mut cli.command, &matches, arguments)?;
        Ok(Line { cli, matches, word })
    }
}

/// Takes the variable from options that cannot be used with another; `false` if no variable is part of it.
fn drop_variables(command: &mut Command, error: &clap::Error) -> bool {
    let mut is_part = false;
    let without = std::mem::take(command).mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| {
            let variable = arg.get_env().and_then(std::env::var_os);
            if variable.is_none() || !usage::is_conflicting(error, &arg) {
                return arg;
            }
            is_part = true;
            arg.env(Resettable::Reset)
        })
    });
    *command = without;
    is_part
}

/// Ends the process if help was asked for, else says what is wrong.
fn explained(error: &clap::Error, command: &Command, arguments: &[OsString]) -> CliError {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    // Until it is built, options cannot say how they are written.
    let mut command = command.clone();
    command.build();
    usage::explain(error, &command, arguments).into()
}
