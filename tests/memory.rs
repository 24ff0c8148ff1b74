//! The memory that is planned is the memory that the process takes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::connect::Serving;
use crate::shared::{Scratch, repository};

/// Most that a plan may be above what was taken: patterns, maps and code are counted whole.
const SPARE: u64 = 12 << 20;

/// What `run` says of itself: planned and taken, in bytes.
fn measured(scratch: &Scratch, args: &[&str]) -> (u64, u64) {
    let json: Value = serde_json::from_str(&scratch.out(&[&["--json", "-n", "12"], args].concat())).unwrap();
    let bytes = |key: &str| json["memory"][key].as_u64().unwrap();
    (bytes("planned_bytes"), bytes("peak_rss_bytes"))
}

#[test]
#[cfg(target_os = "linux")]
fn no_run_takes_more_than_planned() {
    let scratch = Scratch::new("run", "planned");
    scratch.write("schema.json", r#"{"type": "object", "properties": {"room": {"enum": ["hall"]}}}"#);
    let long = "Turn on the lights in the kitchen, please. ".repeat(15);
    for args in [
        &["What time do you open?"][..],
        &["-t", "1", "What time do you open?"],
        &["-t", "4", "What time do you open?"],
        &["--kv", "q8_0", "-c", "64", "Hello"],
        &["--lookup", "Hello hello hello"],
        &["--schema", "schema.json", "Turn on the hall"],
        &["--session", "a.session", "Hello"],
        &["--choices", "a,b", "Hello"],
        &["-n", "1", &long],
    ] {
        let (planned, peak) = measured(&scratch, args);
        println!("{:?}: {peak} taken, {planned} planned", args[0]);
        assert!(peak <= planned, "{args:?}: {peak} taken, {planned} planned");
        assert!(planned <= peak + SPARE, "{args:?}: {peak} taken, {planned} planned");
    }
}

/// Most physical memory that a process has had, in bytes; `None` once it has ended.
fn peak(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"))?;
    Some(kib.trim().parse::<u64>().unwrap() * 1024)
}

/// What a command took until it ended, in bytes.
fn taken(scratch: &Scratch, args: &[&str], input: &str) -> u64 {
    let mut command = scratch.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let mut most = 0;
    while let Some(bytes) = peak(&child) {
        most = most.max(bytes);
        std::thread::sleep(Duration::from_micros(500));
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{args:?}: {said}");
    assert!(most > 0);
    most
}

/// What is planned for the model with these arguments.
fn planned(args: &[&str]) -> u64 {
    let json: Value =
        serde_json::from_str(&Scratch::new("plan", "kinds").out(&[&["--json"], args].concat())).unwrap();
    json["total"].as_u64().unwrap()
}

/// What a server took that was asked for an answer to each body.
fn served(args: &[&str], bodies: &[&str]) -> u64 {
    let server = Serving::start(args);
    let address = server.address.strip_prefix("http://").unwrap();
    for body in bodies {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let kind = "Content-Type: application/json\r\nContent-Length:";
        write!(stream, "{head}{kind} {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    peak(&server.child).unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn no_other_command_takes_more_than_planned() {
    let sampled = ["--temp", "1", "--top-k", "0", "--top-p", "0.95", "--repeat-penalty", "1.1", "-n", "12"];
    let (jsonl, schema) = ("{\"prompt\": \"Hello\"}\n".repeat(8), r#"{"type": "array"}"#);
    let task = repository("prompts/common.yaml");
    let task = task.to_str().unwrap();
    let mut folder = std::env::var_os("SMOLT_REAL_MODELS").map(|folder| std::fs::read_dir(folder).unwrap());
    let real = folder.iter_mut().flatten().map(|entry| entry.unwrap().path());
    let models = [repository("src/cli/demo.gguf")].into_iter().chain(real);
    for model in models.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")) {
        let usual = ["-m", model.to_str().unwrap(), "-c", "512"];
        let few = [&usual[..], &["-t", "1"]].concat();
        let form = [&few[..], &["--schema", "schema.json"]].concat();
        let four = [&few[..], &["--parallel", "4"]].concat();
        for (command, plan, more, input) in [
            ("run", &few, &sampled[..], ""),
            ("run", &form, &sampled, ""),
            ("chat", &few, &sampled, "Hello\nHow are you?\n"),
            ("batch", &few, &["jobs.jsonl", "-n", "12"], ""),
            ("batch", &four, &["jobs.jsonl", "-n", "12"], ""),
            ("batch", &form, &["jobs.jsonl", "-n", "12"], ""),
            ("eval", &few, &[task, "--limit", "4"], ""),
        ] {
            let scratch = Scratch::new(command, "kinds");
            scratch.write("schema.json", schema);
            scratch.write("jobs.jsonl", &jsonl);
            let prompt: &[&str] = if command == "run" { &["Hello"] } else { &[] };
            let (args, path) = ([plan, more, prompt].concat(), scratch.folder.join("schema.json"));
            let plan: Vec<&str> = plan
                .iter()
                .map(|arg| if *arg == "schema.json" { path.to_str().unwrap() } else { arg })
                .collect();
            let (taken, planned) = (taken(&scratch, &args, input), planned(&plan));
            println!("{command} {args:?}: {taken} taken, {planned} planned");
            assert!(taken <= planned, "{command} {args:?}: {taken} taken, {planned} planned");
        }
        let plain = r#"{"prompt": "Hello", "max_tokens": 12, "temperature": 1.0, "top_p": 0.95}"#;
        let formed = plain.replace('}', r#", "response_format": {"type": "json_object"}}"#);
        let schema = Scratch::new("plan", "form");
        schema.write("schema.json", r#"{"type": "object"}"#);
        let form = schema.folder.join("schema.json");
        let form = ["--schema", form.to_str().unwrap()];
        for (slots, body, grammar) in
            [("1", plain, &[][..]), ("4", plain, &[]), ("1", &formed, &form), ("4", &formed, &form)]
        {
            let taken = served(&[&usual[..], &["--slots", slots]].concat(), &[body, body, body]);
            let planned = planned(&[&few[..], &["--parallel", slots], grammar].concat());
            println!("serve {slots} {body}: {taken} taken, {planned} planned");
            assert!(taken <= planned, "serve {slots} {body}: {taken} taken, {planned} planned");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_limit_holds_for_the_process() {
    let scratch = Scratch::new("run", "limit");
    let (planned, _) = measured(&scratch, &["Hello"]);
    let limit = |bytes: u64| scratch.run(&["-n", "2", "--max-memory", &bytes.to_string(), "Hello"]).0;
    assert_eq!((limit(planned), limit(planned - 1)), (0, 4));
}

#[test]
#[cfg(target_os = "linux")]
fn real_models_take_what_is_planned() {
    let Some(folder) = std::env::var_os("SMOLT_REAL_MODELS").map(PathBuf::from) else {
        eprintln!("SKIPPED: SMOLT_REAL_MODELS names no folder of GGUF files");
        return;
    };
    let scratch = Scratch::new("run", "real");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        for threads in ["1", "2"] {
            let (planned, peak) = measured(&scratch, &["-m", path.to_str().unwrap(), "-t", threads, "Hello"]);
            println!("{}: {peak} taken, {planned} planned", path.display());
            assert!(
                peak <= planned && planned <= peak + peak / 16 + SPARE,
                "{peak} taken, {planned} planned"
            );
        }
    }
}

#[test]
fn the_built_in_model_is_planned_as_a_file_is() {
    let (scratch, model) = (Scratch::new("plan", "demo"), repository("src/cli/demo.gguf"));
    let total = |args: &[&str]| {
        let json: Value = serde_json::from_str(&scratch.out(&[&["--json"], args].concat())).unwrap();
        json["total"].clone()
    };
    assert_eq!(total(&[]), total(&["-m", model.to_str().unwrap()]));
}
