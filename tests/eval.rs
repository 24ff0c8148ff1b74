//! `smolt eval`, by the command.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::shared::{KILLS, Scratch, repository};

const FLOAT: &str = "tests/data/demo/demo-f16.gguf";
const EMBEDDED: &str = "src/cli/demo.gguf";

/// A folder with the tasks of `tests/data/eval`.
fn scratch(name: &str) -> Scratch {
    let scratch = Scratch::new("eval", name);
    for entry in std::fs::read_dir(repository("tests/data/eval")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), scratch.folder.join(entry.file_name())).unwrap();
    }
    scratch
}

fn model(path: &str) -> String {
    repository(path).display().to_string()
}

/// `found` within `tolerance`, relative to what is expected but at least to 1.
fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {found}, expected {expected}");
}

/// All numbers of a value, in order.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Bool(flag) => vec![f64::from(*flag)],
        Value::Number(_) => value.as_f64().into_iter().collect(),
        // As Python's `str` writes what JSON has no form for.
        Value::String(text) => text.parse().into_iter().collect(),
        _ => vec![],
    }
}

/// What lm-evaluation-harness says of the same weights in F32, made by `scripts/lm_eval_golden.py`.
#[test]
fn figures_are_those_of_lm_evaluation_harness() {
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(repository("tests/data/eval/golden.json")).unwrap())
            .unwrap();
    let scratch = scratch("golden");
    let file = model(FLOAT);
    for (run, options) in [("plain", &[][..]), ("chat", &["--chat"])] {
        let expected = &golden[run];
        let tasks: Vec<String> = expected["samples"].as_object().unwrap().keys().cloned().collect();
        let files: Vec<String> =
            tasks.iter().map(|task| format!("{}.yaml", task.trim_start_matches("golden_"))).collect();
        let mut arguments = vec!["-m", &file, "-c", "128", "--kv", "f32", "--json", "-o", run];
        arguments.extend(options);
        arguments.extend(files.iter().map(String::as_str));
        let report: Value = serde_json::from_str(&scratch.out(&arguments)).unwrap();
        let samples = scratch.json_lines(run);
        let total: usize = tasks.iter().map(|task| expected["samples"][task].as_array().unwrap().len()).sum();
        assert_eq!(samples.len(), total, "{run}");
        for task in &tasks {
            for wanted in expected["samples"][task].as_array().unwrap() {
                let is_same = |sample: &&Value| {
                    ["doc_id", "filter"].iter().all(|key| sample[*key] == wanted[*key])
                        && sample["task"] == *task
                };
                compare_samples(samples.iter().find(is_same).unwrap(), wanted);
            }
            compare_results(&report, task, expected["results"][task].as_object().unwrap());
        }
    }
}

/// Prompts, answers, judgements and hashes are equal, log-likelihoods within rounding.
fn compare_samples(found: &Value, wanted: &Value) {
    let what = format!("{} {} {}", found["task"], found["doc_id"], found["filter"]);
    for key in ["target", "doc_hash", "prompt_hash"] {
        assert_eq!(found[key], wanted[key], "{what}: {key}");
    }
    if !wanted["target"].is_array() {
        assert_eq!(found["target_hash"], wanted["target_hash"], "{what}");
    }
    for (found, wanted) in
        found["arguments"].as_array().unwrap().iter().zip(wanted["arguments"].as_array().unwrap())
    {
        for (at, text) in wanted.as_array().unwrap().iter().enumerate() {
            assert_eq!(found[at], *text, "{what}: the prompt or what follows it");
        }
    }
    let is_text = found["resps"][0][0].is_string();
    if is_text {
        assert_eq!(found["resps"], wanted["resps"], "{what}");
    } else {
        let (found, wanted) = (numbers(&found["resps"]), numbers(&wanted["resps"]));
        assert_eq!(found.len(), wanted.len(), "{what}");
        found.iter().zip(wanted).for_each(|(found, wanted)| assert_close(*found, wanted, 2e-5, &what));
    }
    for (name, value) in wanted["metrics"].as_object().unwrap() {
        if ["acc", "acc_norm", "acc_bytes", "exact_match", "bleu"].contains(&name.as_str()) {
            let same =
                if name == "bleu" { found[name] == *value } else { found[name].as_f64() == value.as_f64() };
            assert!(same, "{what}: {name} is {}, expected {value}", found[name]);
        } else {
            let (found, wanted) = (numbers(&found[name]), numbers(value));
            assert_eq!(found.len(), wanted.len(), "{what}: {name}");
            found.iter().zip(wanted).for_each(|(found, wanted)| assert_close(*found, wanted, 2e-5, &what));
        }
    }
}

/// Accuracies, exact matches and BLEU are equal, with their errors; perplexities within 1e-4.
fn compare_results(report: &Value, task: &str, wanted: &serde_json::Map<String, Value>) {
    let mut compared = 0;
    for (key, value) in wanted {
        let (name, filter) = key.split_once(',').unwrap();
        let metric = name.trim_end_matches("_stderr");
        let is_meant = |result: &&Value| {
            result["task"] == task && result["metric"] == metric && result["filter"] == filter
        };
        let result = report["results"].as_array().unwrap().iter().find(is_meant);
        let result = result.unwrap_or_else(|| panic!("{task}: there is no {key}"));
        let found = if name.ends_with("_stderr") { &result["stderr"] } else { &result["value"] };
        let is_exact = ["acc", "acc_norm", "acc_bytes", "exact_match", "bleu"].contains(&metric);
        let (found, value) = (found.as_f64().unwrap(), value.as_f64().unwrap());
        assert_close(found, value, if is_exact { 1e-12 } else { 1e-4 }, &format!("{task} {key}"));
        compared += 1;
    }
    assert!(compared > 0, "{task}");
}

const TASKS: [&str; 4] = ["choices.yaml", "replies.yaml", "last.yaml", "texts.yaml"];

fn with<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&TASKS[..], &["-c", "128"], options].concat()
}

/// Killed at many moments, started again each time; then with part of a line at the end, as a power cut leaves it.
#[test]
fn a_killed_evaluation_goes_on() {
    let scratch = scratch("killed");
    let begun = Instant::now();
    let expected = scratch.out(&with(&["--limit", "6", "-o", "whole"]));
    let (whole, time) = (scratch.read("whole"), begun.elapsed());
    let (arguments, mut stopped) = (with(&["--limit", "6", "-o", "part"]), 0);
    for round in 0..KILLS {
        scratch.kill(&arguments, time, round);
        let part = std::fs::read(scratch.folder.join("part")).unwrap_or_default();
        // A document with several filters, killed between their lines, is asked and written again; the last line may be cut.
        let mut lines = part.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        assert!(
            lines.all(|line| whole
                .as_bytes()
                .split_inclusive(|byte| *byte == b'\n')
                .any(|known| known == line))
        );
        stopped += usize::from(!part.is_empty() && part.len() < whole.len());
        if round % 3 == 2 {
            assert_eq!(scratch.out(&arguments), expected);
            assert_eq!(scratch.read("part"), whole);
            scratch.remove("part");
        }
    }
    eprintln!("{KILLS} kills, {stopped} of them between the first and the last line");
    // Of a first line so much is needed that it is known.
    for cut in [20, whole.len() / 2, whole.len() - 1] {
        let cut = (cut..).find(|cut| whole.is_char_boundary(*cut)).unwrap();
        scratch.write("part", &whole[..cut]);
        assert_eq!(scratch.out(&with(&["--limit", "6", "-o", "part"])), expected);
        assert_eq!(scratch.read("part"), whole);
    }
}

#[test]
fn an_evaluation_keeps_to_its_model_and_options() {
    let scratch = scratch("keeps");
    let begun = with(&["-o", "part", "--limit", "2"]);
    scratch.out(&begun);
    let file = model(FLOAT);
    for other in [
        &["-m", &file][..],
        &["--seed", "1"],
        &["--kv", "q8_0"],
        &["--chat"],
        &["--num-fewshot", "1"],
        &["--limit", "3"],
    ] {
        let (code, _, stderr) = scratch.run(&with(&[&["-o", "part", "--limit", "2"], other].concat()));
        assert_eq!(code, 2, "{other:?} {stderr}");
        assert!(stderr.contains("was begun with another"), "{stderr}");
    }
    let changed = scratch.read("choices.jsonl").replacen("kitchen", "garden", 1);
    scratch.write("choices.jsonl", &changed);
    assert_eq!(scratch.run(&begun).0, 2);
    scratch.write("letter.txt", "A letter.\n");
    let (code, _, stderr) = scratch.run(&with(&["-o", "letter.txt"]));
    assert!(code == 2 && stderr.contains("letter.txt"), "{stderr}");
    assert_eq!(scratch.read("letter.txt"), "A letter.\n");
}

#[test]
fn shards_together_are_the_whole() {
    let scratch = scratch("shards");
    let expected = scratch.out(&with(&["-o", "whole"]));
    let parts = ["part0", "part1", "part2"];
    for (index, part) in parts.iter().enumerate() {
        scratch.out(&with(&["-o", part, "--shard", &format!("{index}/3")]));
    }
    for order in [[0, 1, 2], [2, 0, 1]] {
        let [a, b, c] = order.map(|index| parts[index]);
        assert_eq!(scratch.out(&["--merge", a, b, c, "-o", "merged"]), expected);
        assert_eq!(scratch.read("merged"), scratch.read("whole"));
        scratch.write("note", "A note of mine.\n");
        let (code, _, stderr) = scratch.run(&["--merge", a, b, c, "-o", "note"]);
        assert!(code == 2 && stderr.contains("note"), "{stderr}");
        assert_eq!(scratch.read("note"), "A note of mine.\n");
    }
    for (files, message) in [
        (&["part0", "part2"][..], "are missing"),
        (&["part0", "part1", "part1", "part2"], "name every shard once"),
        (&["part0", "whole", "part1", "part2"], "name every shard once"),
        (&["choices.jsonl"], "is not a sample"),
    ] {
        let (code, _, stderr) = scratch.run(&[&["--merge"], files].concat());
        assert!(code == 2 && stderr.contains(message), "{files:?} {stderr}");
    }
    scratch.out(&with(&["-o", "other", "--shard", "1/3", "--seed", "1"]));
    let (code, _, stderr) = scratch.run(&["--merge", "part0", "other", "part2"]);
    assert!(code == 2 && stderr.contains("another run"), "{stderr}");
}

#[test]
fn two_models_are_compared() {
    let scratch = scratch("compare");
    let (float, small) = (model(FLOAT), model(EMBEDDED));
    let same = scratch.out(&["choices.yaml", "last.yaml", "-c", "128", "--compare", &float, &float]);
    assert!(
        same.lines().count() == 5 && same.lines().all(|line| line.ends_with("equal on every document")),
        "{same}"
    );
    let found = scratch.out(&["last.yaml", "--compare", &float, &small, "--json", "--report", "page.html"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let perplexity = &found["comparisons"][0];
    assert_eq!(perplexity["metric"], "perplexity");
    let [low, high] = [0, 1].map(|at| perplexity["interval"][at].as_f64().unwrap());
    let difference = perplexity["difference"].as_f64().unwrap();
    assert!(low < high && low <= difference && difference <= high, "{perplexity}");
    assert!(scratch.read("page.html").contains("Second against first"));
    // The same from files of samples.
    for (file, out) in [(&float, "a.jsonl"), (&small, "b.jsonl")] {
        scratch.out(&["last.yaml", "-m", file, "-o", out]);
    }
    let files: Value =
        serde_json::from_str(&scratch.out(&["--compare", "a.jsonl", "b.jsonl", "--json"])).unwrap();
    assert_eq!(files["comparisons"], found["comparisons"]);
    scratch.out(&["any.yaml", "-o", "c.jsonl"]);
    let (code, _, stderr) = scratch.run(&["--compare", "a.jsonl", "c.jsonl"]);
    assert!(code == 2 && stderr.contains("are not the same documents in both"), "{stderr}");
}

#[test]
fn a_missed_bound_is_exit_code_5() {
    let scratch = scratch("bounds");
    let run = |options: &[&str]| scratch.run(&[&["any.yaml", "last.yaml", "--limit", "4"], options].concat());
    let (code, table, _) = run(&["--min", "acc=0", "--max", "golden_last/perplexity=1e9"]);
    assert_eq!(code, 0);
    let (code, missed, stderr) = run(&["--min", "golden_any/acc=1.01"]);
    assert!(code == 5 && stderr.contains("acc of golden_any is"), "{stderr}");
    assert_eq!(missed, table, "results are printed all the same");
    assert_eq!(run(&["--max", "perplexity=0.5", "--min", "acc=0"]).0, 5);
    let (code, _, stderr) = run(&["--min", "bleu=1"]);
    assert!(code == 2 && stderr.contains("golden_last/perplexity"), "{stderr}");
    assert_eq!(run(&["--min", "acc"]).0, 2);
}

/// What a task asks for and cannot have is refused by name, before a model is loaded.
#[test]
fn what_is_not_supported_is_refused_by_name() {
    let scratch = scratch("refused");
    let good = scratch.read("kinds.yaml");
    for (line, named) in [
        ("process_docs: !function utils.process", "process_docs"),
        ("include: other.yaml", "other.yaml"),
        ("doc_to_image: picture", "doc_to_image"),
        ("use_prompt: promptsource", "use_prompt"),
        ("repeats: 4", "repeats"),
        ("metric_list:\n  - metric: mcc", "mcc"),
        (
            "metric_list:\n  - metric: acc\n    aggregation: !function utils.mean",
            "utils.mean, which needs Python",
        ),
        ("fewshot_config:\n  sampler: balanced", "balanced"),
        ("num_fewshot: 300", "num_fewshot"),
        ("filter_list:\n  - name: a\n    filter:\n      - function: majority_vote", "majority_vote"),
    ] {
        scratch.write("bad.yaml", format!("{good}{line}\n"));
        let (code, stdout, stderr) = scratch.run(&["bad.yaml", "-m", "missing.gguf"]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.contains("bad.yaml") && stderr.contains(named), "{line}: {stderr}");
    }
    for (from, to, named) in [
        ("dataset_path: json", "dataset_path: EleutherAI/lambada", "dataset_path"),
        ("output_type: multiple_choice", "output_type: multiple_guess", "multiple_guess"),
        ("test: kinds.jsonl", "test: nothing.jsonl", "nothing.jsonl"),
        ("test: kinds.jsonl", "test: kinds.yaml", "kinds.yaml, line 1"),
        ("request|trim", "nothing|trim", "doc_to_text"),
        ("request|trim", "request|nothing", "nothing"),
        (".index(kind)}}", ".index('sofa')}}", "doc_to_target"),
    ] {
        assert!(good.contains(from), "{from}");
        scratch.write("bad.yaml", good.replacen(from, to, 1));
        let (code, _, stderr) = scratch.run(&["bad.yaml"]);
        assert!(code == 2 && stderr.contains(named), "{to}: {code} {stderr}");
    }
    let twice = scratch.run(&["kinds.yaml", "kinds.yaml"]);
    assert!(twice.0 == 2 && twice.2.contains("two tasks named golden_kinds"), "{}", twice.2);
    let nothing = scratch.run(&[]);
    assert!(nothing.0 == 2 && nothing.2.contains("no task"), "{}", nothing.2);
}

#[test]
fn untrusted_tasks_are_bounded() {
    let scratch = scratch("bounds-of-files");
    let refused = |files: &[(&str, String)], task: &str, message: &str| {
        files.iter().for_each(|(name, text)| scratch.write(name, text));
        let (code, _, stderr) = scratch.run(&[task]);
        assert!(code == 2 && stderr.contains(message), "{message}: {code} {stderr}");
    };
    let yaml = |text: String| [("big.yaml", text)];
    refused(&yaml("#".repeat((1 << 20) + 1)), "big.yaml", "longer than 1048576 bytes");
    refused(&yaml(format!("metadata: {}", "[".repeat(100_000))), "big.yaml", "big.yaml");
    let aliases = (1..40).map(|i| format!(" a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)).collect::<String>();
    refused(&yaml(format!("metadata:\n a0: &a0 x\n{aliases}")), "big.yaml", "big.yaml");
    let choices = vec!["x"; 1025];
    let one = json!({"prompt": "p", "choices": choices, "answer": 0});
    refused(&[("big.jsonl", one.to_string())], "big.jsonl", "1025 choices");
    let fields: BTreeMap<String, u8> = (0..1025).map(|i| (format!("f{i}"), 0)).collect();
    refused(&[("big.jsonl", json!(fields).to_string())], "big.jsonl", "more than 1024 fields");
    refused(&[("big.jsonl", "[".repeat(100_000))], "big.jsonl", "line 1: expected a JSON object");
    refused(&[("big.jsonl", String::new())], "big.jsonl", "has no documents");
    let templates = json!({"prompt": "p", "answer": "a"}).to_string();
    let endless = "dataset_path: big.jsonl\ndoc_to_target: answer\ndoc_to_text: \"{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}\"\n";
    refused(&[("big.jsonl", templates), ("big.yaml", endless.to_owned())], "big.yaml", "doc_to_text");
    let sparse = std::fs::File::create(scratch.folder.join("big.jsonl")).unwrap();
    sparse.set_len((256 << 20) + 1).unwrap();
    let (code, _, stderr) = scratch.run(&["big.jsonl"]);
    assert!(code == 2 && stderr.contains("longer than 8388608 bytes"), "{stderr}");
}

#[test]
fn documents_need_no_task_file() {
    let scratch = scratch("plain");
    scratch.write(
        "quiz.jsonl",
        "{\"prompt\": \"Turning on the\", \"choices\": [\"kitchen lights\", \"moon\"], \"answer\": 0}\n",
    );
    scratch.write("ask.jsonl", "{\"prompt\": \"Lock the front door\", \"answer\": \"Locking the front door.\\n{\\\"action\\\":\\\"door\\\",\\\"door\\\":\\\"front\\\",\\\"state\\\":\\\"locked\\\"}\"}\n");
    scratch.write("words.jsonl", "{\"text\": \"The door is locked.\"}\n");
    let report: Value =
        serde_json::from_str(&scratch.out(&["quiz.jsonl", "ask.jsonl", "words.jsonl", "--chat", "--json"]))
            .unwrap();
    let value = |task: &str, metric: &str| {
        let results = report["results"].as_array().unwrap();
        let found = results.iter().find(|result| result["task"] == task && result["metric"] == metric);
        found.unwrap_or_else(|| panic!("{task} {metric}: {report}"))["value"].as_f64().unwrap()
    };
    assert_eq!((value("quiz", "acc"), value("ask", "exact_match")), (1.0, 1.0));
    assert!(value("words", "word_perplexity") > value("words", "byte_perplexity"));
    scratch.write("wrong.jsonl", "{\"question\": \"?\"}\n");
    let (code, _, stderr) = scratch.run(&["wrong.jsonl"]);
    assert!(code == 2 && stderr.contains("found: question") || stderr.contains("is question"), "{stderr}");
}

#[test]
fn the_page_needs_nothing_else_and_nothing_escapes() {
    let scratch = scratch("page");
    let evil = "<script>alert(1)</script>\" onload='x' &amp; \u{1b}[31m";
    scratch.write(
        "evil.jsonl",
        &(json!({"prompt": evil, "choices": [evil, "b"], "answer": 0}).to_string() + "\n"),
    );
    scratch.out(&["evil.jsonl", "replies.yaml", "last.yaml", "--report", "page.html"]);
    let page = scratch.read("page.html");
    for wanted in ["<!DOCTYPE html>", "Content-Security-Policy", "<svg", "golden_replies", "&lt;script&gt;"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    for forbidden in ["<script", "http:", "https:", "onload='", "\u{1b}", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let left: Vec<_> =
        std::fs::read_dir(&scratch.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    let (code, _, stderr) = scratch.run(&["last.yaml", "--limit", "1", "--report", "missing/page.html"]);
    assert!(code == 1 && stderr.contains("missing/page.html"), "{stderr}");
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let scratch = scratch("codes");
    for (arguments, code) in [
        (&["last.yaml", "-m", "missing.gguf"][..], 3),
        (&["missing.yaml"], 2),
        (&["last.yaml", "--shard", "2/2"], 2),
        (&["last.yaml", "--max-memory", "1K"], 4),
        (&["replies.yaml", "-c", "32"], 4),
        (&["last.yaml", "-o", "missing/out"], 1),
        (&["--merge", "missing"], 2),
        (&["last.yaml", "--compare", "a.gguf"], 2),
    ] {
        let found = scratch.run(arguments);
        assert_eq!(found.0, code, "{arguments:?}: {}", found.2);
        assert!(found.1.is_empty() && !found.2.is_empty(), "{arguments:?}");
    }
}

/// Ctrl-C ends with code 130 and what was done; the rest follows later.
#[cfg(unix)]
#[test]
fn an_interrupted_evaluation_goes_on() {
    let scratch = scratch("interrupted");
    scratch.out(&with(&["-o", "whole"]));
    let child = scratch.command(&with(&["-o", "part"])).spawn().unwrap();
    let path = scratch.folder.join("part");
    let begun = || std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
    let start = Instant::now();
    while !begun() {
        assert!(start.elapsed() < Duration::from_secs(60), "a first line comes");
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(130), "{said}");
    assert!(said.contains("the same command goes on"), "{said}");
    assert!(scratch.read("part").len() < scratch.read("whole").len());
    scratch.out(&with(&["-o", "part"]));
    assert_eq!(scratch.read("part"), scratch.read("whole"));
}

/// Every task of `prompts` is one that can be run, and has documents that the demo model's context holds.
#[test]
fn the_suites_run() {
    let scratch = scratch("suites");
    let mut ran = 0;
    for entry in std::fs::read_dir(repository("prompts")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            scratch.out(&[path.to_str().unwrap(), "--limit", "2", "--num-fewshot", "0"]);
            ran += 1;
        }
    }
    assert!(ran >= 6, "{ran}");
}

/// The recipe for many machines, on this one; skipped where Python has no `ray`.
#[test]
fn ray_runs_the_shards() {
    let python = std::env::var("SMOLT_RAY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_ray = Command::new(&python).args(["-c", "import ray"]).output();
    if !has_ray.is_ok_and(|done| done.status.success()) {
        eprintln!("SKIPPED: {python} has no ray (pip install ray; SMOLT_RAY_PYTHON names another Python)");
        return;
    }
    let scratch = scratch("ray");
    let expected = scratch.out(&with(&["-o", "whole"]));
    let script = repository("scripts/eval_ray.py");
    let smolt = Path::new(env!("CARGO_BIN_EXE_smolt"));
    let done = Command::new(&python)
        .arg(&script)
        .args(["--smolt", smolt.to_str().unwrap(), "--shards", "3", "--out", "shards", "--"])
        .args(with(&[]))
        .current_dir(&scratch.folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(done.status.success(), "{}", text(done.stderr));
    assert_eq!(text(done.stdout), expected);
    assert_eq!(scratch.read("shards/all.jsonl"), scratch.read("whole"));
}
