//! A tiny model, a directory for its files, and the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use smolt::eval::synthetic::{Shape, Synthetic};

/// Rows of 96 fit blocks of 32 only, those of 256 all.
const SHAPE: Shape = Shape {
    name: "tiny",
    architecture: "llama",
    layers: 3,
    dim: 96,
    heads: 6,
    kv_heads: 2,
    head_dim: 16,
    rotary_dim: 16,
    hidden: 256,
    vocab: 1500,
    context: 64,
    rope_base: 10_000.0,
    norm_eps: 1e-5,
    tied: true,
};

/// The GGUF file of the tiny model.
pub(crate) fn tiny(recipe: &str) -> Vec<u8> {
    Synthetic { shape: SHAPE, recipe: recipe.parse().unwrap(), seed: 1 }.to_vec().unwrap()
}

/// A directory that is removed at the end of a test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("smolt-quantize-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Names of all files, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Exit code, standard output and standard error of a run.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `smolt-quantize quantize INPUT OUTPUT` with more arguments.
pub(crate) fn quantize(input: &Path, output: &Path, more: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smolt-quantize"));
    outcome(command.arg("quantize").arg(input).arg(output).args(more).output().unwrap())
}

/// Runs `smolt-quantize`.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    outcome(Command::new(env!("CARGO_BIN_EXE_smolt-quantize")).args(arguments).output().unwrap())
}

fn outcome(output: Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
