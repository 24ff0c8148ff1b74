//! Where a page may be written.

use std::fs;
use std::path::Path;

use smolt::files::{check_own, is_same_file};

use super::CompareError;

/// What every page begins with, and by which it is known.
pub(super) const START: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n";

/// Refuses, before anything is measured, a target that is one of `inputs`, not a file or in a missing directory.
pub(super) fn check(target: &Path, inputs: &[&Path]) -> Result<(), CompareError> {
    let file = || target.display().to_string();
    if inputs.iter().any(|input| is_same_file(target, input)) {
        return Err(CompareError::Overwrite { file: file() });
    }
    let is_other = fs::metadata(target).is_ok_and(|metadata| !metadata.is_file());
    if is_other || target.file_name().is_none() {
        return Err(CompareError::NotRegular { file: file() });
    }
    let action = "find its directory";
    fs::metadata(directory(target)).map_err(|source| CompareError::Write { file: file(), action, source })?;
    check_own(target, START.len(), |first| first == START.as_bytes()).map_err(CompareError::Foreign)
}

fn directory(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
