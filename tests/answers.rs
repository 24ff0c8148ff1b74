//! How answers end, whichever command asks for them.

use serde_json::Value;

use smolt::gguf::GgufWriter;

use crate::chat::{CHAIN, CHATML, Chain, FOREVER, ONCE, byte_char};
use crate::shared::Scratch;

/// A model that says the same for ever.
fn forever(scratch: &Scratch) {
    Chain { hidden: 32, ..FOREVER }.write_to(&scratch.folder.join("m.gguf"));
}

#[test]
fn run_ends_an_answer_that_goes_in_circles() {
    let scratch = Scratch::new("run", "circles");
    forever(&scratch);
    let ask = |more: &[&str]| scratch.run(&[&["-m", "m.gguf", "-n", "400", "Hi"], more].concat());
    let (code, out, err) = ask(&[]);
    assert_eq!((code, out.trim_end()), (0, CHAIN.repeat(12).trim_end()));
    assert!(err.contains("in circles") && err.contains("--no-loop-guard"), "{err}");
    let report: Value = serde_json::from_str(&ask(&["--json"]).1).unwrap();
    assert_eq!((&report["finish_reason"], &report["tokens"]), (&"loop".into(), &60.into()));
    for all in [&["--no-loop-guard"][..], &["--raw"], &["--regex", ".*"]] {
        let (code, out, err) = ask(all);
        assert_eq!((code, out.trim_end()), (0, CHAIN.repeat(80).trim_end()), "{all:?}");
        assert!(!err.contains("in circles"), "{all:?}: {err}");
    }
}

#[test]
fn batch_ends_answers_that_go_in_circles_but_where_an_item_says_no() {
    let scratch = Scratch::new("batch", "circles");
    forever(&scratch);
    scratch.write(
        "in.jsonl",
        r#"{"prompt": "Hi"}
{"prompt": "Hi", "loop_guard": false}
{"prompt": "Hi", "raw": true}
{"prompt": "Hi", "raw": true, "loop_guard": true}
"#,
    );
    let ends = |more: &[&str]| {
        let out = scratch.out(&[&["-m", "m.gguf", "-n", "100", "in.jsonl"], more].concat());
        let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| {
                (line["finish_reason"].as_str().unwrap().to_owned(), line["tokens"].as_array().unwrap().len())
            })
            .collect::<Vec<_>>()
    };
    let (circles, length) = (("loop".to_owned(), 60), ("length".to_owned(), 100));
    assert_eq!(ends(&[]), [circles.clone(), length.clone(), length.clone(), circles.clone()]);
    assert_eq!(ends(&["--no-loop-guard"]), [length.clone(), length.clone(), length, circles]);
}

/// The chain once, with an end token of this name and type, which is not the file's end of text.
fn ended_by(scratch: &Scratch, end: &str, kind: Option<i32>, template: &str) {
    ONCE.write_with(&scratch.folder.join("m.gguf"), |writer: &mut GgufWriter| {
        let texts = (0..=255).map(|byte| byte_char(byte).to_string());
        let texts: Vec<String> = texts.chain(["<|im_start|>", end].map(String::from)).collect();
        writer.set("tokenizer.ggml.tokens", texts).set("tokenizer.ggml.eos_token_id", 0u32);
        writer.set("tokenizer.chat_template", template);
        let kinds: Vec<i32> = (0..256).map(|_| 1).chain([3, kind.unwrap_or(3)]).collect();
        if kind.is_some() {
            writer.set("tokenizer.ggml.token_type", kinds);
        }
    });
}

#[test]
fn a_turn_ends_whatever_its_token_is_called_and_typed() {
    let scratch = Scratch::new("run", "turn-ends");
    let other = CHATML.replace("<|im_end|>", "<|over|>");
    for (end, kind, template, warned) in [
        ("<|im_end|>", 4, CHATML, true),
        ("<|im_end|>", 1, CHATML, true),
        ("<|eot_id|>", 4, "{{ messages[0].content }}", true),
        ("<|im_end|>", 3, CHATML, false),
        ("<|over|>", 3, other.as_str(), false),
    ] {
        ended_by(&scratch, end, Some(kind), template);
        let (code, out, err) = scratch.run(&["-m", "m.gguf", "-n", "40", "Hi"]);
        assert_eq!((code, out.trim_end()), (0, CHAIN.trim_end()), "{end}, {kind}: {err}");
        assert_eq!(err.matches("token_type").count(), usize::from(warned), "{end}, {kind}: {err}");
    }
}

#[test]
fn a_stop_string_may_be_a_control_token() {
    let scratch = Scratch::new("run", "stop-token");
    ended_by(&scratch, "<|over|>", Some(3), "{{ messages[0].content }}");
    let ask = |more: &[&str]| scratch.out(&[&["-m", "m.gguf", "-n", "20", "Hi"], more].concat());
    assert!(ask(&[]).matches(CHAIN).count() > 1, "nothing ends it");
    assert_eq!(ask(&["--stop", "<|over|>"]).trim_end(), CHAIN.trim_end());
    let report: Value = serde_json::from_str(&ask(&["--stop", "<|over|>", "--json"])).unwrap();
    assert_eq!(report["finish_reason"], "stop_string");
}

#[test]
fn an_answer_that_nobody_asked_to_be_long_is_cut_and_it_says_so() {
    let scratch = Scratch::new("run", "length");
    forever(&scratch);
    let ask = |more: &[&str]| {
        let (code, out, err) =
            scratch.run(&[&["-m", "m.gguf", "--no-loop-guard", "--json", "Hi"], more].concat());
        assert_eq!(code, 0, "{err}");
        (serde_json::from_str::<Value>(&out).unwrap()["tokens"].as_u64().unwrap(), err)
    };
    let (tokens, err) = ask(&[]);
    assert!(tokens == 256 && err.contains("cut at 256 tokens") && err.contains("-n N"), "{tokens} {err}");
    let (tokens, err) = ask(&["-n", "300"]);
    assert!(tokens == 300 && !err.contains("cut at"), "as asked for: {tokens} {err}");
    let (tokens, err) = ask(&["-n", "none", "-c", "400"]);
    assert!(tokens > 350 && err.contains("context is full"), "{tokens} {err}");
    let (code, _, err) = scratch.run(&["-m", "m.gguf", "-n", "some", "Hi"]);
    assert!(code == 2 && err.contains("whole number or none"), "{code} {err}");

    let scratch = Scratch::new("batch", "length");
    forever(&scratch);
    scratch.write("in.jsonl", "{\"prompt\": \"Hi\"}\n{\"prompt\": \"Hi\", \"max_tokens\": 300}\n");
    let out = scratch.out(&["-m", "m.gguf", "--no-loop-guard", "in.jsonl"]);
    let tokens =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["tokens"].as_array().unwrap().len();
    assert_eq!(out.lines().map(tokens).collect::<Vec<_>>(), [256, 300]);
}

#[test]
fn a_template_of_typed_parts_sees_the_message() {
    let scratch = Scratch::new("run", "parts");
    ended_by(&scratch, "<|im_end|>", Some(3), CHATML);
    let parts = CHATML.replace("m.content", "m.content[0].text");
    scratch.write("parts.jinja", &parts);
    let counted = |more: &[&str]| {
        let out = scratch.out(&[&["-m", "m.gguf", "--json", "-n", "4", "What is this?"], more].concat());
        serde_json::from_str::<Value>(&out).unwrap()["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!(counted(&["--template", "parts.jinja"]), counted(&[]));
    scratch.write("lost.jinja", "{% for m in messages %}{{ m.role }}{% endfor %}");
    let (code, out, err) = scratch.run(&["-m", "m.gguf", "--template", "lost.jinja", "What is this?"]);
    assert!(code != 0 && out.is_empty() && err.contains("leaves out what the user says"), "{code} {err}");
}
