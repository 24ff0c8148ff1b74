//! Sessions that are kept without being asked for: those of people at a terminal, to go on with by `--continue`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::error::SessionError;
use super::lock::Lock;
use crate::files::{Access, is_there, write_stream};
use crate::generate::{Identity, Origin, origin};

/// Sessions that are kept; of more the oldest are removed.
const MAX_KEPT: usize = 20;
const EXTENSION: &str = "session";

/// `$XDG_STATE_HOME/smolt`, by default `~/.local/state/smolt`.
pub(in crate::cli) fn state_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("smolt"))
}

fn folder() -> Option<PathBuf> {
    Some(state_folder()?.join("sessions"))
}

/// Files of kept sessions, the last used first.
fn kept() -> Vec<PathBuf> {
    let Some(entries) = folder().and_then(|folder| fs::read_dir(folder).ok()) else { return vec![] };
    let paths = entries.flatten().map(|entry| entry.path());
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    let used = |path: &PathBuf| {
        let data = path.symlink_metadata().ok().filter(fs::Metadata::is_file)?;
        data.modified().ok()
    };
    let mut found: Vec<(SystemTime, PathBuf)> = paths.filter_map(|path| Some((used(&path)?, path))).collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The name of a new one, in a folder that only the user may read. The oldest go to make room for it.
///
/// # Errors
/// If the folder cannot be made.
pub(super) fn new_path() -> Result<Option<PathBuf>, SessionError> {
    let Some(folder) = folder() else { return Ok(None) };
    let fail = |source| SessionError::Folder { folder: folder.display().to_string(), source };
    fs::create_dir_all(&folder).map_err(fail)?;
    #[cfg(unix)]
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(fail)?;
    for old in kept().into_iter().skip(MAX_KEPT - 1).filter(|path| !Lock::is_taken(path)) {
        let _ = fs::remove_file(old);
    }
    remove_locks(&folder);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let process = std::process::id();
    for number in 0.. {
        let path = folder.join(format!("{seconds:010}-{process}-{number}.{EXTENSION}"));
        if !is_there(&path).map_err(fail)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Removes the locks that killed processes left.
fn remove_locks(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let session = name.strip_prefix('.').and_then(|name| name.strip_suffix(".lock"));
        if let Some(session) = session.map(|name| folder.join(name))
            && !Lock::is_taken(&session)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The last one, if nothing else is asked for.
pub(super) fn last_origin() -> Option<Origin> {
    kept().iter().find_map(|path| origin(path).ok())
}

/// The last one that was said to the same model in the same format.
///
/// # Errors
/// If there are only others.
pub(super) fn last(wanted: &Origin) -> Result<Option<PathBuf>, SessionError> {
    let mut other = None;
    for path in kept() {
        let Ok(found) = origin(&path) else { continue };
        if is_same(&found, wanted) {
            return Ok(Some(path));
        }
        other = other.or(Some(found));
    }
    match other {
        None => Ok(None),
        Some(Origin { model, source, .. }) => {
            Err(SessionError::NoneOfThisModel { this: wanted.model.clone(), model, begun: source })
        }
    }
}

/// Whether two are of one model.
fn is_same(a: &Origin, b: &Origin) -> bool {
    let parts = |origin: &Origin| {
        let Identity { model, model_bytes, tokenizer, .. } = origin.identity;
        (model, model_bytes, tokenizer)
    };
    parts(a) == parts(b)
}

/// The name under which a file is kept that another is to replace: `NAME.1`, or the first number that is free.
///
/// # Errors
/// If the disk refuses.
pub(super) fn keep_aside(path: &Path) -> Result<PathBuf, SessionError> {
    let fail = |source| SessionError::Aside { file: path.display().to_string(), source };
    for number in 1..u32::MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let aside = PathBuf::from(name);
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // A file system without links.
            Err(_) if !is_there(&aside).map_err(fail)? => {
                copy(path, &aside).map_err(fail)?;
                return Ok(aside);
            }
            Err(_) => {}
        }
    }
    Err(fail(io::ErrorKind::AlreadyExists.into()))
}

/// Copies a session; the copy appears when it is whole.
fn copy(path: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(path)?;
    let copied = write_stream(to, Access::Private, |out| io::copy(&mut from, out).map(drop));
    copied.map_err(io::Error::other)
}
