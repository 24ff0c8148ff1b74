//! Configuration files, completions and manual pages, by the commands.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

struct User(PathBuf);

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl User {
    fn new(name: &str) -> Self {
        let home = std::env::temp_dir().join(format!("smolt-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(home.join("config/smolt")).unwrap();
        Self(home)
    }

    fn local(&self, text: &str) {
        std::fs::write(self.0.join("smolt.toml"), text).unwrap();
    }

    fn own(&self, text: &str) {
        std::fs::write(self.0.join("config/smolt/config.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = crate::shared::smolt();
        command.args(arguments).current_dir(&self.0).env("HOME", &self.0);
        command.env("XDG_CONFIG_HOME", self.0.join("config")).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        done(self.command(arguments))
    }

    /// What `smolt config` says of a key: value, origin and line.
    fn setting(&self, key: &str, variables: &[(&str, &str)]) -> (Value, String, Value) {
        let mut command = self.command(&["config", "--json"]);
        let done = done(std::mem::replace(command.envs(variables.iter().copied()), Command::new("false")));
        assert_eq!(done.code, 0, "{}", done.err);
        let report: Value = serde_json::from_str(&done.out).unwrap();
        let settings = report["settings"].as_array().unwrap();
        let found = settings.iter().find(|setting| setting["key"] == key).unwrap();
        (found["value"].clone(), found["origin"].as_str().unwrap().to_owned(), found["line"].clone())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn done(mut command: Command) -> Done {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// The largest number of tokens, by what the answer shows: each layer above wins over those below.
#[test]
fn layers_are_in_order() {
    let user = User::new("order");
    let tokens = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = user.command(&["run", "--json", "What time do you open?"]);
        let done = done(std::mem::replace(
            command.args(flags).envs(variables.iter().copied()),
            Command::new("false"),
        ));
        assert_eq!(done.code, 0, "{}", done.err);
        let report: Value = serde_json::from_str(&done.out).unwrap();
        report["tokens"]
            .as_u64()
            .or_else(|| report["tokens"].as_array().map(|tokens| tokens.len() as u64))
            .unwrap()
    };
    assert!(tokens(&[], &[]) > 5, "the model's own end");
    user.own("max_tokens = 2\n");
    assert_eq!(tokens(&[], &[]), 2);
    user.local("# comment\n\nmax_tokens = 3\n");
    assert_eq!(tokens(&[], &[]), 3);
    assert_eq!(tokens(&[], &[("SMOLT_MAX_TOKENS", "4")]), 4);
    assert_eq!(tokens(&["-n", "5"], &[("SMOLT_MAX_TOKENS", "4")]), 5);

    let environment = user.setting("max_tokens", &[("SMOLT_MAX_TOKENS", "4")]);
    assert_eq!(environment, ("4".into(), "environment".to_owned(), Value::Null));
    assert_eq!(user.setting("max_tokens", &[]), ("3".into(), "file".to_owned(), 3.into()));
    user.local("");
    assert_eq!(user.setting("max_tokens", &[]), ("2".into(), "file".to_owned(), 1.into()));
    user.own("");
    assert_eq!(user.setting("max_tokens", &[]), (Value::Null, "default".to_owned(), Value::Null));
    let table = user.run(&["config"]);
    assert!(table.out.contains("default: one per processor, at most 4"), "{}", table.out);
    assert!(table.err.contains("./smolt.toml is read"), "{}", table.err);
}

/// Every kind of value reaches every command that has the option, and commands without it do not mind.
#[test]
fn every_key_is_taken() {
    let user = User::new("keys");
    let config = user.run(&["config", "--json"]);
    let report: Value = serde_json::from_str(&config.out).unwrap();
    let mut text = String::new();
    for setting in report["settings"].as_array().unwrap() {
        let key = setting["key"].as_str().unwrap();
        let value = match key {
            "model" => "'demo.gguf'",
            "pre" => "'gpt-2'",
            "kv" => "'q8_0'",
            "think" => "'hide'",
            "max_memory" => "'1G'",
            "template" => "'chatml'",
            "system" => "\"Be \\\"brief\\\".\"",
            "session" => "'kiosk.session'",
            "color" => "'never'",
            "host" => "'127.0.0.1'",
            "socket" => "'smolt.sock'",
            "token_file" => "'tokens.txt'",
            "kiosk" => "'kiosk.toml'",
            "require_signature" => "'trust.pem'",
            "pack_key" => "'device.key'",
            "store" => "'slots'",
            "identity" => "'keys.txt'",
            key if key.starts_with("no_") => "true",
            "temp" | "top_p" | "min_p" | "repeat_penalty" => "0.5",
            "context" => "0x100",
            _ => "1",
        };
        text += &format!("{key} = {value}\n");
    }
    user.local(&text);
    std::fs::copy(crate::shared::repository("src/cli/demo.gguf"), user.0.join("demo.gguf")).unwrap();
    #[cfg(all(unix, feature = "trust"))]
    crate::signed::prepare(&user.0, "demo.gguf");
    for setting in serde_json::from_str::<Value>(&user.run(&["config", "--json"]).out).unwrap()["settings"]
        .as_array()
        .unwrap()
    {
        assert_eq!(setting["origin"], "file", "{setting}");
        assert_eq!(setting["file"], "./smolt.toml");
    }
    assert_eq!(user.setting("context", &[]).0, "256");
    // A store lets no other model run.
    let lines = text.lines().filter(|line| !line.starts_with("store = "));
    user.local(&lines.map(|line| format!("{line}\n")).collect::<String>());
    for arguments in [&["show"][..], &["plan"], &["tokenize"], &["list"], &["help", "run"]] {
        let done = user.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
    }
    let plan: Value = serde_json::from_str(&user.run(&["plan", "--json"]).out).unwrap();
    assert_eq!(plan["context"], 256, "{plan}");
    // A system prompt of a file is not for raw prompts, and no conflict.
    user.local("system = \"Answer in Latin.\"\nmax_tokens = 2\n");
    let raw = user.run(&["run", "--raw", "--json", "a"]);
    assert_eq!(raw.code, 0, "{}", raw.err);
    let with: Value = serde_json::from_str(&raw.out).unwrap();
    user.local("max_tokens = 2\n");
    let without: Value = serde_json::from_str(&user.run(&["run", "--raw", "--json", "a"]).out).unwrap();
    assert_eq!(with["prompt_tokens"], without["prompt_tokens"]);
    assert!(with["prompt_tokens"].is_u64(), "{with}");
}

#[test]
fn a_switch_is_true_or_false() {
    let user = User::new("switch");
    for (value, is_on) in [("true", "true"), ("false", "false")] {
        user.local(&format!("no_history = {value}\n"));
        assert_eq!(user.setting("no_history", &[]).0, is_on);
        let mut chat = user.command(&["chat"]);
        let chat = std::mem::replace(chat.stdin(Stdio::null()), Command::new("false"));
        assert_eq!(done(chat).code, 0);
    }
}

#[test]
fn errors_name_file_line_key_and_what_was_expected() {
    let user = User::new("errors");
    let cases: &[(&str, &[&str])] = &[
        ("threads = 'two'", &["line 1", "threads", "expected a number", "found string"]),
        ("\nthreads = 0", &["line 2", "threads", "from 1 to 256", "\"0\""]),
        ("threads = 1.5", &["threads", "\"1.5\""]),
        ("kv = 4", &["kv", "expected a text in quotes", "found integer"]),
        ("kv = 'q3'", &["kv", "one of", "q8_0"]),
        ("max_memory = 'much'", &["max_memory", "200M"]),
        ("max_memory = -1", &["max_memory"]),
        ("system = true", &["system", "found boolean"]),
        ("no_history = 1", &["no_history", "true or false", "found integer"]),
        ("temp = [1]", &["temp", "found array"]),
        ("[run]\ntemp = 1", &["line 1", "unknown key \"run\""]),
        ("a = 1\n\n\ntemprature = 1", &["unknown key", "known are", "temp"]),
        ("threads = 1\nthreads = 2", &["line 2"]),
        ("threads =", &["line 1"]),
        ("\n\n\u{0}", &["line 3"]),
    ];
    for (text, named) in cases {
        user.local(text);
        let done = user.run(&["list"]);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{text}: {}", done.err);
        for named in ["./smolt.toml"].iter().chain(named.iter()) {
            assert!(done.err.contains(named), "{text}: no {named:?} in {}", done.err);
        }
    }
    for help in [&["--help"][..], &["help", "config"], &["--version"]] {
        assert_eq!(user.run(help).code, 0, "help is given all the same");
    }
    user.local("");
    user.own("x = 1");
    let done = user.run(&["list"]);
    assert!(done.err.contains("config/smolt/config.toml, line 1"), "{}", done.err);
    user.own(&"#\n".repeat(600_000));
    assert!(user.run(&["list"]).err.contains("longer than 1048576 bytes"));
    std::fs::write(user.0.join("config/smolt/config.toml"), [0xff]).unwrap();
    assert_eq!(user.run(&["list"]).code, 2);
}

/// Deep nesting ends in an error, not in a full stack.
#[test]
fn nesting_is_bounded() {
    let user = User::new("nesting");
    user.local(&format!("threads = {}", "[".repeat(500_000)));
    let done = user.run(&["list"]);
    assert_eq!(done.code, 2, "{}", done.err.chars().take(300).collect::<String>());
}

#[test]
fn completions_are_what_shells_read() {
    let user = User::new("completions");
    for shell in ["bash", "zsh", "fish"] {
        let script = user.run(&["completions", shell]);
        assert_eq!((script.code, script.err.as_str()), (0, ""));
        for word in ["perplexity", "max-tokens", "completions"] {
            assert!(script.out.contains(word), "{shell}: {word}");
        }
        let file = user.0.join(shell);
        std::fs::write(&file, &script.out).unwrap();
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(checked) => assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr)),
            Err(_) => eprintln!("SKIPPED: no {shell} to read its completions"),
        }
    }
    let complete =
        "source ./bash; COMP_WORDS=(smolt per); COMP_CWORD=1; _smolt smolt per smolt; echo ${COMPREPLY[@]}";
    match Command::new("bash").args(["-c", complete]).current_dir(&user.0).output() {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "perplexity"),
        Err(_) => eprintln!("SKIPPED: no bash to complete with"),
    }
}

#[test]
fn manual_pages_are_what_man_reads() {
    let user = User::new("man");
    let pages = user.0.join("man1");
    std::fs::create_dir(&pages).unwrap();
    assert_eq!(user.run(&["man", "man1"]).code, 0);
    let names: Vec<String> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["smolt.1", "smolt-run.1", "smolt-config.1", "smolt-alias.1"] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    assert!(names.iter().all(|name| name.ends_with(".1")), "no temporary files: {names:?}");
    let run = pages.join("smolt-run.1");
    match Command::new("man").arg("-l").arg(&run).env("MANPAGER", "cat").output() {
        Ok(shown) if shown.status.success() => {
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            assert!(text.contains("SYNOPSIS") && text.contains("Answer a prompt"), "{text}");
        }
        _ => eprintln!("SKIPPED: no man to read the pages"),
    }
    let source = std::fs::read_to_string(&run).unwrap();
    assert!(source.contains(".SH SYNOPSIS") && source.contains("SMOLT_MAX_TOKENS"));
    assert_eq!(user.run(&["man", "absent"]).code, 1);
}
