//! What `smolt run` can do beyond one prompt: files, sessions, log-probabilities.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("smolt-run-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smolt"));
        command.arg("run").args(arguments).current_dir(&self.0).stdin(Stdio::null());
        let done = command.env_remove("SMOLT_MODEL").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, stdout, stderr) = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn files_follow_the_prompt() {
    let scratch = Scratch::new("files");
    std::fs::write(scratch.0.join("a"), "kitchen\n").unwrap();
    std::fs::write(scratch.0.join("b"), "lights\n").unwrap();
    std::fs::write(scratch.0.join("all"), "Turn on the\n\nkitchen\n\nlights\n").unwrap();
    let apart = scratch.json(&["Turn on the", "-f", "a", "--file", "b"]);
    let whole = scratch.json(&["-f", "all"]);
    assert!(!apart["text"].as_str().unwrap().is_empty());
    assert_eq!((&apart["text"], &apart["prompt_tokens"]), (&whole["text"], &whole["prompt_tokens"]));
    assert_ne!(whole["prompt_tokens"], scratch.json(&["Turn on the", "-f", "a"])["prompt_tokens"]);
    std::fs::write(scratch.0.join("bytes"), b"ab\xff").unwrap();
    for (file, part) in [
        ("none", "cannot read the prompt none"),
        ("bytes", "bytes is not UTF-8 text: wrong byte at offset 2"),
    ] {
        let (code, stdout, stderr) = scratch.run(&["-f", file]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn a_session_goes_on() {
    let scratch = Scratch::new("session");
    let first = scratch.json(&["--session", "s", "Turn on the kitchen lights"]);
    assert_eq!(first["cached_tokens"], 0);
    let alone = scratch.json(&["Turn them off again"]);
    let (code, answer, stderr) = scratch.run(&["--session", "s", "-n", "3", "Turn them off again"]);
    assert_eq!((code, answer.is_empty()), (0, false), "{stderr}");
    // Three messages and two answers; the last answer need not be read again.
    let third = scratch.json(&["--session", "s", "What did I say?"]);
    let count = |report: &Value, key: &str| report[key].as_u64().unwrap();
    let said = count(&first, "prompt_tokens") + count(&first, "tokens") + 3;
    assert!(count(&third, "prompt_tokens") > said && count(&third, "cached_tokens") >= said, "{third}");
    assert!(count(&alone, "prompt_tokens") < said);
    std::fs::write(scratch.0.join("s"), "no session").unwrap();
    let (code, _, stderr) = scratch.run(&["--session", "s", "Hello"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("is not a saved session"), "{stderr}");
}

#[test]
fn log_probabilities_are_reported() {
    let scratch = Scratch::new("logprobs");
    let prompt = "Turn on the kitchen lights";
    assert_eq!(scratch.json(&[prompt])["logprobs"], Value::Null);
    let report = scratch.json(&["--logprobs=3", "--temp", "0", prompt]);
    let tokens = report["logprobs"].as_array().unwrap();
    assert_eq!(tokens.len() as u64, report["tokens"].as_u64().unwrap());
    let joined: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(joined.trim_start(), report["text"].as_str().unwrap());
    for token in tokens {
        let top = token["top"].as_array().unwrap();
        // The most likely was taken, and probabilities add up to 1 at most.
        assert_eq!((top.len(), &top[0]["id"], &top[0]["logprob"]), (3, &token["id"], &token["logprob"]));
        let sum: f64 = top.iter().map(|one| one["logprob"].as_f64().unwrap().exp()).sum();
        assert!(sum <= 1.0 + 1e-6, "{token}");
    }
    let (code, stdout, stderr) = scratch.run(&["--logprobs", "--temp", "0", prompt]);
    assert_eq!((code, stdout.trim_end()), (0, report["text"].as_str().unwrap()), "{stderr}");
    let listed = stderr.split_once("log-probability of each token\n").unwrap().1;
    assert_eq!(listed.lines().count(), tokens.len(), "{stderr}");
    let (code, _, stderr) = scratch.run(&["--logprobs=101", prompt]);
    assert_eq!(code, 2, "{stderr}");
}
