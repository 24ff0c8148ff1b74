//! Models with settings under one name, the default model, and what `smolt list` shows of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::shared::repository;

/// A user with the demo model as `tiny.gguf` and the alias `small` of it.
struct User(PathBuf);

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl User {
    fn new(name: &str) -> User {
        let home = std::env::temp_dir().join(format!("smolt-preset-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let user = User(home);
        std::fs::copy(repository("src/cli/demo.gguf"), user.0.join("tiny.gguf")).unwrap();
        user.ok(&["alias", "small", "tiny.gguf"]);
        user
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = crate::shared::smolt();
        command
            .args(arguments)
            .current_dir(&self.0)
            .env("HOME", &self.0)
            .env("SMOLT_HOME", self.0.join("smolt"));
        command.env("XDG_CONFIG_HOME", self.0.join("config")).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        done(&mut self.command(arguments))
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
        done
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat()).out).unwrap()
    }

    /// Fails with this code, nothing on standard output, and a message with all these parts.
    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let done = self.run(arguments);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{arguments:?}: {}", done.err);
        for part in parts.iter().copied() {
            assert!(done.err.contains(part), "{arguments:?}: no {part:?} in {}", done.err);
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("config/smolt/presets/{name}.toml"))
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.file(name).parent().unwrap()).unwrap();
        std::fs::write(self.file(name), text).unwrap();
    }

    /// Tokens of an answer to a question with a long one.
    fn tokens(&self, arguments: &[&str], variables: &[(&str, &str)]) -> u64 {
        let mut command = self.command(&["run", "--json"]);
        let done =
            done(command.args(arguments).arg("What time do you open?").envs(variables.iter().copied()));
        assert_eq!(done.code, 0, "{}", done.err);
        let report: Value = serde_json::from_str(&done.out).unwrap();
        report["tokens"].as_u64().unwrap()
    }

    /// What `smolt config` says of a key with these arguments: value, origin, file and line.
    fn setting(&self, arguments: &[&str], key: &str) -> (Value, Value, String, Value) {
        let report = self.json(&[&["config"], arguments].concat());
        let settings = report["settings"].as_array().unwrap();
        let found = settings.iter().find(|setting| setting["key"] == key).unwrap();
        let file = found["file"].as_str().unwrap_or_default().to_owned();
        (found["value"].clone(), found["origin"].clone(), file, found["line"].clone())
    }
}

fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

impl Drop for User {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_preset_is_a_model_with_its_settings() {
    let user = User::new("settings");
    let all = user.tokens(&["-m", "small"], &[]);
    user.ok(&[
        "preset",
        "save",
        "museum",
        "-m",
        "small",
        "--system",
        "Be \"brief\".\nPlease.",
        "-n",
        "3",
        "--temp",
        "0",
    ]);
    for arguments in [&["-m", "museum"][..], &["museum"], &["--model=museum"]] {
        assert_eq!(user.tokens(arguments, &[]), 3, "{arguments:?}");
    }
    assert_eq!(user.ok(&["run", "museum", "What time do you open?"]).err, "smolt: using museum\n");
    let raw = user.ok(&["run", "-m", "museum", "--raw", "What time"]);
    assert!(!raw.out.is_empty(), "a system prompt of a preset is not for raw prompts, and no conflict");
    std::fs::write(user.0.join("said"), "What time do you open?\n").unwrap();
    let mut chat = user.command(&["chat", "museum", "--stats"]);
    let chat = done(chat.stdin(std::fs::File::open(user.0.join("said")).unwrap()));
    assert!(chat.code == 0 && chat.out.len() < 20, "3 tokens: {} {}", chat.out, chat.err);
    for command in ["plan", "show", "tokenize", "batch", "eval"] {
        let done = user.run(&[command, "-m", "museum", "/dev/null"]);
        assert!(!done.err.contains("museum: no such") && done.code != 3, "{command}: {}", done.err);
    }
    let plan = user.json(&["plan", "museum"]);
    assert_eq!(plan["model"], user.json(&["plan", "small"])["model"]);

    // What is typed wins over the preset, the preset over variables and files.
    assert_eq!(user.tokens(&["-m", "museum", "-n", "2"], &[]), 2);
    assert_eq!(user.tokens(&["-m", "museum"], &[("SMOLT_MAX_TOKENS", "5")]), 3);
    std::fs::write(user.0.join("smolt.toml"), "max_tokens = 4\n").unwrap();
    assert_eq!(user.tokens(&["-m", "museum"], &[]), 3);
    assert_eq!(user.tokens(&["-m", "small"], &[]), 4);
    assert_eq!(user.tokens(&["small"], &[("SMOLT_MODEL", "museum")]), 4, "a word wins over a variable");
    std::fs::write(user.0.join("smolt.toml"), "model = 'museum'\n").unwrap();
    assert_eq!(user.tokens(&[], &[]), 3);
    assert_eq!(user.tokens(&[], &[("SMOLT_MODEL", "small")]), all);

    assert_eq!(user.setting(&["museum"], "max_tokens").0, "3");
    let (value, origin, file, line) = user.setting(&[], "system");
    assert_eq!((value, origin, line), ("Be \"brief\".\nPlease.".into(), "preset".into(), json!(2)));
    assert!(file.ends_with("config/smolt/presets/museum.toml"), "{file}");
    assert_eq!(user.setting(&[], "threads").1, "default");
}

#[test]
fn presets_are_kept_listed_changed_and_removed() {
    let user = User::new("kept");
    user.ok(&["preset", "save", "one", "-m", "small", "--threads", "2", "--temp", ".25"]);
    user.ok(&[
        "preset",
        "save",
        "two",
        "-m",
        "tiny.gguf",
        "--max-memory",
        "200M",
        "--kv",
        "q8_0",
        "--no-history",
    ]);
    user.ok(&["preset", "save", "three"]);
    let listed = user.json(&["preset", "list"]);
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "three", "two"]);
    assert_eq!(listed[0]["settings"], json!({"temp": "0.25", "threads": "2"}));
    assert_eq!(listed[1]["model"], "demo");
    assert_eq!(listed[2]["model"], user.0.join("tiny.gguf").canonicalize().unwrap().to_str().unwrap());
    assert_eq!(listed[2]["settings"], json!({"kv": "q8_0", "max_memory": "200M", "no_history": "true"}));
    let shown = user.ok(&["preset", "show", "one"]).out;
    assert!(shown.contains("temp     0.25\n") && shown.contains("model    small\n"), "{shown}");
    let text = std::fs::read_to_string(user.file("two")).unwrap();
    assert!(text.contains("max_memory = \"200M\"\n") && text.contains("no_history = true\n"), "{text}");

    assert!(user.ok(&["preset", "save", "one", "-m", "demo", "--seed", "7"]).err.contains("changed"));
    assert_eq!(user.json(&["preset", "show", "one"])["settings"], json!({"seed": "7"}));
    let folder = user.file("one").parent().unwrap().to_owned();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "no temporary files");

    user.fails(&["preset", "rm", "one"], 2, &["the preset one", "--yes"]);
    user.fails(&["preset", "rm", "--yes", "one", "absent"], 2, &["no preset absent"]);
    user.ok(&["preset", "rm", "--yes", "one"]);
    user.ok(&["rm", "--yes", "two"]);
    assert_eq!(user.ok(&["preset"]).out, "three  demo\n");
    user.fails(&["preset", "show", "one"], 2, &["no preset one", "smolt preset"]);
    user.fails(&["config", "one"], 2, &["no preset one"]);
}

#[test]
fn wrong_names_and_values_are_refused() {
    let user = User::new("refused");
    for name in ["../x", "a/b", ".x", "a b", "", "-x", &"x".repeat(65)] {
        let done = user.run(&["preset", "save", name]);
        assert_eq!(done.code, 2, "{name}: {}", done.err);
    }
    user.fails(&["preset", "save", "small"], 2, &["small", "an alias already"]);
    user.fails(&["preset", "save", "demo"], 2, &["demo", "the built-in model already"]);
    user.fails(&["preset", "save", "x", "-m", "absent"], 3, &["absent"]);
    user.fails(&["preset", "save", "x", "--threads", "0"], 2, &["--threads", "from 1 to 256", "\"0\""]);
    user.fails(&["preset", "save", "x", "--json"], 2, &["--json"]);
    user.ok(&["preset", "save", "museum", "-m", "small"]);
    user.fails(&["preset", "save", "x", "-m", "museum"], 2, &["museum is a preset"]);
    user.fails(&["alias", "museum", "tiny.gguf"], 2, &["museum", "a preset already"]);
    user.fails(&["alias", "demo", "tiny.gguf"], 2, &["demo"]);
    assert!(!user.file("x").exists());
}

#[test]
fn a_wrong_file_is_named_by_file_line_and_key() {
    let user = User::new("wrong");
    let cases: &[(&[u8], &[&str])] = &[
        (b"model = 'small'\ntemp = 'hot'\n", &["line 2", "temp", "expected a number", "string"]),
        (b"model = 'small'\n\nthreads = 0\n", &["line 3", "threads", "from 1 to 256"]),
        (b"model = 'small'\ncolour = 'red'\n", &["line 2", "unknown key \"colour\"", "known are"]),
        (b"model =\n", &["line 1"]),
        (b"temp = 1\n", &["model is missing"]),
        (b"model = 'broken'\n", &["line 1", "model", "broken is a preset"]),
        (b"\xff", &["broken.toml"]),
    ];
    for (text, parts) in cases {
        user.write("broken", text);
        let parts: Vec<&str> = [&["presets/broken.toml"], *parts].concat();
        for command in
            [&["run", "-m", "broken", "x"][..], &["run", "broken", "x", "y"], &["config", "broken"]]
        {
            user.fails(command, 2, &parts);
        }
        // Nothing else is in its way.
        assert_eq!(user.ok(&["alias"]).code, 0);
        let listed = user.json(&["list"]);
        assert!(listed["presets"][0]["problem"].as_str().unwrap().contains("broken.toml"), "{listed}");
        let done = user.ok(&["list"]);
        assert!(
            done.out.contains("not usable") && done.err.contains("broken.toml"),
            "{}{}",
            done.out,
            done.err
        );
        user.ok(&["preset", "list"]);
    }
    user.ok(&["preset", "rm", "--yes", "broken"]);
}

/// A default on a stick that is not plugged in is not forgotten because something else is removed.
#[test]
fn a_default_that_is_out_of_reach_stays() {
    let user = User::new("away");
    std::fs::copy(user.0.join("tiny.gguf"), user.0.join("away.gguf")).unwrap();
    user.ok(&["use", "./away.gguf"]);
    user.ok(&["preset", "save", "usual", "--temp", "1"]);
    assert!(
        user.ok(&["preset", "show", "usual"]).out.contains("away.gguf"),
        "the default is kept as its model"
    );
    std::fs::rename(user.0.join("away.gguf"), user.0.join("elsewhere.gguf")).unwrap();
    let done = user.ok(&["rm", "--yes", "small", "small"]);
    assert!(!done.err.contains("default model"), "{}", done.err);
    user.ok(&["preset", "rm", "--yes", "usual", "usual"]);
    std::fs::rename(user.0.join("elsewhere.gguf"), user.0.join("away.gguf")).unwrap();
    assert!(user.ok(&["use"]).out.contains("away.gguf"));
    user.ok(&["alias", "small", "./away.gguf"]);
    user.ok(&["use", "small"]);
    assert!(user.ok(&["rm", "--yes", "small"]).err.contains("it was the default model"));
}

#[test]
fn the_default_model_is_chosen_shown_and_given_up() {
    let user = User::new("default");
    assert_eq!(user.ok(&["use"]).out, "demo\n");
    assert!(user.ok(&["run", "x"]).err.contains("demo model"));
    user.ok(&["use", "small"]);
    assert_eq!(user.ok(&["run", "x"]).err, "");
    assert_eq!(user.ok(&["use"]).out, "small\n");
    let (value, origin, _, _) = user.setting(&[], "model");
    assert_eq!((value, origin), ("small".into(), "use".into()));
    assert_eq!(user.json(&["list"])["default"], json!({"name": "small", "from": "smolt use"}));
    assert_eq!(user.json(&["list"])["aliases"][0]["is_default"], true);
    let listed = user.ok(&["list"]).out;
    assert!(listed.lines().any(|line| line.ends_with(", default")), "{listed}");

    // It ranks below everything that names a model.
    user.ok(&["preset", "save", "museum", "-m", "small", "-n", "3"]);
    std::fs::write(user.0.join("config/smolt/config.toml"), "model = 'museum'\n").unwrap();
    assert_eq!(user.tokens(&[], &[]), 3);
    let done = user.ok(&["use", "tiny.gguf"]);
    assert!(
        done.err.contains("museum is used all the same") && done.err.contains("config.toml:1"),
        "{}",
        done.err
    );
    std::fs::remove_file(user.0.join("config/smolt/config.toml")).unwrap();
    assert_eq!(
        user.ok(&["use"]).out.trim_end(),
        user.0.join("tiny.gguf").canonicalize().unwrap().to_str().unwrap()
    );
    user.ok(&["use", "museum"]);
    assert_eq!(user.tokens(&[], &[]), 3);
    assert_ne!(user.tokens(&["-m", "demo"], &[]), 3);

    for none in ["--none", "demo"] {
        user.ok(&["use", "small"]);
        user.ok(&["use", none]);
        assert_eq!(user.ok(&["use"]).out, "demo\n");
    }
    user.fails(&["use", "absent"], 3, &["absent"]);
    user.fails(&["use", "small", "--none"], 2, &["--none", "MODEL"]);
    user.ok(&["use", "small"]);
    assert!(user.ok(&["rm", "--yes", "small"]).err.contains("it was the default model"));
    assert!(user.ok(&["run", "x"]).err.contains("demo model"));
    // One that is damaged is said, and is in nobody's way.
    std::fs::write(user.0.join("smolt/default"), [0xff]).unwrap();
    assert!(user.ok(&["run", "x"]).err.contains("smolt use --none"));
    user.ok(&["use", "--none"]);
}

#[test]
fn a_file_of_the_folder_is_named_when_it_is_obeyed() {
    let user = User::new("obeyed");
    std::fs::write(user.0.join("smolt.toml"), "threads = 1\nmax_tokens = 2\nno_history = true\n").unwrap();
    let done = user.ok(&["run", "x"]);
    assert_eq!(done.err.matches("./smolt.toml").count(), 1);
    assert!(done.err.contains("./smolt.toml sets max_tokens, threads"), "{}", done.err);
    assert!(user.ok(&["run", "-n", "3", "x"]).err.contains("./smolt.toml sets threads\n"));
    assert!(!user.ok(&["run", "-n", "3", "-t", "1", "x"]).err.contains("smolt.toml"));
    assert!(!user.ok(&["alias"]).err.contains("smolt.toml"), "it has none of these options");
    assert_eq!(user.ok(&["run", "-q", "x"]).err, "");
}

#[test]
fn a_list_shows_all_names_and_stands_what_is_broken() {
    let user = User::new("list");
    let models = user.0.join("smolt/models");
    std::fs::create_dir_all(models.join("org/tiny")).unwrap();
    std::fs::copy(user.0.join("tiny.gguf"), models.join("org/tiny/tiny-Q4_0.gguf")).unwrap();
    user.ok(&["alias", "installed", "org/tiny"]);
    user.ok(&["preset", "save", "museum", "-m", "installed"]);
    let aliases = user.0.join("smolt/aliases");
    std::fs::write(aliases.join("bytes"), [0xff]).unwrap();
    std::fs::write(aliases.join("empty"), "").unwrap();
    std::fs::write(aliases.join("escape"), "\x1b]0;x\x07").unwrap();
    std::fs::create_dir(aliases.join("folder")).unwrap();
    std::fs::write(aliases.join("gone"), "/absent/model.gguf\n").unwrap();
    #[cfg(unix)]
    for (target, link) in [("/", "root"), (".", "self"), ("../..", "above"), ("absent", "nowhere")] {
        std::os::unix::fs::symlink(target, models.join(link)).unwrap();
    }
    let started = std::time::Instant::now();
    let done = user.ok(&["list"]);
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "a link to / is not followed");
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", done.out);
    assert!(
        lines[0].starts_with("org/tiny:tiny-Q4_0.gguf") && lines[0].ends_with("installed"),
        "{}",
        lines[0]
    );
    assert!(lines[1].starts_with("gone ") && lines[1].contains("not there"), "{}", lines[1]);
    assert!(lines[2].starts_with("small ") && lines[2].contains("MiB  alias of /"), "{}", lines[2]);
    assert!(lines[3].starts_with("museum ") && lines[3].ends_with("preset of installed"), "{}", lines[3]);
    for broken in ["bytes", "empty", "escape", "folder"] {
        assert!(done.err.contains(&format!("aliases/{broken}")), "{broken}: {}", done.err);
    }
    assert!(!done.err.contains('\x1b'));
    let listed = user.json(&["list"]);
    assert_eq!(listed["models"].as_array().unwrap().len(), 1);
    assert_eq!(listed["models"][0]["aliases"], json!(["installed"]));
    assert_eq!(listed["problems"].as_array().unwrap().len(), 4, "{listed}");
    assert_eq!(listed["default"], Value::Null);
    user.ok(&["run", "-m", "installed", "x"]);
    user.ok(&["rm", "--yes", "bytes", "empty", "escape"]);
}

#[test]
fn help_is_short_or_whole_and_fits() {
    let user = User::new("help");
    let commands = user.ok(&["--help"]).out;
    let commands = commands.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut names: Vec<Vec<&str>> = vec![vec![], vec!["preset", "save"]];
    names.extend(
        commands
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .map(|line| vec![line.split_whitespace().next().unwrap()]),
    );
    assert!(names.len() > 15, "{names:?}");
    for name in names.iter().filter(|name| name.first() != Some(&"help")) {
        for width in [40, 80, 120] {
            for flag in ["-h", "--help"] {
                let mut command = user.command(name);
                let shown = done(command.arg(flag).env("COLUMNS", width.to_string()));
                assert_eq!((shown.code, shown.err.as_str()), (0, ""), "{name:?} {flag}");
                for line in shown.out.lines().filter(|line| line.chars().count() > width) {
                    let can_break = line.trim().contains(' ') && !line.starts_with("Usage:");
                    assert!(!can_break, "{name:?} {flag} at {width}: {line:?}");
                }
                if flag == "-h" && width == 80 {
                    assert!(shown.out.lines().count() <= 40 || name.is_empty(), "{name:?}: {}", shown.out);
                }
            }
        }
    }
    let (short, long) = (user.ok(&["run", "-h"]).out, user.ok(&["run", "--help"]).out);
    assert!(short.contains("--system") && !short.contains("--min-p") && !short.contains("SMOLT_"), "{short}");
    assert!(long.contains("--min-p") && long.contains("SMOLT_MODEL") && long.contains("| jq"), "{long}");
    assert_eq!(user.ok(&["help", "run"]).out, long);
    let place = |heading: &str| long.find(heading).unwrap();
    assert!(place("\nOptions:") < place("\nSampling:") && place("\nSampling:") < place("\nResources:"));
}
