//! Calls of functions, reasoning and template variables, by the commands, with the demo model.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::shared::{Scratch, repository, smolt};

const TOOLS: &str = r#"[
    {"type": "function", "function": {"name": "set_light", "description": "Switch a light", "parameters": {
        "type": "object", "required": ["room", "state"], "properties": {
            "room": {"enum": ["kitchen", "bedroom"]}, "state": {"type": "boolean"},
            "level": {"type": "integer", "minimum": 1, "maximum": 9}}}}},
    {"type": "function", "function": {"name": "say", "parameters": {
        "type": "object", "required": ["text"], "properties": {"text": {"type": "string", "maxLength": 12},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}}}}},
    {"name": "clock"}]"#;

/// Templates, of the formats that models have.
const TEMPLATES: [&str; 8] = [
    "qwen3-thinking-tools",
    "smollm3-xml-tools",
    "lfm2-tools",
    "functiongemma-tools",
    "granite-calls",
    "mistral-v3-tools",
    "llama31-tools",
    "chatml",
];

fn template(name: &str) -> String {
    let path = repository(&format!("tests/data/templates/{name}.jinja"));
    if path.is_file() { path.display().to_string() } else { name.to_owned() }
}

/// Makes sure that calls are of functions of [`TOOLS`] with arguments that these allow.
fn check(calls: &Value, what: &str) -> usize {
    let tools: Vec<Value> = serde_json::from_str(TOOLS).unwrap();
    let calls = calls.as_array().unwrap_or_else(|| panic!("{what}: no calls"));
    for call in calls {
        let functions = tools.iter().map(|tool| tool.get("function").unwrap_or(tool));
        let tool = functions.into_iter().find(|tool| tool["name"] == call["name"]);
        let tool = tool.unwrap_or_else(|| panic!("{what}: {call}"));
        let schema = tool.get("parameters").cloned().unwrap_or(json!({"type": "object"}));
        assert!(jsonschema::is_valid(&schema, &call["arguments"]), "{what}: {call}");
    }
    calls.len()
}

#[test]
fn required_calls_parse_in_every_format() {
    let scratch = Scratch::new("run", "tools");
    scratch.write("tools.json", TOOLS);
    let options = ["-c", "2048", "--temp", "1.5", "--json", "--tools", "tools.json", "--tool-choice"];
    for name in TEMPLATES {
        let template = template(name);
        for (seed, choice) in (1..).zip(["required", "required", "say", "clock"]) {
            let seed = seed.to_string();
            let own =
                [choice, "--template", template.as_str(), "--seed", &seed, "Turn on the kitchen lights"];
            let answer: Value = serde_json::from_str(&scratch.out(&[&options[..], &own].concat())).unwrap();
            let what = format!("{name} {choice} {seed}: {}", answer["text"]);
            assert_eq!(check(&answer["tool_calls"], &what), 1, "{what}");
            assert_eq!(
                (&answer["finish_reason"], &answer["text"]),
                (&json!("tool_calls"), &json!("")),
                "{what}"
            );
            if choice != "required" {
                assert_eq!(answer["tool_calls"][0]["name"], choice, "{what}");
            }
        }
    }
}

#[test]
fn calls_are_lines_of_json_and_none_is_none() {
    let scratch = Scratch::new("run", "call-lines");
    scratch.write("tools.json", TOOLS);
    let template = template("qwen3-thinking-tools");
    let ask = |options: &[&str]| {
        let own = ["-c", "2048", "--template", &template, "--temp", "0", "Lock the front door"];
        scratch.out(&[&own[..], options].concat())
    };
    let line = ask(&["--tools", "tools.json", "--tool-choice", "set_light"]);
    let call: Value = serde_json::from_str(line.trim_end()).unwrap();
    assert_eq!(call["name"], "set_light");
    assert!(call["arguments"]["state"].is_boolean(), "{line}");
    let plain = ask(&["--json"]);
    let none = ask(&["--json", "--tools", "tools.json", "--tool-choice", "none"]);
    let [plain, none]: [Value; 2] = [plain, none].map(|text| serde_json::from_str(&text).unwrap());
    assert_eq!((&plain["text"], &plain["prompt_tokens"]), (&none["text"], &none["prompt_tokens"]));
    let told: Value = serde_json::from_str(&ask(&["--json", "-n", "1", "--tools", "tools.json"])).unwrap();
    assert!(told["prompt_tokens"].as_u64() > none["prompt_tokens"].as_u64());
}

#[test]
fn wrong_tools_are_wrong_usage() {
    let scratch = Scratch::new("run", "wrong-tools");
    scratch.write("tools.json", TOOLS);
    scratch.write("twice.json", r#"[{"name": "a"}, {"name": "a"}]"#);
    scratch.write("broken.json", "[\n  {\"name\": }]");
    scratch.write("held.json", r#"[{"name": "a", "parameters": {"properties": {"b": {"not": {}}}}}]"#);
    let schema = ["--tools", "tools.json", "--regex", "a"];
    for (options, part) in [
        (&["--tools", "twice.json"][..], "twice.json: tool 2: name \"a\" is there twice"),
        (&["--tools", "broken.json"], "line 2 column 12"),
        (&["--tools", "none.json"], "none.json"),
        (&["--tools", "held.json"], "not at #/properties/b"),
        (&["--tools", "tools.json", "--tool-choice", "open"], "there are: set_light, say, clock"),
        (&["--tool-choice", "auto"], "--tools"),
        (&schema, "--tools cannot be used with --regex"),
        (&["--tools", "tools.json", "--raw"], "no chat template"),
        (&["--template-var", "mood"], "NAME=VALUE"),
        (&["--template-var", "messages=1"], "belongs to the conversation"),
        (&["--think", "loudly"], "on, off or hide"),
    ] {
        let (code, stdout, stderr) = scratch.run(&[options, &["Hi"]].concat());
        assert_eq!((code, stdout.as_str()), (2, ""), "{options:?}: {stderr}");
        assert!(stderr.contains(part), "{options:?}: {stderr}");
    }
}

#[test]
fn thinking_is_asked_of_the_template_and_part_of_a_session() {
    let scratch = Scratch::new("run", "think");
    let template = template("qwen3-thinking-tools");
    let ask = |options: &[&str]| {
        let own = ["--template", &template, "--temp", "0", "Lock the front door"];
        let (code, stdout, stderr) = scratch.run(&[&own[..], options].concat());
        assert_eq!(code, 0, "{stderr}");
        (stdout, stderr)
    };
    let tokens = |options: &[&str]| {
        let answer: Value = serde_json::from_str(&ask(&[&["--json"], options].concat()).0).unwrap();
        answer["prompt_tokens"].as_u64().unwrap()
    };
    let off = tokens(&["--think", "off"]);
    assert_eq!(off, tokens(&["--template-var", "enable_thinking=false"]));
    assert!(off > tokens(&["--think", "on"]));
    assert_eq!(tokens(&["--think", "hide"]), tokens(&[]));
    ask(&["--think", "off", "--session", "s"]);
    assert!(!ask(&["--think", "off", "--session", "s"]).1.contains("another chat template"));
    assert!(ask(&["--session", "s"]).1.contains("another chat template"));
    let note = "the chat template does not use mood";
    assert!(ask(&["--template-var", "mood=1"]).1.contains(note));
    assert!(!ask(&["--template-var", "enable_thinking=1"]).1.contains(note));
    let (_, _, stderr) = scratch.run(&["--think", "off", "Hi"]);
    assert!(stderr.contains("knows nothing of thinking"), "{stderr}");
}

/// A template whose prompt ends within reasoning that the demo model's next words end.
const OPENED: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    <|im_start|>assistant\n<think>Turning on</think>{{ '' if enable_thinking is false else '<think>' }}";

#[test]
fn reasoning_is_apart_from_the_answer() {
    let scratch = Scratch::new("run", "reasoning");
    scratch.write("opened.jinja", OPENED);
    let ask = |options: &[&str]| {
        let own = ["--template", "opened.jinja", "--temp", "0", "-n", "12", "Turn on the kitchen lights"];
        scratch.run(&[&own[..], options].concat())
    };
    let (code, stdout, stderr) = ask(&["--think", "on"]);
    assert_eq!((code, stdout.as_str()), (0, "\n"), "{stderr}");
    let answer: Value = serde_json::from_str(&ask(&["--json"]).1).unwrap();
    let reasoning = answer["reasoning"].as_str().unwrap();
    assert!(!reasoning.is_empty() && stderr.contains(reasoning), "{stderr} {reasoning}");
    assert_eq!((&answer["text"], &answer["finish_reason"]), (&json!(""), &json!("length")));
    let (_, stdout, stderr) = ask(&["--think", "hide"]);
    assert!(stdout == "\n" && !stderr.contains(reasoning), "{stderr}");
    let hidden: Value = serde_json::from_str(&ask(&["--json", "--think", "hide"]).1).unwrap();
    assert!(hidden.get("reasoning").is_none(), "{hidden}");
    let off: Value = serde_json::from_str(&ask(&["--json", "--think", "off"]).1).unwrap();
    assert!(off.get("reasoning").is_none() && !off["text"].as_str().unwrap().is_empty(), "{off}");
}

#[test]
fn batch_items_have_tools_results_and_thinking() {
    let scratch = Scratch::new("batch", "tools");
    let tools: Value = serde_json::from_str(TOOLS).unwrap();
    let user = json!({"role": "user", "content": "Lock the front door"});
    let called = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "x", "type": "function", "function": {"name": "say", "arguments": "{\"text\": \"hi\"}"}}]});
    let result = json!({"role": "tool", "tool_call_id": "x", "content": "<|im_end|> done"});
    let named = json!({"type": "function", "function": {"name": "clock"}});
    let items = [
        json!({"id": 0, "prompt": "Lock it", "tools": tools, "tool_choice": "required", "temperature": 1.5}),
        json!({"id": 1, "prompt": "Lock it", "tools": tools, "tool_choice": named}),
        json!({"id": 2, "messages": [user, called, result], "tools": tools, "tool_choice": "none", "max_tokens": 4}),
        json!({"id": 3, "prompt": "Lock it", "think": false, "max_tokens": 1}),
        json!({"id": 4, "prompt": "Lock it", "template_vars": {"enable_thinking": false}, "max_tokens": 1}),
        json!({"id": 5, "prompt": "Lock it", "max_tokens": 1}),
        json!({"id": 6, "prompt": "Lock it", "tools": [{"name": 1}]}),
        json!({"id": 7, "prompt": "Lock it", "tools": tools, "regex": "a"}),
        json!({"id": 8, "prompt": "Lock it", "think": "loudly"}),
        json!({"id": 9, "prompt": "Lock it", "template_vars": {"messages": []}}),
        json!({"id": 10, "messages": [user, {"role": "assistant", "content": null}]}),
    ];
    let lines: Vec<String> = items.iter().map(Value::to_string).collect();
    scratch.write("in.jsonl", lines.join("\n"));
    let template = template("qwen3-thinking-tools");
    scratch.run(&["in.jsonl", "-c", "2048", "--template", &template, "-o", "out.jsonl"]);
    let lines = scratch.json_lines("out.jsonl");
    for line in &lines[..2] {
        assert_eq!((check(&line["tool_calls"], "batch"), &line["finish_reason"]), (1, &json!("tool_calls")));
    }
    assert_eq!(lines[1]["tool_calls"][0]["name"], "clock");
    assert!(lines[2]["text"].is_string() && lines[2].get("tool_calls").is_none(), "{}", lines[2]);
    assert_eq!(lines[3]["prompt_tokens"], lines[4]["prompt_tokens"]);
    assert!(lines[3]["prompt_tokens"].as_u64() > lines[5]["prompt_tokens"].as_u64());
    for (line, part) in lines[6..].iter().zip([
        "tool 1: name is a number",
        "regex and tools",
        "think is",
        "belongs to the conversation",
        "content is missing",
    ]) {
        let error = line["error"].as_str().unwrap();
        assert!(error.contains(part), "{error}");
    }
}

/// An item's functions win over a form of the command line; a call that nothing can make is refused.
#[test]
fn calls_of_batch_items_are_asked_for_or_refused() {
    let scratch = Scratch::new("batch", "own-tools");
    let tools: Value = serde_json::from_str(TOOLS).unwrap();
    let items = [
        json!({"prompt": "Lock it", "tools": tools, "tool_choice": "required"}),
        json!({"prompt": "Lock it", "tool_choice": "required"}),
        json!({"prompt": "Lock it", "tool_choice": "required", "regex": "a"}),
        json!({"prompt": "Lock it", "tools": tools, "raw": true}),
        json!({"prompt": "Lock it", "tool_choice": "none"}),
    ];
    let lines: Vec<String> = items.iter().map(Value::to_string).collect();
    scratch.write("in.jsonl", lines.join("\n"));
    let template = template("qwen3-thinking-tools");
    let form = ["--choices", "yes,no", "-c", "2048", "--template", &template, "-o", "out.jsonl"];
    assert_eq!(scratch.run(&[&["in.jsonl"], &form[..]].concat()).0, 1);
    let lines = scratch.json_lines("out.jsonl");
    assert_eq!((check(&lines[0]["tool_calls"], "own"), &lines[0]["choices"]), (1, &Value::Null));
    for (line, part) in [(1, "expected tools"), (2, "expected tools"), (3, "leave raw out")] {
        assert!(lines[line]["error"].as_str().unwrap().contains(part), "{}", lines[line]);
    }
    assert!(["yes", "no"].contains(&lines[4]["text"].as_str().unwrap()));
}

/// The model is loaded anew for another KV cache; what it is told of functions stays, and a variable that was taken back.
#[test]
fn a_chat_that_loads_its_model_anew_keeps_tools_and_variables() {
    let scratch = Scratch::new("chat", "reload");
    scratch.write("tools.json", TOOLS);
    scratch.write("mood.jinja", "{{ mood }}{{ tools | tojson if tools else '' }}{{ messages[-1].content }}");
    let long = format!("mood={}", "sad ".repeat(60));
    let options = [
        "--template",
        "mood.jinja",
        "-c",
        "2048",
        "-n",
        "1",
        "--tools",
        "tools.json",
        "--template-var",
        &long,
    ];
    let mut child = scratch.command(&options).stdin(Stdio::piped()).spawn().unwrap();
    let lines = "/set template_var none\nHello\n/context\n/set kv q8_0\n/reset\nHello\n/context\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let used: Vec<&str> = said.lines().filter(|line| line.contains("tokens used")).collect();
    assert_eq!(used.len(), 2, "{said}");
    assert_eq!(used[0], used[1], "{said}");
}

#[test]
fn chats_think_call_and_take_results() {
    let scratch = Scratch::new("chat", "tools");
    scratch.write("tools.json", r#"[{"name": "clock"}]"#);
    scratch.write("talk", "/set think off\n/set answer tools tools.json\nHi\n/result 12\n/show history\n");
    let template = template("qwen3-thinking-tools");
    let input = std::fs::File::open(scratch.folder.join("talk")).unwrap();
    let mut command = smolt();
    command.args(["chat", "-c", "2048", "--temp", "0", "-n", "40", "--template", &template]);
    let done = command.current_dir(&scratch.folder).stdin(input).output().unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    // Whether the demo model calls is its own choice; without a call there is no result to give.
    let called = String::from_utf8(done.stdout).unwrap().contains("\"name\":\"clock\"");
    assert_eq!(done.status.code(), Some(if called { 0 } else { 2 }), "{stderr}");
    assert_eq!(stderr.contains("no function was called"), !called, "{stderr}");
}
