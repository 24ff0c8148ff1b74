//! What strangers write into files, names and models does nothing to a terminal: each command on a pseudo-terminal.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::chat::{Folder, ONCE, Terminal, byte_char, chat};

/// Renames the window, fills the clipboard, blinks, clears the screen, rings, turns text around, goes back, deletes.
const EVIL: &str =
    "\x1b]0;pwned\x07\x1b]52;c;eA==\x07\x1b[35;5mred\u{9b}2J\u{202e}live\u{2066}\u{8}\u{7f}\rback\u{200b}";

/// What the programs themselves tell a terminal: colours, and where the cursor goes.
fn is_ours(sequence: &str) -> bool {
    let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
    let (parameters, command) = (&sequence[..end], &sequence[end..=end]);
    match command {
        "m" => ["2", "0", "31", "1;36", "1", "4", "", "39"].contains(&parameters),
        "h" | "l" => ["?2004", "?2026"].contains(&parameters),
        "A" | "B" | "C" | "D" | "J" | "K" | "H" => parameters.chars().all(|c| c.is_ascii_digit() || c == ';'),
        _ => false,
    }
}

/// Fails if a terminal would obey what it was shown.
#[track_caller]
fn check(what: &str, raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw).into_owned();
    // The terminal itself puts a return before each line feed; the line editor returns as well.
    let mut parts = text.split('\x1b');
    let plain = parts.next().unwrap_or_default().to_owned();
    let mut shown = plain;
    for part in parts {
        let sequence = part.strip_prefix('[').filter(|sequence| is_ours(sequence));
        let sequence = sequence.unwrap_or_else(|| panic!("{what}: ESC {part:?} in {text:?}"));
        shown.push_str(sequence);
    }
    let bad = |c: char| smolt::console::is_unsafe(c) && c != '\r' || c == '\u{200b}';
    assert!(!shown.contains(bad), "{what}: {shown:?}");
    assert!(!shown.contains("\rback"), "{what}: {shown:?}");
    shown
}

/// Runs a program on a terminal until it ends; what was shown. It must repeat `part` of what is hostile.
#[track_caller]
fn shown(what: &str, part: &str, mut command: Command, folder: &Folder) -> String {
    for (name, value) in
        [("TERM", "xterm"), ("HOME", "."), ("XDG_CONFIG_HOME", "./c"), ("XDG_DATA_HOME", "./d")]
    {
        if command.get_envs().all(|(set, _)| set != name) {
            command.env(name, value);
        }
    }
    command.current_dir(folder.path("."));
    let mut terminal = Terminal::open(command, 400);
    terminal.send("\x04");
    let start = std::time::Instant::now();
    while terminal.child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < crate::chat::PATIENCE, "{what} does not end: {}", terminal.text(0));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // What was written comes a little later.
    let start = std::time::Instant::now();
    while !terminal.text(0).contains(part) && start.elapsed() < std::time::Duration::from_secs(2) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let text = check(what, &terminal.raw());
    assert!(text.contains(part), "{what} does not say {part:?}: {text}");
    text
}

fn smolt(args: &[&str]) -> Command {
    let mut command = crate::shared::smolt();
    command.args(args);
    command
}

/// A model that says a hostile answer: the tokens of its chain stand for other texts.
fn hostile_model(folder: &Folder, name: &str) -> std::path::PathBuf {
    let path = folder.path(name);
    ONCE.write_with(&path, |writer| {
        let chain: Vec<usize> = crate::chat::CHAIN.bytes().map(usize::from).collect();
        let texts = (0..=255).map(|byte: u8| match chain.iter().position(|id| *id == usize::from(byte)) {
            Some(place) => format!("{EVIL}{place}"),
            None => byte_char(byte).to_string(),
        });
        let texts: Vec<String> = texts.chain(["<|im_start|>", "<|im_end|>"].map(String::from)).collect();
        let kinds = (0..258).map(|id| {
            if id > 255 {
                3
            } else if chain.contains(&id) {
                4
            } else {
                1
            }
        });
        writer.set("tokenizer.ggml.tokens", texts);
        writer.set("tokenizer.ggml.token_type", kinds.collect::<Vec<i32>>());
        writer.set("general.name", format!("n{EVIL}"));
        writer.set(format!("other.{}", "k"), EVIL);
    });
    path
}

#[test]
fn models_and_their_answers() {
    let folder = Folder::new();
    let model = hostile_model(&folder, "m.gguf");
    let model = model.to_str().unwrap();
    let said = shown("run", "live", smolt(&["run", "-m", model, "--temp", "0", "--verbose", "Hi"]), &folder);
    assert!(said.contains("\u{FFFD}]0;pwned"), "{said:?}");
    let said = shown(
        "run without wrapping",
        "live",
        smolt(&["run", "-m", model, "--no-wrap", "--temp", "0", "Hi"]),
        &folder,
    );
    assert!(said.contains("\u{FFFD}]0;pwned"), "{said:?}");
    shown("json", "live", smolt(&["run", "-m", model, "--json", "--temp", "0", "Hi"]), &folder);
    shown("decode", "live", smolt(&["tokenize", "-m", model, "--decode", "240 32"]), &folder);
    shown(
        "decode to json",
        "live",
        smolt(&["tokenize", "-m", model, "--decode", "--json", "240 32"]),
        &folder,
    );
    shown("show", "chain", smolt(&["show", "-m", ONCE.write(&folder).to_str().unwrap()]), &folder);
    shown("show", "pwned", smolt(&["show", "-m", model]), &folder);
    shown("plan", "pwned", smolt(&["plan", "-m", model]), &folder);
    shown("logprobs", "live", smolt(&["run", "-m", model, "--temp", "0", "--logprobs=2", "Hi"]), &folder);
    // A pipe gets the bytes that the model wrote.
    let piped = smolt(&["tokenize", "-m", model, "--decode", "240"]).output().unwrap();
    assert_eq!(piped.stdout, format!("{EVIL}0").as_bytes());
    let piped = smolt(&["run", "-m", model, "--temp", "0", "Hi"]).output().unwrap();
    assert!(piped.stdout.starts_with(format!("{EVIL}0{EVIL}1").as_bytes()));
}

#[test]
fn conversations() {
    let folder = Folder::new();
    let mut terminal = Terminal::start(chat(&folder, &hostile_model(&folder, "m.gguf"), &[]));
    let from = terminal.send("Hi\r");
    terminal.prompt(from);
    let answer = terminal.text(from);
    assert!(answer.contains("pwned"), "{answer:?}");
    terminal.line("/show");
    terminal.line("/show history");
    terminal.line("/tokens Hi");
    // What is pasted is shown while it is edited, and when the history brings it back.
    let from = terminal.send("\x1b[200~a\x1b]0;pasted\x07\u{202e}b\x1b[201~");
    terminal.wait(from, "what was pasted", |text| text.contains("pasted"));
    let from = terminal.send("\r");
    terminal.prompt(from);
    let from = terminal.send("\x1b[A");
    terminal.wait(from, "the last line", |text| text.contains("pasted"));
    let from = terminal.send("\x03");
    terminal.prompt(from);
    std::fs::write(folder.path("f\u{9b}2Jile"), "").unwrap();
    std::fs::write(folder.path("f\u{202e}other"), "").unwrap();
    let from = terminal.send(&format!("/load {}/f\t\t", folder.path(".").display()));
    terminal.wait(from, "files", |text| text.contains("other"));
    let from = terminal.send("\x03");
    terminal.prompt(from);
    let from = terminal.send(&format!("/{}\r", EVIL.replace(['\x1b', '\r', '\x07', '\u{8}', '\u{7f}'], "")));
    terminal.wait(from, "an error", |text| text.contains("there is no command"));
    terminal.prompt(from);
    check("chat", &terminal.raw());
    terminal.leave();
}

/// Writes a file into the folder of a test; its name.
fn written(folder: &Folder, name: &str, text: &str) -> String {
    std::fs::write(folder.path(name), text).unwrap();
    name.to_owned()
}

/// A text in YAML and JSON.
const ESCAPES: &str = r#""\u001b]0;pwned\u0007\u001b[31m\u009b2J\u202elive""#;

#[test]
fn files_and_their_names() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let model = model.to_str().unwrap();
    let name = EVIL.replace('/', "");
    for command in ["show", "plan", "run"] {
        shown("a name", "live", smolt(&[command, "-m", &format!("missing{name}.gguf"), "Hi"]), &folder);
    }
    let garbage = written(&folder, &format!("g{name}.gguf"), EVIL);
    shown("no model", "live", smolt(&["show", "-m", &garbage]), &folder);
    let renamed = format!("r{name}.gguf");
    std::fs::copy(model, folder.path(&renamed)).unwrap();
    shown("a model's name", "chain", smolt(&["show", "-m", &renamed]), &folder);
    shown("a folder", "live", smolt(&["list", &format!("x{name}")]), &folder);
}

#[test]
fn templates_and_grammars() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let model = model.to_str().unwrap();
    let template = written(&folder, "u.jinja", &format!("{{{{ raise_exception('{EVIL}') }}}}"));
    shown("a template", "live", smolt(&["run", "-m", model, "--template", &template, "Hi"]), &folder);
    let template = written(&folder, "v.jinja", &format!("{{{{ '{EVIL}'|nothing }}}}{{% {EVIL}"));
    shown("a template", "not valid", smolt(&["run", "-m", model, "--template", &template, "Hi"]), &folder);
    for (name, text) in [
        ("s.json", format!("{{\"type\": \"{EVIL}\"}}")),
        ("s2.json", "{\"type\": \"\\u001b]0;live\\u009b\\u202e\"}".to_owned()),
    ] {
        let schema = written(&folder, name, &text);
        shown("a schema", "s", smolt(&["run", "-m", model, "--schema", &schema, "Hi"]), &folder);
    }
    shown(
        "a pattern",
        "cannot be read",
        smolt(&["run", "-m", model, "--regex", &format!("({EVIL}"), "Hi"]),
        &folder,
    );
    let lark = written(&folder, "l.lark", &format!("start: {EVIL}"));
    shown("a grammar", "cannot be followed", smolt(&["run", "-m", model, "--grammar", &lark, "Hi"]), &folder);
    shown(
        "a session",
        "live",
        smolt(&["run", "-m", model, "--session", &format!("{EVIL}/x"), "Hi"]),
        &folder,
    );
}

#[test]
fn tasks_and_batches() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let model = model.to_str().unwrap();
    written(&folder, "d.jsonl", "{\"q\": \"a\", \"a\": \"b\"}");
    let task = written(
        &folder,
        "t.yaml",
        &format!(
            "task: {ESCAPES}\ndataset_path: d.jsonl\noutput_type: generate_until\ndoc_to_text: q\ndoc_to_target: a\n\
                  generation_kwargs: {{max_gen_toks: 2}}\n"
        ),
    );
    let result = shown("a task", "pwned", smolt(&["eval", "-m", model, &task]), &folder);
    assert!(result.contains("live"), "{result}");
    shown(
        "a task's key",
        "live",
        smolt(&["eval", "-m", model, &written(&folder, "k.yaml", &format!("{ESCAPES}: 1\n"))]),
        &folder,
    );
    shown(
        "a task's field",
        "live",
        smolt(&[
            "eval",
            "-m",
            model,
            &written(
                &folder,
                "f.yaml",
                &format!(
                    "task: x\ndataset_path: d.jsonl\noutput_type: {ESCAPES}\ndoc_to_text: {ESCAPES}\ndoc_to_target: a\n"
                ),
            ),
        ]),
        &folder,
    );
    shown("a task's name", "live", smolt(&["eval", "--check", &format!("{EVIL}.yaml")]), &folder);

    let items = written(
        &folder,
        "b.jsonl",
        &format!(
            "{{\"id\": {ESCAPES}, \"prompt\": \"Hi\"}}\n{{\"id\": {ESCAPES}, \"prompt\": 1}}\n{{\"id\": \"c\", {ESCAPES}: 1, \"prompt\": \"x\"}}\n"
        ),
    );
    shown("a batch", "live", smolt(&["batch", "-m", model, "-n", "2", &items]), &folder);
    for device in ["/dev/stdout", "/dev/stderr"] {
        shown(
            "a batch to a terminal",
            "live",
            smolt(&["batch", "-m", model, "-n", "2", &items, "-o", device]),
            &folder,
        );
    }
    shown("a batch's name", "live", smolt(&["batch", "-m", model, &format!("{EVIL}.jsonl")]), &folder);
}

#[test]
fn arguments_settings_and_aliases() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let model = model.to_str().unwrap();
    for args in [
        &[EVIL][..],
        &["run", &format!("--{EVIL}"), "Hi"],
        &["run", "--temp", EVIL, "Hi"],
        &["run", "--think", EVIL, "Hi"],
        &["alias", EVIL, model],
        &["preset", "save", EVIL, "-m", model],
        &["preset", "show", EVIL],
        &["rm", EVIL],
        &["use", EVIL],
        &["config", EVIL],
    ] {
        shown(args[0], "pwned", smolt(args), &folder);
    }
    let mut command = smolt(&["run", "-m", model, "Hi"]);
    command.env("SMOLT_TEMP", EVIL);
    shown("a variable", "live", command, &folder);
    let mut command = smolt(&["run", "--help"]);
    command.arg0(EVIL).env("SMOLT_TEMP", EVIL);
    shown("the program's name", "[PROMPT]", command, &folder);
    for (what, text) in [
        ("a key", r#""\u001b]0;x\u0007\u009blive" = 1"#.to_owned()),
        ("a value", r#"temp = "\u001b]0;x\u0007\u009blive""#.to_owned()),
        ("a template of settings", r#"template = "\u001b]0;x\u0007\u009blive""#.to_owned()),
        ("no settings", format!("{EVIL} =")),
    ] {
        std::fs::write(folder.path("smolt.toml"), text).unwrap();
        for args in [&["run", "-m", model, "-n", "1", "Hi"][..], &["config"]] {
            shown(what, "smolt", smolt(args), &folder);
        }
    }
    std::fs::remove_file(folder.path("smolt.toml")).unwrap();
    let data = folder.path("d/smolt");
    std::fs::create_dir_all(&data).unwrap();
    for name in ["aliases", "aliases.toml", "aliases.json"] {
        std::fs::write(data.join(name), format!("x{EVIL} = {model}\n\"y\u{202e}\" = \"{EVIL}\"\n")).unwrap();
    }
    for args in [&["list"][..], &["alias"], &["run", "-m", "x", "Hi"]] {
        let mut command = smolt(args);
        command.env("XDG_DATA_HOME", "./d").env("SMOLT_HOME", folder.path("d/smolt"));
        shown("aliases", "", command, &folder);
    }
}

#[cfg(feature = "pull")]
#[test]
fn what_a_server_says() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for (number, stream) in listener.incoming().take(4).enumerate() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let (status, body) = match number {
                0 => ("403 No", format!("{{\"error\": {}}}", serde_json::json!(EVIL))),
                1 => ("404 No", EVIL.to_owned()),
                2 => ("200 OK", EVIL.to_owned()),
                _ => (
                    "200 OK",
                    serde_json::json!({"siblings": [{"rfilename": format!("{EVIL}.gguf")}], "sha": EVIL})
                        .to_string(),
                ),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Error-Message: \u{9b}31mlive\r\nX-Error-Code: live\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        }
    });
    for _ in 0..4 {
        let mut command = smolt(&["pull", "someone/something"]);
        command.env("HF_ENDPOINT", &address);
        shown("a server", "smolt", command, &folder);
    }
    let mut command = smolt(&["pull", &format!("some{EVIL}/x")]);
    command.env("HF_ENDPOINT", &address).stdin(Stdio::null());
    shown("a repository", "live", command, &folder);
    // It is left alone if the commands asked less often.
    drop(server);
}

#[test]
fn damaged_headers() {
    let folder = Folder::new();
    let set = |name: &str, change: &dyn Fn(&mut smolt::gguf::GgufWriter)| {
        let path = folder.path(name);
        ONCE.write_with(&path, |writer| change(writer));
        path
    };
    let models = [
        set("a.gguf", &|writer| _ = writer.set("general.architecture", EVIL)),
        set("b.gguf", &|writer| _ = writer.set("tokenizer.ggml.pre", EVIL)),
        set("c.gguf", &|writer| _ = writer.set("tokenizer.ggml.model", EVIL)),
        set("d.gguf", &|writer| _ = writer.set("tokenizer.chat_template", format!("{{{{ {EVIL}"))),
        set("e.gguf", &|writer| _ = writer.set("general.type", EVIL)),
        set("f.gguf", &|writer| _ = writer.set("tokenizer.ggml.merges", vec![EVIL.to_owned()])),
    ];
    for path in &models {
        let model = path.to_str().unwrap();
        let file = Path::new(model).file_name().unwrap().to_string_lossy().into_owned();
        for args in [
            &["run", "-m", model, "-n", "1", "Hi"][..],
            &["tokenize", "-m", model, "Hi"],
            &["show", "-m", model],
        ] {
            shown(&format!("{} {file}", args[0]), "", smolt(args), &folder);
        }
    }
}
