//! Constrained answers of the demo model from outside.

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// A file that goes away.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, text: &str) -> Temporary {
        let path = std::env::temp_dir().join(format!("smolt-constrain-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Temporary(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(args: &[&str]) -> Output {
    let mut command = crate::shared::smolt();
    command.args(["run", "Turn on the kitchen lights"]).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn answer(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).strip_suffix('\n').expect("an answer ends its line").to_owned()
}

#[track_caller]
fn fails(args: &[&str], part: &str) {
    let output = run(args);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).contains(part), "{part:?} is not in: {}", text(&output.stderr));
}

const ACTION: &str = r#"{
  "type": "object",
  "properties": {"action": {"enum": ["light", "blind"]}, "room": {"type": "string", "maxLength": 20},
                 "state": {"enum": ["on", "off"]}},
  "required": ["action", "room", "state"], "additionalProperties": false
}"#;

#[test]
fn a_schema_gives_json_with_every_sampler() {
    let schema = Temporary::new("action.json", ACTION);
    let greedy: Value = serde_json::from_str(&answer(&["--schema", schema.path(), "--temp", "0"])).unwrap();
    assert_eq!(greedy, serde_json::json!({"action": "light", "room": "kitchen", "state": "on"}));
    for seed in ["1", "2", "3"] {
        let wild = ["--schema", schema.path(), "--temp", "3", "--top-k", "0", "--top-p", "1", "--min-p", "0"];
        let args = [&wild[..], &["--seed", seed, "--lookup=5", "--json"]].concat();
        let report: Value = serde_json::from_str(&answer(&args)).unwrap();
        assert_eq!((&report["finish_reason"], &report["choices"]), (&"stop".into(), &Value::Null));
        let value: Value = serde_json::from_str(report["text"].as_str().unwrap()).unwrap();
        assert!(["light", "blind"].contains(&value["action"].as_str().unwrap()));
        assert!(value["room"].as_str().unwrap().chars().count() <= 20);
        assert!(["on", "off"].contains(&value["state"].as_str().unwrap()));
        assert_eq!(value.as_object().unwrap().len(), 3);
    }
}

#[test]
fn a_regular_expression_and_a_grammar_are_followed() {
    let number = answer(&["--regex", "[1-9][0-9]{2}"]);
    assert!(number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit()), "{number}");
    let lark = Temporary::new("list.lark", "start: NAME (\", \" NAME)~1..2 \"!\"\nNAME: /[a-z]{3,8}/\n");
    let list = answer(&["--grammar", lark.path()]);
    let names: Vec<&str> = list.strip_suffix('!').unwrap().split(", ").collect();
    assert!((2..=3).contains(&names.len()), "{list}");
    assert!(
        names
            .iter()
            .all(|name| (3..=8).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase()))
    );
}

#[test]
fn choices_come_with_probabilities() {
    let args = ["--choices", "Turning off the lights.,Turning on the kitchen lights.,No", "--temp", "0"];
    assert_eq!(answer(&args), "Turning on the kitchen lights.");
    let report: Value = serde_json::from_str(&answer(&[&args[..], &["--json"]].concat())).unwrap();
    let choices = report["choices"].as_array().unwrap();
    assert_eq!((choices.len(), choices[2]["text"].as_str()), (3, Some("No")));
    let sum: f64 = choices.iter().map(|choice| choice["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    let log = |index: usize| choices[index]["logprob"].as_f64().unwrap();
    let share = |index: usize| choices[index]["probability"].as_f64().unwrap();
    assert!(log(1) <= 0.0 && share(1) > share(0));
    assert!((share(0) / share(1) / (log(0) - log(1)).exp() - 1.0).abs() < 1e-6);
    let output = run(&[&args[..], &["--logprobs"]].concat());
    let lines = text(&output.stderr).lines().skip_while(|line| !line.contains("probability of each"));
    assert_eq!(lines.count(), 4, "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_followed_is_wrong_usage() {
    let unsupported = Temporary::new("not.json", r#"{"properties": {"a": {"not": {}}}}"#);
    fails(&["--schema", unsupported.path()], "not at #/properties/a is not supported");
    fails(&["--schema", "no-such-file"], "no-such-file: no such file");
    fails(&["--regex", "("], "regular expression");
    fails(&["--regex", "a", "--choices", "b"], "--regex cannot be used with --choices");
    fails(&["--choices", "a,,b"], "choice 2");
    let long = Temporary::new("long", &"a".repeat(300_000));
    fails(&["--grammar", long.path()], "longer than 262144 bytes");
}

#[test]
fn chats_are_held_to_a_form_that_can_change() {
    use std::io::Write;
    let chat = |args: &[&str], input: &str| {
        let mut command = crate::shared::smolt();
        command.arg("chat").args(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let asked = "Turn on the kitchen lights\n/set answer regex [0-9]{3}\nLock the front door\n/set answer any\nHello\n";
    let output = chat(&["--choices", "yes,no"], asked);
    let (answers, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let lines: Vec<&str> = answers.lines().collect();
    assert!(["yes", "no"].contains(&lines[0]), "{answers}");
    assert!(lines[1].len() == 3 && lines[1].bytes().all(|byte| byte.is_ascii_digit()), "{answers}");
    assert!(lines[2].len() > 3 && lines[2].contains(' '), "{answers}");
    // What is wrong is said before a message is asked.
    for (args, input) in [(&["--regex", "("][..], "Hello\n"), (&[], "/set answer regex (\nHello\n")] {
        let output = chat(args, input);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("regular expression"), "{}", text(&output.stderr));
    }
}

/// What a grammar takes is planned, whoever asks for it, and refused before it is taken.
#[test]
fn the_memory_of_a_grammar_is_planned() {
    let plan = |args: &[&str]| -> Value {
        let output = crate::shared::smolt().args(["plan", "--json"]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (free, held) = (plan(&[]), plan(&["--regex", "on|off"]));
    let bytes = |plan: &Value, purpose: &str| plan[purpose].as_u64().unwrap();
    assert_eq!(bytes(&free, "grammar"), 0);
    assert_eq!(bytes(&held, "total"), bytes(&free, "total") + bytes(&held, "grammar"));
    assert!(bytes(&held, "grammar") > 0);

    let limit = (bytes(&held, "total") - 1).to_string();
    let smolt = |args: &[&str], input: &str| -> Output {
        let input = Temporary::new(&format!("{}-input", args[0]), input);
        let mut command = crate::shared::smolt();
        command.args(args).args(["--max-memory", &limit]);
        command.stdin(std::fs::File::open(&input.0).unwrap()).output().unwrap()
    };
    assert_eq!(smolt(&["run", "Hello"], "").status.code(), Some(0));
    for (args, input) in [
        (&["run", "Hello", "--regex", "on|off"][..], ""),
        (&["plan", "--regex", "on|off"], ""),
        (&["chat"], "/set answer regex on|off\nHello\n"),
    ] {
        let output = smolt(args, input);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("and a grammar"), "{}", text(&output.stderr));
    }
    let items = "{\"prompt\": \"Hello\", \"regex\": \"on|off\"}\n{\"prompt\": \"Hello\"}\n";
    let output = smolt(&["batch", "-"], items);
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["error"].as_str().unwrap().contains("and a grammar"), "{}", lines[0]);
    assert!(lines[1]["text"].is_string(), "{}", lines[1]);
}
