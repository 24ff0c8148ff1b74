//! Whole files or none, locks and SHA-256.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

use super::StoreError;

/// Bytes read at once.
#[cfg(feature = "pull")]
pub(super) const BLOCK: usize = 1 << 16;

/// SHA-256 as 64 hexadecimal digits, in small letters.
pub type Sha256Hex = String;

/// The SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
#[cfg(feature = "pull")]
pub(super) fn sha256(path: &Path) -> Result<Sha256Hex, StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("read", path))?;
    let mut hash = Sha256::new();
    add(&mut hash, &mut file).map_err(StoreError::io("read", path))?;
    Ok(hex(hash))
}

/// The SHA-256 of bytes that come in parts.
pub fn sha256_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Sha256Hex {
    let mut hash = Sha256::new();
    parts.for_each(|part| hash.update(part));
    hex(hash)
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

/// The digits of a finished hash.
pub(super) fn hex(hash: Sha256) -> Sha256Hex {
    hash.finalize().iter().fold(String::with_capacity(64), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// Writes a file under a temporary name, syncs and renames it: at every time there is the old file or the new one.
///
/// # Errors
/// [`StoreError::Io`]; nothing is left behind.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{}.tmp", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    let temporary = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        rename(&temporary, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        StoreError::Io { action: "write", file: path.to_owned(), source }
    })
}

/// Renames a synced file into its place, durably.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_name(to)
}

/// Makes the name of a file or folder durable, where the file system can.
fn sync_name(file: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
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

/// The text of a small file; nothing if it does not exist.
pub(super) fn read_small(path: &Path, limit: u64) -> Result<Option<String>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).map_err(StoreError::io("read", path))?;
    if text.len() as u64 > limit {
        let problem = format!("longer than {limit} bytes");
        return Err(StoreError::BadRecord { file: path.to_owned(), problem });
    }
    Ok(Some(text))
}

/// A lock between processes, held until it is dropped or the process ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock; if another process has it, calls `waiting` and waits for it.
    pub(super) fn take(path: PathBuf, waiting: impl FnOnce()) -> Result<Lock, StoreError> {
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(StoreError::io("open the lock", &path))?;
        match file.try_lock() {
            // A file system without locks cannot tell. Of two downloads of the same file then both write the same bytes to
            // the same places, and each installs what it has hashed.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(StoreError::io("take the lock", &path))?;
            }
        }
        Ok(Lock { _file: file })
    }
}
