//! Where test data lies, the program, and folders to run it in.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

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

/// A real model, of the folder that `SMOLT_REAL_MODELS` names; `scripts/real_models.sh` fetches them.
pub(crate) fn real_model(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("SMOLT_REAL_MODELS")?);
    Some(folder.join(format!("{name}.gguf"))).filter(|model| model.exists())
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

/// How often a test kills the program.
pub(crate) const KILLS: u64 = 50;

/// A folder of its own for a test of one command; removed at the end.
pub(crate) struct Scratch {
    pub(crate) folder: PathBuf,
    command: &'static str,
}

impl Scratch {
    pub(crate) fn new(command: &'static str, name: &str) -> Self {
        let name = format!("smolt-{command}-command-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self { folder, command }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = smolt();
        command.arg(self.command).args(arguments).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit code, standard output and standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let done = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }

    /// Standard output of a run that succeeds.
    pub(crate) fn out(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        stdout
    }

    /// Starts the program and kills it at a moment within `limit`, which `round` chooses.
    pub(crate) fn kill(&self, arguments: &[&str], limit: Duration, round: u64) {
        let mut child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let share = round.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        std::thread::sleep(limit.mul_f64(share as f64 / f64::from(1 << 24)));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }

    /// The values of a file with one on each line.
    pub(crate) fn json_lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.join(name)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}
