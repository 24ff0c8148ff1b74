//! `smolt completions` and `smolt man`: files for shells and for `man`, from the arguments' own declarations.

use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

use super::error::{CliError, Exit};
use super::output::{self, note};
use crate::files::write_whole;

/// Arguments of `smolt completions`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  smolt completions bash > ~/.local/share/bash-completion/completions/smolt
  smolt completions zsh > ~/.zfunc/_smolt
  smolt completions fish > ~/.config/fish/completions/smolt.fish"
)]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Arguments of `smolt man`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  smolt man ~/.local/share/man/man1
  man smolt-run"
)]
pub struct ManArgs {
    /// Folder for a page of each command; it must exist
    folder: PathBuf,
}

/// Prints what a shell needs to complete arguments.
pub(super) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<Exit, CliError> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut command, "smolt", &mut script);
    output::write(&script)?;
    Ok(Exit::Ok)
}

/// A command and all below it.
fn collect(command: &Command, found: &mut Vec<Command>) {
    command.get_subcommands().for_each(|command| collect(command, found));
    found.push(command.clone());
}

/// Writes a page of each command.
pub(super) fn man(args: &ManArgs, command: Command) -> Result<Exit, CliError> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut commands = vec![];
    collect(&command, &mut commands);
    for command in &commands {
        let page = clap_mangen::Man::new(command.clone());
        let mut text = vec![];
        page.render(&mut text).map_err(CliError::Output)?;
        write_whole(&args.folder.join(page.get_filename()), &text)?;
    }
    note(format_args!("{} pages are in {}", commands.len(), args.folder.display()));
    Ok(Exit::Ok)
}
