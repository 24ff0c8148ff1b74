//! Opening what is read from the first to the last byte.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::Path;

use super::ReadError;

/// Opens a file to read. What a shell hands over as `/dev/fd/N`, and `/dev/null`, count as files too.
///
/// # Errors
/// If there is nothing, or a folder, a named pipe or a device, for which reading might wait without end.
pub fn open(path: &Path) -> Result<File, ReadError> {
    let name = || path.display().to_string();
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ReadError::NotFound { name: name() },
        _ => ReadError::Io { name: name(), source },
    };
    // Before the file is opened, because opening a pipe would wait for its writer.
    let check = |kind: FileType| match () {
        () if kind.is_dir() => Err(ReadError::Folder { name: name() }),
        () if kind.is_file() || is_handed_over(path) => Ok(()),
        () => Err(ReadError::NotAFile { name: name(), found: kind_name(kind) }),
    };
    check(fs::metadata(path).map_err(fail)?.file_type())?;
    let file = File::open(path).map_err(fail)?;
    check(file.metadata().map_err(fail)?.file_type())?;
    Ok(file)
}

/// Tells whether a name leads to anything, be it a link that leads nowhere. What the system does not tell is an error,
/// not an absence: what is taken for absent is begun anew.
///
/// # Errors
/// If the system refuses to tell.
pub fn is_there(path: &Path) -> io::Result<bool> {
    found(path).map(|found| found.is_some())
}

/// What a name leads to, itself and not what a link leads to; nothing if there is nothing.
pub(super) fn found(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns the first bytes of a file, at most `limit`.
///
/// # Errors
/// As [`open`], and if it cannot be read.
pub fn first_bytes(path: &Path, limit: usize) -> Result<Vec<u8>, ReadError> {
    let mut first = vec![];
    let read = open(path)?.take(limit as u64).read_to_end(&mut first);
    read.map_err(|source| ReadError::Io { name: path.display().to_string(), source })?;
    Ok(first)
}

/// Returns the mode of a file that others than its owner may read or write.
#[cfg(unix)]
pub fn mode_for_others(found: &fs::Metadata) -> Option<u32> {
    let mode = std::os::unix::fs::MetadataExt::mode(found) & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Whether the process has it open already, or nothing is read from it.
fn is_handed_over(path: &Path) -> bool {
    let folders = ["/dev/fd", "/proc/self/fd"];
    let names = ["/dev/stdin", "/dev/null"];
    cfg!(unix)
        && (names.iter().any(|name| path == Path::new(name))
            || folders.iter().any(|folder| path.parent() == Some(Path::new(folder))))
}

#[cfg(unix)]
fn kind_name(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
fn kind_name(_: FileType) -> &'static str {
    "a device"
}
