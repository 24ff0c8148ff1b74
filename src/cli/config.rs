//! Configuration files, and `smolt config`.
//!
//! # Design
//!
//! Every option with a variable `SMOLT_X` is the key `x` of `./smolt.toml` and of the user's own file; there is no other
//! list of keys. What the files say becomes the options' default value before the command line is read, and so ranks
//! below the command line and the environment, above what the commands do without the option. A command cannot tell
//! such a value from one that was typed, and needs no code for it. Values are checked by the parser of the option when
//! the file is read, whatever the command is.

use std::any::TypeId;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, Command};
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::error::{CliError, Exit};
use super::output::{self, note};
use crate::files::{ReadError, read_text_if_there};

/// The file of a project, in the working directory.
const LOCAL: &str = "smolt.toml";
/// Longest file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Variables of options begin with this.
const PREFIX: &str = "SMOLT_";

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ConfigError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{file}, line {line}: {problem}")]
    Syntax { file: String, line: usize, problem: String },
    #[error("{file}, line {line}: unknown key {key:?}; known are {}", .known.join(", "))]
    UnknownKey { file: String, line: usize, key: String, known: Vec<String> },
    #[error("{file}, line {line}: {key}: expected {expected}, found {found}")]
    Value { file: String, line: usize, key: String, expected: String, found: String },
}

impl ConfigError {
    /// What to do about it, where the message does not say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { .. } => {
                Some("the format is TOML, e.g. threads = 2 or system = \"Be brief.\"".to_owned())
            }
            Self::UnknownKey { .. } => {
                Some("keys are the long options with a variable; see smolt help run".to_owned())
            }
            _ => None,
        }
    }
}

/// Arguments of `smolt config`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
An option is taken from the command line, else from its variable, else from ./smolt.toml, else from
$XDG_CONFIG_HOME/smolt/config.toml (by default ~/.config/smolt/config.toml), else from the model or the program.
The files are TOML; their keys are the first column of what this command prints. Paths in them are from the
working directory.

  model = \"small\"
  threads = 2
  system = \"Answer in one sentence.\"

Examples:
  smolt config
  smolt config --json"
)]
pub struct ConfigArgs {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// A value that a file gives.
struct Entry {
    key: String,
    text: String,
    line: usize,
}

/// A configuration file.
struct Layer {
    file: PathBuf,
    /// Nothing if the file does not exist.
    entries: Option<Vec<Entry>>,
}

/// An option that files may give.
struct Setting {
    key: String,
    variable: String,
    /// What is done without it, as its help says.
    default: String,
    arg: Arg,
}

/// The commands, with what the files say as the options' default values.
///
/// # Errors
/// If a file cannot be read, or is wrong.
pub(super) fn configured(command: Command) -> Result<Command, ConfigError> {
    let settings = settings(&command);
    let mut command = command;
    // The first layer wins: it comes last.
    for layer in layers(&settings)?.iter().rev() {
        for Entry { key, text, .. } in layer.entries.iter().flatten() {
            command = command.mut_subcommands(|subcommand| {
                subcommand.mut_args(|arg| match key_of(&arg) {
                    Some(own) if own == *key => {
                        // The default of a switch is never shown.
                        let is_shown = arg.get_action().takes_values();
                        arg.default_value(text.clone()).hide_default_value(is_shown)
                    }
                    _ => arg,
                })
            });
        }
    }
    Ok(command)
}

/// The key of an option in files; nothing if it has no variable.
fn key_of(arg: &Arg) -> Option<String> {
    Some(arg.get_env()?.to_str()?.strip_prefix(PREFIX)?.to_ascii_lowercase())
}

/// All options with a key, in the order of the commands' help.
fn settings(command: &Command) -> Vec<Setting> {
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
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some((_, rest)) = help.split_once("[default: ") {
        return rest.trim_end_matches(']').to_owned();
    }
    let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    values.collect::<Vec<_>>().join(",")
}

/// The files, the one that wins first.
fn layers(settings: &[Setting]) -> Result<Vec<Layer>, ConfigError> {
    let files = [Some(PathBuf::from(LOCAL)), user_file()];
    files.into_iter().flatten().map(|file| Layer::read(file, settings)).collect()
}

fn user_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CONFIG_HOME")
        .filter(|folder| folder.is_absolute())
        .or_else(|| variable("APPDATA").filter(|_| cfg!(windows)))
        .or_else(|| variable("HOME").map(|home| home.join(".config")));
    folder.map(|folder| folder.join("smolt/config.toml"))
}

impl Layer {
    fn read(file: PathBuf, settings: &[Setting]) -> Result<Layer, ConfigError> {
        let entries = match read(&file)? {
            Some(text) => Some(entries(&shown(&file), &text, settings)?),
            None => None,
        };
        Ok(Layer { file, entries })
    }
}

fn shown(file: &Path) -> String {
    if file == Path::new(LOCAL) { format!("./{LOCAL}") } else { file.display().to_string() }
}

/// The text of a file; nothing if there is none.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    Ok(read_text_if_there(path, MAX_FILE)?)
}

/// What a file says, checked by the options' parsers.
fn entries(file: &str, text: &str, settings: &[Setting]) -> Result<Vec<Entry>, ConfigError> {
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
        let is = |id: TypeId| self.arg.get_value_parser().type_id() == id;
        let is_switch = !self.arg.get_action().takes_values();
        let is_number =
            [TypeId::of::<i64>(), TypeId::of::<usize>(), TypeId::of::<u16>(), TypeId::of::<f32>()];
        let is_number = is_number.into_iter().any(is);
        // Of these some may be written with a unit.
        let is_either = is(TypeId::of::<u64>());
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
        if !is_switch && let Some(problem) = self.refusal(&text) {
            return Err((problem, format!("{text:?}")));
        }
        Ok(text)
    }

    /// What the option's parser has against a value.
    fn refusal(&self, text: &str) -> Option<String> {
        let long = self.arg.get_long()?;
        // Alone: without its variable, and without the arguments that it has to do with.
        let arg = Arg::new("value").long(long.to_owned()).allow_hyphen_values(true);
        let arg = arg.value_parser(self.arg.get_value_parser().clone());
        let command = Command::new("smolt").no_binary_name(true).disable_help_flag(true).arg(arg);
        let error = command.try_get_matches_from([format!("--{long}={text}")]).err()?;
        Some(match error.kind() {
            ErrorKind::InvalidValue => {
                let values = self.arg.get_possible_values();
                let names: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
                if names.is_empty() { "a value".to_owned() } else { format!("one of {}", names.join(", ")) }
            }
            _ => std::error::Error::source(&error)
                .map_or_else(|| error.kind().to_string(), |problem| format!("a valid value ({problem})")),
        })
    }
}

/// A value in effect.
#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    /// Null if the model or the program decides.
    value: Option<String>,
    /// `environment`, `file` or `default`.
    origin: &'static str,
    /// Of a file.
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
    let rows: Vec<Row<'_>> = settings.iter().map(|setting| Row::new(setting, &layers)).collect();
    let file = |layer: &Layer| FileRow { path: shown(&layer.file), exists: layer.entries.is_some() };
    let files: Vec<FileRow> = layers.iter().map(file).collect();
    if args.json {
        output::write_json(&Report { settings: rows, files })?;
        return Ok(Exit::Ok);
    }
    let width = rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
    let line = |row: &Row<'_>| {
        let value = row.value.as_ref().map_or("-".to_owned(), |value| value.escape_debug().to_string());
        format!("{:<width$}  {value:<20}  {}\n", row.key, row.place())
    };
    output::write(rows.iter().map(line).collect::<String>().as_bytes())?;
    for FileRow { path, exists } in files {
        note(format_args!("{path} is {}", if exists { "read" } else { "not there" }));
    }
    Ok(Exit::Ok)
}

impl<'a> Row<'a> {
    fn new(setting: &'a Setting, layers: &[Layer]) -> Self {
        let Setting { key, variable, default, .. } = setting;
        let row = Row { key, value: None, origin: "default", file: None, line: None, variable, default };
        if let Some(value) = std::env::var_os(variable) {
            let value = Some(value.to_string_lossy().into_owned());
            return Row { value, origin: "environment", ..row };
        }
        for layer in layers {
            let entry = layer.entries.iter().flatten().find(|entry| entry.key == *key);
            if let Some(Entry { text, line, .. }) = entry {
                let (value, file) = (Some(text.clone()), Some(shown(&layer.file)));
                return Row { value, origin: "file", file, line: Some(*line), ..row };
            }
        }
        row
    }

    fn place(&self) -> String {
        match (&self.file, self.line, self.origin) {
            (Some(file), Some(line), _) => format!("{file}:{line}"),
            (_, _, "environment") => self.variable.to_owned(),
            _ if self.default.is_empty() => "default".to_owned(),
            _ => format!("default: {}", self.default),
        }
    }
}
