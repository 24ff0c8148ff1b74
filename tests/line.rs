//! Command lines as people type them: words without quotes, the model first, names of other programs, and mistakes.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::shared::repository;

/// A user with the demo model as the file `tiny.gguf`, the alias `kiosk` and the installed model `org/tiny`.
struct User(PathBuf);

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    fn of(output: std::process::Output) -> Done {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl User {
    fn new(name: &str) -> User {
        let home = std::env::temp_dir().join(format!("smolt-line-{}-{name}", std::process::id()));
        let installed = home.join("smolt/models/org/tiny");
        std::fs::create_dir_all(&installed).unwrap();
        let user = User(home);
        let model = repository("src/cli/demo.gguf");
        std::fs::copy(&model, installed.join("tiny-Q4_0.gguf")).unwrap();
        std::fs::copy(&model, user.0.join("tiny.gguf")).unwrap();
        std::fs::copy(&model, user.0.join("nameless")).unwrap();
        user.ok(&["alias", "kiosk", "tiny.gguf"]);
        user
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = crate::shared::smolt();
        command
            .args(arguments)
            .current_dir(&self.0)
            .env("HOME", &self.0)
            .env("SMOLT_HOME", self.0.join("smolt"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn with_input(&self, arguments: &[&str], input: &str) -> Done {
        let mut child = self.command(arguments).spawn().unwrap();
        // The process may end without reading it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Done::of(child.wait_with_output().unwrap())
    }

    /// Without a pipe: of one that is closed late it is said that it is waited for.
    fn run(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
        done
    }

    /// Fails with this code, nothing on standard output, and a message with all these parts.
    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let done = self.run(arguments);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{arguments:?}: {}", done.err);
        assert!(done.err.starts_with("smolt: "), "{arguments:?}: {}", done.err);
        for part in parts.iter().copied() {
            assert!(done.err.contains(part), "{arguments:?}: no {part:?} in {}", done.err);
        }
        for misleading in ["unexpected argument", "panicked", "error:", "tip:"] {
            assert!(!done.err.contains(misleading), "{arguments:?}: {}", done.err);
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

const ASKED: &str = "Turn on the kitchen lights";
const ANSWER: &str =
    "Turning on the kitchen lights.\n{\"action\":\"light\",\"room\":\"kitchen\",\"state\":\"on\"}\n";

#[test]
fn words_need_no_quotes() {
    let user = User::new("words");
    for arguments in [
        &["run", "Turn", "on", "the", "kitchen", "lights"][..],
        &["run", "Turn on", "the kitchen lights"],
        &["run", "Turn", "on", "--seed", "3", "the", "kitchen", "lights", "--temp", "0"],
        &["run", "-p", ASKED],
        &["run", "--prompt", ASKED],
        &["run", "--", "Turn", "on", "the", "kitchen", "lights"],
    ] {
        assert_eq!(user.ok(arguments).out, ANSWER, "{arguments:?}");
    }
    let negative = user.ok(&["run", "--json", "What", "is", "-5", "plus", "3?"]);
    let quoted = user.ok(&["run", "--json", "What is -5 plus 3?"]);
    let tokens =
        |done: &Done| serde_json::from_str::<serde_json::Value>(&done.out).unwrap()["prompt_tokens"].clone();
    assert_eq!(tokens(&negative), tokens(&quoted));
    user.fails(&["run", "-p", "one", "two"], 2, &["--prompt", "\"two\""]);
    assert_eq!(user.ok(&["tokenize", "Hello", "world"]).out, user.ok(&["tokenize", "Hello world"]).out);
    assert_eq!(user.ok(&["tokenize", "Hello world"]).out, user.with_input(&["tokenize"], "Hello world").out);
}

#[test]
fn the_first_word_may_be_the_model() {
    let user = User::new("model");
    for model in ["tiny.gguf", "./tiny.gguf", "nameless", "kiosk", "org/tiny", "org/tiny:Q4_0", "tiny-Q4_0"] {
        for arguments in
            [&["run", model, ASKED][..], &["run", model, "Turn", "on", "the", "kitchen", "lights"]]
        {
            let done = user.ok(arguments);
            // The built-in model would answer the same, and say so.
            assert_eq!(
                (done.out.as_str(), done.err),
                (ANSWER, format!("smolt: using {model}\n")),
                "{arguments:?}"
            );
        }
        let piped = user.with_input(&["run", model], ASKED);
        assert_eq!((piped.code, piped.out.as_str()), (0, ANSWER), "{}", piped.err);
        let with_option = user.ok(&["run", model, "-p", ASKED]);
        assert_eq!(with_option.out, ANSWER);
        for command in ["show", "plan"] {
            let by_option = user.ok(&[command, "--json", "-m", model]);
            assert_eq!(user.ok(&[command, "--json", model]).out, by_option.out, "{command}");
            user.fails(&[command, model, "-m", model], 2, &["given twice"]);
        }
        assert_eq!(user.with_input(&["chat", model], ASKED).out, ANSWER);
        assert_eq!(user.ok(&["tokenize", model, "Hello"]).out, user.ok(&["tokenize", "Hello"]).out);
        user.fails(&["run", model], 2, &["no prompt", "smolt chat", model]);
    }
    user.ok(&["pack", "tiny.gguf"]);
    user.ok(&["bench", "tiny.gguf", "-p", "0", "-n", "1", "-r", "1"]);
    // Who names the built-in model is told no more than of another.
    let demo = user.ok(&["run", "demo", ASKED]);
    assert_eq!((demo.out.as_str(), demo.err.as_str()), (ANSWER, "smolt: using demo\n"));
    assert_eq!(user.ok(&["run", "-m", "demo", ASKED]).err, "");
    assert!(user.ok(&["run", ASKED]).err.contains("using the built-in demo model"));
}

#[test]
fn a_model_that_was_named_wins_over_the_first_word() {
    let user = User::new("wins");
    let tokens = |arguments: &[&str]| -> u64 {
        let done = user.ok(&[&["run", "--json", "-n", "1"], arguments].concat());
        serde_json::from_str::<serde_json::Value>(&done.out).unwrap()["prompt_tokens"].as_u64().unwrap()
    };
    let short = tokens(&["kiosk", "lights"]);
    for all_words in [
        &["-m", "kiosk", "kiosk", "lights"][..],
        &["kiosk", "lights", "-m", "tiny.gguf"],
        &["--", "kiosk", "lights"],
    ] {
        assert!(tokens(all_words) > short, "{all_words:?}");
    }
    // A variable says less than a word.
    let mut command = user.command(&["run", "kiosk", ASKED]);
    let output = command.env("SMOLT_MODEL", "absent.gguf").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), ANSWER);
    // What is not there, but can be meant for nothing else.
    for absent in ["absent.gguf", "llama3.2", "qwen3:0.6b", "org/absent-135m"] {
        user.fails(&["run", absent, "Why is the sky blue?"], 3, &[absent]);
        user.fails(&["chat", absent], 3, &[absent]);
    }
    user.ok(&["run", "Translate", "Guten Tag, wie geht es?"]);
    user.ok(&["run", "llama3.2", "is", "what?"]);
}

#[test]
fn names_of_other_programs_work() {
    let user = User::new("names");
    for arguments in [
        &["--temperature", "0"][..],
        &["--num-predict", "60"],
        &["--n-predict", "60"],
        &["--ctx-size", "200"],
        &["--system-prompt", ""],
        &["--chat-template", "chatml"],
        &["--verbose"],
    ] {
        assert_eq!(user.ok(&[&["run"], arguments, &[ASKED]].concat()).out, ANSWER, "{arguments:?}");
    }
    assert_eq!(user.ok(&["ls"]).out, user.ok(&["list"]).out);
    user.ok(&["delete", "--yes", "kiosk"]);
    user.ok(&["remove", "--yes", "org/tiny"]);
    assert!(!user.0.join("smolt/models/org").exists());
}

#[test]
fn quiet_says_nothing_but_answers_and_errors() {
    let user = User::new("quiet");
    for arguments in
        [&["run", "-q", ASKED][..], &["-q", "run", "kiosk", ASKED], &["run", ASKED, "--quiet", "-c", "400"]]
    {
        let done = user.ok(arguments);
        assert_eq!((done.out.as_str(), done.err.as_str()), (ANSWER, ""), "{arguments:?}");
    }
    assert!(user.ok(&["run", "-q", "--stats", ASKED]).err.contains("tok/s"), "what is asked for is said");
    user.fails(&["run", "-q"], 2, &["no prompt"]);
}

#[test]
fn mistakes_name_the_option_the_value_and_what_was_expected() {
    let user = User::new("mistakes");
    let cases: &[(&[&str], &[&str])] = &[
        (&["run", "-n", "-1", "x"], &["--max-tokens", "whole number", "\"-1\"", "none"]),
        (&["run", "-t", "-1", "x"], &["--threads", "from 1 to 256", "\"-1\""]),
        (&["run", "-t", "0", "x"], &["--threads", "from 1 to 256", "\"0\""]),
        (&["run", "--context", "many", "x"], &["--context", "from 1 to 1048576", "\"many\""]),
        (&["run", "--seed", "-1", "x"], &["--seed", "whole number", "\"-1\""]),
        (&["run", "--temp", "hot", "x"], &["--temp", "a number", "\"hot\""]),
        (&["run", "--temp", "-1", "x"], &["temperature", "-1", "0 to 10"]),
        (&["run", "--max-memory", "-1", "x"], &["--max-memory", "size", "\"-1\"", "200M"]),
        (&["run", "--kv", "q3", "x"], &["--kv", "one of", "q8_0", "\"q3\""]),
        (&["run", "-t"], &["--threads", "from 1 to 256", "nothing"]),
        (&["run", "--lookup=99", "x"], &["--lookup", "from 0 to 31", "\"99\""]),
        (&["run", "--logprobs", "3", "x"], &["--logprobs", "\"3\"", "--logprobs=3"]),
        (&["run", "--lookup", "7", "x"], &["--lookup=7"]),
        (&["run", "--raw=1", "x"], &["--raw", "no value", "\"1\""]),
        (&["run", "--raw", "--system", "a", "x"], &["--raw", "--system"]),
        (&["run", "--system", "-x", "x"], &["-x", "--system=-x"]),
        (&["run", "- one"], &["after --"]),
        (&["run", "--tmp", "1", "x"], &["--tmp", "did you mean --temp"]),
        (&["run", "-ngl", "99", "x"], &["-ngl", "processor"]),
        (&["run", "--n-gpu-layers=99", "x"], &["--n-gpu-layers", "processor"]),
        (&["run", "--no-display-prompt", "x"], &["never printed"]),
        (&["run", "-cnv", "x"], &["-cnv", "smolt chat"]),
        (&["run", "--format", "json", "x"], &["--schema"]),
        (&["chat", "kiosk", "Hello"], &["chat", "\"Hello\"", "smolt run"]),
        (&["bench", "-p", "-1"], &["--prompt", "whole number", "\"-1\""]),
        (&["bench", "-t", "0"], &["--threads", "from 1 to"]),
        (&["perplexity", "-f", "x.txt"], &["-f", "without an option"]),
        (&["rm"], &["rm", "NAME", "nothing"]),
        (&["batch"], &["INPUT", "nothing"]),
        (&["batch", "x", "--shard", "4/4"], &["--shard", "I/N", "\"4/4\""]),
        (&["completions", "ksh"], &["one of", "bash", "\"ksh\""]),
        (&["list", "x"], &["list", "\"x\""]),
        (&["lst"], &["lst", "did you mean", "list"]),
        (&["rn"], &["rn", "did you mean", "run"]),
        (&["server"], &["server", "smolt serve"]),
        (&["ask", "x"], &["smolt run"]),
        (&["Turn on the lights"], &["smolt run"]),
        (&["kiosk"], &["kiosk", "smolt run kiosk"]),
        (&["walk"], &["walk", "there are run, chat"]),
        (&["-m", "kiosk", "-p", "x"], &["-m", "smolt run -m"]),
        (&["run", "--a\x1b]0;x\x07b", "x"], &["--a\u{fffd}]0;x\u{fffd}b"]),
    ];
    for (arguments, parts) in cases {
        user.fails(arguments, 2, parts);
    }
    let mut command = user.command(&["run", "x"]);
    let output = command.env("SMOLT_THREADS", "0").output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("SMOLT_THREADS: expected a whole number from 1 to 256"), "{message}");
}

#[test]
fn what_is_typed_wins_over_variables_that_it_cannot_be_used_with() {
    let user = User::new("conflicts");
    let samples = user.0.join("none.jsonl");
    let cases: [(&[&str], &str, &str); 3] = [
        (&["run", "-n", "2", "--raw", "x"], "SMOLT_SYSTEM", ""),
        (&["eval", "--merge", samples.to_str().unwrap()], "SMOLT_MODEL", "none.jsonl"),
        (&["chat", "--continue"], "SMOLT_SESSION", "no session"),
    ];
    for (arguments, variable, problem) in cases {
        let mut command = user.command(arguments);
        command.stdin(std::process::Stdio::null());
        let output = command.env(variable, "x").output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!message.contains("cannot be used with") && message.contains(problem), "{message}");
    }
    user.fails(&["run", "--raw", "--system", "x", "y"], 2, &["cannot be used with"]);
}
