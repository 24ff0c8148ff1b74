//! `smolt config`: each setting, and where it came from.

use std::path::{Path, PathBuf};

use clap::Command;
use serde::Serialize;

use super::error::{CliError, Exit};
use super::output::{self, note};
use super::presets::{self, Preset};
use super::settings::{Layer, MODEL, Row, Setting, layers, settings};

/// Arguments of `smolt config`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
An option is taken from the command line, else from the preset that is the model, else from its variable, else from
./smolt.toml, else from $XDG_CONFIG_HOME/smolt/config.toml (by default ~/.config/smolt/config.toml), else from smolt use,
which gives a model only, else from the model or the program.
The files are TOML; their keys are the first column of what this command prints. Paths in them are from the
working directory.

  model = \"small\"
  threads = 2
  system = \"Answer in one sentence.\"

Examples:
  smolt config
  smolt config museum
  smolt config --json"
)]
pub struct ConfigArgs {
    /// Show what holds with this preset
    #[arg(value_name = "PRESET")]
    preset: Option<PathBuf>,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    settings: Vec<Row<'a>>,
    files: Vec<FileRow>,
}

#[derive(Serialize)]
struct FileRow {
    path: String,
    exists: bool,
}

/// Prints each value and where it came from.
pub(super) fn execute(args: &ConfigArgs, command: &Command) -> Result<Exit, CliError> {
    let settings = settings(command);
    let layers = layers(&settings)?;
    let preset = preset(args, &settings, &layers)?;
    let preset = preset.as_ref().map(|preset| &preset.layer);
    let rows: Vec<Row<'_>> = settings.iter().map(|setting| Row::new(setting, &layers, preset)).collect();
    let file =
        |layer: &Layer| FileRow { path: layer.file.display().to_string(), exists: layer.entries.is_some() };
    let files: Vec<FileRow> = preset.into_iter().chain(&layers).map(file).collect();
    if args.json {
        output::write_json(&Report { settings: rows, files })?;
        return Ok(Exit::Ok);
    }
    let width = rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
    let line = |row: &Row<'_>| {
        let value = row.value.as_ref().map_or("-".to_owned(), |value| value.escape_debug().to_string());
        format!("{:<width$}  {value:<20}  {}\n", row.key, row.place())
    };
    output::table(&rows.iter().map(line).collect::<String>())?;
    for FileRow { path, exists } in files {
        note(format_args!("{path} is {}", if exists { "read" } else { "not there" }));
    }
    Ok(Exit::Ok)
}

/// The preset that is asked about, else the one that is the model.
fn preset(args: &ConfigArgs, settings: &[Setting], layers: &[Layer]) -> Result<Option<Preset>, CliError> {
    if let Some(name) = &args.preset {
        let found = presets::find(name, settings)?;
        return found.map_or_else(|| Err(presets::none(name)), |found| Ok(Some(found)));
    }
    let Some(setting) = settings.iter().find(|setting| setting.key == MODEL) else { return Ok(None) };
    match Row::new(setting, layers, None).value {
        Some(model) => presets::find(Path::new(&model), settings),
        None => Ok(None),
    }
}
