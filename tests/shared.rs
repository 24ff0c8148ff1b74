//! Where test data lies, and the program.

use std::path::PathBuf;
use std::process::Command;

/// A file of the shared data: under `SMOLT_SHARED`, or a folder `shared` beside the project. Prints and
/// returns nothing where it is absent.
pub(crate) fn file(path: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let root = std::env::var_os("SMOLT_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED: no shared data at {} (set SMOLT_SHARED)", found.display());
    None
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The program, with nothing of the environment: neither variables nor configuration of whoever runs the tests.
pub(crate) fn smolt() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smolt"));
    command.env_clear();
    command
}
