//! Reports that are whole or not there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::cli::error::CliError;

/// Writes a file under another name, syncs it and gives it its own.
///
/// # Errors
/// If it cannot be written; what was there stays.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let fail = |source| CliError::WriteReport { file: path.display().to_string(), source };
    let name = path.file_name().ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    let hidden = path.with_file_name(hidden);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&hidden).map_err(fail)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&hidden, path)).map_err(|source| {
        // An error is being reported already; another would hide it.
        let _ = fs::remove_file(&hidden);
        fail(source)
    })
}
