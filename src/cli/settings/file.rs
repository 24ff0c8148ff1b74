//! One file of settings: a configuration file or a preset.

use std::any::TypeId;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::super::error::ConfigError;
use super::super::value::{is_number, is_switch, refusal};
use crate::files::read_text_if_there;

/// Longest file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Variables of options begin with this.
const PREFIX: &str = "SMOLT_";

/// What gives a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Origin {
    Preset,
    Environment,
    File,
    /// `smolt use`.
    Use,
    Default,
}

/// A value that a file gives.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Entry {
    pub(in crate::cli) key: String,
    /// As it would be typed.
    pub(in crate::cli) text: String,
    pub(in crate::cli) line: usize,
}

/// What a file says.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Layer {
    pub(in crate::cli) origin: Origin,
    pub(in crate::cli) file: PathBuf,
    /// Nothing if the file does not exist.
    pub(in crate::cli) entries: Option<Vec<Entry>>,
}

/// An option that files may give.
pub(in crate::cli) struct Setting {
    pub(in crate::cli) key: String,
    pub(in crate::cli) variable: String,
    /// What is done without it, as its help says.
    pub(in crate::cli) default: String,
    pub(in crate::cli) arg: Arg,
}

impl Layer {
    /// Reads a file, if it is there.
    ///
    /// # Errors
    /// If it cannot be read, or is wrong.
    pub(in crate::cli) fn read(
        origin: Origin,
        file: PathBuf,
        settings: &[Setting],
    ) -> Result<Layer, ConfigError> {
        let entries = match read(&file)? {
            Some(text) => Some(entries(&file.display().to_string(), &text, settings)?),
            None => None,
        };
        Ok(Layer { origin, file, entries })
    }

    /// The value of a key.
    pub(in crate::cli) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().flatten().find(|entry| entry.key == key)
    }
}

/// The key of an option in files; nothing if it has no variable.
pub(in crate::cli) fn key_of(arg: &Arg) -> Option<String> {
    Some(arg.get_env()?.to_str()?.strip_prefix(PREFIX)?.to_ascii_lowercase())
}

/// All options with a key, in the order of the commands' help.
pub(in crate::cli) fn settings(command: &Command) -> Vec<Setting> {
    let mut settings: Vec<Setting> = vec![];
    for arg in command.get_subcommands().flat_map(Command::get_arguments) {
        let Some(key) = key_of(arg) else { continue };
        if settings.iter().any(|setting| setting.key == key) {
            continue;
        }
        let variable = format!("{PREFIX}{}", key.to_ascii_uppercase());
        settings.push(Setting { key, variable, default: default_of(arg), arg: arg.clone() });
    }
    settings
}

/// What an option's help says of its default.
fn default_of(arg: &Arg) -> String {
    if let Some(default) = default_in_help(arg) {
        return default;
    }
    let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    values.collect::<Vec<_>>().join(",")
}

/// What an option's help says of its default in words.
pub(in crate::cli) fn default_in_help(arg: &Arg) -> Option<String> {
    let help = arg.get_long_help().or(arg.get_help())?.to_string();
    help.split_once("[default: ")?.1.split(']').next().map(str::to_owned)
}

/// The text of a file; nothing if there is none.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    Ok(read_text_if_there(path, MAX_FILE)?)
}

/// What a file says, checked by the options' parsers.
pub(in crate::cli) fn entries(
    file: &str,
    text: &str,
    settings: &[Setting],
) -> Result<Vec<Entry>, ConfigError> {
    let line = |at: usize| 1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        file: file.to_owned(),
        line: line(error.span().map_or(0, |span| span.start)),
        problem: error.message().to_owned(),
    })?;
    let mut entries = vec![];
    for (key, value) in table.get_ref() {
        let (name, line) = (key.get_ref().to_string(), line(key.span().start));
        let file = file.to_owned();
        let Some(setting) = settings.iter().find(|setting| setting.key == name) else {
            let known = settings.iter().map(|setting| setting.key.clone()).collect();
            return Err(ConfigError::UnknownKey { file, line, key: name, known });
        };
        match setting.text_of(value.get_ref()) {
            Ok(text) => entries.push(Entry { key: name, text, line }),
            Err((expected, found)) => {
                return Err(ConfigError::Value { file, line, key: name, expected, found });
            }
        }
    }
    Ok(entries)
}

impl Setting {
    /// The value as it would be typed, else what was expected and what was found.
    fn text_of(&self, value: &DeValue<'_>) -> Result<String, (String, String)> {
        let is_switch = is_switch(&self.arg);
        // Of these some may be written with a unit.
        let is_either = self.arg.get_value_parser().type_id() == TypeId::of::<u64>();
        let is_number = is_number(&self.arg) && !is_either;
        let expected = match () {
            () if is_switch => "true or false",
            () if is_number => "a number",
            () if is_either => "a number, or a text that is one",
            () => "a text in quotes",
        };
        let text = match value {
            DeValue::Boolean(value) if is_switch => value.to_string(),
            DeValue::Integer(value) if is_number || is_either => {
                let number = i128::from_str_radix(value.as_str(), value.radix());
                number.map_or_else(|_| value.as_str().to_owned(), |number| number.to_string())
            }
            DeValue::Float(value) if is_number => value.as_str().to_owned(),
            DeValue::String(value) if !is_switch && !is_number => value.to_string(),
            value => return Err((expected.to_owned(), value.type_str().to_owned())),
        };
        if !is_switch && let Some(problem) = refusal(&self.arg, &text) {
            return Err((problem, format!("{text:?}")));
        }
        Ok(text)
    }
}
