//! Opening what must be a regular file, once.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a regular file; what is something else is told instead. With `is_itself` a symbolic link is something else, also
/// one that is put there meanwhile.
pub(super) fn open_regular(
    path: &Path,
    is_itself: bool,
) -> io::Result<Result<(File, Metadata), &'static str>> {
    // Before it is opened: opening a pipe would wait for its writer.
    let found = if is_itself { path.symlink_metadata()? } else { path.metadata()? };
    if let Some(found) = kind(&found) {
        return Ok(Err(found));
    }
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
        let link = if is_itself { O_NOFOLLOW } else { 0 };
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, link | O_NONBLOCK | O_NOCTTY);
    }
    let file = options.open(path)?;
    let found = file.metadata()?;
    Ok(kind(&found).map_or(Ok((file, found)), Err))
}

/// What something is, other than a regular file.
fn kind(found: &Metadata) -> Option<&'static str> {
    match () {
        () if found.is_file() => None,
        () if found.is_symlink() => Some("a symbolic link"),
        () if found.is_dir() => Some("a folder"),
        () => Some("a device or a pipe"),
    }
}
