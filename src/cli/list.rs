//! `smolt list`: the models, aliases and presets of this computer.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use serde::Serialize;

use super::error::{CliError, Exit};
use super::memory::show_bytes;
use super::output::{self, note};
use super::presets;
use super::settings::{default_model, settings};
use crate::store::{Alias, Installed, Store};

/// Arguments of `smolt list`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Models are the GGUF files in the folder models of SMOLT_HOME (by default ~/.local/share/smolt, or smolt in
XDG_DATA_HOME), fetched by smolt pull or copied there. A line is a name, a size, and what else it is called; \"default\"
is the model where none is named (see smolt help use).

Examples:
  smolt list
  smolt list --json | jq -r .models[].name"
)]
pub struct ListArgs {
    /// Print one line of JSON; sizes are in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    folder: PathBuf,
    models: Vec<Model>,
    aliases: Vec<Short>,
    presets: Vec<presets::Row>,
    /// Null for the built-in model.
    default: Option<Default>,
    /// Bytes of downloads that were stopped.
    unfinished_bytes: u64,
    /// What could not be read.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Model {
    name: String,
    path: PathBuf,
    bytes: u64,
    /// Null for models that were not pulled.
    sha256: Option<String>,
    commit: Option<String>,
    aliases: Vec<String>,
    is_default: bool,
}

#[derive(Serialize)]
struct Short {
    #[serde(flatten)]
    alias: Alias,
    /// Of what it stands for; null if that is not there.
    bytes: Option<u64>,
    is_default: bool,
    /// Whether it stands for a model of the list.
    #[serde(skip)]
    is_listed: bool,
}

/// The model where none is named.
#[derive(Serialize)]
struct Default {
    name: String,
    /// What says so.
    from: String,
}

/// Lists the models.
pub(super) fn execute(args: &ListArgs, command: &Command) -> Result<Exit, CliError> {
    let store = Store::of_user()?;
    let unfinished = store.unfinished()?;
    let listing = Listing::new(&store, unfinished.iter().map(|(_, bytes)| bytes).sum(), command)?;
    if args.json {
        output::write_json(&listing)?;
        return Ok(Exit::Ok);
    }
    output::table(&listing.table())?;
    if listing.models.is_empty() {
        let how = if cfg!(feature = "pull") { "smolt pull ORG/REPO fetches one, " } else { "" };
        note(format_args!("no models in {}; {how}a GGUF file copied there counts", listing.folder.display()));
    }
    if let Some(Default { name, from }) = &listing.default {
        note(format_args!("default: {name} ({from})"));
    }
    if !unfinished.is_empty() {
        let (count, size) = (unfinished.len(), show_bytes(listing.unfinished_bytes));
        note(format_args!(
            "unfinished downloads: {count}, {size}; smolt pull goes on, smolt rm --unfinished removes them"
        ));
    }
    listing.problems.iter().for_each(output::report);
    Ok(Exit::Ok)
}

impl Listing {
    fn new(store: &Store, unfinished_bytes: u64, command: &Command) -> Result<Listing, CliError> {
        let (models, aliases) = (store.survey(), store.survey_aliases());
        let presets = presets::rows(&settings(command))?;
        let default = default_model(command)?.map(|(name, from)| Default { name, from });
        let problems =
            models.problems.iter().chain(&aliases.problems).map(|problem| output::with_causes(problem));
        let problems = problems.chain(presets.iter().filter_map(|preset| preset.problem.clone())).collect();
        let name = default.as_ref().map(|default| default.name.as_str());
        // A default that is an alias is what that stands for.
        let meant = aliases.found.iter().find(|alias| Some(alias.name.as_str()) == name);
        let meant = meant.map(|alias| alias.target.as_str()).or(name);
        let meant = meant.and_then(|meant| store.find(meant).ok()).map(|model| model.name);
        let row = |model| Model::new(model, &aliases.found, meant.as_deref());
        let models: Vec<Model> = models.found.into_iter().map(row).collect();
        let short = |alias: &Alias| Short::new(alias.clone(), &models, name);
        let aliases = aliases.found.iter().map(short).collect();
        Ok(Listing { folder: store.models(), models, aliases, presets, default, unfinished_bytes, problems })
    }

    fn table(&self) -> String {
        let mut rows: Vec<(&str, Option<u64>, String)> = vec![];
        for model in &self.models {
            let default = if model.is_default { " (default)" } else { "" };
            let also = format!("{}{default}", model.aliases.join(", "));
            rows.push((&model.name, Some(model.bytes), also.trim_start().to_owned()));
        }
        for Short { alias, bytes, is_default, .. } in self.aliases.iter().filter(|short| !short.is_listed) {
            let gone = if bytes.is_none() { ", which is not there" } else { "" };
            let default = if *is_default { ", default" } else { "" };
            rows.push((&alias.name, *bytes, format!("alias of {}{gone}{default}", alias.target)));
        }
        let name = self.default.as_ref().map(|default| default.name.as_str());
        for preset in &self.presets {
            let model = preset.model.as_ref().map(|model| format!("preset of {model}"));
            let default = if name == Some(&preset.name) { ", default" } else { "" };
            let what = model.unwrap_or_else(|| "preset, not usable".to_owned());
            rows.push((&preset.name, None, format!("{what}{default}")));
        }
        let width = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
        let line = |(name, bytes, also): &(&str, Option<u64>, String)| {
            let size = bytes.map_or_else(|| "-".to_owned(), show_bytes);
            format!("{}\n", format!("{name:<width$}  {size:>10}  {also}").trim_end())
        };
        rows.iter().map(line).collect()
    }
}

impl Model {
    fn new(model: Installed, aliases: &[Alias], default: Option<&str>) -> Model {
        let (sha256, commit) = model.record.map(|record| (record.sha256, record.commit)).unzip();
        let own = aliases.iter().filter(|alias| alias.target == model.name);
        Model {
            aliases: own.map(|alias| alias.name.clone()).collect(),
            is_default: default == Some(&model.name),
            name: model.name,
            path: model.path,
            bytes: model.bytes,
            sha256,
            commit,
        }
    }
}

impl Short {
    fn new(alias: Alias, models: &[Model], default: Option<&str>) -> Short {
        let listed = models.iter().find(|model| model.name == alias.target);
        let file = || fs::metadata(Path::new(&alias.target)).ok().filter(|data| data.is_file());
        Short {
            bytes: listed.map(|model| model.bytes).or_else(|| Some(file()?.len())),
            is_default: default == Some(&alias.name),
            is_listed: listed.is_some(),
            alias,
        }
    }
}
