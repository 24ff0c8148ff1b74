//! Settings that hold without being typed, and `smolt config`.
//!
//! # Design
//!
//! Every option with a variable `SMOLT_X` is the key `x` of `./smolt.toml`, of the user's own file and of presets; there is
//! no other list of keys. What the files say becomes the options' default value before the command line is read, and so
//! ranks below the command line, above what the commands do without the option. A command cannot tell such a value from
//! one that was typed, and needs no code for it. Values are checked by the parser of the option when the file is read,
//! whatever the command is. The first of these that gives a value wins:
//!
//! ```text
//! the command line
//! the preset that is named as the model
//! variables
//! ./smolt.toml
//! the user's config.toml
//! smolt use, which gives a model only
//! ```

mod file;

use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde::Serialize;

pub use self::file::ConfigError;
pub(super) use self::file::{Entry, Layer, Setting, default_in_help, entries, key_of, settings};

use super::error::{CliError, Exit};
use super::output::{self, note};
use super::preset::{self, Preset};
use crate::store::Store;

/// The file of a project, in the working directory.
const LOCAL: &str = "./smolt.toml";
/// The key whose variable may be empty.
const MAY_BE_EMPTY: &str = "system";
/// The key that says which model.
pub(super) const MODEL: &str = "model";

/// What gives a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    Preset,
    Environment,
    File,
    /// `smolt use`.
    Use,
    Default,
}

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

/// The commands, with what the files say as the options' default values.
pub(super) fn configured(command: Command, layers: &[Layer]) -> Command {
    // The first layer wins: it comes last.
    layers
        .iter()
        .rev()
        .flat_map(|layer| layer.entries.iter().flatten())
        .fold(command, |command, entry| with_default(command, entry, false))
}

/// The commands, with what a preset says above variables and files.
pub(super) fn with_preset(command: Command, preset: &Layer) -> Command {
    preset.entries.iter().flatten().fold(command, |command, entry| with_default(command, entry, true))
}

fn with_default(command: Command, entry: &Entry, is_above_variables: bool) -> Command {
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| {
            if key_of(&arg).is_none_or(|key| key != entry.key) {
                return arg;
            }
            // The default of a switch is never shown.
            let is_shown = arg.get_action().takes_values();
            let arg = arg.default_value(entry.text.clone()).hide_default_value(is_shown);
            if is_above_variables { arg.env(Resettable::Reset) } else { arg }
        })
    })
}

/// The commands, without the variables that are empty: they count as none. Only a system prompt may be empty.
pub(super) fn without_empty(command: Command) -> Command {
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| {
            let text = arg.get_env().and_then(std::env::var_os);
            let is_none = text.is_some_and(|text| text.is_empty());
            if is_none && key_of(&arg).is_some_and(|key| key != MAY_BE_EMPTY) {
                return arg.env(Resettable::Reset);
            }
            arg
        })
    })
}

/// What is below the command line and variables, the one that wins first.
///
/// # Errors
/// If a file cannot be read, or is wrong.
pub(super) fn layers(settings: &[Setting]) -> Result<Vec<Layer>, ConfigError> {
    let files = [Some(PathBuf::from(LOCAL)), user_folder().map(|folder| folder.join("config.toml"))];
    let files = files.into_iter().flatten().map(|file| Layer::read(Origin::File, file, settings));
    let mut layers = files.collect::<Result<Vec<Layer>, ConfigError>>()?;
    layers.extend(chosen());
    Ok(layers)
}

/// What `smolt use` says; one that cannot be read is named and counts as none.
fn chosen() -> Option<Layer> {
    let store = Store::of_user().ok()?;
    let file = store.default_file();
    let model = store.default_model().unwrap_or_else(|error| {
        note(format_args!("{}; smolt use --none removes it", output::with_causes(&error)));
        None
    });
    let entries = model.map(|text| vec![Entry { key: MODEL.to_owned(), text, line: 1 }]);
    Some(Layer { origin: Origin::Use, file, entries })
}

/// The folder of the user's configuration.
pub(super) fn user_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CONFIG_HOME")
        .filter(|folder| folder.is_absolute())
        .or_else(|| variable("APPDATA").filter(|_| cfg!(windows)))
        .or_else(|| variable("HOME").map(|home| home.join(".config")));
    folder.map(|folder| folder.join("smolt"))
}

/// Says which settings of `./smolt.toml` a command obeys.
pub(super) fn note_local(layers: &[Layer], matches: &ArgMatches, preset: Option<&Layer>, has_model: bool) {
    let Some((_, given)) = matches.subcommand() else { return };
    let local = layers.iter().filter(|layer| layer.file == Path::new(LOCAL));
    let is_obeyed = |key: &str| {
        let is_default = |id: &str| {
            given.try_contains_id(id).is_ok() && given.value_source(id) == Some(ValueSource::DefaultValue)
        };
        let is_hidden = has_model && key == MODEL || preset.is_some_and(|preset| preset.get(key).is_some());
        !is_hidden && is_default(key)
    };
    let entries = local.flat_map(|layer| layer.entries.iter().flatten());
    let keys: Vec<&str> = entries.map(|entry| entry.key.as_str()).filter(|key| is_obeyed(key)).collect();
    if !keys.is_empty() {
        note(format_args!("{LOCAL} sets {}", keys.join(", ")));
    }
}

/// The model where none is named, and what says so; nothing for the built-in one.
pub(super) fn default_model(command: &Command) -> Result<Option<(String, String)>, ConfigError> {
    let settings = settings(command);
    let layers = layers(&settings)?;
    let setting = settings.iter().find(|setting| setting.key == MODEL);
    let row = setting.map(|setting| Row::new(setting, &layers, None));
    Ok(row.and_then(|row| Some((row.value.clone()?, row.place()))))
}

/// A value in effect.
#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    /// Null if the model or the program decides.
    value: Option<String>,
    origin: Origin,
    /// What gives it, if that is a file.
    file: Option<String>,
    line: Option<usize>,
    variable: &'a str,
    /// What holds without it.
    default: &'a str,
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
        let found = preset::find(name, settings)?;
        return found.map_or_else(|| Err(preset::none(name)), |found| Ok(Some(found)));
    }
    let Some(setting) = settings.iter().find(|setting| setting.key == MODEL) else { return Ok(None) };
    match Row::new(setting, layers, None).value {
        Some(model) => preset::find(Path::new(&model), settings),
        None => Ok(None),
    }
}

impl<'a> Row<'a> {
    fn new(setting: &'a Setting, layers: &[Layer], preset: Option<&Layer>) -> Self {
        let Setting { key, variable, default, .. } = setting;
        let row =
            Row { key, value: None, origin: Origin::Default, file: None, line: None, variable, default };
        let is_set = |value: &std::ffi::OsString| !value.is_empty() || *key == MAY_BE_EMPTY;
        let environment = std::env::var_os(variable)
            .filter(is_set)
            .filter(|_| preset.is_none_or(|preset| preset.get(key).is_none()));
        if let Some(value) = environment {
            let value = Some(value.to_string_lossy().into_owned());
            return Row { value, origin: Origin::Environment, ..row };
        }
        for layer in preset.into_iter().chain(layers) {
            if let Some(Entry { text, line, .. }) = layer.get(key) {
                let (value, file) = (Some(text.clone()), Some(layer.file.display().to_string()));
                return Row { value, origin: layer.origin, file, line: Some(*line), ..row };
            }
        }
        row
    }

    fn place(&self) -> String {
        match (&self.file, self.line, self.origin) {
            (_, _, Origin::Use) => "smolt use".to_owned(),
            (Some(file), Some(line), _) => format!("{file}:{line}"),
            (_, _, Origin::Environment) => self.variable.to_owned(),
            _ if self.default.is_empty() => "default".to_owned(),
            _ => format!("default: {}", self.default),
        }
    }
}
