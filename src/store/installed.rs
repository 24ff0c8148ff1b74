//! Finding, listing and removing models; aliases.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::choose::{label, strip_extension};
use super::files;
use super::name::of_address;
use crate::files::{ReadError, Sha256Hex, read_text_if_there, write_whole};

/// Most models that are listed.
const MAX_MODELS: usize = 10_000;
/// Most files and folders that are looked at.
const MAX_ENTRIES: usize = 100_000;
/// Folders below `models`: organisation, repository and those of a file's path.
const MAX_DEPTH: usize = 6;
/// Longest record or alias, in bytes.
const MAX_SMALL: u64 = 1 << 16;
/// Longest name of an alias, in bytes.
const MAX_ALIAS: usize = 64;

/// The models of this computer.
#[derive(Clone, Debug)]
pub struct Store {
    home: PathBuf,
}

/// Where a model is from; beside it, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `ORG/REPO`.
    pub repository: String,
    /// Path in the repository.
    pub file: String,
    /// The commit it was of.
    pub commit: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of all bytes, checked or computed when it was fetched.
    pub sha256: Sha256Hex,
    /// Whether the hub told a SHA-256 that it was checked with.
    pub checked: bool,
}

/// A model in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// `ORG/REPO:FILE`, or the path in the folder.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Where it is from, if it was fetched.
    pub record: Option<Record>,
}

/// A short name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alias {
    /// The short name.
    pub name: String,
    /// A path, or the name of an installed model.
    pub target: String,
}

/// What is there, and what could not be read.
#[derive(Debug)]
pub struct Survey<T> {
    /// By name.
    pub found: Vec<T>,
    /// Why some are missing.
    pub problems: Vec<StoreError>,
}

impl<T> Survey<T> {
    /// What was found, unless that is nothing because it could not be read.
    fn into_result(mut self) -> Result<Vec<T>, StoreError> {
        match self.problems.pop() {
            Some(problem) if self.found.is_empty() => Err(problem),
            _ => Ok(self.found),
        }
    }
}

impl Record {
    /// The record beside a model, if there is one of a file of this size. One that cannot be read or understood counts as
    /// none: the model itself is what matters.
    pub fn beside(model: &Path) -> Option<Self> {
        let bytes = fs::metadata(model).ok()?.len();
        Self::read(model).ok()?.filter(|record| record.bytes == bytes)
    }

    /// The record at the place of a model's, whatever the model is. What cannot be understood is none.
    pub(super) fn read(model: &Path) -> Result<Option<Self>, ReadError> {
        match read_text_if_there(&record_path(model), MAX_SMALL) {
            Err(error @ (ReadError::Io { .. } | ReadError::Folder { .. })) => Err(error),
            read => {
                let record = read.ok().flatten().and_then(|text| serde_json::from_str(&text).ok());
                Ok(record.filter(|record: &Self| files::is_hex(&record.sha256, 64)))
            }
        }
    }
}

impl Store {
    /// The store of this user: `$SMOLT_HOME`, else `$XDG_DATA_HOME/smolt`, else `~/.local/share/smolt` (on Windows
    /// `%LOCALAPPDATA%\smolt`). Nothing is made yet.
    ///
    /// # Errors
    /// [`StoreError::NoHome`] if none of the variables is set.
    pub fn of_user() -> Result<Self, StoreError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("SMOLT_HOME")
            .or_else(|| {
                variable("XDG_DATA_HOME").filter(|path| path.is_absolute()).map(|data| data.join("smolt"))
            })
            .or_else(|| variable("LOCALAPPDATA").filter(|_| cfg!(windows)).map(|data| data.join("smolt")))
            .or_else(|| variable("HOME").map(|home| home.join(".local/share/smolt")));
        home.map(Self::at).ok_or(StoreError::NoHome)
    }

    /// The store in this folder.
    pub fn at(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into() }
    }

    /// The folder of everything.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The folder of models.
    pub fn models(&self) -> PathBuf {
        self.home.join("models")
    }

    /// The folder of unfinished downloads: on the disk of the models, to which they are renamed.
    pub(super) fn partial(&self) -> PathBuf {
        self.models().join(".partial")
    }

    fn aliases_folder(&self) -> PathBuf {
        self.home.join("aliases")
    }

    /// Takes the lock of downloads.
    pub(super) fn lock(&self, waiting: impl FnOnce()) -> Result<files::Lock, StoreError> {
        files::make_folder(&self.home)?;
        files::Lock::take(self.home.join("pull.lock"), waiting)
    }

    /// All models, by name, as far as folders can be read.
    ///
    /// # Errors
    /// If there are none because a folder cannot be read.
    pub fn list(&self) -> Result<Vec<Installed>, StoreError> {
        self.survey().into_result()
    }

    /// All models, and what could not be read. Links are followed, to another disk for example, but not to folders that
    /// hold the models' own.
    pub fn survey(&self) -> Survey<Installed> {
        let (root, mut survey) = (self.models(), Survey { found: vec![], problems: vec![] });
        let mut left = MAX_ENTRIES;
        let mut folders = vec![(root.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let paths = entries(&folder).unwrap_or_else(|problem| {
                survey.problems.push(problem);
                vec![]
            });
            for path in paths {
                let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if hidden || survey.found.len() == MAX_MODELS {
                    continue;
                }
                let Some(rest) = left.checked_sub(1) else {
                    survey.problems.push(StoreError::TooMany { folder: root, limit: MAX_ENTRIES });
                    return survey.sorted();
                };
                left = rest;
                let Ok(data) = fs::metadata(&path) else { continue };
                if data.is_dir() && depth < MAX_DEPTH && !holds(&path, &root) {
                    folders.push((path, depth + 1));
                } else if data.is_file()
                    && let Some(name) = name_of(&root, &path)
                {
                    let record = Record::beside(&path);
                    survey.found.push(Installed { name, path, bytes: data.len(), record });
                }
            }
        }
        survey.sorted()
    }

    /// The file that a name means: of an alias, else of an installed model, by its whole name, `ORG/REPO`,
    /// `ORG/REPO:Q4_0`, or its file's name with or without `.gguf`.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn resolve(&self, name: &str) -> Result<PathBuf, StoreError> {
        let address = of_address(name).map(|(name, _)| name);
        let name = address.as_deref().unwrap_or(name);
        let Some(target) = self.alias(name)? else { return Ok(self.find(name)?.path) };
        let dangling = || StoreError::Dangling { alias: name.to_owned(), target: target.clone() };
        if Path::new(&target).is_absolute() {
            return Some(PathBuf::from(&target)).filter(|path| path.exists()).ok_or_else(dangling);
        }
        self.find(&target).map(|found| found.path).map_err(|error| match error {
            StoreError::NotInstalled { .. } => dangling(),
            error => error,
        })
    }

    /// The installed model that a name means, as [`Store::resolve`] without aliases.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn find(&self, name: &str) -> Result<Installed, StoreError> {
        let mut all = self.list()?;
        if let Some(at) = all.iter().position(|model| model.name == name) {
            return Ok(all.swap_remove(at));
        }
        all.retain(|model| model.answers_to(name));
        if all.len() > 1 {
            let matches = all.into_iter().map(|model| model.name).collect();
            return Err(StoreError::Ambiguous { name: name.to_owned(), matches });
        }
        all.pop().ok_or_else(|| StoreError::NotInstalled { name: name.to_owned() })
    }

    /// Removes a model with what belongs to it: its record, its packs, folders that are then empty.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove(&self, model: &Installed) -> Result<(), StoreError> {
        let remove = |path: &Path| fs::remove_file(path).map_err(StoreError::io("remove", path));
        let Some(folder) = model.path.parent() else { return Ok(()) };
        let own = model.path.file_name().unwrap_or_default().as_encoded_bytes();
        for path in entries(folder)? {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            let rest = name.strip_prefix(own);
            if rest
                .is_some_and(|rest| rest.starts_with(b".") && (rest.ends_with(b".pack") || rest == b".json"))
            {
                remove(&path)?;
            }
        }
        remove(&model.path)?;
        let root = self.models();
        for folder in folder.ancestors().take_while(|folder| folder.starts_with(&root) && **folder != root) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Unfinished downloads and their sizes in bytes.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn unfinished(&self) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let parts = entries(&self.partial())?.into_iter();
        let parts = parts.filter(|path| path.extension().is_some_and(|end| end == "part"));
        Ok(parts.filter_map(|path| fs::metadata(&path).ok().map(|data| (path, data.len()))).collect())
    }

    /// Removes unfinished downloads; calls `waiting` if one is going on, and waits for its end.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove_unfinished(&self, waiting: impl FnOnce()) -> Result<(), StoreError> {
        let _lock = self.lock(waiting)?;
        for (path, _) in self.unfinished()? {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }

    /// All aliases that can be read, by name.
    ///
    /// # Errors
    /// If there are none because they cannot be read.
    pub fn aliases(&self) -> Result<Vec<Alias>, StoreError> {
        self.survey_aliases().into_result()
    }

    /// All aliases, and what could not be read.
    pub fn survey_aliases(&self) -> Survey<Alias> {
        let mut survey = Survey { found: vec![], problems: vec![] };
        let paths = entries(&self.aliases_folder()).unwrap_or_else(|problem| {
            survey.problems.push(problem);
            vec![]
        });
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_alias(name));
            let Some(name) = name else { continue };
            match self.alias(name) {
                Ok(target) => {
                    survey.found.extend(target.map(|target| Alias { name: name.to_owned(), target }))
                }
                Err(problem) => survey.problems.push(problem),
            }
        }
        survey.found.sort_by(|a, b| a.name.cmp(&b.name));
        survey
    }

    /// Whether there is an alias of this name, readable or not.
    pub fn has_alias(&self, name: &str) -> bool {
        is_alias(name) && self.aliases_folder().join(name).symlink_metadata().is_ok()
    }

    /// What an alias stands for; nothing if there is none of this name.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn alias(&self, name: &str) -> Result<Option<String>, StoreError> {
        if !is_alias(name) {
            return Ok(None);
        }
        let file = self.aliases_folder().join(name);
        read_text_if_there(&file, MAX_SMALL)?.map(|text| one_line(&file, &text)).transpose()
    }

    /// Makes an alias of a file or an installed model, or changes it; what it stands for.
    ///
    /// # Errors
    /// If the name cannot be one, or there is no such model.
    pub fn set_alias(&self, name: &str, target: &str) -> Result<String, StoreError> {
        check_alias(name)?;
        let path = Path::new(target);
        let target = if path.is_file() {
            let path = std::path::absolute(path).map_err(StoreError::io("find", path))?;
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| StoreError::NotInstalled { name: target.to_owned() })?
        } else {
            match self.alias(target)? {
                Some(target) => target,
                None => self.find(target)?.name,
            }
        };
        let folder = self.aliases_folder();
        files::make_folder(&folder)?;
        write_whole(&folder.join(name), format!("{target}\n").as_bytes())?;
        Ok(target)
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// If there is none, or it cannot be removed.
    pub fn remove_alias(&self, name: &str) -> Result<(), StoreError> {
        if !self.has_alias(name) {
            return Err(StoreError::NoAlias { name: name.to_owned() });
        }
        let path = self.aliases_folder().join(name);
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))
    }
}

impl Survey<Installed> {
    fn sorted(mut self) -> Self {
        self.found.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }
}

impl Installed {
    fn answers_to(&self, name: &str) -> bool {
        let Some((repository, file)) = self.name.split_once(':') else {
            return strip_extension(&self.name) == Some(name);
        };
        let base = file.rsplit('/').next().unwrap_or(file);
        let is_file = |name: &str| name == file || strip_extension(file) == Some(name);
        let is_label = |name: &str| label(file).is_some_and(|label| label.eq_ignore_ascii_case(name));
        match name.split_once(':') {
            Some((wanted, file)) => wanted == repository && (is_file(file) || is_label(file)),
            None => name == repository || name == base || strip_extension(base) == Some(name),
        }
    }
}

/// The record's place beside a model.
pub(super) fn record_path(model: &Path) -> PathBuf {
    let mut name = model.file_name().unwrap_or_default().to_owned();
    name.push(".json");
    model.with_file_name(name)
}

/// `ORG/REPO:FILE` or the path below `root`, for GGUF files with names that can be shown.
fn name_of(root: &Path, path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.strip_prefix(root).ok()?.iter().map(|part| part.to_str()).collect();
    let parts = parts?;
    strip_extension(parts.last()?)?;
    if parts.iter().any(|part| part.contains(char::is_control)) {
        return None;
    }
    Some(match parts.as_slice() {
        [org, repo, file @ ..] if !file.is_empty() => format!("{org}/{repo}:{}", file.join("/")),
        parts => parts.join("/"),
    })
}

/// Whether a folder, a link to one in particular, is or holds this one.
fn holds(folder: &Path, inner: &Path) -> bool {
    match (folder.canonicalize(), inner.canonicalize()) {
        (Ok(folder), Ok(inner)) => inner.starts_with(folder),
        _ => false,
    }
}

/// The name or path that a small file holds.
///
/// # Errors
/// [`StoreError::BadRecord`] if it holds none, or something else.
pub(super) fn one_line(file: &Path, text: &str) -> Result<String, StoreError> {
    let name = text.trim_end_matches(['\n', '\r']);
    let problem = match () {
        () if name.is_empty() => "it is empty",
        () if name.contains(char::is_control) => "it holds control characters or several lines",
        () => return Ok(name.to_owned()),
    };
    Err(StoreError::BadRecord { file: file.to_owned(), problem: problem.to_owned() })
}

/// Paths in a folder; none if it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let paths: Result<Vec<PathBuf>, _> =
                entries.map(|entry| entry.map(|entry| entry.path())).collect();
            paths.map_err(StoreError::io("read the folder", folder))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(StoreError::io("read the folder", folder)(error)),
    }
}

/// Whether this can be a short name.
///
/// # Errors
/// [`StoreError::BadAlias`] if not.
pub fn check_alias(name: &str) -> Result<(), StoreError> {
    if is_alias(name) { Ok(()) } else { Err(StoreError::BadAlias { name: name.to_owned() }) }
}

fn is_alias(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let first = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    first && name.len() <= MAX_ALIAS && name.bytes().all(allowed)
}
