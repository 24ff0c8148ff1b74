//! A folder in memory for one execution.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The files of an execution; they are removed at its end.
pub(crate) struct Scratch;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = folder.join(format!("smolt-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for files");
    folder
});

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch
    }

    #[cfg(feature = "convert")]
    pub(crate) fn path(&self) -> &Path {
        &FOLDER
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = FOLDER.join(name);
        std::fs::write(&path, bytes).expect("room for files");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Ok(files) = std::fs::read_dir(&*FOLDER) else { return };
        for file in files.flatten() {
            let _ = std::fs::remove_file(file.path());
        }
    }
}
