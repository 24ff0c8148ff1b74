//! `smolt chat --connect`: against `smolt serve`, and against servers that do what none should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::chat::{CHAIN, Chain, FOREVER, Folder, ONCE, Terminal, has, pipe};
use crate::shared::smolt;

/// `smolt serve`, which ends with the test.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// What it says while it works.
    _rest: BufReader<std::process::ChildStderr>,
}

impl Serving {
    /// Serves the demo model, or the one that the arguments name.
    pub(crate) fn start(args: &[&str]) -> Serving {
        let mut command = smolt();
        command.args(["serve", "-t", "1", "--port", "0"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut line) = (String::new(), String::new());
        let address = loop {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it does not serve: {said}");
            said.push_str(&line);
            if let Some((_, address)) = line.trim_end().split_once("listening at ") {
                break address.to_owned();
            }
        };
        Serving { child, address, _rest: lines }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `smolt chat --connect`, with a state directory of its own and nothing else of the environment.
fn chat(folder: &Folder, address: &str, args: &[&str]) -> Command {
    let mut command = smolt();
    command.args(["chat", "--connect", address]).args(args);
    command.env("XDG_STATE_HOME", folder.path("state")).env("TERM", "xterm");
    command
}

/// The same with the model here.
fn local(folder: &Folder, args: &[&str]) -> Command {
    let mut command = smolt();
    // Without the note on the demo model.
    command.args(["chat", "-q", "-t", "1"]).args(args).env("XDG_STATE_HOME", folder.path("state"));
    command
}

const TALK: &str = "Turn on the kitchen lights\nAnd the blinds down\nWhat time do you open?\n";

#[test]
fn a_server_answers_as_the_model_here_does() {
    let folder = Folder::new();
    let socket = folder.path("smolt.sock");
    let servers = [Serving::start(&[]), Serving::start(&["--socket", socket.to_str().unwrap()])];
    let (code, expected, err) = pipe(local(&folder, &["--temp", "0"]), TALK);
    assert_eq!((code, expected.lines().count() >= 3), (Some(0), true), "{err}");
    let input = format!("{TALK}/show history\n");
    let history = pipe(local(&folder, &["--temp", "0"]), &input).2;
    let unix = format!("unix:{}", servers[1].address);
    let with_path = format!("{}/v1/", servers[0].address);
    for address in [&servers[0].address, &servers[1].address, &unix, &with_path] {
        let found = pipe(chat(&folder, address, &["--temp", "0"]), &input);
        assert_eq!(found, (Some(0), expected.clone(), history.clone()), "{address}");
    }
    let message = "\"\"\"Turn on\nthe kitchen lights\n\"\"\"\n/retry\n/undo\n/reset\nLock the front door";
    let here = pipe(local(&folder, &["--temp", "0"]), message);
    let there = pipe(chat(&folder, &unix, &["--temp", "0"]), message);
    assert_eq!((there.0, there.1), (here.0, here.1), "{}", there.2);
}

#[test]
fn options_and_forms_go_to_the_server() {
    let folder = Folder::new();
    let server = Serving::start(&[]);
    std::fs::write(folder.path("schema"), r#"{"enum": ["door", "light"]}"#).unwrap();
    let tools = json!([{"name": "lock", "parameters": {"type": "object", "required": ["door"],
        "properties": {"door": {"enum": ["front", "back"]}}}}]);
    std::fs::write(folder.path("tools"), tools.to_string()).unwrap();
    std::fs::write(folder.path("grammar"), "start: \"yes\" | \"no\"").unwrap();
    let path = |name: &str| folder.path(name).display().to_string();
    for args in [
        &["-n", "3"][..],
        &["-n", "none"],
        &["--stop", "the"],
        &["--regex", "[A-Z][a-z ]+[.]"],
        &["--schema", &path("schema")],
        &["--grammar", &path("grammar")],
        &["--choices", "door,light,timer"],
        &["--system", "You are a home."],
        &["--temp", "1", "--seed", "5", "--top-k", "3"],
        &["--tools", &path("tools"), "--tool-choice", "required", "-n", "60"],
    ] {
        let args = [&["--temp", "0"][..], args].concat();
        let (code, expected, err) = pipe(local(&folder, &args), "Lock the front door\n");
        assert_eq!(code, Some(0), "{args:?}: {err}");
        let found = pipe(chat(&folder, &server.address, &args), "Lock the front door\n");
        assert_eq!((found.0, found.1), (Some(0), expected), "{args:?}: {}", found.2);
    }
    let input = "/set answer regex [0-9]+\nLock the front door\n/set answer any\nLock the front door\n";
    assert_eq!(
        pipe(chat(&folder, &server.address, &["--temp", "0"]), input).1,
        pipe(local(&folder, &["--temp", "0"]), input).1
    );
}

#[test]
fn programs_read_events() {
    let folder = Folder::new();
    let server = Serving::start(&[]);
    let input = "{\"message\": \"Lock the front door\"}\n/tokens\n/context\n\"What time do you open?\"\n";
    let (code, out, err) = pipe(chat(&folder, &server.address, &["--json", "--temp", "0"]), input);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events[0]["event"] == "start" && events[0]["context"].as_u64() > Some(0), "{out}");
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let answers = of("answer");
    assert_eq!((answers.len(), &answers[0]["finish_reason"]), (2, &json!("stop")), "{out}");
    assert!(answers[0]["text"].as_str().unwrap().starts_with("Locking the front door."), "{out}");
    assert!(
        answers[1]["cached_tokens"].as_u64() > Some(0) && answers[1]["tokens"].as_u64() > Some(5),
        "{out}"
    );
    let text: String = of("text").iter().filter_map(|event| event["text"].as_str()).collect();
    assert!(text.starts_with(answers[0]["text"].as_str().unwrap()), "{out}");
    let errors = of("error");
    assert!(errors.len() == 1 && errors[0]["message"].as_str().unwrap().contains("on the server"), "{out}");
    assert!(of("output")[0]["text"].as_str().unwrap().contains(" tokens used"), "{out}");
}

#[test]
fn what_needs_the_model_says_that_it_is_elsewhere() {
    let folder = Folder::new();
    let server = Serving::start(&[]);
    let file = folder.path("x.session").display().to_string();
    let session = format!("/save {file}");
    for command in
        ["/tokens", "/model demo", "/continue", "/load x", session.as_str(), "/set threads 2", "/set kv q8_0"]
    {
        let (code, out, err) =
            pipe(chat(&folder, &server.address, &["--temp", "0"]), &format!("Hello\n{command}\n"));
        assert_eq!(code, Some(2), "{command}: {err}");
        assert!(!out.is_empty() && err.contains("the model is on the server"), "{command}: {err}");
    }
    assert!(!Path::new(&file).exists());
    let (code, _, err) = pipe(
        chat(&folder, &server.address, &["--top-k", "7"]),
        "/set\n/set temp 0.5\n/set\n/show\n/model\n/help\n",
    );
    assert_eq!(code, Some(0), "{err}");
    let lines =
        |name: &str| err.lines().filter(|line| line.trim_start().starts_with(name)).collect::<Vec<_>>();
    assert!(lines("temp ")[0].ends_with("the server's") && lines("temp ")[1].ends_with("0.5"), "{err}");
    assert!(lines("top_k")[0].ends_with(" 7") && lines("threads").is_empty(), "{err}");
    assert!(lines("model ").iter().all(|line| line.contains(&server.address)), "{err}");
    // What is said with a server is kept nowhere.
    assert!(!folder.path("state/smolt/sessions").exists());
}

#[test]
fn mistakes_are_said_before_the_first_message() {
    let folder = Folder::new();
    let server = Serving::start(&[]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (closed, absent) = (format!("http://{closed}"), folder.path("absent.sock").display().to_string());
    let fails = |address: &str, args: &[&str], code: i32, parts: &[&str]| {
        let found = pipe(chat(&folder, address, args), "Hello\n");
        assert_eq!((found.0, found.1.as_str()), (Some(code), ""), "{address} {args:?}: {}", found.2);
        for part in parts {
            assert!(found.2.contains(part), "{address} {args:?}: no {part:?} in {}", found.2);
        }
    };
    fails(&closed, &[], 1, &["there is no server at http://127", "smolt serve"]);
    fails(&absent, &[], 1, &["there is no server at /", "absent.sock"]);
    fails("https://127.0.0.1:1", &[], 2, &["--connect", "no TLS"]);
    fails("http://me:secret@127.0.0.1:1", &[], 2, &["--token-file"]);
    fails("", &[], 2, &["--connect"]);
    for option in [&["-c", "100"][..], &["-t", "1"], &["--kv", "q8_0"], &["--session", "x"], &["--raw"]] {
        fails(&server.address, option, 2, &[option[0], "--connect", "smolt serve"]);
    }
    fails(&server.address, &["-m", "absent"], 3, &["absent", "it has ", "leave -m out"]);
    let name = pipe(chat(&folder, &server.address, &["--json"]), "").1;
    let name = serde_json::from_str::<Value>(name.lines().next().unwrap()).unwrap()["model"]
        .as_str()
        .unwrap()
        .to_owned();
    let named = pipe(chat(&folder, &server.address, &["-m", &name, "--temp", "0"]), "Hello\n");
    assert_eq!(named.0, Some(0), "{}", named.2);
    // Variables are for every command, and say nothing here.
    let mut command = chat(&folder, &server.address, &["--temp", "0"]);
    command.env("SMOLT_MODEL", "absent.gguf").env("SMOLT_THREADS", "3").env("SMOLT_CONTEXT", "100");
    assert_eq!(pipe(command, "Hello\n"), named);
    let (code, _, err) = pipe(local(&folder, &["--token-file", "x"]), "Hello\n");
    assert!(code == Some(2) && err.contains("--connect"), "{err}");
}

#[test]
fn a_token_comes_from_a_file_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let right = write("right", "# of the kiosk\n0123456789abcdef0123\n", 0o600);
    let wrong = write("wrong", "fedcba9876543210fedc\n", 0o600);
    let open = write("open", "0123456789abcdef0123\n", 0o644);
    let server = Serving::start(&["--token-file", &right]);
    let ask = |args: &[&str]| pipe(chat(&folder, &server.address, args), "What time do you open?\n");
    for args in [&[][..], &["--token-file", &wrong]] {
        let (code, out, err) = ask(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("(401)") && err.contains("SMOLT_TOKEN_FILE"), "{err}");
    }
    let (code, _, err) = ask(&["--token-file", &open]);
    assert!(code == Some(2) && err.contains("chmod 600"), "{err}");
    let (code, out, err) = ask(&["--token-file", &right]);
    assert!(code == Some(0) && out.starts_with("We are open"), "{err}");
    let mut command = chat(&folder, &server.address, &[]);
    command.env("SMOLT_TOKEN_FILE", &right);
    assert_eq!(pipe(command, "What time do you open?\n").1, out);
}

#[test]
fn a_full_context_forgets_the_oldest_turns_there_too() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let server = Serving::start(&["-m", model.to_str().unwrap(), "-c", "200"]);
    let input: String = (0..12).map(|number| format!("Question {number}\n")).collect();
    let (code, out, err) = pipe(
        chat(&folder, &server.address, &["--system", "Be quick."]),
        &(input + "/show history\n/context\n"),
    );
    assert_eq!((code, out.lines().count()), (Some(0), 12), "{err}");
    assert!(err.contains("forgotten; the system prompt is kept"), "{err}");
    assert!(err.contains("[system] Be quick.") && err.contains("Question 11") && !err.contains("Question 0"));
    assert!(err.contains(" of 200 tokens used"), "{err}");
    // One that fits nowhere costs no other.
    let input = format!("Hi\n{}\n/show history\n", "x".repeat(400));
    let (code, out, err) = pipe(chat(&folder, &server.address, &[]), &input);
    assert_eq!((code, out.lines().count()), (Some(4), 1), "{err}");
    assert!(err.contains("[user] Hi\n") && !err.contains("forgotten") && !err.contains("[user] xx"), "{err}");
}

#[test]
fn ctrl_c_stops_the_work_of_the_server() {
    let folder = Folder::new();
    let model = FOREVER.write(&folder);
    // Whoever asks next would wait for the end of the answer before.
    let server =
        Serving::start(&["-m", model.to_str().unwrap(), "--slots", "1", "--no-loop-guard", "-n", "none"]);
    let mut terminal = Terminal::start(chat(&folder, &server.address, &["-n", "none"]));
    for round in 0..3 {
        let from = terminal.send(&format!("Hello {round}\r"));
        terminal.wait(from, "answer", |text| text.matches(CHAIN.trim_end()).count() >= 3);
        let at = terminal.send("\x03");
        let after = terminal.prompt(at);
        assert!(after.contains("stopped") && !after.contains("/continue"), "{after}");
    }
    assert!(terminal.line("/context").contains("3 turns"));
    let history = terminal.line("/show history");
    assert!(history.contains(&format!("[user] Hello 2\n[assistant] {}", CHAIN.trim_end())), "{history}");
    let shown = terminal.leave();
    assert!(!has(&shown, "\u{FFFD}".as_bytes()), "an emoji was split");
}

#[test]
fn a_terminal_looks_as_with_a_model_here() {
    let folder = Folder::new();
    let server = Serving::start(&[]);
    let mut terminal = Terminal::start(chat(&folder, &server.address, &["--temp", "0", "--stats"]));
    assert!(terminal.text(0).contains("talking with "), "{}", terminal.text(0));
    let answer = terminal.line("What time do you open?");
    assert!(answer.contains("We are open every day") && answer.contains("tokens used"), "{answer}");
    for part in ["  prompt   ", "  first    token after ", "  answer   ", "  ended    stop"] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    terminal.send("/conte\t");
    assert!(terminal.line("").contains("1 turn"));
    assert!(terminal.line("/hlep").contains("did you mean /help"));
    let shown = terminal.leave();
    assert!(has(&shown, b"\x1b[1;36m"), "the prompt has its colour");
    let kept = std::fs::read_to_string(folder.path("state/smolt/history")).unwrap();
    assert!(kept.contains("What time do you open?"), "{kept}");
}

/// A server that answers each connection with the next of its texts, and keeps what it was asked.
struct Scripted {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A model of no smolt.
const OTHER: &str = r#"{"object": "list", "data": [{"id": "other", "owned_by": "somebody"}]}"#;
/// A model of smolt's.
const OURS: &str = r#"{"data": [{"id": "ours", "owned_by": "smolt", "max_model_len": 1000}]}"#;
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

fn plain(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A stream with these objects, ended by `[DONE]`.
fn stream(events: &[Value]) -> Vec<u8> {
    let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    format!("{STREAM}{events}data: [DONE]\n\n").into_bytes()
}

fn text(content: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": content}}]})
}

fn end(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

impl Scripted {
    /// Lists `models`, then answers so.
    fn new(models: &str, answers: Vec<Vec<u8>>) -> Scripted {
        Scripted::of([vec![plain("200 OK", "", models)], answers].concat())
    }

    fn of(responses: Vec<Vec<u8>>) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(vec![]));
        let kept = Arc::clone(&asked);
        // Ends with the last response, or with the tests.
        std::thread::spawn(move || {
            for response in responses {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let request = read_request(&mut stream);
                kept.lock().unwrap().push(request);
                let _ = stream.write_all(&response);
            }
        });
        Scripted { address, asked }
    }

    /// The bodies of what was asked, from the first message on.
    fn bodies(&self) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        let bodies = asked.iter().filter_map(|request| request.split_once("\r\n\r\n"));
        bodies.filter_map(|(_, body)| serde_json::from_str(body).ok()).collect()
    }
}

fn read_request(stream: &mut TcpStream) -> String {
    let (mut request, mut bytes) = (vec![], [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        match stream.read(&mut bytes) {
            Ok(read @ 1..) => request.extend_from_slice(&bytes[..read]),
            _ => return text,
        }
    }
}

/// Asks a server that answers so; exit code, standard output and standard error.
fn ask(models: &str, answers: Vec<Vec<u8>>, args: &[&str], input: &str) -> (crate::chat::Ended, Vec<Value>) {
    let folder = Folder::new();
    let server = Scripted::new(models, answers);
    (pipe(chat(&folder, &server.address, args), input), server.bodies())
}

#[test]
fn other_servers_answer_as_far_as_they_speak_the_same() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}});
    let (found, asked) =
        ask(OTHER, vec![stream(&[text("Hel"), text("lo"), end("stop"), usage])], &["--stats"], "Hi\n");
    assert_eq!((found.0, found.1.as_str()), (Some(0), "Hello\n"), "{}", found.2);
    assert!(found.2.contains("prompt   9 tokens") && found.2.contains("answer   2 tokens"), "{}", found.2);
    let body = &asked[0];
    assert_eq!(body["messages"], json!([{"role": "user", "content": "Hi"}]));
    assert_eq!(
        (&body["model"], &body["max_tokens"], &body["stream"]),
        (&json!("other"), &json!(256), &json!(true))
    );
    for key in ["temperature", "top_k", "loop_guard", "think", "regex"] {
        assert!(body.get(key).is_none(), "{key}: {body}");
    }
    let args = ["--think", "off", "--temp", "0.5", "-n", "7", "--seed", "3"];
    let (found, asked) = ask(OTHER, vec![stream(&[text("a"), end("length")])], &args, "Hi\n");
    assert_eq!((found.0, found.1.as_str()), (Some(0), "a\n"), "{}", found.2);
    let body = &asked[0];
    assert_eq!(
        (&body["temperature"], &body["max_tokens"], &body["seed"]),
        (&json!(0.5), &json!(7), &json!(3))
    );
    assert_eq!(body["chat_template_kwargs"], json!({"enable_thinking": false}));
    // Neither counts nor a last event; a body in chunks, which are cut anywhere; lines of another kind.
    let events = format!(": hello\r\nevent: x\r\ndata: {}\r\n\r\ndata:{}\n\n", text("one"), end("stop"));
    let chunks: String = events
        .as_bytes()
        .chunks(7)
        .map(|part| format!("{:x};x=y\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)))
        .collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let chunked = format!("{head}{chunks}0\r\nX: y\r\n\r\n").into_bytes();
    let (found, _) = ask(OTHER, vec![chunked], &["--stats"], "Hi\n");
    assert_eq!((found.0, found.1.as_str()), (Some(0), "one\n"), "{}", found.2);
    // A server without a list of models.
    let folder = Folder::new();
    let server = Scripted::of(vec![plain("404 Not Found", "", ""), stream(&[text("a"), end("stop")])]);
    assert_eq!(pipe(chat(&folder, &server.address, &[]), "Hi\n").1, "a\n");
    assert_eq!(server.bodies()[0]["model"], "default");
    for option in [&["--regex", "a"][..], &["--choices", "a,b"]] {
        let (found, _) = ask(OTHER, vec![], option, "Hi\n");
        assert!(found.0 == Some(2) && found.2.contains("of smolt's servers"), "{}", found.2);
    }
}

#[test]
fn calls_and_reasoning_come_in_parts() {
    let part = |value: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": [value]}}]});
    let answer = stream(&[
        json!({"choices": [{"delta": {"role": "assistant", "content": null, "reasoning_content": "hm "}}]}),
        json!({"choices": [{"delta": {"reasoning": "so"}}]}),
        part(
            json!({"index": 0, "id": "a1", "type": "function", "function": {"name": "lock", "arguments": ""}}),
        ),
        part(json!({"index": 0, "function": {"arguments": "{\"door\":"}})),
        part(json!({"index": 0, "function": {"arguments": "\"front\"}"}})),
        part(json!({"index": 1, "id": "b2", "function": {"name": "wait", "arguments": {}}})),
        end("tool_calls"),
    ]);
    let second = stream(&[text("Done."), end("stop")]);
    let input = "Lock it\n/result locked\n/result waited\n";
    let (found, asked) = ask(OTHER, vec![answer, second], &["--think", "on"], input);
    let calls =
        "{\"name\":\"lock\",\"arguments\":{\"door\":\"front\"}}\n{\"name\":\"wait\",\"arguments\":{}}\n";
    assert_eq!((found.0, found.1), (Some(0), format!("{calls}Done.\n")), "{}", found.2);
    assert!(found.2.contains("hm so"), "{}", found.2);
    let messages = &asked[1]["messages"];
    assert_eq!(
        messages[1]["tool_calls"][0]["function"],
        json!({"name": "lock", "arguments": "{\"door\":\"front\"}"})
    );
    assert_eq!(messages[2], json!({"role": "tool", "tool_call_id": "a1", "content": "locked"}));
    assert_eq!(messages[3], json!({"role": "tool", "tool_call_id": "b2", "content": "waited"}));
}

#[test]
fn a_busy_server_is_asked_again() {
    let busy = || plain("429 Too Many Requests", "Retry-After: 1\r\n", r#"{"error": {"message": "full"}}"#);
    let (found, asked) = ask(OTHER, vec![busy(), stream(&[text("a"), end("stop")])], &[], "Hi\n");
    assert_eq!((found.0, found.1.as_str()), (Some(0), "a\n"), "{}", found.2);
    assert!(found.2.contains("the server is busy; it is asked again in 1 s"), "{}", found.2);
    assert_eq!((asked.len(), &asked[0]), (2, &asked[1]));
    let long = r#"{"error": {"message": "too long", "code": "context_length_exceeded"}}"#;
    let answers = vec![
        stream(&[text("a"), end("stop")]),
        stream(&[text("b"), end("stop")]),
        plain("400 Bad Request", "", long),
        stream(&[text("c"), end("stop")]),
    ];
    let (found, asked) = ask(OURS, answers, &[], "One\nTwo\nThree\n");
    assert_eq!((found.0, found.1.as_str()), (Some(0), "a\nb\nc\n"), "{}", found.2);
    assert!(found.2.contains("forgotten"), "{}", found.2);
    let count = |at: usize| asked[at]["messages"].as_array().unwrap().len();
    assert!(count(2) == 5 && count(3) < 5 && asked[3]["messages"][0]["role"] == "user", "{:?}", asked[3]);
}

/// What servers do that none should: it is said, costs that message alone, and neither hangs nor fills the memory.
#[test]
fn what_hostile_servers_send_is_bounded() {
    let endless = |start: &str, part: &str, bytes: usize| {
        [start.as_bytes(), part.repeat(bytes / part.len()).as_bytes()].concat()
    };
    let event = |event: &str| format!("{STREAM}data: {event}\n\n").into_bytes();
    let fine = stream(&[text("fine"), end("stop")]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("cut", event(&text("half").to_string()), "in the middle of the answer"),
        ("cut before the first", STREAM.into(), "in the middle of the answer"),
        ("fails", event(r#"{"error": {"message": "out of memory"}}"#), "out of memory"),
        ("no JSON", event("{half"), "cannot be read"),
        ("another type", event(r#"{"choices": [{"delta": {"content": 7}}]}"#), "cannot be read"),
        ("deep", event(&"[".repeat(100_000)), "cannot be read"),
        ("a line without an end", endless(STREAM, "x", 2 << 20), "an event of more than"),
        ("an event without an end", endless(STREAM, "data: y\n", 4 << 20), "an event of more than"),
        (
            "headers without an end",
            endless("HTTP/1.1 200 OK\r\n", "a: b\r\n", 1 << 20),
            "headers of more than",
        ),
        (
            "many headers",
            endless("HTTP/1.1 200 OK\r\n", "a: b\r\n", 6 * 200).into_iter().chain(*b"\r\n").collect(),
            "no HTTP/1.1",
        ),
        ("no HTTP", b"\x16\x03\x01\x02\x00hello\r\n\r\n".into(), "no HTTP/1.1"),
        ("nothing", vec![], "no HTTP/1.1"),
        (
            "two ends",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            "where its response ends",
        ),
        (
            "a wrong chunk",
            format!("{}\r\nzz\r\n", STREAM.trim_end().to_owned() + "\r\nTransfer-Encoding: chunked\r\n")
                .into(),
            "size of a chunk",
        ),
        ("a redirect", plain("302 Found", "Location: http://example.org/\r\n", ""), "(302)"),
        ("no stream", plain("200 OK", "Content-Type: application/json\r\n", "{}"), "does not stream"),
        ("a page", plain("500 Oops", "", "<html>"), "(500)"),
        (
            "many calls",
            event(r#"{"choices": [{"delta": {"tool_calls": [{"index": 4000000000, "function": {}}]}}]}"#),
            "functions",
        ),
    ];
    for (name, response, part) in cases {
        let (found, asked) = ask(OTHER, vec![response, fine.clone()], &[], "First\nSecond\n");
        assert!(found.2.contains(part) && !found.2.contains("panicked"), "{name}: {}", found.2);
        assert!(found.0 != Some(0) && found.1.ends_with("fine\n"), "{name}: {found:?}");
        // The message is as if it had not been asked.
        let last = asked.last().unwrap();
        assert_eq!(last["messages"], json!([{"role": "user", "content": "Second"}]), "{name}");
    }
}

#[test]
fn what_a_server_says_does_nothing_to_a_terminal() {
    const EVIL: &str = "\u{1b}]0;live\u{7}\u{9b}31m\u{202e}";
    let folder = Folder::new();
    let models = json!({"data": [{"id": format!("name{EVIL}")}]}).to_string();
    let refusal = json!({"error": {"message": format!("why {EVIL}"), "code": EVIL}}).to_string();
    let server = Scripted::new(
        &models,
        vec![
            stream(&[
                text("said "),
                text(EVIL),
                json!({"choices": [{"delta": {"reasoning_content": EVIL}}]}),
                end("stop"),
            ]),
            plain("400 Bad Request", "", &refusal),
        ],
    );
    let mut terminal = Terminal::start(chat(&folder, &server.address, &[]));
    let answer = terminal.line("Hi");
    assert!(answer.contains("said"), "{answer:?}");
    let refusal = terminal.line("Ho");
    assert!(refusal.contains("why "), "{refusal:?}");
    terminal.line("/show history");
    terminal.line("/model");
    let shown = terminal.leave();
    for part in [&b"\x1b]0;"[..], "\u{9b}".as_bytes(), "\u{202e}".as_bytes()] {
        assert!(!has(&shown, part), "{}", String::from_utf8_lossy(&shown).escape_debug());
    }
    // Scripts get what is said as it is, and errors without what a terminal obeys.
    let (found, _) = ask(OTHER, vec![plain("400 Bad Request", "", &refusal)], &[], "Hi\n");
    assert!(found.0 == Some(2) && !found.2.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{:?}", found.2);
}

#[test]
fn a_server_that_ends_is_said_and_the_talk_goes_on() {
    let folder = Folder::new();
    let model = Chain { hidden: 512, ..FOREVER }.write(&folder);
    let mut server = Serving::start(&["-m", model.to_str().unwrap(), "--no-loop-guard", "-n", "none"]);
    let mut terminal = Terminal::start(chat(&folder, &server.address, &["-n", "none"]));
    let from = terminal.send("Hello\r");
    terminal.wait(from, "answer", |text| text.contains(CHAIN.trim_end()));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let text = terminal.prompt(from);
    assert!(text.contains("in the middle of the answer") || text.contains("broke"), "{text}");
    assert!(terminal.line("Ho").contains("there is no server at"));
    assert!(terminal.line("/show history").contains("nothing was said yet"));
    terminal.leave();
}
