//! A form is kept, or it is said: exit codes, marks in JSON and limits, from outside.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

const PROMPT: &str = "Turn on the kitchen lights";

fn smolt(args: &[&str], input: &str) -> Output {
    let mut child = crate::shared::smolt()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

struct Schema(std::path::PathBuf);

impl Schema {
    fn new(name: &str, text: &str) -> Schema {
        let path = std::env::temp_dir().join(format!("smolt-forms-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Schema(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const LETTER: &str = r#"{"properties": {"to": {"type": "string"}, "text": {"type": "string"}, "copies": {"type": "integer"},
    "pages": {"type": "array", "items": {"properties": {"title": {"type": "string"}, "weight": {"type": "number"}}}}}}"#;

#[test]
fn answers_are_whole_within_small_limits() {
    let schema = Schema::new("letter", LETTER);
    let schema = schema.path();
    let needed = smolt(&["run", PROMPT, "--schema", schema, "-n", "5"], "");
    assert_eq!((needed.status.code(), text(&needed.stdout)), (Some(4), ""), "{}", text(&needed.stderr));
    let message = text(&needed.stderr);
    assert!(
        message.contains("the shortest answer of this form takes") && message.contains("5 are allowed"),
        "{message}"
    );
    for (seed, limit) in (1..8).zip(["24", "30", "31", "40", "60", "90", "200"]) {
        let args = [
            "run",
            PROMPT,
            "--schema",
            schema,
            "-n",
            limit,
            "--temp",
            "2",
            "--json",
            "--seed",
            &seed.to_string(),
        ];
        let output = smolt(&args, "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["complete"], true, "{report}");
        let answer: Value = serde_json::from_str(report["text"].as_str().unwrap()).unwrap();
        let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["to", "text", "copies", "pages"]);
        // Every other part between quotes is outside of strings, once escapes are gone.
        let plain = report["text"].as_str().unwrap().replace(r"\\", "").replace(r#"\""#, "");
        let outside: String = plain.split('"').step_by(2).collect();
        assert!(!outside.contains(char::is_whitespace), "{plain}");
    }
}

#[test]
fn an_answer_that_is_cut_short_has_an_exit_code_and_a_mark() {
    let form =
        ["--regex", "[a-z]{30}", "--stop", "a", "--stop", "e", "--stop", "i", "--stop", "o", "--temp", "0"];
    let output = smolt(&[&["run", PROMPT], &form[..]].concat(), "");
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("was cut off before the end of its form"),
        "{}",
        text(&output.stderr)
    );
    let output = smolt(&[&["run", PROMPT, "--json"], &form[..]].concat(), "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["complete"]), (Some(6), &Value::Bool(false)), "{report}");
    let items =
        format!("{{\"prompt\": \"{PROMPT}\"}}\n{{\"prompt\": \"{PROMPT}\", \"regex\": \"on|off\"}}\n");
    let output = smolt(&[&["batch", "-"], &form[..]].concat(), &items);
    let complete: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["complete"].take())
        .collect();
    assert_eq!(complete, [false, false]);
    let output = smolt(&[&["chat"], &form[..]].concat(), PROMPT);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stderr).contains("was cut off before the end of its form"),
        "{}",
        text(&output.stderr)
    );
    let free = smolt(&["run", PROMPT, "-n", "2", "--json"], "");
    let report: Value = serde_json::from_slice(&free.stdout).unwrap();
    assert_eq!((free.status.code(), &report["complete"]), (Some(0), &Value::Null));
}

#[test]
fn pretty_is_the_same_json_for_people() {
    let schema = Schema::new(
        "pretty",
        r#"{"properties": {"room": {"type": "string"}, "state": {"enum": ["on", "off"]}}}"#,
    );
    let args = ["run", PROMPT, "--temp", "0", "--schema", schema.path()];
    let (plain, pretty) = (smolt(&args, ""), smolt(&[&args[..], &["--pretty"]].concat(), ""));
    let (plain, pretty) = (text(&plain.stdout), text(&pretty.stdout));
    assert_eq!(plain.lines().count(), 1, "{plain}");
    assert_eq!(pretty.lines().count(), 4, "{pretty}");
    let values = [plain, pretty].map(|text| serde_json::from_str::<Value>(text).unwrap());
    assert_eq!(values[0], values[1]);
}
