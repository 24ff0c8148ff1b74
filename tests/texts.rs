//! Texts as editors and shells of all systems write them: a byte order mark before them changes nothing, other
//! encodings and binary files are named.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::shared::{Scratch, smolt};

const MARK: &str = "\u{feff}";

/// Runs any command in a folder with this standard input: exit code, standard output and standard error.
fn run(scratch: &Scratch, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut command = smolt();
    command.args(arguments).current_dir(&scratch.folder);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that fails early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let done = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

/// A report or lines without what differs from run to run.
fn steady(out: &str) -> String {
    let values = out.lines().map(|line| {
        let Ok(mut value) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
        forget_times(&mut value);
        value.to_string()
    });
    values.collect::<Vec<_>>().join("\n")
}

fn forget_times(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !["timings", "seconds", "tokens_s"].contains(&key.as_str()));
        object.values_mut().for_each(forget_times);
    }
    value.as_array_mut().into_iter().flatten().for_each(forget_times);
}

#[test]
fn a_byte_order_mark_changes_no_answer() {
    let scratch = Scratch::new("texts", "marks");
    let ask = "What time do you open?";
    let files = [
        ("prompt.txt", format!("{ask}\n")),
        ("schema.json", r#"{"type":"object","properties":{"room":{"type":"string"}},"required":["room"]}"#.into()),
        ("lark.txt", "start: \"on\" | \"off\"\n".into()),
        ("template.jinja", "{% for m in messages %}{{ m.content }}\n{% endfor %}".into()),
        ("items.jsonl", format!("{{\"id\":1,\"prompt\":\"{ask}\"}}\r\n{MARK}{{\"id\":2,\"prompt\":\"Hi\"}}\r\n")),
        ("documents.jsonl", format!("{{\"prompt\":\"{ask}\",\"answer\":\"x\"}}\n")),
        ("task.yaml", "task: t\ndataset_path: json\ndataset_kwargs:\n  data_files: documents.jsonl\n\
            output_type: generate_until\ndoc_to_text: prompt\ndoc_to_target: answer\ngeneration_kwargs:\n  max_gen_toks: 4\n\
            metric_list:\n  - metric: exact_match\n".into()),
        ("long.txt", format!("{} ", ask).repeat(20)),
    ];
    let schema = ["run", "--schema", "schema.json", "-n", "30", ask];
    let grammar = ["run", "--grammar", "lark.txt", ask];
    let commands: &[(&[&str], &str)] = &[
        (&["run", "-f", "prompt.txt"], ""),
        (&["run"], "prompt.txt"),
        (&["run", "-f", "/dev/stdin"], "prompt.txt"),
        (&schema, ""),
        (&grammar, ""),
        (&["run", "--template", "template.jinja", "-n", "8", ask], ""),
        (&["tokenize"], "prompt.txt"),
        (&["chat"], "prompt.txt"),
        (&["batch", "items.jsonl"], ""),
        (&["batch", "-"], "items.jsonl"),
        (&["eval", "task.yaml", "--json"], ""),
        (&["eval", "documents.jsonl", "--json"], ""),
        (&["perplexity", "-c", "32", "--chunks", "1", "--json", "long.txt"], ""),
        (&["perplexity", "-c", "32", "--chunks", "1", "--json", "-"], "long.txt"),
    ];
    let answers = |mark: &str| -> Vec<String> {
        files.iter().for_each(|(name, text)| scratch.write(name, format!("{mark}{text}")));
        let answer = |(arguments, input): &(&[&str], &str)| {
            let input = if input.is_empty() { String::new() } else { scratch.read(input) };
            let (code, out, err) = run(&scratch, arguments, input.as_bytes());
            assert_eq!(code, 0, "{arguments:?}: {err}");
            steady(&out)
        };
        commands.iter().map(answer).collect()
    };
    let (without, with) = (answers(""), answers(MARK));
    for ((command, without), with) in commands.iter().zip(without).zip(with) {
        assert_eq!(without, with, "{command:?}");
    }
    scratch.write("smolt.toml", format!("{MARK}threads = 2\n"));
    let (code, out, err) = run(&scratch, &["config"], b"");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("./smolt.toml:1"), "{out}");
}

#[test]
fn what_is_no_text_is_refused_with_what_it_is() {
    let scratch = Scratch::new("texts", "refused");
    let wide: Vec<u8> = format!("{MARK}Hello\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    scratch.write("wide", &wide);
    scratch.write("nul", b"one\ntwo\0three");
    std::fs::create_dir(scratch.folder.join("folder")).unwrap();
    let options: &[&[&str]] = &[
        &["run", "-f"],
        &["run", "Hi", "--schema"],
        &["run", "Hi", "--grammar"],
        &["batch"],
        &["eval"],
        &["perplexity"],
    ];
    for option in options {
        for (file, parts) in [
            ("wide", &["wide", "UTF-16LE", "iconv -f UTF-16LE -t UTF-8"][..]),
            ("nul", &["nul, line 2", "NUL byte at offset 7"]),
            ("folder", &["folder: is a folder"]),
            ("none", &["none: no such file"]),
            ("/dev/zero", &["/dev/zero: is a device"]),
        ] {
            if option[0] == "batch" && file == "nul" {
                // A batch answers the other lines.
                continue;
            }
            let (code, out, err) = run(&scratch, &[option, &[file][..]].concat(), b"");
            assert_eq!((code, out.as_str()), (2, ""), "{option:?} {file}: {err}");
            parts.iter().for_each(|part| assert!(err.contains(part), "{option:?} {file}: {err}"));
        }
    }
    for command in [&["run"][..], &["batch", "-"], &["chat"], &["tokenize"]] {
        let (code, _, err) = run(&scratch, command, &wide);
        assert_eq!(code, 2, "{command:?}: {err}");
        assert!(err.contains("standard input: is UTF-16LE text"), "{command:?}: {err}");
    }
}
