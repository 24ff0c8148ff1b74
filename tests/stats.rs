//! What is counted of the program's runs, and that nothing else is kept of them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::chat::pipe;
use crate::shared::{Scratch, smolt};

/// A word that no file of counts may hold.
const CANARY: &str = "xylophone";

fn counted(scratch: &Scratch, args: &[&str], input: &str) -> Option<i32> {
    let mut command = smolt();
    command.current_dir(&scratch.folder).env("SMOLT_STATS", "counts").args(args);
    pipe(command, input).0
}

fn counts(scratch: &Scratch) -> Value {
    serde_json::from_str(&scratch.out(&["--json", "counts"])).unwrap()
}

#[test]
fn runs_and_answers_are_counted_and_nothing_that_was_said() {
    let scratch = Scratch::new("stats", "all");
    scratch.write("items.jsonl", format!("{{\"prompt\":\"{CANARY} one\"}}\n{{\"prompt\":\"two\"}}\n"));
    assert_eq!(counted(&scratch, &["run", CANARY], ""), Some(0));
    assert_eq!(counted(&scratch, &["run", "--choices", "red,green", CANARY], ""), Some(0));
    assert_eq!(counted(&scratch, &["run", "-n", "1", CANARY], ""), Some(0));
    assert_eq!(counted(&scratch, &["batch", "items.jsonl"], ""), Some(0));
    assert_eq!(counted(&scratch, &["chat"], &format!("Hello {CANARY}\nAgain\n")), Some(0));
    assert_eq!(counted(&scratch, &["run", "-m", "absent.gguf", CANARY], ""), Some(3));
    let all = counts(&scratch);
    assert_eq!(all["starts"], serde_json::json!({"run": 4, "chat": 1, "batch": 1, "eval": 0, "serve": 0}));
    let ends = &all["ends"];
    assert_eq!((&ends["done"], &ends["model"], &ends["failed"]), (&5.into(), &1.into(), &0.into()));
    let number = |name: &str| all["answers"][name].as_u64().unwrap();
    assert_eq!(number("stop") + number("length") + number("loops"), 7, "{all}");
    assert!(number("tokens") > 7 && number("read_tokens") > 20 && number("length") >= 1, "{all}");
    let first: u64 = all["answers"]["first_token"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(first, 7);
    let bytes = std::fs::read(scratch.folder.join("counts")).unwrap();
    assert!(bytes.len() <= 4096 && !String::from_utf8(bytes).unwrap().contains(CANARY));
    let table = scratch.out(&["counts"]);
    assert!(table.contains("starts       4 run, 1 chat, 1 batch\n"), "{table}");
    let names: Vec<_> =
        std::fs::read_dir(&scratch.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn nothing_is_counted_unless_it_is_wanted() {
    let scratch = Scratch::new("stats", "none");
    let mut command = smolt();
    command.current_dir(&scratch.folder).args(["run", "Hello"]);
    assert_eq!(pipe(command, "").0, Some(0));
    assert_eq!(std::fs::read_dir(&scratch.folder).unwrap().count(), 0);
    let (code, _, err) = scratch.run(&[]);
    assert_eq!(code, 2);
    assert!(err.contains("SMOLT_STATS"), "{err}");
    scratch.write("letter", "Dear all,");
    assert_eq!(scratch.run(&["letter"]).0, 2);
    // A file that is somebody else's stays, and the answer comes.
    let mut command = smolt();
    command.current_dir(&scratch.folder).env("SMOLT_STATS", "letter").args(["run", "Hello"]);
    let (code, out, err) = pipe(command, "");
    assert!(code == Some(0) && !out.is_empty() && err.contains("nothing is counted"), "{err}");
    assert_eq!(scratch.read("letter"), "Dear all,");
}

/// A start of a server is there before it ends, so that one that dies again and again is seen.
#[cfg(all(unix, feature = "serve"))]
#[test]
fn servers_are_counted_when_they_start_and_when_they_end() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let scratch = Scratch::new("stats", "serve");
    let mut command = smolt();
    command.current_dir(&scratch.folder).env("SMOLT_STATS", "counts").args(["serve", "--port", "0"]);
    command.stderr(std::process::Stdio::null());
    let mut server = command.spawn().unwrap();
    let begun = Instant::now();
    while !scratch.folder.join("counts").metadata().is_ok_and(|found| found.len() > 0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was counted");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(counts(&scratch)["starts"]["serve"], 1);
    kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(143));
    let all = counts(&scratch);
    assert_eq!((&all["starts"]["serve"], &all["ends"]["stopped"]), (&1.into(), &1.into()));
}
