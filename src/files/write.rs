//! Files that appear under their name when they are complete.
//!
//! # Leftovers
//!
//! A process that is killed while it writes leaves its temporary file. The next one that writes the same target removes
//! it: a file that is being written is locked by its writer, and the system drops the lock when the writer ends.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Fnv;
use super::open::found;

/// Longest name of a target that is part of the temporary one; file systems allow 255 bytes.
const MAX_NAME: usize = 180;
/// Names, or files of one name, tried before giving up.
pub(super) const MAX_TRIES: usize = 16;
/// End of temporary names.
const SUFFIX: &str = ".tmp";

/// Why a file cannot be written. Nothing is left behind, and what was there before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum WriteError {
    #[error("{file}: is a folder; name a file in it")]
    Folder { file: String },
    #[error("{file}: is not a regular file, which a finished file could replace")]
    NotRegular { file: String },
    #[error("{file}: is a symbolic link, through which nothing is written; name the file that it leads to")]
    Link { file: String },
    #[error(
        "{file}: was not written by this program and is not replaced; name another file, or move it away"
    )]
    Foreign { file: String },
    #[error("{file}: another process is writing it")]
    Locked { file: String },
    #[error("{file}: there is no folder {folder} to write it in")]
    NoFolder { file: String, folder: String },
    #[error("{file}: cannot {action}")]
    Io { file: String, action: &'static str, source: io::Error },
}

impl WriteError {
    /// Whether another name would help: what has this one is not to be written.
    pub fn is_about_the_name(&self) -> bool {
        match self {
            Self::Folder { .. } | Self::NotRegular { .. } | Self::Link { .. } | Self::Foreign { .. } => true,
            Self::Locked { .. } | Self::NoFolder { .. } | Self::Io { .. } => false,
        }
    }
}

/// Who may read a file that did not exist before. One that did keeps its mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Whom the system's default (umask) lets.
    #[default]
    Usual,
    /// The user alone (mode 0600).
    Private,
}

/// Writes a file: it appears under its name when it is complete and on the disk.
///
/// # Errors
/// If the disk refuses, or the path is that of something else than a file.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    write_stream(path, Access::Usual, |out| out.write_all(content))
}

/// Does the same for content that need not be in memory at once: `write` is called with a buffered writer.
///
/// # Errors
/// As [`write_whole`], and if `write` fails.
pub fn write_stream(
    path: &Path,
    access: Access,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    let new = NewFile::create(path, access)?;
    let mut out = BufWriter::new(new.file());
    let written = write(&mut out).and_then(|()| out.flush());
    drop(out);
    written.map_err(fail(path, "write"))?;
    new.finish()
}

/// A new file next to its final place, removed again unless it is finished.
///
/// The final name is never opened: a symbolic link there is replaced, and what it leads to stays as it is.
pub struct NewFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    is_finished: bool,
}

impl NewFile {
    /// Creates a file that is to become `target`, and removes what earlier writers of it left when they were killed.
    ///
    /// # Errors
    /// If the target is no file, or the folder cannot be written.
    pub fn create(target: &Path, access: Access) -> Result<Self, WriteError> {
        let old = check(target)?;
        let stem = stem(target).ok_or_else(|| WriteError::Folder { file: target.display().to_string() })?;
        remove_leftovers(target, &stem);
        let (file, temporary) = create(target, &stem, access)?;
        let new = Self { file, temporary, target: target.to_owned(), is_finished: false };
        if let Some(old) = old {
            let kept = new.file.set_permissions(old.permissions());
            // A file system without modes has none to keep.
            kept.or_else(
                |error| if error.kind() == io::ErrorKind::Unsupported { Ok(()) } else { Err(error) },
            )
            .map_err(fail(target, "keep the mode of the file"))?;
        }
        Ok(new)
    }

    /// The file, to be written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its final name once it is on the disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.file.sync_all().map_err(fail(&self.target, "write"))?;
        fs::rename(&self.temporary, &self.target).map_err(fail(&self.target, "rename the finished file"))?;
        self.is_finished = true;
        sync_name(&self.target).map_err(fail(&self.target, "sync the folder"))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // An error is being reported already; this one would hide it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Makes the name of a file or folder durable. Some file systems cannot sync a folder; there a rename is all there is.
///
/// # Errors
/// If the disk refuses.
pub fn sync_name(file: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder_of(file))?.sync_all() {
        Err(fault) if matches!(fault.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}

pub(super) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn fail(target: &Path, action: &'static str) -> impl Fn(io::Error) -> WriteError {
    move |source| WriteError::Io { file: target.display().to_string(), action, source }
}

/// Refuses targets that a file must not replace; returns the metadata of a file that will be replaced.
fn check(target: &Path) -> Result<Option<fs::Metadata>, WriteError> {
    let file = || target.display().to_string();
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => return Err(WriteError::Folder { file: file() }),
        Ok(metadata) if !metadata.is_file() => return Err(WriteError::NotRegular { file: file() }),
        _ => {}
    }
    // Of a file that is not seen the mode would not be kept.
    let old = found(target).map_err(fail(target, "look at the file"))?;
    let is_link = old.as_ref().is_some_and(fs::Metadata::is_symlink);
    // `/dev/stdout` and the like belong to the system, wherever they lead to.
    if is_link && ["/dev", "/proc"].iter().any(|system| target.starts_with(system)) {
        return Err(WriteError::NotRegular { file: file() });
    }
    Ok(old.filter(fs::Metadata::is_file))
}

/// What temporary names of a target begin with: its own, or a hash of it where that is long.
fn stem(target: &Path) -> Option<OsString> {
    let name = target.file_name()?;
    let mut stem = OsString::from(".");
    if name.len() <= MAX_NAME {
        stem.push(name);
    } else {
        let mut hash = Fnv::default();
        hash.add(name.as_encoded_bytes());
        stem.push(format!("{:016x}", hash.finish()));
    }
    stem.push(".");
    Some(stem)
}

fn create(target: &Path, stem: &OsStr, access: Access) -> Result<(File, PathBuf), WriteError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = access;
    for _ in 0..MAX_TRIES {
        let mut name = stem.to_owned();
        name.push(format!("{}-{:016x}{SUFFIX}", std::process::id(), random()));
        let path = target.with_file_name(name);
        match options.open(&path) {
            Ok(file) => {
                // Where there are no locks leftovers stay too.
                let _ = file.lock();
                if leads_to(&file, &path) {
                    return Ok((file, path));
                }
                // Nobody else chooses this name.
                let _ = fs::remove_file(&path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = folder_of(target).display().to_string();
                return Err(WriteError::NoFolder { file: target.display().to_string(), folder });
            }
            Err(source) => return Err(fail(target, "create a file in this folder")(source)),
        }
    }
    Err(fail(target, "find a free name in this folder")(io::ErrorKind::AlreadyExists.into()))
}

/// A number nobody else chooses.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Tells whether a name still leads to an open file: before its lock was held another process may have removed or
/// replaced what the name leads to. Where the system does not tell, it does.
#[cfg(unix)]
pub fn leads_to(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|found| (found.dev(), found.ino()));
    let own = id(file.metadata());
    own.is_some() && own == id(fs::metadata(path))
}

#[cfg(not(unix))]
/// Tells nothing: the system does not say what a name leads to.
pub fn leads_to(_: &File, _: &Path) -> bool {
    true
}

/// Removes temporary files of this target that nobody writes any more.
fn remove_leftovers(target: &Path, stem: &OsStr) {
    let Ok(entries) = fs::read_dir(folder_of(target)) else { return };
    for entry in entries.flatten() {
        if !is_temporary(&entry.file_name(), stem) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let left = OpenOptions::new().write(true).open(&path);
        if left.is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a name is the stem, two numbers and [`SUFFIX`].
fn is_temporary(name: &OsStr, stem: &OsStr) -> bool {
    let rest = name.as_encoded_bytes().strip_prefix(stem.as_encoded_bytes());
    let numbers = rest.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    let mut parts = numbers.unwrap_or_default().splitn(2, |byte| matches!(byte, b'-' | b'.'));
    let (process, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    !process.is_empty()
        && process.iter().all(u8::is_ascii_digit)
        && !number.is_empty()
        && number.iter().all(u8::is_ascii_hexdigit)
}
