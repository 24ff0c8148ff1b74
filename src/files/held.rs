//! Files that this program goes on with, over many runs: it adds to what it began, and to nothing else.
//!
//! What is there already is kept unless it is known as this program's own; who opens a file here says how that is
//! known. A symbolic link is never written through: it may lead to what somebody else does not want changed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use super::open::found;
use super::write::{MAX_TRIES, fail, folder_of};
use super::{Access, WriteError, first_bytes, leads_to};

/// Opens a file, or begins an empty one, to be read and written by this process alone. As long as it is open, another
/// process gets [`WriteError::Locked`].
///
/// # Errors
/// If it is a link, or no file, or another process has it, or the disk refuses. What is there stays as it is.
pub fn hold(path: &Path, access: Access) -> Result<File, WriteError> {
    for _ in 0..MAX_TRIES {
        let file = open_to_write(path, access)?;
        match file.try_lock() {
            // Before the lock was held another process may have put a finished file in its place.
            Ok(()) if !leads_to(&file, path) => {}
            // A file system without locks cannot tell.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                return Err(WriteError::Locked { file: path.display().to_string() });
            }
        }
    }
    Err(fail(path, "be locked")(io::Error::other("it is replaced all the time")))
}

/// Opens a file, or begins an empty one, to be read and written at any place.
///
/// # Errors
/// If it is a link, or no file, or the disk refuses. What is there stays as it is.
pub fn open_to_write(path: &Path, access: Access) -> Result<File, WriteError> {
    let name = || path.display().to_string();
    let check = |found: &fs::Metadata| match () {
        () if found.is_symlink() => Err(WriteError::Link { file: name() }),
        () if found.is_dir() => Err(WriteError::Folder { file: name() }),
        () if !found.is_file() => Err(WriteError::NotRegular { file: name() }),
        () => Ok(()),
    };
    if let Some(found) = found(path).map_err(fail(path, "be looked at"))? {
        check(&found)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
        use std::os::unix::fs::OpenOptionsExt;
        // What is put there after the check is not followed, nor waited for.
        options.custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        if access == Access::Private {
            options.mode(0o600);
        }
    }
    #[cfg(not(unix))]
    let _ = access;
    let file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            WriteError::NoFolder { file: name(), folder: folder_of(path).display().to_string() }
        }
        _ => fail(path, "be opened to write")(error),
    })?;
    check(&file.metadata().map_err(fail(path, "be looked at"))?)?;
    Ok(file)
}

/// Refuses to replace a file that this program did not write: one that holds anything, and of whose first `bytes`
/// bytes `is_own` does not hold. What is no file is refused where it is written.
///
/// # Errors
/// [`WriteError::Foreign`], also if it cannot be read.
pub fn check_own(path: &Path, bytes: usize, is_own: impl FnOnce(&[u8]) -> bool) -> Result<(), WriteError> {
    // In place of a link a file is put; what it leads to stays.
    let found = found(path).map_err(fail(path, "be looked at"))?;
    if !found.is_some_and(|found| found.is_file() && found.len() > 0) {
        return Ok(());
    }
    match first_bytes(path, bytes) {
        Ok(first) if is_own(&first) => Ok(()),
        _ => Err(WriteError::Foreign { file: path.display().to_string() }),
    }
}

/// What is no file but can be written to.
#[derive(Debug)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Something else.
    Device(File),
}

/// Opens what is no file, if a path is the name of such a thing: standard output and error, what the shell handed over
/// as `/dev/fd/N` (unless that is a file), and `/dev/null`.
pub fn stream(path: &Path) -> Option<io::Result<Stream>> {
    if !cfg!(unix) {
        return None;
    }
    let number = ["/dev/fd", "/proc/self/fd"].iter().find_map(|folder| path.strip_prefix(folder).ok());
    let is_number = |wanted: &str| number == Some(Path::new(wanted));
    if path == Path::new("/dev/stdout") || is_number("1") {
        return Some(Ok(Stream::Output));
    }
    #[cfg(unix)]
    if path == Path::new("/dev/stderr") || is_number("2") {
        use std::os::fd::AsFd;
        // As it is open already: what it has stays.
        let error = io::stderr().as_fd().try_clone_to_owned();
        return Some(error.map(|error| Stream::Device(error.into())));
    }
    let is_null = path == Path::new("/dev/null");
    let is_pipe = || fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    (is_null || (number.is_some() && is_pipe()))
        .then(|| OpenOptions::new().write(true).open(path).map(Stream::Device))
}

/// Whether two names lead to one file that exists.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    id(fs::metadata(a)).is_some_and(|a| Some(a) == id(fs::metadata(b)))
}

/// Whether standard output goes to this file.
pub fn is_standard_output(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let out = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let out = id(out.and_then(|out| out.metadata()));
        out.is_some_and(|out| Some(out) == id(fs::metadata(path)))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// What tells a file from all others, whatever its names are.
#[cfg(unix)]
fn id(found: io::Result<fs::Metadata>) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    found.ok().filter(fs::Metadata::is_file).map(|found| (found.dev(), found.ino()))
}

/// Size and times stand for it where the system does not tell.
#[cfg(not(unix))]
fn id(
    found: io::Result<fs::Metadata>,
) -> Option<(u64, Option<std::time::SystemTime>, Option<std::time::SystemTime>)> {
    found
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|found| (found.len(), found.created().ok(), found.modified().ok()))
}
