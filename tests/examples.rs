//! The examples do what they say, with the demo model, and are short.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Most lines of an example.
const MOST_LINES: usize = 30;

/// A built example. `cargo test` builds all of them; where they are missing or old, this does.
fn built(name: &str) -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let source = crate::shared::repository("examples").join(name).with_extension("rs");
    if changed(&program) < changed(&source) {
        let profile =
            if folder.parent().is_some_and(|folder| folder.ends_with("release")) { "release" } else { "dev" };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "smolt", "--profile", profile, "--example", name]);
        // What `cargo test` tells this test is not for the build, which would begin anew with it.
        let told = ["CARGO_PKG", "CARGO_MANIFEST", "CARGO_BIN", "CARGO_CRATE", "CARGO_PRIMARY"];
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| told.iter().any(|told| name.starts_with(told))) {
                cargo.env_remove(name);
            }
        }
        assert!(cargo.current_dir(crate::shared::repository(".")).status().unwrap().success());
    }
    program
}

/// What an example prints.
fn output(name: &str) -> String {
    let run = Command::new(built(name)).current_dir(crate::shared::repository(".")).output().unwrap();
    let (out, error) =
        (String::from_utf8(run.stdout).unwrap(), String::from_utf8_lossy(&run.stderr).into_owned());
    assert!(run.status.success() && error.is_empty(), "{name}: {error}");
    out
}

const ANSWER: &str = "We are open every day except Monday, from 10 am to 6 pm.";
const LIGHT: &str = "{\"action\":\"light\",\"room\":\"kitchen\",\"state\":\"on\"}";

#[test]
fn streaming_writes_an_answer() {
    let out = output("streaming");
    assert!(out.contains(" bytes are planned, at most 200 MiB\n"), "{out}");
    assert!(out.contains(&format!("\n{ANSWER}\n")) && out.ends_with("tokens, stop\n"), "{out}");
}

#[test]
fn a_conversation_knows_what_was_said() {
    let out = output("conversation");
    assert!(out.contains(LIGHT) && out.contains("> And the blinds down\nIn which room, please?\n"), "{out}");
    assert!(
        out.contains("> In the kitchen\n") && out.contains("\"action\":\"blinds\",\"room\":\"kitchen\""),
        "{out}"
    );
    let known: Vec<usize> =
        out.lines().filter_map(|line| line.strip_prefix('(')?.split(' ').next()?.parse().ok()).collect();
    assert!(matches!(known[..], [0, a, b] if 0 < a && a < b), "{out}");
}

#[test]
fn a_constrained_answer_has_its_form() {
    assert_eq!(
        output("constrained"),
        "{\"room\":\"kitchen\",\"state\":\"on\"} true\n{\"room\":\"kitchen\",\"state\":\"off\"} true\n"
    );
}

#[test]
fn choices_have_probabilities() {
    let out = output("choices");
    let lines: Vec<&str> = out.lines().collect();
    let shares =
        lines[..3].iter().map(|line| line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 0.002, "{out}");
    assert!(lines[0].starts_with("door ") && lines[3] == "door", "{out}");
    let readme = std::fs::read_to_string(crate::shared::repository("README.md")).unwrap();
    assert!(readme.contains(&format!("--example choices\n{out}```")), "README.md shows this: {out}");
}

#[test]
fn a_saved_state_is_gone_on_with() {
    let out = output("saved_state");
    assert!(out.contains(LIGHT) && out.contains("\nIn which room, please?\n"), "{out}");
    let known: Vec<&str> = out.lines().filter(|line| line.starts_with('(')).collect();
    assert!(known.len() == 2 && known[0].starts_with("(0 of ") && !known[1].starts_with("(0 of "), "{out}");
}

#[test]
fn several_answers_are_those_of_each_alone() {
    let out = output("several");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("What time do you open? {ANSWER}"));
    assert_eq!(lines[1], "Turn on the kitchen lights Turning on the kitchen lights.");
    assert!(lines.len() == 3 && lines[2].starts_with("How much is a ticket? "), "{out}");
}

#[test]
fn an_engine_answers_each_thread() {
    let out = output("engine");
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert!(lines.len() == 3 && lines[0].starts_with("How much is a ticket? "), "{out}");
    assert_eq!(lines[1], "Turn on the kitchen lights Turning on the kitchen lights.");
    assert_eq!(lines[2], format!("What time do you open? {ANSWER}"));
}

#[test]
fn examples_are_short_and_all_are_run() {
    let mut names = vec![];
    for entry in std::fs::read_dir(crate::shared::repository("examples")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
        names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    let tests = std::fs::read_to_string(crate::shared::repository("tests/examples.rs")).unwrap();
    names.retain(|name| !tests.contains(&format!("output(\"{name}\")")));
    assert!(names.is_empty(), "no test runs {names:?}");
}
