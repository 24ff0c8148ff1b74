//! How answers end, whichever command asks for them.

use serde_json::Value;

use crate::chat::{CHAIN, Chain, FOREVER};
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
