//! Settings that hold without being typed.
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

pub(super) use self::file::{Entry, Layer, Origin, Setting, default_in_help, entries, key_of, settings};

use super::error::ConfigError;
pub(super) use super::error::MODEL;
use super::output::{self, note};
use crate::store::Store;

/// The file of a project, in the working directory.
const LOCAL: &str = "./smolt.toml";
/// The key whose variable may be empty.
const MAY_BE_EMPTY: &str = "system";

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
pub(super) struct Row<'a> {
    pub(super) key: &'a str,
    /// Null if the model or the program decides.
    pub(super) value: Option<String>,
    origin: Origin,
    /// What gives it, if that is a file.
    file: Option<String>,
    line: Option<usize>,
    variable: &'a str,
    /// What holds without it.
    default: &'a str,
}

impl<'a> Row<'a> {
    pub(super) fn new(setting: &'a Setting, layers: &[Layer], preset: Option<&Layer>) -> Self {
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

    /// What gives it, as people read it.
    pub(super) fn place(&self) -> String {
        match (&self.file, self.line, self.origin) {
            (_, _, Origin::Use) => "smolt use".to_owned(),
            (Some(file), Some(line), _) => format!("{file}:{line}"),
            (_, _, Origin::Environment) => self.variable.to_owned(),
            _ if self.default.is_empty() => "default".to_owned(),
            _ => format!("default: {}", self.default),
        }
    }
}
