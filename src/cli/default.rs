//! `smolt use`: the model that is meant where none is named.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Command;

use super::demo;
use super::error::{CliError, Exit};
use super::named::{Named, named};
use super::output::{self, is_quiet, note};
use super::settings::default_model;
use crate::console::Stream;
use crate::store::Store;

/// Arguments of `smolt use`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Without a name it tells which model that is. A model named otherwise wins: by -m or the first word, by SMOLT_MODEL, by
./smolt.toml, by config.toml.

Examples:
  smolt use small
  smolt use ORG/REPO:Q4_0
  smolt use ./model.gguf
  smolt use --none"
)]
pub struct UseArgs {
    /// A GGUF file, an installed model, an alias or a preset; demo for the built-in model
    #[arg(value_name = "MODEL")]
    name: Option<PathBuf>,

    /// Go back to the built-in demo model
    #[arg(long, conflicts_with = "name")]
    none: bool,
}

/// Shows, sets or removes the default model.
pub(super) fn execute(args: &UseArgs, command: &Command) -> Result<Exit, CliError> {
    let store = Store::of_user()?;
    let Some(name) = args.name.as_ref().filter(|name| named(name) != Some(Named::Demo)) else {
        if args.none || args.name.is_some() {
            store.clear_default()?;
            note(format_args!("where no model is named, {} is used", demo::NAME));
            note_others(None, command)?;
        } else {
            show(command)?;
        }
        return Ok(Exit::Ok);
    };
    let name = lasting(&store, name)?;
    store.set_default(&name)?;
    note(format_args!("where no model is named, {name} is used"));
    note_others(Some(&name), command)?;
    Ok(Exit::Ok)
}

fn show(command: &Command) -> Result<(), CliError> {
    let chosen = default_model(command)?;
    let name = chosen.as_ref().map_or(demo::SHORT, |(name, _)| name);
    output::write(format!("{name}\n").as_bytes())?;
    match &chosen {
        Some((_, place)) => note(format_args!("chosen by {place}")),
        None => note("smolt use MODEL makes another the default"),
    }
    Ok(())
}

/// What names a model from everywhere: a path from the root, else the name.
fn lasting(store: &Store, name: &Path) -> Result<String, CliError> {
    let text = name.to_string_lossy().into_owned();
    Ok(match named(name) {
        Some(Named::File) => {
            let path = std::path::absolute(name).map_err(CliError::Input)?;
            path.to_str().map(str::to_owned).ok_or(CliError::NotUtf8Path { path: path.clone() })?
        }
        Some(Named::Preset | Named::Alias | Named::Demo) => text,
        Some(Named::Installed) | None => store.find(&text)?.name,
    })
}

/// Says if something else decides here.
fn note_others(name: Option<&str>, command: &Command) -> Result<(), CliError> {
    let Some((model, place)) = default_model(command)? else { return Ok(()) };
    if name != Some(model.as_str()) {
        note(format_args!("here {model} is used all the same: {place}"));
    }
    Ok(())
}

/// After the first model was fetched: asks whether it is to be the default where somebody is there to be asked, else says
/// how to make it so.
#[cfg_attr(not(feature = "pull"), expect(dead_code, reason = "nothing is fetched"))]
pub(super) fn offer(store: &Store, name: &str, command: &Command) -> Result<(), CliError> {
    let is_first = store.list()?.len() == 1;
    if !is_first || default_model(command)?.is_some() {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !Stream::Err.is_terminal() || is_quiet() {
        note(format_args!("smolt use {name} makes it the default model, for commands without -m"));
        return Ok(());
    }
    output::ask("make it the default model, for commands without -m? [Y/n] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::Input)?;
    if answer.ends_with('\n') && matches!(answer.trim(), "" | "y" | "Y" | "yes") {
        store.set_default(name)?;
        note("smolt chat talks with it");
    } else {
        note(format_args!("smolt use {name} makes it the default later"));
    }
    Ok(())
}

/// Removes something; if that was the default model, there is none any more. One that is out of reach stays.
pub(super) fn forgotten_with(
    store: &Store,
    remove: impl FnOnce() -> Result<(), CliError>,
) -> Result<(), CliError> {
    let is_there = |name: &String| named(Path::new(name)).is_some();
    let before = store.default_model().ok().flatten().filter(is_there);
    remove()?;
    if before.is_some_and(|name| !is_there(&name)) {
        store.clear_default()?;
        note(format_args!("it was the default model; now {} is", demo::NAME));
    }
    Ok(())
}
