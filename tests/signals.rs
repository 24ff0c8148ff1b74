//! A process ends when it is told to, and what a killed one left is cleaned by the next.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::chat::{Folder, ONCE, PATIENCE, chat, pipe};
use crate::shared::smolt;

/// Waits for the end of a process.
fn code(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    panic!("it does not end");
}

/// Before an answer there is nothing to wait for: a template that takes as long as it may is given up.
#[test]
fn a_signal_before_the_first_answer_ends_it_at_once() {
    let folder = Folder::new();
    let (model, template) = (ONCE.write(&folder), folder.path("t.jinja"));
    let long =
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}";
    fs::write(&template, long).unwrap();
    for (signal, expected) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        // Before the program hears of signals one kills it, and after the template it ends by itself.
        let mut codes = vec![];
        for milliseconds in [10, 20, 30, 40, 60, 80, 120, 200, 400, 800, 1600, 3200] {
            let mut program = smolt();
            program
                .args(["run", "-t", "1", "--no-stdin", "Hi", "-m"])
                .arg(&model)
                .arg("--template")
                .arg(&template);
            program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = program.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(milliseconds));
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            codes.push(code(&mut child));
            if codes.last() == Some(&Some(expected)) {
                break;
            }
        }
        assert_eq!(codes.last(), Some(&Some(expected)), "{signal}: {codes:?}");
    }
}

/// An editor whose program is killed leaves its draft, which is nobody's business.
#[test]
fn drafts_of_a_killed_chat_are_removed_by_the_next() {
    let folder = Folder::new();
    let (model, drafts) = (ONCE.write(&folder), folder.path("tmp"));
    fs::create_dir(&drafts).unwrap();
    fs::write(drafts.join("smolt-message-notes.md"), "mine").unwrap();
    let edit = |script: &str| {
        let editor = folder.path("editor");
        fs::write(&editor, script).unwrap();
        let mut command = chat(&folder, &model, &[]);
        command.env("EDITOR", format!("sh {}", editor.display())).env("TMPDIR", &drafts);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
    };
    let names = || {
        let mut names: Vec<String> = fs::read_dir(&drafts)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let mut killed = edit("kill -9 $PPID").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut killed.stdin.take().unwrap(), b"Hi\n/edit\n").unwrap();
    assert_eq!(code(&mut killed), None);
    assert_eq!(names().len(), 3, "a draft and its lock: {:?}", names());
    // One that is being written stays.
    let list = format!("ls -A {} > {}", drafts.display(), folder.path("seen").display());
    let inner = edit(&list);
    let (code, _, err) = pipe(inner, "Hi\n/edit\n");
    assert_eq!(code, Some(0), "{err}");
    let seen = fs::read_to_string(folder.path("seen")).unwrap();
    assert_eq!(seen.lines().filter(|name| name.ends_with(".md")).count(), 2, "its own and the note: {seen}");
    assert_eq!(names(), ["smolt-message-notes.md"]);
}
