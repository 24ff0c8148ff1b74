//! Where a page may be written.

use std::fs;
use std::path::Path;

use super::CompareError;
use crate::files;

/// Refuses, before anything is measured, a target that is one of `inputs`, not a file or in a missing directory.
pub(super) fn check(target: &Path, inputs: &[&Path]) -> Result<(), CompareError> {
    let file = || target.display().to_string();
    if inputs.iter().any(|input| files::is_same(target, input)) {
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

fn directory(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
