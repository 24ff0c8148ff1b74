//! The presets that there are: files of the user's, with the keys of configuration files.
//!
//! Where the name of one is given for a model it is that model with these settings; what is typed on the command line wins
//! over them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::{CliError, PresetError};
use super::output::with_causes;
use super::settings::{Layer, MODEL, Origin, Setting, user_folder};
use crate::store::check_alias;

/// Most presets that are listed.
const MAX_PRESETS: usize = 10_000;
/// How the name of a preset's file ends.
pub(super) const EXTENSION: &str = "toml";

/// A preset that was read.
#[derive(Clone, Debug)]
pub(super) struct Preset {
    pub(super) name: String,
    pub(super) layer: Layer,
    /// As the file names it.
    pub(super) model: String,
}

/// Says that there is no such preset.
pub(super) fn none(name: &Path) -> CliError {
    PresetError::None { name: name.to_owned() }.into()
}

/// Their folder.
///
/// # Errors
/// If nothing says where the user's configuration is.
pub(super) fn folder() -> Result<PathBuf, PresetError> {
    user_folder().map(|folder| folder.join("presets")).ok_or(PresetError::NoFolder)
}

/// The file of a preset, which need not be there; nothing if there can be none of this name.
fn file_of(name: &Path) -> Option<PathBuf> {
    let name = name.to_str().filter(|name| check_alias(name).is_ok())?;
    Some(folder().ok()?.join(format!("{name}.{EXTENSION}")))
}

/// Whether there is a preset of this name.
pub(super) fn exists(name: &Path) -> bool {
    file_of(name).is_some_and(|file| file.symlink_metadata().is_ok())
}

/// The preset of this name, unless there is a file called so.
///
/// # Errors
/// If its file cannot be read, or is wrong.
pub(super) fn find(name: &Path, settings: &[Setting]) -> Result<Option<Preset>, CliError> {
    let is_file = fs::metadata(name).is_ok_and(|data| !data.is_dir());
    if is_file || !exists(name) { Ok(None) } else { read(name, settings).map(Some) }
}

/// The preset of this name.
///
/// # Errors
/// As [`find`]; if there is none.
pub(super) fn read(name: &Path, settings: &[Setting]) -> Result<Preset, CliError> {
    let file = file_of(name).ok_or_else(|| none(name))?;
    let layer = Layer::read(Origin::Preset, file.clone(), settings)?;
    if layer.entries.is_none() {
        return Err(none(name));
    }
    let model = layer.get(MODEL).ok_or(PresetError::NoModel { file: file.clone() })?;
    if exists(Path::new(&model.text)) && !Path::new(&model.text).is_file() {
        return Err(PresetError::Nested { file, line: model.line, model: model.text.clone() }.into());
    }
    let model = model.text.clone();
    Ok(Preset { name: name.display().to_string(), layer, model })
}

/// The names of all presets.
///
/// # Errors
/// If their folder cannot be read.
pub(super) fn names() -> Result<Vec<String>, PresetError> {
    let Ok(folder) = folder() else { return Ok(vec![]) };
    let failed = |source| PresetError::Io { action: "read the folder", file: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(failed(error)),
    };
    let mut names = vec![];
    for entry in entries.take(MAX_PRESETS) {
        let path = entry.map_err(failed)?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).filter(|name| check_alias(name).is_ok());
        if path.extension().is_some_and(|end| end == EXTENSION) {
            names.extend(name.map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

/// A preset as lists show it.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    file: Option<PathBuf>,
    /// Null if its file is wrong.
    pub(super) model: Option<String>,
    pub(super) settings: serde_json::Map<String, serde_json::Value>,
    /// What is wrong with its file.
    pub(super) problem: Option<String>,
}

/// All presets; of those that are wrong, what is wrong.
///
/// # Errors
/// If their folder cannot be read.
pub(super) fn rows(settings: &[Setting]) -> Result<Vec<Row>, CliError> {
    Ok(names()?.into_iter().map(|name| Row::new(name, settings)).collect())
}

impl Row {
    pub(super) fn new(name: String, settings: &[Setting]) -> Row {
        let file = file_of(Path::new(&name));
        match read(Path::new(&name), settings) {
            Ok(preset) => {
                let entries = preset.layer.entries.iter().flatten().filter(|entry| entry.key != MODEL);
                let settings = entries.map(|entry| (entry.key.clone(), entry.text.clone().into())).collect();
                Row { name, file, model: Some(preset.model), settings, problem: None }
            }
            Err(error) => {
                let problem = Some(with_causes(&error));
                Row { name, file, model: None, settings: serde_json::Map::new(), problem }
            }
        }
    }
}

/// Removes a preset.
///
/// # Errors
/// If it cannot be removed.
pub(super) fn remove(name: &Path) -> Result<(), CliError> {
    let file = file_of(name).ok_or_else(|| none(name))?;
    fs::remove_file(&file).map_err(|source| PresetError::Io { action: "remove", file, source }.into())
}
