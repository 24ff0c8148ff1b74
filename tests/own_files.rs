//! What a command writes it began itself: everything else that has the name of an output stays as it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::shared::Scratch;

const ITEM: &str = "{\"prompt\": \"Lock the front door\", \"max_tokens\": 2}\n";
const TASK: &str = "{\"prompt\": \"Lock the\", \"answer\": \"door\", \"choices\": [\"door\", \"light\"]}\n";

/// Texts that begin as a line of an output does, and some that do not.
const FOREIGN: [&str; 8] = [
    "my precious note",
    "a\nb\n",
    "{",
    "{\"index",
    "{\"index\":",
    "{\"index\":1}\n",
    "{\"index\":0,\"line\":1,\"input\":\"0123456789abcdef\",\"text\":\"x\"}\n",
    "\n",
];

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_output_that_is_somebody_elses_stays_as_it_is() {
    let scratch = Scratch::new("batch", "foreign-outputs");
    scratch.write("in.jsonl", ITEM);
    let (eval, tasks) = (Scratch::new("eval", "foreign-outputs"), "tasks.jsonl");
    eval.write(tasks, TASK);
    for foreign in FOREIGN {
        for (scratch, arguments) in [
            (&scratch, &["in.jsonl", "-o", "note.txt"][..]),
            (&eval, &[tasks, "--samples", "note.txt"]),
            (&eval, &[tasks, "--report", "note.txt"]),
        ] {
            scratch.write("note.txt", foreign);
            let (code, out, err) = scratch.run(arguments);
            assert_eq!((code, out.as_str()), (2, ""), "{arguments:?} {foreign:?}: {err}");
            assert!(err.contains("note.txt") && err.contains("was not written by this"), "{err}");
            assert_eq!(fs::read_to_string(scratch.folder.join("note.txt")).unwrap(), foreign);
        }
    }
    // What holds nothing can be begun, and keeps its mode; a page replaces a page.
    for (scratch, arguments) in [
        (&scratch, &["in.jsonl", "-o", "own"][..]),
        (&eval, &[tasks, "--samples", "own"]),
        (&eval, &[tasks, "--report", "page"]),
    ] {
        let own = scratch.folder.join(arguments[2]);
        fs::write(&own, "").unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o640)).unwrap();
        for _ in 0..2 {
            let (code, _, err) = scratch.run(arguments);
            assert_eq!(code, 0, "{err}");
            assert!(fs::metadata(&own).unwrap().len() > 0);
            assert_eq!(mode(&own), 0o640);
        }
    }
}

#[test]
fn no_name_of_the_input_is_an_output() {
    let scratch = Scratch::new("batch", "input-is-output");
    scratch.write("in.jsonl", ITEM);
    let input = scratch.folder.join("in.jsonl");
    fs::hard_link(&input, scratch.folder.join("hard.jsonl")).unwrap();
    symlink("in.jsonl", scratch.folder.join("soft.jsonl")).unwrap();
    fs::create_dir(scratch.folder.join("sub")).unwrap();
    symlink("..", scratch.folder.join("sub/up")).unwrap();
    let absolute = input.display().to_string();
    for output in ["in.jsonl", "./in.jsonl", "hard.jsonl", "soft.jsonl", "sub/up/in.jsonl", &absolute] {
        for input in ["in.jsonl", "hard.jsonl", "soft.jsonl"] {
            let (code, _, err) = scratch.run(&[input, "-o", output]);
            assert!(code == 2 && err.contains("is the input too"), "{input} {output}: {err}");
        }
    }
    // Standard output is an output too, whatever it is called.
    for arguments in [&["in.jsonl"][..], &["in.jsonl", "-o", "/dev/stdout"], &["in.jsonl", "-o", "/dev/fd/1"]]
    {
        let out = fs::File::options().append(true).open(&input).unwrap();
        let done = scratch.command(arguments).stdout(out).output().unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && err.contains("is the input too"), "{arguments:?}: {err}");
    }
    assert_eq!(fs::read_to_string(&input).unwrap(), ITEM);
    // Merged samples do not take the place of a part of them.
    let eval = Scratch::new("eval", "input-is-output");
    eval.write("tasks.jsonl", format!("{TASK}{}", TASK.replace("the", "a")));
    for (part, samples) in [("0/2", "0.jsonl"), ("1/2", "1.jsonl")] {
        eval.out(&["tasks.jsonl", "--shard", part, "--samples", samples]);
    }
    let before = fs::read(eval.folder.join("0.jsonl")).unwrap();
    fs::hard_link(eval.folder.join("0.jsonl"), eval.folder.join("other.jsonl")).unwrap();
    let (code, _, err) = eval.run(&["--merge", "0.jsonl", "--merge", "1.jsonl", "--samples", "other.jsonl"]);
    assert!(code == 2 && err.contains("is the input too"), "{err}");
    assert_eq!(fs::read(eval.folder.join("0.jsonl")).unwrap(), before);
}

#[test]
fn no_link_is_written_through_and_no_device_waited_for() {
    let scratch = Scratch::new("batch", "links");
    scratch.write("in.jsonl", ITEM);
    scratch.write("empty", "");
    scratch.out(&["in.jsonl", "-o", "own.jsonl"]);
    let own = fs::read(scratch.folder.join("own.jsonl")).unwrap();
    for (target, name) in
        [("empty", "a"), ("own.jsonl", "b"), ("nothing", "c"), ("/dev/null", "d"), ("e", "e")]
    {
        symlink(target, scratch.folder.join(name)).unwrap();
        let (code, _, err) = scratch.run(&["in.jsonl", "-o", name]);
        assert!(code == 2 && err.contains("symbolic link"), "{target}: {err}");
    }
    assert_eq!(fs::read(scratch.folder.join("empty")).unwrap(), b"");
    assert_eq!(fs::read(scratch.folder.join("own.jsonl")).unwrap(), own);
    assert!(!scratch.folder.join("nothing").exists());
    nix::unistd::mkfifo(&scratch.folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for output in ["pipe", "/dev/full", "/dev/zero", ".", "empty/x"] {
        let (code, _, err) = scratch.run(&["in.jsonl", "-o", output]);
        assert!(matches!(code, 1 | 2) && err.contains(output), "{output}: {code} {err}");
    }
    // These are asked for on purpose.
    assert_eq!(scratch.run(&["in.jsonl", "-o", "/dev/null"]).1, "");
    for output in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        assert!(scratch.out(&["in.jsonl", "-o", output]).contains("\"text\""), "{output}");
        // Also where it goes to a file that has something already.
        scratch.write("log", "before\n");
        let log = fs::File::options().append(true).open(scratch.folder.join("log")).unwrap();
        let done = scratch.command(&["in.jsonl", "-o", output]).stdout(log).output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let log = fs::read_to_string(scratch.folder.join("log")).unwrap();
        assert!(log.starts_with("before\n{\"index\":0") && log.lines().count() == 2, "{output}: {log}");
    }
}

#[test]
fn a_session_locks_no_file_of_another_kind() {
    let scratch = Scratch::new("run", "session-locks");
    let lock = scratch.folder.join(".a.session.lock");
    let ask = ["--session", "a.session", "-n", "2", "Hi"];
    fs::write(&lock, "my precious note").unwrap();
    let (code, _, err) = scratch.run(&ask);
    assert!(code == 1 && err.contains("was not written by this program"), "{err}");
    assert_eq!(fs::read_to_string(&lock).unwrap(), "my precious note");
    fs::remove_file(&lock).unwrap();
    scratch.write("victim", "");
    symlink("victim", &lock).unwrap();
    let (code, _, err) = scratch.run(&ask);
    assert!(code == 1 && err.contains("symbolic link"), "{err}");
    assert_eq!(fs::read(scratch.folder.join("victim")).unwrap(), b"");
    fs::remove_file(&lock).unwrap();
    // What a killed process left of a lock, and of a save, is in nobody's way and goes.
    fs::write(&lock, "process 1 (smolt run)").unwrap();
    for left in [".a.session.1.0.tmp", ".a.session.1-0123456789abcdef.tmp"] {
        fs::write(scratch.folder.join(left), "left").unwrap();
    }
    scratch.out(&ask);
    let mut names: Vec<_> =
        fs::read_dir(&scratch.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.session", "victim"]);
    assert_eq!(mode(&scratch.folder.join("a.session")), 0o600);
}

#[test]
fn a_model_replaces_only_a_model() {
    let scratch = Scratch::new("pack", "targets");
    let written = |content: &[u8]| {
        let path = scratch.folder.join("target.gguf");
        fs::write(&path, content).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let done =
            smolt::gguf::GgufWriter::new().set("general.architecture", "x").write_to(&path, |_, _| Ok(()));
        let is_replaced = fs::metadata(&path).unwrap().ino() != inode;
        assert!(is_replaced || fs::read(&path).unwrap() == content);
        assert_eq!(is_replaced, done.is_ok());
        is_replaced
    };
    assert!(written(b"") && written(b"GGUF\x03\0\0\0"));
    assert!(!written(b"my precious note") && !written(b"GGU") && !written(&[0; 100]));
}
