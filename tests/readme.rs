//! Every command of README.md runs, and prints to standard output what README.md shows.

use crate::shared::repository;
#[cfg(all(unix, feature = "pull"))]
use crate::store::Server;
use std::path::PathBuf;
use std::process::Command;

/// A command of a `console` block and the output shown below it.
#[derive(Debug)]
struct Shown {
    command: String,
    output: String,
}

fn shown() -> Vec<Shown> {
    let text = std::fs::read_to_string(repository("README.md")).unwrap();
    let mut found: Vec<Shown> = vec![];
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => found.push(Shown { command: command.to_owned(), output: String::new() }),
                None => {
                    let last = found.last_mut().expect("a command before output");
                    last.output.push_str(line);
                    last.output.push('\n');
                }
            }
        }
    }
    found
}

/// Commands that build, fetch or take long: they must name files that exist, and the gate or their own
/// tests run them.
const NOT_RUN_HERE: &[&str] = &[
    "cargo build",
    "cargo test",
    "scripts/",
    "pip ",
    "cargo run --release -p smolt-quantize",
    "cargo bench",
];

/// Commands with a model that `smolt pull` fetched.
const WITH_PULLED: &[&str] = &["smolt pull", "-m small", "show small", "--yes small"];

/// The repository that README.md fetches from, on this machine.
#[cfg(all(unix, feature = "pull"))]
fn hub() -> Option<String> {
    let model = std::fs::read(repository("src/cli/demo.gguf")).unwrap();
    let files =
        vec![("SmolLM2-135M-Instruct-Q8_0.gguf", vec![8]), ("SmolLM2-135M-Instruct-Q4_0.gguf", model)];
    Some(Server::with_files("bartowski/SmolLM2-135M-Instruct-GGUF", files).endpoint)
}

#[cfg(not(all(unix, feature = "pull")))]
fn hub() -> Option<String> {
    None
}

/// A folder whose `smolt` and `smolt-quantize` are the ones under test.
struct Shell {
    folder: PathBuf,
    path: String,
    hub: Option<String>,
}

impl Shell {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("smolt-readme-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let smolt = PathBuf::from(env!("CARGO_BIN_EXE_smolt"));
        let path = format!("{}:{}", smolt.parent().unwrap().display(), std::env::var("PATH").unwrap());
        // README's examples name files of the user's.
        std::fs::write(folder.join("letter.txt"), "Turn on the kitchen lights, please. ".repeat(10)).unwrap();
        for (from, to) in [
            ("tests/data/demo/demo-f16.gguf", "original.gguf"),
            ("tests/data/demo/demo-calibration.txt", "text.txt"),
            ("src/cli/demo.gguf", "quantized.gguf"),
        ] {
            std::fs::copy(repository(from), folder.join(to)).unwrap();
        }
        std::fs::create_dir_all(folder.join("prompts")).unwrap();
        for entry in std::fs::read_dir(repository("prompts")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.join("prompts").join(entry.file_name())).unwrap();
        }
        Self { folder, path, hub: hub() }
    }

    fn run(&self, command: &str) -> (bool, String, String) {
        let command = command.replace("cargo run --release -- ", "smolt ");
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            // Nothing of the user's is read or changed.
            .env("HOME", &self.folder)
            .env("SMOLT_HOME", self.folder.join("home"))
            .env("XDG_CONFIG_HOME", self.folder.join("config"))
            .env("XDG_STATE_HOME", self.folder.join("state"))
            .env("HF_HOME", self.folder.join("hf"))
            .env("HF_ENDPOINT", self.hub.as_deref().unwrap_or_default())
            .env("NO_PROXY", "127.0.0.1")
            .env_remove("HF_HUB_OFFLINE")
            .output();
        let output = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn every_command_runs() {
    let shell = Shell::new();
    let mut ran = 0;
    for Shown { command, output } in shown() {
        if NOT_RUN_HERE.iter().any(|prefix| command.starts_with(prefix)) {
            for word in command.split_whitespace().filter(|word| word.starts_with("scripts/")) {
                assert!(repository(word).exists(), "{command}");
            }
            continue;
        }
        if shell.hub.is_none() && WITH_PULLED.iter().any(|part| command.contains(part)) {
            eprintln!("SKIPPED: {command}: this build has no smolt pull");
            continue;
        }
        if command.contains("smolt-quantize") && !quantizer_is_built() {
            eprintln!("SKIPPED: {command}: smolt-quantize is not built; cargo test --workspace builds it");
            continue;
        }
        let (success, stdout, stderr) = shell.run(&command);
        assert!(success, "{command}\n{stdout}{stderr}");
        if !output.is_empty() {
            assert_eq!(stdout.trim_end(), output.trim_end(), "{command}");
        }
        ran += 1;
    }
    assert!(ran >= 5, "README.md shows commands");
}

fn quantizer_is_built() -> bool {
    PathBuf::from(env!("CARGO_BIN_EXE_smolt")).with_file_name("smolt-quantize").exists()
}

#[test]
fn the_test_command_is_what_the_gate_runs() {
    let gate = std::fs::read_to_string(repository("scripts/check.sh")).unwrap();
    let tests =
        shown().into_iter().map(|shown| shown.command).find(|command| command.starts_with("cargo test"));
    assert!(gate.lines().any(|line| line == tests.as_deref().expect("README.md shows how to test")));
}
