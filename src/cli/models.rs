//! `smolt list`, `smolt rm` and `smolt alias`: the models of this computer.

use std::io::{self, IsTerminal};
use std::path::Path;

use serde::Serialize;

use super::error::{CliError, Exit};
use super::memory::show_bytes;
use super::output::{self, note};
use crate::store::{Alias, Installed, Store, StoreError};

/// Arguments of `smolt list`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Models are the GGUF files in the folder models of SMOLT_HOME (by default ~/.local/share/smolt, or smolt in
XDG_DATA_HOME), fetched by smolt pull or copied there.

Examples:
  smolt list
  smolt list --json | jq -r .models[].name"
)]
pub struct ListArgs {
    /// Print one line of JSON; sizes are in bytes
    #[arg(long)]
    json: bool,
}

/// Arguments of `smolt rm`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Only files in the folder of models are removed: of an alias the alias, not what it stands for.

Examples:
  smolt rm ORG/REPO:Q8_0
  smolt rm --yes small
  smolt rm --unfinished"
)]
pub struct RmArgs {
    /// Models or aliases, by the names that smolt list shows
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

#[derive(Serialize)]
struct Listing<'a> {
    folder: &'a Path,
    models: Vec<Row<'a>>,
    aliases: &'a [Alias],
    /// Bytes of downloads that were stopped.
    unfinished_bytes: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    path: &'a Path,
    bytes: u64,
    /// Null for models that were not pulled.
    sha256: Option<&'a str>,
    commit: Option<&'a str>,
    aliases: Vec<&'a str>,
}

/// Lists the models.
pub(super) fn list(args: &ListArgs) -> Result<Exit, CliError> {
    let store = Store::of_user()?;
    let (folder, models, aliases) = (store.models(), store.list()?, store.aliases()?);
    let unfinished = store.unfinished()?;
    let unfinished_bytes = unfinished.iter().map(|(_, bytes)| bytes).sum();
    let row = |model| Row::new(model, &aliases);
    let rows: Vec<Row<'_>> = models.iter().map(row).collect();
    if args.json {
        output::write_json(&Listing { folder: &folder, models: rows, aliases: &aliases, unfinished_bytes })?;
        return Ok(Exit::Ok);
    }
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let line = |row: &Row<'_>| {
        let line = format!("{:<width$}  {:>10}  {}", row.name, show_bytes(row.bytes), row.aliases.join(", "));
        format!("{}\n", line.trim_end())
    };
    output::write(rows.iter().map(line).collect::<String>().as_bytes())?;
    if rows.is_empty() {
        let how = if cfg!(feature = "pull") { "smolt pull ORG/REPO fetches one, " } else { "" };
        note(format_args!("no models in {}; {how}a GGUF file copied there counts", folder.display()));
    }
    if !unfinished.is_empty() {
        let (count, size) = (unfinished.len(), show_bytes(unfinished_bytes));
        note(format_args!(
            "unfinished downloads: {count}, {size}; smolt pull goes on, smolt rm --unfinished removes them"
        ));
    }
    Ok(Exit::Ok)
}

impl<'a> Row<'a> {
    fn new(model: &'a Installed, aliases: &'a [Alias]) -> Self {
        let record = model.record.as_ref();
        Row {
            name: &model.name,
            path: &model.path,
            bytes: model.bytes,
            sha256: record.map(|record| record.sha256.as_str()),
            commit: record.map(|record| record.commit.as_str()),
            aliases: aliases
                .iter()
                .filter(|alias| alias.target == model.name)
                .map(|alias| &alias.name[..])
                .collect(),
        }
    }
}

/// Something that can be removed.
enum Found {
    Alias(Alias),
    Model(Installed),
}

impl Found {
    fn of(store: &Store, name: &str) -> Result<Found, StoreError> {
        Ok(match store.alias(name)? {
            Some(target) => Found::Alias(Alias { name: name.to_owned(), target }),
            None => Found::Model(store.find(name)?),
        })
    }

    fn what(&self) -> String {
        match self {
            Found::Alias(alias) => format!("the alias {} of {}", alias.name, alias.target),
            Found::Model(model) => format!("{} ({})", model.name, show_bytes(model.bytes)),
        }
    }
}

/// Removes models and aliases. All names are looked up before the first is removed.
pub(super) fn remove(args: &RmArgs) -> Result<Exit, CliError> {
    let store = Store::of_user()?;
    let found: Result<Vec<Found>, StoreError> =
        args.names.iter().map(|name| Found::of(&store, name)).collect();
    for found in found? {
        if !is_wanted(args, &found.what())? {
            continue;
        }
        match &found {
            Found::Alias(alias) => store.remove_alias(&alias.name)?,
            Found::Model(model) => store.remove(model)?,
        }
        note(format_args!("removed {}", found.what()));
    }
    if args.unfinished && is_wanted(args, "unfinished downloads")? {
        store.remove_unfinished(|| note("another smolt downloads; waiting for it"))?;
    }
    Ok(Exit::Ok)
}

fn is_wanted(args: &RmArgs, what: &str) -> Result<bool, CliError> {
    if args.yes {
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
            let target = store.set_alias(name, target)?;
            note(format_args!("{name} stands for {target}"));
        }
        (Some(name), None) => {
            let target = store.alias(name)?.ok_or_else(|| StoreError::NoAlias { name: name.clone() })?;
            output::write(format!("{target}\n").as_bytes())?;
        }
        (None, _) => {
            let line = |alias: Alias| format!("{}  {}\n", alias.name, alias.target);
            output::write(store.aliases()?.into_iter().map(line).collect::<String>().as_bytes())?;
        }
    }
    Ok(Exit::Ok)
}
