//! Every command of README.md runs, and prints to standard output what README.md shows.

use crate::shared::{real_model, repository};
#[cfg(all(unix, feature = "pull"))]
use crate::store::Server;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A command of a `console` block and the output shown below it.
#[derive(Debug)]
struct Shown {
    command: String,
    output: String,
    /// What the block says behind `console`: `real` for commands that run where there is a real model, `numbers` for output
    /// whose numbers differ from machine to machine.
    kind: String,
}

fn shown() -> Vec<Shown> {
    let text = std::fs::read_to_string(repository("README.md")).unwrap();
    let mut found: Vec<Shown> = vec![];
    for block in text.split("```console").skip(1) {
        let (kind, block) = block.split_once('\n').unwrap();
        for line in block.split("```").next().unwrap().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    let (command, output, kind) = (command.to_owned(), String::new(), kind.to_owned());
                    found.push(Shown { command, output, kind });
                }
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

/// Whether `found` is what is shown: `[..]` stands for any text within a line, a line `...` for any lines.
fn is_shown(shown: &str, found: &str) -> bool {
    let shown: Vec<&str> = shown.trim_end().lines().collect();
    let found: Vec<&str> = found.trim_end().lines().collect();
    lines_match(&shown, &found)
}

/// Text with `#` for every number, and one space for several.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            '.' | ',' if plain.ends_with('#') => {}
            ' ' if plain.ends_with(' ') => {}
            _ => plain.push(c),
        }
    }
    plain
}

fn lines_match(shown: &[&str], found: &[&str]) -> bool {
    match shown.split_first() {
        None => found.is_empty(),
        Some((&"...", rest)) => (0..=found.len()).any(|skip| lines_match(rest, &found[skip..])),
        Some((line, rest)) => {
            found.first().is_some_and(|first| line_matches(line, first)) && lines_match(rest, &found[1..])
        }
    }
}

fn line_matches(shown: &str, found: &str) -> bool {
    let Some((first, rest)) = shown.split_once("[..]") else { return shown.trim_end() == found.trim_end() };
    let Some(mut left) = found.strip_prefix(first) else { return false };
    let parts: Vec<&str> = rest.split("[..]").collect();
    let (last, middle) = parts.split_last().expect("a split has a part");
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.trim_end().ends_with(last.trim_end())
}

#[test]
fn gaps_in_what_is_shown_are_few() {
    for (shown, found, same) in [
        ("a\nb\n", "a\nb", true),
        ("a", "a\nb", false),
        ("a\n...\n", "a\nb\nc", true),
        ("...\nc", "a\nb\nc", true),
        ("...\nd", "a\nb\nc", false),
        ("x [..] z", "x y z", true),
        ("x [..] z", "x y", false),
        ("[..]b[..]d", "abcd", true),
        ("[..]c[..]b", "abcd", false),
        ("", "a", false),
    ] {
        assert_eq!(is_shown(shown, found), same, "{shown:?} {found:?}");
    }
    assert_eq!(without_numbers("a  12,345.6 b 7\n"), "a # b #\n");
}

/// Commands that build, fetch or take long: they must name files that exist, and the gate or their own
/// tests run them.
const NOT_RUN_HERE: &[&str] = &[
    "cargo build",
    "cargo test",
    "scripts/",
    "pip ",
    "cargo run --release -p smolt-quantize",
    "cargo run --release --example",
    "cargo bench",
];

/// Commands with a model that `smolt pull` fetched.
const WITH_PULLED: &[&str] = &["smolt pull", "--yes small"];

/// The port of README.md's server; the tests take one that is free.
const PORT: &str = "8080";

/// What README.md calls `smollm2.gguf`.
const REAL: &str = "smollm2-135m-instruct-q4_1";

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
    real: Option<PathBuf>,
    port: String,
    /// Commands that go on, with what they say.
    running: Vec<(Child, BufReader<std::process::ChildStderr>)>,
}

impl Shell {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("smolt-readme-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let smolt = PathBuf::from(env!("CARGO_BIN_EXE_smolt"));
        let path = format!("{}:{}", smolt.parent().unwrap().display(), std::env::var("PATH").unwrap());
        for (from, to) in [
            ("tests/data/demo/demo-f16.gguf", "original.gguf"),
            ("tests/data/demo/demo-calibration.txt", "text.txt"),
            ("src/cli/demo.gguf", "quantized.gguf"),
            ("tests/data/oms/keys/p256.pem", "release.pem"),
            ("tests/data/oms/keys/p256.pub.pem", "release.pub.pem"),
        ] {
            std::fs::copy(repository(from), folder.join(to)).unwrap();
        }
        std::fs::create_dir_all(folder.join("prompts")).unwrap();
        for entry in std::fs::read_dir(repository("prompts")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.join("prompts").join(entry.file_name())).unwrap();
        }
        let real = real_model(REAL);
        if let Some(model) = &real {
            std::os::unix::fs::symlink(model, folder.join("smollm2.gguf")).unwrap();
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, path, hub: hub(), real, port: free.to_string(), running: vec![] }
    }

    /// Starts a server, which goes on until the end.
    fn start(&mut self, command: &str) {
        let mut command = self.command(&format!("exec {command} --port {PORT}"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening at") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the server does not start");
        }
        self.running.push((child, said));
    }

    fn run(&self, command: &str) -> (bool, String, String) {
        let output = self.command(command).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    fn command(&self, command: &str) -> Command {
        let command = command.replace("cargo run --release -- ", "smolt ").replace(PORT, &self.port);
        let mut shell = Command::new("sh");
        shell
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
            .env_remove("HF_HUB_OFFLINE");
        shell
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for (child, _) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn every_command_runs() {
    let mut shell = Shell::new();
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    let mut ran = 0;
    for Shown { command, output, kind } in shown() {
        let real = kind.contains("real");
        if NOT_RUN_HERE.iter().any(|prefix| command.starts_with(prefix)) {
            for word in command.split_whitespace().filter(|word| word.starts_with("scripts/")) {
                assert!(repository(word).exists(), "{command}");
            }
            continue;
        }
        if real && shell.real.is_none() {
            eprintln!("SKIPPED: {command}: SMOLT_REAL_MODELS names no folder of models");
            continue;
        }
        if shell.hub.is_none() && WITH_PULLED.iter().any(|part| command.contains(part)) {
            eprintln!("SKIPPED: {command}: this build has no smolt pull");
            continue;
        }
        let is_of_server = command.starts_with("smolt serve") || command.contains(PORT);
        if is_of_server && !cfg!(feature = "serve") {
            eprintln!("SKIPPED: {command}: this build has no smolt serve");
            continue;
        }
        if command.starts_with("curl ") && !has_curl {
            eprintln!("SKIPPED: {command}: there is no curl");
            continue;
        }
        if let Some(server) = command.strip_suffix(" &") {
            shell.start(server);
            assert!(output.is_empty(), "{command} prints nothing");
            continue;
        }
        if command.contains("smolt-quantize") && !quantizer_is_built() {
            eprintln!("SKIPPED: {command}: smolt-quantize is not built; cargo test --workspace builds it");
            continue;
        }
        let (success, stdout, stderr) = shell.run(&command);
        assert!(success, "{command}\n{stdout}{stderr}");
        let (expected, found) = if kind.contains("numbers") {
            (without_numbers(&output), without_numbers(&stdout))
        } else {
            (output, stdout)
        };
        assert!(is_shown(&expected, &found), "{command}\nshown:\n{expected}\nfound:\n{found}{stderr}");
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

/// What a command writes is shown: into a file it goes only where a later command reads that file.
#[test]
fn no_output_is_hidden() {
    let all = shown();
    for (place, Shown { command, .. }) in all.iter().enumerate() {
        assert!(
            !command.contains("/dev/null")
                || command.contains("< /dev/null")
                || command.contains("2>/dev/null")
        );
        let Some((_, file)) = command.rsplit_once("> ").filter(|(before, _)| !before.ends_with('2')) else {
            continue;
        };
        let file = file.split_whitespace().next().unwrap();
        let is_read = all[place + 1..].iter().any(|later| later.command.contains(file));
        assert!(is_read, "{command}: nothing shows {file}");
    }
}
