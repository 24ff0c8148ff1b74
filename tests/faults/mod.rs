//! Calls to the system that fail, and kills, at every step of every command that writes files.

mod harness;
#[cfg(feature = "trust")]
mod slots;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use self::harness::{Case, Ended, fail_each, kill_often};
use crate::chat::ONCE;
use crate::shared::smolt;

/// Largest exit code of the table in README.
const CODES: i32 = 6;

/// The program, with all that it keeps for its user in the folder.
fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = smolt();
    command.args(arguments).current_dir(folder).env("SMOLT_THREADS", "1");
    for (variable, below) in [("HOME", "home"), ("SMOLT_HOME", "store"), ("XDG_CONFIG_HOME", "config")] {
        command.env(variable, folder.join(below));
    }
    command
}

fn succeeds(folder: &Path, arguments: &[&str], input: &str) -> String {
    fs::write(folder.join("input"), input).unwrap();
    let mut command = program(folder, arguments);
    let done = command.stdin(fs::File::open(folder.join("input")).unwrap()).output().unwrap();
    fs::remove_file(folder.join("input")).unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {err}");
    err
}

/// A small model that answers a smile, in the folder.
fn model(folder: &Path) {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    let path = ONCE.write_to(&folder.join("m.gguf"));
    fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
}

/// Fails and kills a command.
fn hurt(case: &Case<'_>) {
    fail_each(case);
    kill_often(case);
}

const ITEMS: &str =
    "{\"prompt\":\"Hi\"}\n{\"prompt\":\"Ho\",\"choices\":[\"a\",\"b\"]}\n{\"prompt\":\"Ha\"}\n";
const BATCH: [&str; 6] = ["batch", "-m", "m.gguf", "in.jsonl", "-o", "out.jsonl"];

#[test]
fn a_batch_loses_no_answer() {
    // The last is answered already, so that the lines are brought into order at the end.
    let setup = |folder: &Path| {
        model(folder);
        fs::write(folder.join("in.jsonl"), ITEMS.lines().last().unwrap()).unwrap();
        succeeds(folder, &BATCH, "");
        fs::write(folder.join("in.jsonl"), ITEMS).unwrap();
    };
    hurt(&Case {
        name: "batch",
        setup: &setup,
        command: &|folder| program(folder, &BATCH),
        input: "",
        growing: &["out.jsonl"],
        repeats: true,
        codes: CODES,
        check: &|_, _| (),
    });
}

#[test]
fn an_evaluation_loses_no_document() {
    let documents = "{\"prompt\":\"Hi\",\"answer\":\"a\",\"choices\":[\"a\",\"b\"]}\n".repeat(3);
    let arguments = ["eval", "-m", "m.gguf", "tasks.jsonl", "-o", "out.jsonl"];
    // Cut within its second line.
    let setup = |folder: &Path| {
        model(folder);
        fs::write(folder.join("tasks.jsonl"), &documents).unwrap();
        succeeds(folder, &arguments, "");
        let lines = fs::read(folder.join("out.jsonl")).unwrap();
        let first = lines.iter().position(|byte| *byte == b'\n').unwrap();
        fs::write(folder.join("out.jsonl"), &lines[..first + 200]).unwrap();
    };
    hurt(&Case {
        name: "eval",
        setup: &setup,
        command: &|folder| program(folder, &arguments),
        input: "",
        growing: &["out.jsonl"],
        repeats: true,
        codes: CODES,
        check: &|_, _| (),
    });
}

const CHAT: [&str; 5] = ["chat", "-m", "m.gguf", "--session", "x.session"];

/// What was said in a session, which ends well and changes nothing.
fn history(folder: &Path, arguments: &[&str]) -> String {
    let err = succeeds(folder, &[&CHAT, arguments].concat(), "/show history\n");
    let said = err.find("[user]").map(|at| err[at..].to_owned());
    said.unwrap_or_default()
}

#[test]
fn a_session_loses_no_turn() {
    let before = "[user] Hi\n[assistant] \u{1F600}";
    let setup = |folder: &Path| {
        model(folder);
        succeeds(folder, &CHAT, "Hi\n");
    };
    // A turn whose line was seen is there; where it is not, that was said.
    let check = |arguments: &'static [&'static str]| {
        move |folder: &Path, ended: &Ended| {
            let aside = folder.join("x.session.1").exists();
            let history = history(folder, arguments);
            assert!(aside || history.starts_with(before), "{ended:?}: {history}");
            let shown = ended.out.lines().next().unwrap_or_default();
            let is_told = ended.err.contains("cannot") || ended.err.contains("error");
            let is_there =
                ended.out.contains('\n') && history.contains(&format!("[user] Ho\n[assistant] {shown}"));
            assert!(is_there || is_told || !ended.out.contains('\n'), "{ended:?}: {history}");
            assert!(ended.code != Some(0) || is_there, "{ended:?}: {history}");
        }
    };
    let (plain, other): (&[&str], &[&str]) = (&[], &["--template", "zephyr", "-n", "4"]);
    for (name, arguments, input) in
        [("session", plain, "Ho\n/save copy.session\n"), ("session-aside", other, "Ho\n")]
    {
        hurt(&Case {
            name,
            setup: &setup,
            command: &|folder| program(folder, &[&CHAT, arguments].concat()),
            input,
            growing: &[".session"],
            repeats: false,
            codes: CODES,
            check: &check(arguments),
        });
    }
}

#[test]
fn a_pack_is_whole_or_none() {
    hurt(&Case {
        name: "pack",
        setup: &model,
        command: &|folder| program(folder, &["pack", "-m", "m.gguf"]),
        input: "",
        growing: &[],
        repeats: true,
        codes: CODES,
        // A pack that is there is used, or there is none.
        check: &|folder, _| {
            let err = succeeds(folder, &["run", "-m", "m.gguf", "-n", "1", "Hi"], "");
            assert!(!err.contains("is not used"), "{err}");
        },
    });
}

#[cfg(feature = "pull")]
#[test]
fn a_pull_installs_all_or_nothing() {
    // Bytes of which a part is no whole.
    let model: Vec<u8> =
        b"GGUF".iter().copied().chain((0..200_000u32).map(|at| (at.wrapping_mul(at) >> 7) as u8)).collect();
    let server = crate::store::Server::with_files("org/tiny", vec![("tiny-Q4_0.gguf", model.clone())]);
    let endpoint = server.endpoint.clone();
    // Another version is installed.
    let other = model[..model.len() - 1].to_vec();
    let installed = "store/models/org/tiny/tiny-Q4_0.gguf";
    let setup = |folder: &Path| {
        fs::create_dir_all(folder.join("store/models/org/tiny")).unwrap();
        fs::write(folder.join(installed), &other).unwrap();
        let record = serde_json::json!({"repository": "org/tiny", "file": "tiny-Q4_0.gguf", "commit": "f".repeat(40),
            "bytes": other.len(), "sha256": smolt::files::sha256_of([other.as_slice()].into_iter()), "checked": true});
        fs::write(folder.join(format!("{installed}.json")), record.to_string()).unwrap();
    };
    let check = |folder: &Path, _: &Ended| {
        // One of another size does not count.
        let now = fs::read(folder.join(installed)).unwrap();
        let record = fs::read_to_string(folder.join(format!("{installed}.json"))).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let sha256 = smolt::files::sha256_of([now.as_slice()].into_iter());
        assert!(
            record["bytes"] != now.len() || record["sha256"] == sha256,
            "a record of another file: {record}"
        );
    };
    hurt(&Case {
        name: "pull",
        setup: &setup,
        command: &|folder| {
            let mut command = program(folder, &["pull", "org/tiny"]);
            command.env("HF_ENDPOINT", &endpoint);
            command
        },
        input: "",
        growing: &[],
        repeats: true,
        codes: CODES,
        check: &check,
    });
}

#[test]
fn small_files_are_whole() {
    let setup = |folder: &Path| {
        model(folder);
        succeeds(folder, &["alias", "first", "m.gguf"], "");
        succeeds(folder, &["use", "first"], "");
        succeeds(folder, &["preset", "save", "guide", "-m", "m.gguf", "--temp", "0.2"], "");
    };
    for (name, arguments) in [
        ("alias", &["alias", "second", "m.gguf"][..]),
        ("use", &["use", "m.gguf"]),
        ("preset", &["preset", "save", "guide", "-m", "m.gguf", "--system", "You are a guide."]),
    ] {
        hurt(&Case {
            name,
            setup: &setup,
            command: &|folder| program(folder, arguments),
            input: "",
            growing: &[],
            repeats: true,
            codes: CODES,
            check: &|_, _| (),
        });
    }
}
