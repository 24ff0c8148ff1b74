//! Standard input and the end of standard output, as shells use them.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::shared::{Scratch, smolt};

const ASK: &str = "Turn on the kitchen lights";

/// Starts a command whose standard input stays open.
fn start(scratch: &Scratch, arguments: &[&str]) -> Child {
    let mut command = smolt();
    command.args(arguments).current_dir(&scratch.folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn an_open_pipe_is_waited_for_with_a_word() {
    let scratch = Scratch::new("inputs", "patience");
    let mut child = start(&scratch, &["run", ASK]);
    let (mut err, mut input) = (child.stderr.take().unwrap(), child.stdin.take().unwrap());
    let mut word = vec![0; 40];
    let began = Instant::now();
    err.read_exact(&mut word).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "said at once");
    assert!(String::from_utf8(word).unwrap().starts_with("smolt: waiting for standard input"));
    input.write_all(b"and answer").unwrap();
    drop(input);
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("--no-stdin ignores it") && child.wait_with_output().unwrap().status.success());
}

#[test]
fn what_comes_in_time_is_read_without_a_word() {
    let scratch = Scratch::new("inputs", "quick");
    let mut child = start(&scratch, &["run"]);
    child.stdin.take().unwrap().write_all(ASK.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    assert!(!String::from_utf8(done.stderr).unwrap().contains("waiting"));
}

#[test]
fn standard_input_can_be_left_alone() {
    let scratch = Scratch::new("inputs", "alone");
    let alone = scratch_out(&scratch, &["run", ASK]);
    let mut child = start(&scratch, &["run", "--no-stdin", ASK]);
    // Never closed, never written to.
    let _input = child.stdin.take().unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(out, alone);
    let mut child = start(&scratch, &["run", "--no-stdin"]);
    let _input = child.stdin.take().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "there is no prompt");
}

fn scratch_out(scratch: &Scratch, arguments: &[&str]) -> String {
    let mut command = smolt();
    let done = command.args(arguments).current_dir(&scratch.folder).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{arguments:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn an_answer_ends_with_a_line_break() {
    let scratch = Scratch::new("inputs", "end");
    for arguments in [
        &["run", ASK][..],
        &["run", "--raw", "-n", "2", "Once"],
        &["run", "--choices", "on,off", ASK],
        &["run", "--regex", "a", "Hi"],
        &["run", "--json", ASK],
    ] {
        let out = scratch_out(&scratch, arguments);
        assert!(out.ends_with('\n') && !out.ends_with("\n\n"), "{arguments:?}: {out:?}");
    }
    assert_eq!(scratch_out(&scratch, &["run", "--json", ASK]).lines().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_loop_over_lines_asks_each() {
    let scratch = Scratch::new("inputs", "loop");
    scratch.write("questions", "Turn on the kitchen lights\nLock the front door\nWhat time do you open?");
    let all = |input: &str, option: &str| {
        let script = format!(
            "while read -r line || [ -n \"$line\" ]; do \"$SMOLT\" run {option} \"$line\" {input}; done < questions"
        );
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env("SMOLT", env!("CARGO_BIN_EXE_smolt")).current_dir(&scratch.folder);
        let done = shell.stdin(Stdio::null()).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let (left_alone, other) = (all("", "--no-stdin"), all("< /dev/null", ""));
    assert_eq!(left_alone, other);
    let lines: Vec<&str> = left_alone.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with('{')).count(), 2, "{lines:?}");
    assert!(left_alone.ends_with('\n'), "{left_alone:?}");
}

#[test]
fn line_ends_of_other_systems_change_no_answer() {
    let scratch = Scratch::new("inputs", "ends");
    let count = |ends: &str, option: &[&str]| {
        scratch.write("letter", format!("Turn on{ends}the kitchen lights{ends}"));
        let out = scratch_out(&scratch, &[&["run", "--json", "-n", "4", "-f", "letter"], option].concat());
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!(count("\n", &[]), count("\r\n", &[]));
    assert!(count("\n", &["--raw"]) < count("\r\n", &["--raw"]), "a raw prompt goes as it is");
}
