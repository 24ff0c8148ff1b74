//! What is in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::TrustError;

/// Most files and folders that are looked at.
const MAX_ENTRIES: usize = 100_000;
/// Most folders in each other.
const MAX_DEPTH: usize = 32;

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// Its path from the folder, with `/`.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// Finds all files of a folder that are not ignored, in the order of their names. Links to files count as files if they are
/// allowed; links to folders never do, since what is behind them would not be looked at.
pub(super) fn files(
    folder: &Path,
    allows_links: bool,
    is_ignored: &dyn Fn(&str) -> bool,
) -> Result<Vec<Found>, TrustError> {
    let mut walk = Walk { folder, allows_links, is_ignored, entries: 0, found: vec![] };
    walk.enter(folder, "", 0)?;
    walk.found.sort();
    Ok(walk.found)
}

struct Walk<'a> {
    folder: &'a Path,
    allows_links: bool,
    is_ignored: &'a dyn Fn(&str) -> bool,
    entries: usize,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path, above: &str, depth: usize) -> Result<(), TrustError> {
        let root = || self.folder.display().to_string();
        if depth > MAX_DEPTH {
            return Err(TrustError::TooDeep { folder: root(), limit: MAX_DEPTH });
        }
        let io =
            |source| TrustError::Io { file: folder.display().to_string(), action: "read the folder", source };
        for entry in fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(TrustError::TooMany { folder: root(), limit: MAX_ENTRIES });
            }
            let shown = || path.display().to_string();
            let last = path.file_name().and_then(|name| name.to_str());
            let last = last.ok_or_else(|| TrustError::NotUtf8 { path: shown() })?;
            let name = if above.is_empty() { last.to_owned() } else { format!("{above}/{last}") };
            if (self.is_ignored)(&name) {
                continue;
            }
            let io = |source| TrustError::Io { file: shown(), action: "look at it", source };
            let kind = fs::symlink_metadata(&path).map_err(io)?.file_type();
            if kind.is_dir() {
                self.enter(&path, &name, depth + 1)?;
                continue;
            }
            let is_file = if kind.is_symlink() {
                let leads_to_file = self.allows_links && fs::metadata(&path).map_err(io)?.is_file();
                if !leads_to_file {
                    return Err(TrustError::Link { path: shown() });
                }
                true
            } else {
                kind.is_file()
            };
            if !is_file {
                return Err(TrustError::Special { path: shown() });
            }
            self.found.push(Found { name, path });
        }
        Ok(())
    }
}
