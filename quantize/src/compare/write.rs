//! Files that appear under their names when they are complete, or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::CompareError;

/// Refuses, before anything is measured, a target that is one of `inputs`, not a file or in a missing directory.
pub(super) fn check(target: &Path, inputs: &[&Path]) -> Result<(), CompareError> {
    let file = || target.display().to_string();
    let same = |input: &&&Path| match (fs::canonicalize(target), fs::canonicalize(input)) {
        (Ok(target), Ok(input)) => target == input,
        _ => false,
    };
    if inputs.iter().find(same).is_some() {
        return Err(CompareError::Overwrite { file: file() });
    }
    let is_other = fs::metadata(target).is_ok_and(|metadata| !metadata.is_file());
    if is_other || target.file_name().is_none() {
        return Err(CompareError::NotRegular { file: file() });
    }
    let action = "find its directory";
    fs::metadata(directory(target)).map_err(|source| CompareError::Write { file: file(), action, source })?;
    Ok(())
}

/// Writes a file under a temporary name beside it, syncs and renames it. On an error nothing is left.
pub(super) fn write(target: &Path, content: &str) -> Result<(), CompareError> {
    let failed = |action| {
        let file = target.display().to_string();
        move |source| CompareError::Write { file, action, source }
    };
    let mut hidden = OsString::from(".");
    hidden.push(target.file_name().unwrap_or_default());
    hidden.push(format!(".{}.tmp", std::process::id()));
    let path = target.with_file_name(hidden);
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let file = file.map_err(failed("create a file in this directory"))?;
    let temporary = Temporary { path };
    fill(file, content).map_err(failed("write"))?;
    fs::rename(&temporary.path, target).map_err(failed("rename the finished file"))?;
    sync(directory(target)).map_err(failed("sync the directory"))
}

fn directory(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn fill(mut file: File, content: &str) -> io::Result<()> {
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Makes a rename durable where the file system can.
fn sync(directory: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}

/// Removed at the end. Once it is renamed, nothing has its name.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
