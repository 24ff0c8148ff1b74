//! One process at a time talks in a session, or has a draft.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::super::error::SessionError;
use crate::files::{Access, check_own, leads_to, open_to_write};

/// Bytes read of what the holder of a lock says about itself.
const MAX_HOLDER: u64 = 200;

/// What a lock that says who holds it begins with.
const HOLDER: &str = "process ";

/// A lock on a session, held until it is dropped or the process ends. It is a file beside the session, `.NAME.lock`,
/// that says who holds it; a file that a killed process left locks nothing.
#[derive(Debug)]
pub(in crate::cli) struct Lock {
    /// Nothing where the file system has no locks.
    _file: Option<File>,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of the session in the file `session`.
    ///
    /// # Errors
    /// If another process has it, or the folder cannot be written.
    pub(in crate::cli) fn take(session: &Path) -> Result<Lock, SessionError> {
        let fail = |source| SessionError::Lock { file: session.display().to_string(), source };
        let path = path(session);
        loop {
            // What somebody else keeps under this name stays.
            let checked = check_own(&path, HOLDER.len(), |first| first == HOLDER.as_bytes());
            let opened = checked.and_then(|()| open_to_write(&path, Access::Private));
            let mut file = opened.map_err(|error| fail(io::Error::other(error)))?;
            match file.try_lock() {
                Ok(()) if !leads_to(&file, &path) => {}
                Ok(()) => {
                    let _ = file.set_len(0).and_then(|()| write!(file, "{}", holder()));
                    return Ok(Lock { _file: Some(file), path });
                }
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    let _ = file.take(MAX_HOLDER).read_to_string(&mut text);
                    let holder = if text.is_empty() { "another process".to_owned() } else { text };
                    return Err(SessionError::InUse { file: session.display().to_string(), holder });
                }
                Err(TryLockError::Error(_)) => return Ok(Lock { _file: None, path }),
            }
        }
    }

    /// Whether a process has the lock of a session.
    pub(in crate::cli) fn is_taken(session: &Path) -> bool {
        let file = File::open(path(session));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Removes the lock that a killed process left of what is removed with it.
    pub(in crate::cli) fn remove_left(session: &Path) {
        let _ = fs::remove_file(path(session));
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held: who opened it before finds that it is gone, and makes another.
        let _ = fs::remove_file(&self.path);
    }
}

fn path(session: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(session.file_name().unwrap_or_default());
    name.push(".lock");
    session.with_file_name(name)
}

/// What this process is.
fn holder() -> String {
    let words: Vec<String> = std::env::args().take(2).collect();
    let name = words
        .first()
        .map(|program| Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned());
    let command = [name, words.get(1).cloned()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    format!("{HOLDER}{} ({command})", std::process::id())
}
