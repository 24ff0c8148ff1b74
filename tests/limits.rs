//! What is too long for the model, or made to take long, is refused at once, and what comes after it is answered.

use std::fs::File;

use crate::shared::Scratch;

/// More than a context of any kind of tokens holds, in one word.
fn long_word() -> String {
    "x".repeat(4_190_000)
}

#[test]
fn a_prompt_is_refused_from_its_length() {
    let scratch = Scratch::new("run", "length");
    scratch.write("prompt", long_word());
    for arguments in [&["--raw", "--max-memory", "64M"][..], &["-n", "1"]] {
        let mut command = scratch.command(arguments);
        let done = command.stdin(File::open(scratch.folder.join("prompt")).unwrap()).output().unwrap();
        let error = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(4), "{arguments:?}: {error}");
        assert!(error.contains("a text of 4190000 bytes has at least"), "{arguments:?}: {error}");
        assert!(error.contains("-c N"), "{error}");
    }
}

#[test]
fn a_line_of_a_batch_is_refused_from_its_length() {
    let scratch = Scratch::new("batch", "length");
    let message = serde_json::json!({"messages": [{"role": "user", "content": long_word()}]});
    let lines = [serde_json::json!({"prompt": long_word()}), message, serde_json::json!({"prompt": "Hi"})];
    scratch.write("in.jsonl", lines.map(|line| format!("{line}\n")).concat());
    let (code, _, error) = scratch.run(&["in.jsonl", "-n", "2", "-o", "out.jsonl"]);
    assert_ne!(code, 0, "{error}");
    let answers = scratch.json_lines("out.jsonl");
    for failed in &answers[..2] {
        assert!(failed["error"].to_string().contains("a text of 4190000 bytes"), "{failed}");
    }
    assert!(answers[2]["text"].is_string(), "{}", answers[2]);
}

#[test]
fn a_chat_goes_on_after_a_message_that_is_too_long() {
    let scratch = Scratch::new("chat", "length");
    scratch.write("in", format!("\"\"\"\n{}\"\"\"\nWhat time is it?\n", "line\n".repeat(200_000)));
    let mut command = scratch.command(&[]);
    let done = command.stdin(File::open(scratch.folder.join("in")).unwrap()).output().unwrap();
    let error = String::from_utf8(done.stderr).unwrap();
    assert!(error.contains("a text of 999999 bytes has at least"), "{error}");
    assert!(!done.stdout.is_empty(), "{error}");
}

#[test]
fn a_template_without_an_end_is_stopped() {
    let scratch = Scratch::new("run", "templates");
    for (template, expected) in [
        ("{% for i in range(33) %}{{ 'x' * 1000000 }}{% endfor %}", "makes more than"),
        (
            "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a }}",
            "takes more than",
        ),
        ("{% set n = namespace(a=1) %}{% set n.a = n %}{{ n }}", "namespace"),
        // What it makes is less than a template may, and more than the context holds.
        ("{{ 'x' * 1000000 }}{{ messages[0].content }}", "a text of 1000002 bytes has at least"),
    ] {
        scratch.write("t.jinja", template);
        let (code, out, error) = scratch.run(&["--template", "t.jinja", "-n", "1", "Hi"]);
        assert!(matches!(code, 1 | 4) && out.is_empty(), "{template}: {code}");
        assert!(error.contains(expected), "{template}: {error}");
    }
}
