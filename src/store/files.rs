//! Folders, locks and the SHA-256 of files.

use std::fs::{self, File, TryLockError};
use std::io;
#[cfg(feature = "pull")]
use std::io::Read;
use std::path::{Path, PathBuf};

#[cfg(feature = "pull")]
use sha2::{Digest, Sha256};

use super::StoreError;
use crate::files::{Access, open_to_write, sync_name};
#[cfg(feature = "pull")]
use crate::files::{Sha256Hex, sha256_hex};

/// Bytes read at once.
#[cfg(feature = "pull")]
pub(super) const BLOCK: usize = 1 << 16;

/// The SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
#[cfg(feature = "pull")]
pub(super) fn sha256(path: &Path) -> Result<Sha256Hex, StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("read", path))?;
    let mut hash = Sha256::new();
    add(&mut hash, &mut file).map_err(StoreError::io("read", path))?;
    Ok(sha256_hex(hash))
}

/// Adds all bytes of a reader to a hash; how many there were.
#[cfg(feature = "pull")]
pub(super) fn add(hash: &mut Sha256, from: &mut impl Read) -> io::Result<u64> {
    let (mut block, mut bytes) = (vec![0; BLOCK], 0);
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(bytes),
            Ok(count) => {
                hash.update(&block[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Renames a synced file into its place, durably.
#[cfg(feature = "pull")]
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_name(to)
}

/// Makes a folder and those above it, durably.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let is_new = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let new: Vec<&Path> = path.ancestors().take_while(is_new).collect();
    let make = fs::create_dir_all(path).and_then(|()| new.into_iter().try_for_each(sync_name));
    make.map_err(StoreError::io("make the folder", path))
}

/// Whether a text is a number of this many hexadecimal digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A lock between processes, held until it is dropped or the process ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock; if another process has it, calls `waiting` and waits for it.
    pub(super) fn take(path: PathBuf, waiting: impl FnOnce()) -> Result<Lock, StoreError> {
        let file = open_to_write(&path, Access::Usual)?;
        match file.try_lock() {
            // A file system without locks cannot tell. Of two downloads of the same file then both write the same bytes to
            // the same places, and each installs what it has hashed.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                lock(&file).map_err(StoreError::io("take the lock", &path))?;
            }
        }
        Ok(Lock { _file: file })
    }
}

/// Waits for a lock, also where a signal was handled meanwhile.
fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
