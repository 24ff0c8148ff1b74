//! Choices are answered the same way by every command: by their exact probabilities.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

const PROMPT: &str = "Turn on the kitchen lights";
const CHOICES: &str = "Turning off the lights.,Turning on the kitchen lights.,Turn,No";

/// Standard output of `smolt` with `args`, to which `input` is given.
fn smolt(args: &[&str], input: &str, variables: &[(&str, &str)]) -> String {
    let mut command = crate::shared::smolt();
    command.args(args).envs(variables.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn run_chat_and_batch_take_the_likeliest_with_the_same_probabilities() {
    let run = json(&smolt(&["run", PROMPT, "--choices", CHOICES, "--json"], "", &[]));
    let chat = smolt(&["chat", "--choices", CHOICES], PROMPT, &[]);
    let texts: Vec<&str> = CHOICES.split(',').collect();
    let own = serde_json::json!({"prompt": PROMPT, "choices": texts}).to_string();
    let default = serde_json::json!({"prompt": PROMPT}).to_string();
    let batch = smolt(&["batch", "-", "--choices", CHOICES], &format!("{own}\n{default}\n"), &[]);
    let likeliest = run["choices"]
        .as_array()
        .unwrap()
        .iter()
        .max_by(|a, b| a["probability"].as_f64().unwrap().total_cmp(&b["probability"].as_f64().unwrap()));
    let likeliest = likeliest.unwrap();
    assert_eq!(run["text"], likeliest["text"]);
    assert_eq!(chat, format!("{}\n", run["text"].as_str().unwrap()));
    for line in batch.lines().map(json) {
        assert_eq!((&line["text"], &line["choices"]), (&run["text"], &run["choices"]));
        assert_eq!((&line["logprob"], &line["finish_reason"]), (&likeliest["logprob"], &"stop".into()));
    }
}

/// A temperature is meant for choices where it is given with them, not where it is a habit.
#[test]
fn choices_are_drawn_only_where_it_is_asked_for() {
    let names: Vec<String> = (0..50).map(|n| format!("{n}")).collect();
    let names = names.join(",");
    let habit = [("SMOLT_TEMP", "10")];
    let run = |args: &[&str], seed: &str| {
        let answer =
            smolt(&[&["run", PROMPT, "--choices", &names, "--seed", seed], args].concat(), "", &habit);
        answer.trim_end().to_owned()
    };
    let likeliest = run(&[], "1");
    assert!((2..6).all(|seed| run(&[], &seed.to_string()) == likeliest));
    assert!((1..6).any(|seed| run(&["--temp", "10"], &seed.to_string()) != likeliest));

    let item = |extra: &str| format!("{{\"prompt\": \"{PROMPT}\"{extra}}}\n");
    let items = [item("").repeat(4), item(", \"temperature\": 10").repeat(8)].concat();
    let lines = smolt(&["batch", "-", "--choices", &names], &items, &habit);
    let answers: Vec<Value> = lines.lines().map(json).map(|mut line| line["text"].take()).collect();
    assert!(answers[..4].iter().all(|answer| answer == likeliest.as_str()), "{answers:?}");
    assert!(answers[4..].iter().any(|answer| answer != likeliest.as_str()), "{answers:?}");

    let chat = |input: String| smolt(&["chat", "--choices", &names, "--seed", "1"], &input, &habit);
    assert_eq!(chat(PROMPT.to_owned()), format!("{likeliest}\n"));
    let drawn = chat(format!("/set temp 10\n{}", format!("{PROMPT}\n/reset\n").repeat(8)));
    assert!(drawn.lines().any(|answer| answer != likeliest), "{drawn}");
}
