//! A folder in memory for one execution.

use std::path::{Path, PathBuf};

/// The files of an execution of one target; they are removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(target: &str) -> Scratch {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = folder.join(format!("smolt-fuzz-{target}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for files");
        Scratch(folder)
    }

    #[allow(dead_code, reason = "only the target of the quantizer needs it")]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("room for files");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
