//! Task files of lm-evaluation-harness, by `smolt eval`: what is read of them, and what is refused by name.

use serde_json::{Value, json};

use crate::shared::{Scratch, repository};

const BASE: &str = "tag: [quiz]
task: base
dataset_path: json
dataset_name: main
dataset_kwargs: {data_files: {test: quiz.jsonl}, trust_remote_code: true}
output_type: multiple_choice
test_split: test
doc_to_text: \"Question: {{question}}\\nAnswer:\"
doc_to_target: \"{{choices.label.index(key)}}\"
doc_to_choice: \"{{choices.text}}\"
should_decontaminate: true
doc_to_decontamination_query: \"{{question}}\"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
    weight_by_size: true
metadata: {version: 1.0}
";

fn scratch(name: &str) -> Scratch {
    let scratch = Scratch::new("eval", name);
    scratch.write("base.yaml", BASE);
    let documents = [
        json!({"question": "Which is hot?", "choices": {"text": ["ice", "fire", "snow"], "label": ["A", "B", "C"]}, "key": "B"}),
        json!({"question": "Which is wet?", "choices": {"text": ["sand", "water"], "label": ["1", "2"]}, "key": "2"}),
    ];
    scratch.write("quiz.jsonl", documents.map(|document| document.to_string() + "\n").concat());
    scratch
}

fn prompts(scratch: &Scratch, file: &str) -> Vec<Value> {
    scratch.json_lines(file).iter().map(|sample| sample["arguments"].clone()).collect()
}

/// Keys of the file replace those that it includes, of two included files the later ones; paths are beside the file that
/// names them.
#[test]
fn a_task_includes_others() {
    let scratch = scratch("include");
    std::fs::create_dir(scratch.folder.join("more")).unwrap();
    scratch.write("more/other.yaml", "description: \"From other. \"\ntarget_delimiter: \"\"\ntask: other\n");
    scratch.write("more/last.yaml", "include: ../base.yaml\n");
    scratch.write(
        "both.yaml",
        "include: [more/last.yaml, more/other.yaml]\ntask: both\ntarget_delimiter: \":\"\n",
    );
    scratch.out(&["base.yaml", "-o", "base"]);
    scratch.out(&["both.yaml", "-o", "both"]);
    let text = |sample: &Value, at: usize| sample[0][at].as_str().unwrap().to_owned();
    for (base, both) in prompts(&scratch, "base").iter().zip(prompts(&scratch, "both")) {
        assert_eq!(text(&both, 0), format!("From other. {}", text(base, 0)));
        assert_eq!(text(&both, 1), format!(":{}", text(base, 1).trim()));
    }
    assert_eq!(scratch.json_lines("both")[0]["task"], "both");
    // A change in what is included is another run.
    scratch.write("more/other.yaml", "description: \"Changed. \"\n");
    assert_eq!(scratch.run(&["both.yaml", "-o", "both"]).0, 2);
}

#[test]
fn includes_are_bounded() {
    let scratch = scratch("cycle");
    scratch.write("a.yaml", "include: b.yaml\n");
    scratch.write("b.yaml", "include: a.yaml\n");
    for at in 0..40 {
        scratch.write(&format!("long{at}.yaml"), format!("include: long{}.yaml\n", at + 1));
    }
    scratch.write("list.yaml", "include: {a: b}\n");
    for (file, message) in [
        ("a.yaml", "a.yaml: includes itself"),
        ("long0.yaml", "more than 32 included files"),
        ("list.yaml", "include is"),
    ] {
        let (code, _, stderr) = scratch.run(&[file]);
        assert!(code == 2 && stderr.contains(message), "{file}: {stderr}");
    }
}

/// A right answer that is none of the choices is not scored as wrong.
#[test]
fn an_impossible_answer_is_refused() {
    let scratch = scratch("gold");
    let question =
        |answer: Value| json!({"prompt": "Which is hot?", "choices": ["ice", "fire"], "answer": answer});
    for (answer, shown) in
        [(json!("Fire"), "\"Fire\""), (json!(2), "2"), (json!(-1), "-1"), (Value::Null, "null")]
    {
        scratch.write("gold.jsonl", format!("{}\n{}\n", question(json!("fire")), question(answer)));
        let (code, stdout, stderr) = scratch.run(&["gold.jsonl"]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        let message = format!("gold: document 1: the right answer, {shown}, is none of its 2 choices");
        assert!(stderr.contains(&message), "{stderr}");
        scratch.out(&["gold.jsonl", "--limit", "1"]);
    }
}

/// A document that the model cannot be asked about is told and left out; the others count.
#[test]
fn a_document_that_does_not_fit_is_counted_apart() {
    let scratch = scratch("apart");
    let long = "much too long ".repeat(100);
    let lines = [
        json!({"prompt": "a", "choices": ["b", "c"], "answer": 0}),
        json!({"prompt": "a", "choices": [long, "c"], "answer": 1}),
    ];
    scratch.write("quiz2.jsonl", lines.map(|line| line.to_string() + "\n").concat());
    for _ in 0..2 {
        let (code, stdout, stderr) = scratch.run(&["quiz2.jsonl", "-c", "64", "-o", "out", "--json"]);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("1 document is not in the results: quiz2: document 1"), "{stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&report["failed"], &report["results"][0]["documents"]), (&1.into(), &1.into()));
        let samples = scratch.json_lines("out");
        assert_eq!(samples.len(), 2);
        assert!(samples[1]["error"].as_str().unwrap().contains("the context holds 64"), "{}", samples[1]);
    }
    // The first is not asked again.
    let (_, _, stderr) = scratch.run(&["quiz2.jsonl", "-c", "64", "-o", "out"]);
    assert!(stderr.contains("2 of 2 documents, 1 of them done before"), "{stderr}");
}

/// Expected prompts are those of lm-evaluation-harness 0.4.13.
#[test]
fn answers_may_have_a_prefix() {
    let scratch = scratch("prefix");
    scratch.write(
        "prefix.yaml",
        "include: base.yaml\ntask: prefix\ngen_prefix: \"The best answer is\"\nnum_fewshot: 1\nfewshot_config: {sampler: first_n}\n",
    );
    scratch.out(&["prefix.yaml", "-o", "out"]);
    let found = prompts(&scratch, "out");
    let example = "Question: Which is hot?\nAnswer: The best answer is fire\n\n";
    assert_eq!(found[1][0][0], format!("{example}Question: Which is wet?\nAnswer: The best answer is"));
    assert_eq!(found[1][0][1], " sand");
}

#[test]
fn rolling_likelihoods_may_begin_with_one_start_token() {
    let scratch = scratch("rolling");
    scratch.write("text.jsonl", "{\"text\": \"The door is locked.\"}\n");
    // The demo model, and the same with a tokenizer that adds a start token.
    let mut model = std::fs::read(repository("src/cli/demo.gguf")).unwrap();
    scratch.write("plain.gguf", &model);
    let key = b"add_bos_token";
    let value = model.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    model[value] = 1;
    scratch.write("adds.gguf", &model);
    let sum = |model: &str, options: &[&str]| {
        let arguments = [&["text.jsonl", "-m", model, "-o", "out"], options].concat();
        scratch.out(&arguments);
        let found = scratch.json_lines("out")[0]["resps"][0][0].as_f64().unwrap();
        scratch.remove("out");
        found
    };
    let (plain, both) = (sum("plain.gguf", &[]), sum("adds.gguf", &[]));
    assert_eq!(sum("adds.gguf", &["--rolling-start", "lm-eval"]), both);
    // The second start token is scored by default, as lm-evaluation-harness does.
    assert!(both < plain - 1.0, "{both} {plain}");
    assert_eq!(sum("adds.gguf", &["--rolling-start", "once"]), plain);
    assert_eq!(sum("plain.gguf", &["--rolling-start", "once"]), plain);
}

#[test]
fn check_says_what_could_be_run() {
    let scratch = scratch("check");
    std::fs::create_dir(scratch.folder.join("tasks")).unwrap();
    for (name, text) in [
        ("group.yaml", "group: all\ntask: [base, other]\n"),
        ("part.yaml", BASE.replace("task: base\n", "").as_str()),
        ("python.yaml", "include: ../base.yaml\nprocess_docs: !function utils.process\n"),
        ("remote.yaml", "include: ../base.yaml\ndataset_path: someone/quiz\ndataset_kwargs: null\n"),
        ("wrong.yaml", "include: ../base.yaml\ntask: wrong\nmetric_list:\n  - metric: mcc\n"),
        ("\u{1b}[31mred.yaml", "include: ../base.yaml\n"),
    ] {
        scratch.write(&format!("tasks/{name}"), text);
    }
    let (code, stdout, stderr) = scratch.run(&["--check", "tasks", "base.yaml"]);
    assert_eq!(code, 2, "{stderr}");
    for line in [
        "base.yaml: runs\n",
        "tasks/group.yaml: group: tasks/group.yaml, line 1: is a group; name the files of its tasks: base, other\n",
        "tasks/part.yaml: part: ",
        "tasks/python.yaml: needs Python: tasks/python.yaml, line 2: process_docs is the function utils.process",
        "tasks/remote.yaml: needs documents: tasks/remote.yaml, line 2: the documents are the data set someone/quiz",
        "tasks/wrong.yaml: cannot run: tasks/wrong.yaml, line 3: metric is mcc; expected",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
    assert!(
        stderr.contains("7 files: 2 runs, 1 needs documents, 1 group, 1 part, 1 needs Python, 1 cannot run"),
        "{stderr}"
    );
    assert_eq!(scratch.run(&["--check", "base.yaml", "tasks/remote.yaml"]).0, 0);
}
