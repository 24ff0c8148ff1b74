//! `smolt rm` and `smolt alias`: the models of this computer and their names.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::error::{CliError, Exit};
use super::memory::show_bytes;
use super::output::{self, note};
use super::{default, demo, presets};
use crate::store::{Alias, Installed, Store, StoreError};

/// Arguments of `smolt rm`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Only files in the folder of models are removed: of an alias or a preset only that, not what it stands for.

Examples:
  smolt rm ORG/REPO:Q8_0
  smolt rm --yes small
  smolt rm --unfinished"
)]
pub struct RmArgs {
    /// Models, aliases or presets, by the names that smolt list shows
    #[arg(value_name = "NAME", required_unless_present = "unfinished")]
    names: Vec<String>,

    /// Remove what is left of downloads that were stopped
    #[arg(long)]
    unfinished: bool,

    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
}

/// Arguments of `smolt alias`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
An alias is a name for -m. smolt rm removes it.

Examples:
  smolt alias
  smolt alias small ORG/REPO:Q4_0
  smolt alias kiosk /data/kiosk.gguf
  smolt run -m kiosk \"What time do you open?\""
)]
pub struct AliasArgs {
    /// The short name; without it, all are listed
    name: Option<String>,

    /// What it stands for: a file or an installed model; without it, that is shown
    target: Option<String>,
}

/// Something that can be removed.
enum Found {
    Alias(String),
    Model(Installed),
    Preset(PathBuf),
}

impl Found {
    fn of(store: &Store, name: &str) -> Result<Found, StoreError> {
        if store.has_alias(name) {
            return Ok(Found::Alias(name.to_owned()));
        }
        if presets::exists(Path::new(name)) {
            return Ok(Found::Preset(PathBuf::from(name)));
        }
        Ok(Found::Model(store.find(name)?))
    }

    fn what(&self, store: &Store) -> String {
        match self {
            Found::Alias(name) => {
                let target = store.alias(name).ok().flatten();
                let target = target.map_or_else(String::new, |target| format!(" of {target}"));
                format!("the alias {name}{target}")
            }
            Found::Preset(name) => format!("the preset {}", name.display()),
            Found::Model(model) => format!("{} ({})", model.name, show_bytes(model.bytes)),
        }
    }
}

/// Removes models and aliases. All names are looked up before the first is removed.
pub(super) fn remove(args: &RmArgs) -> Result<Exit, CliError> {
    let store = Store::of_user()?;
    let mut names: Vec<&String> = vec![];
    args.names.iter().for_each(|name| names.extend(Some(name).filter(|name| !names.contains(name))));
    let found: Result<Vec<Found>, StoreError> =
        names.into_iter().map(|name| Found::of(&store, name)).collect();
    for found in found? {
        let what = found.what(&store);
        if !is_wanted(args.yes, &what)? {
            continue;
        }
        default::forgotten_with(&store, || {
            match &found {
                Found::Alias(name) => store.remove_alias(name)?,
                Found::Preset(name) => presets::remove(name)?,
                Found::Model(model) => store.remove(model)?,
            }
            note(format_args!("removed {what}"));
            Ok(())
        })?;
    }
    if args.unfinished && is_wanted(args.yes, "unfinished downloads")? {
        store.remove_unfinished(|| note("another smolt downloads; waiting for it"))?;
    }
    Ok(Exit::Ok)
}

/// Asks whether something is to be removed, unless `yes`.
///
/// # Errors
/// If nobody is there to be asked.
pub(super) fn is_wanted(yes: bool, what: &str) -> Result<bool, CliError> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::NotAsked { what: what.to_owned() });
    }
    output::ask(format_args!("remove {what}? [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::Input)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Lists aliases, shows one or makes one.
pub(super) fn alias(args: &AliasArgs) -> Result<Exit, CliError> {
    let store = Store::of_user()?;
    match (&args.name, &args.target) {
        (Some(name), Some(target)) => {
            let path = Path::new(name);
            if presets::exists(path) || name == demo::SHORT {
                let what = if name == demo::SHORT { "the built-in model" } else { "a preset" };
                return Err(CliError::TakenAlias { name: name.clone(), what });
            }
            let target = store.set_alias(name, target)?;
            note(format_args!("{name} stands for {target}"));
        }
        (Some(name), None) => {
            let target = store.alias(name)?.ok_or_else(|| StoreError::NoAlias { name: name.clone() })?;
            output::write(format!("{target}\n").as_bytes())?;
        }
        (None, _) => {
            let line = |alias: Alias| format!("{}  {}\n", alias.name, alias.target);
            let aliases = store.survey_aliases();
            output::table(&aliases.found.into_iter().map(line).collect::<String>())?;
            aliases.problems.iter().for_each(|problem| output::report(output::with_causes(problem)));
        }
    }
    Ok(Exit::Ok)
}
