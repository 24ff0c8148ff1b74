//! `smolt batch`, by the command.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::shared::{KILLS, Scratch};

const ITEMS: &str = r#"{"id": "a", "prompt": "Turn on the kitchen lights"}
{"id": "b", "prompt": "What time do you open?", "max_tokens": 4}
{"id": "c", "messages": [{"role": "user", "content": "Lock the front door"}]}
{"id": "d", "prompt": "Lock the front door", "choices": ["door", "light", "timer"]}
{"id": "e", "prompt": "When do you open?", "regex": "[0-9]{1,2} (am|pm)"}
{"id": "f", "prompt": "Set the bedroom heating to 21 degrees", "temperature": 1.5}
"#;

fn scratch(name: &str) -> Scratch {
    let scratch = Scratch::new("batch", name);
    scratch.write("in.jsonl", ITEMS);
    scratch
}

/// Lines without what differs from run to run.
fn lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        assert!(value.as_object_mut().unwrap().remove("timings").is_some(), "{value}");
        value
    };
    text.lines().map(parse).collect()
}

#[test]
fn every_item_is_answered_as_it_asks() {
    let scratch = scratch("answers");
    let (code, stdout, stderr) = scratch.run(&["in.jsonl"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("6 items, 0 done before, 0 failed"), "{stderr}");
    let answers = lines(&stdout);
    let text = |i: usize| answers[i]["text"].as_str().unwrap();
    let action = r#"{"action":"light","room":"kitchen","state":"on"}"#;
    assert!(text(0).ends_with(action), "{}", text(0));
    assert_eq!(
        (answers[1]["tokens"].as_array().unwrap().len(), &answers[1]["finish_reason"]),
        (4, &"length".into())
    );
    assert!(text(2).contains("door"), "{}", text(2));
    assert_eq!(text(3), "door");
    assert!(text(4).ends_with("am") || text(4).ends_with("pm"), "{}", text(4));
    let ids: Vec<_> = answers.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "c", "d", "e", "f"]);
    // The same without --seed, and in parts.
    let (_, again, _) = scratch.run(&["in.jsonl"]);
    assert_eq!(lines(&again), answers);
    let mut parts = Vec::new();
    for part in ["0/2", "1/2"] {
        parts.extend(lines(&scratch.run(&["in.jsonl", "--shard", part]).1));
    }
    parts.sort_by_key(|line| line["index"].as_u64());
    assert_eq!(parts, answers);
}

/// However many items are answered at once, the lines are the same; without a number too, and from standard input.
#[test]
fn items_at_once_give_the_same_lines() {
    let scratch = scratch("parallel");
    scratch.write("in.jsonl", ITEMS.repeat(3));
    let expected = lines(&scratch.run(&["in.jsonl", "--parallel", "1"]).1);
    for arguments in
        [&["--parallel", "3"][..], &["--parallel", "16", "-c", "256"], &[], &["--lookup", "--parallel", "4"]]
    {
        let (code, stdout, stderr) = scratch.run(&[&["in.jsonl"], arguments].concat());
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        let is_same_context = !arguments.contains(&"-c");
        let found = lines(&stdout);
        assert!(found.len() == expected.len() && (found == expected || !is_same_context), "{arguments:?}");
        assert!(found.iter().zip(&expected).all(|(a, b)| a["tokens"] == b["tokens"]), "{arguments:?}");
    }
    for wrong in ["0", "65", "two"] {
        let (code, _, stderr) = scratch.run(&["in.jsonl", "--parallel", wrong]);
        assert!(code == 2 && stderr.contains("--parallel: expected a whole number from 1 to 64"), "{stderr}");
    }
    let (code, _, stderr) = scratch.run(&["in.jsonl", "--parallel", "64", "--max-memory", "45M"]);
    assert!(stderr.contains("for each of 64 answers, more than the 45.0 MiB"), "{stderr}");
    assert!(code == 4 && stderr.contains("a smaller --parallel"), "{code} {stderr}");
    // Fewer at once, where nobody asked for as many.
    let (code, stdout, stderr) = scratch.run(&["in.jsonl", "--max-memory", "45M"]);
    assert!(code == 0 && lines(&stdout) == expected, "{stderr}");
}

/// Killed at many moments, started again each time.
#[test]
fn a_killed_batch_goes_on() {
    let scratch = scratch("killed");
    scratch.write("in.jsonl", ITEMS.repeat(4));
    let begun = Instant::now();
    let expected = lines(&scratch.run(&["in.jsonl"]).1);
    let (whole, mut stopped) = (begun.elapsed(), 0);
    let arguments = ["in.jsonl", "-o", "out.jsonl"];
    for round in 0..KILLS {
        scratch.kill(&arguments, whole, round);
        let done = std::fs::read_to_string(scratch.folder.join("out.jsonl")).unwrap_or_default();
        stopped += usize::from((1..expected.len()).contains(&done.lines().count()));
        if round % 3 == 2 {
            let (code, _, stderr) = scratch.run(&arguments);
            assert_eq!(code, 0, "{stderr}");
            assert_eq!(lines(&scratch.read("out.jsonl")), expected);
            scratch.remove("out.jsonl");
        }
    }
    eprintln!("{KILLS} kills, {stopped} of them between the first and the last line");
    assert!(stopped > 0, "no kill fell between the first and the last line");
}

/// After its first answer a batch takes no more memory: a mebibyte at most, for prompts of all lengths.
#[cfg(target_os = "linux")]
#[test]
fn a_thousand_items_take_no_more_memory_than_one() {
    let scratch = scratch("memory");
    let mut child = scratch.command(&["-", "-n", "4", "-c", "2048"]).stdin(Stdio::piped()).spawn().unwrap();
    let (mut items, mut answers) =
        (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let status = format!("/proc/{}/status", child.id());
    let resident = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    let mut first = 0;
    for index in 0..1000 {
        let prompt = "Turn on the kitchen lights. ".repeat(1 + index / 5);
        writeln!(items, "{}", serde_json::json!({ "prompt": prompt })).unwrap();
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["error"], Value::Null, "{answer}");
        if index == 0 {
            first = resident();
        }
    }
    let last = resident();
    eprintln!("{first} bytes after the first item, {last} after the last");
    assert!(last <= first + (1 << 20), "{first} bytes after the first item, {last} after the last");
    drop(items);
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_cannot_be_answered_is_told() {
    let scratch = scratch("wrong");
    scratch.write("wrong.jsonl", "{\"prompt\": \"Hello\", \"n\": 2}\n\nnot JSON\n");
    let (code, stdout, stderr) = scratch.run(&["wrong.jsonl"]);
    assert_eq!(code, 1, "{stderr}");
    let errors: Vec<&str> = stdout.lines().collect();
    assert!(errors.len() == 2 && errors[0].contains("wrong.jsonl, line 1: n is 2; expected 1"), "{stdout}");
    assert!(errors[1].contains("wrong.jsonl, line 3: wrong JSON at column 2"), "{stdout}");
    assert!(stderr.contains("wrong.jsonl, line 1: n is 2"), "{stderr}");
    for (arguments, code) in [
        (&["missing.jsonl"][..], 2),
        (&["in.jsonl", "--shard", "2/2"], 2),
        (&["in.jsonl", "-m", "missing.gguf"], 3),
        (&["in.jsonl", "-o", "missing/out.jsonl"], 1),
    ] {
        let found = scratch.run(arguments);
        assert_eq!(found.0, code, "{arguments:?}: {}", found.2);
    }
}

/// A failure is asked again each time, and counts each time; mended it is asked alone.
#[test]
fn a_mended_line_is_asked_alone() {
    let scratch = scratch("mended");
    let items = |second: &str| {
        format!(
            "{{\"id\": 1, \"prompt\": \"Lock the front door\"}}\n{{\"id\": 2, {second}\n{{\"id\": 3, \"prompt\": \"What time do you open?\"}}\n"
        )
    };
    let run = || scratch.run(&["items.jsonl", "-o", "out.jsonl", "-n", "8"]);
    scratch.write("items.jsonl", items("\"prompt\": \"Hello\", \"max_new_tokens\": 4}"));
    for resumed in ["0", "2"] {
        let (code, _, stderr) = run();
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(&format!("3 items, {resumed} done before, 1 failed")), "{stderr}");
    }
    let before = scratch.json_lines("out.jsonl");
    assert_eq!((before.len(), &before[1]["id"], &before[1]["line"]), (3, &2.into(), &2.into()));
    assert!(before[1]["error"].as_str().unwrap().contains("did you mean max_tokens?"), "{}", before[1]);
    for (second, resumed) in
        [("\"prompt\": \"Hello\", \"max_tokens\": 4}", "2"), ("\"prompt\": \"Goodbye\"}", "2")]
    {
        scratch.write("items.jsonl", items(second));
        let (code, _, stderr) = run();
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains(&format!("3 items, {resumed} done before, 0 failed")), "{stderr}");
        let after = scratch.json_lines("out.jsonl");
        assert_eq!((&after[0], &after[2], after.len()), (&before[0], &before[2], 3));
        assert_eq!((&after[1]["index"], after[1].get("error")), (&1.into(), None));
    }
}

/// Nothing of a user's is written over: not the input, by whatever name, nor a file that no batch began.
#[test]
fn the_output_is_never_a_file_of_someone_else() {
    let scratch = scratch("foreign");
    let input = scratch.read("in.jsonl");
    std::fs::hard_link(scratch.folder.join("in.jsonl"), scratch.folder.join("hard.jsonl")).unwrap();
    for output in ["in.jsonl", "./in.jsonl", "hard.jsonl"] {
        let (code, _, stderr) = scratch.run(&["in.jsonl", "-o", output]);
        assert!(code == 2 && stderr.contains("is the input too"), "{output}: {code} {stderr}");
        assert_eq!(scratch.read("in.jsonl"), input);
    }
    for note in
        ["A letter.\n", "my precious note", "{\"prompt\": \"a\"}", "{\"index\":0,\"input\":\"a question\"}\n"]
    {
        scratch.write("note", note);
        let (code, _, stderr) = scratch.run(&["in.jsonl", "-o", "note"]);
        assert!(code == 2 && stderr.contains("note: line 1 was not written by this command"), "{stderr}");
        assert_eq!(scratch.read("note"), note);
    }
    assert_eq!(scratch.run(&["in.jsonl", "--limit", "1", "-o", "/dev/null"]).0, 0);
}

#[test]
fn options_hold_for_all_items_and_a_batch_keeps_to_them() {
    let scratch = scratch("options");
    let (code, stdout, stderr) = scratch.run(&["in.jsonl", "--limit", "4", "--choices", "yes,no"]);
    assert_eq!(code, 0, "{stderr}");
    let answers = lines(&stdout);
    let text = |i: usize| answers[i]["text"].as_str().unwrap();
    assert!(["yes", "no"].contains(&text(0)) && ["yes", "no"].contains(&text(2)), "{stdout}");
    assert_eq!(text(3), "door", "an item's own rule comes first");
    let begun = ["in.jsonl", "-o", "out", "--limit", "1", "-n", "8"];
    assert_eq!(scratch.run(&begun).0, 0);
    for other in [
        &["-n", "9"][..],
        &["-n", "8", "--temp", "1"],
        &["-n", "8", "--system", "Hi"],
        &["-n", "8", "--kv", "q8_0"],
    ] {
        let (code, _, stderr) = scratch.run(&[&["in.jsonl", "-o", "out"], other].concat());
        assert_eq!(code, 2, "{other:?} {stderr}");
        assert!(stderr.contains("was begun with another model or other options"), "{stderr}");
    }
    assert_eq!(scratch.run(&begun).0, 0);
}
