//! Sessions: what was said is never lost, whatever ends the process, and no other file is harmed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::chat::{CHAIN, Chain, Ended, FOREVER, Folder, ONCE, PATIENCE, Terminal, chat, pipe};

/// Turns that the variable of this name asks for, else so many.
fn rounds(default: usize) -> usize {
    std::env::var("SMOLT_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// Says what the messages of a session are.
fn history(folder: &Folder, model: &Path, args: &[&str]) -> String {
    let (code, out, err) = pipe(chat(folder, model, args), "/show history\n");
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    err
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A process is killed at any time, with and without a chance to save: every answer whose line was seen is there
/// afterwards. `SMOLT_KILLS=200` for more.
#[test]
fn no_turn_that_was_shown_is_lost() {
    let folder = Folder::new();
    let (model, file) = (ONCE.write(&folder), folder.path("kiosk.session"));
    let args = ["--session", file.to_str().unwrap(), "-c", "1500"];
    let (mut shown, mut in_answer) = (0, 0);
    for round in 0..rounds(12) {
        let mut command = chat(&folder, &model, &args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        for number in 0..8 {
            writeln!(input, "message {round}-{number};").unwrap();
        }
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut seen = String::new();
        for _ in 0..=round % 5 {
            output.read_line(&mut seen).unwrap();
        }
        std::thread::sleep(Duration::from_micros((round as u64 * 7919) % 6000));
        let with = if round % 2 == 0 { Signal::SIGKILL } else { Signal::SIGTERM };
        signal(&child, with);
        output.read_to_string(&mut seen).unwrap();
        drop(input);
        let status = child.wait().unwrap();
        match with {
            Signal::SIGKILL => assert_eq!(status.signal(), Some(9)),
            _ => assert_eq!(status.code(), Some(143)),
        }
        let whole = seen.bytes().filter(|byte| *byte == b'\n').count();
        in_answer += usize::from(!seen.ends_with('\n'));
        let history = history(&folder, &model, &args);
        // The last may have been stopped by the signal, and then ended.
        for (number, line) in seen.lines().take(whole).enumerate() {
            let turn = format!("[user] message {round}-{number};\n[assistant] {line}\n");
            assert!(history.contains(&turn), "round {round}, {whole} seen, {number} is missing: {history}");
            assert!(line == CHAIN || (number + 1 == whole && with == Signal::SIGTERM), "{seen}");
        }
        shown += whole;
    }
    eprintln!("{shown} turns shown whole, {in_answer} times within an answer, none lost");
    let left = names(&folder.path(""));
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Signals that end a process let it save what was computed too, also in the midst of an answer.
#[test]
fn a_process_that_is_asked_to_end_saves() {
    let folder = Folder::new();
    let (model, file) = (FOREVER.write(&folder), folder.path("kiosk.session"));
    let args = ["--session", file.to_str().unwrap(), "--no-loop-guard"];
    for (signal_number, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut command = chat(&folder, &model, &args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "Hello {code}").unwrap();
        let mut seen = [0; 40];
        child.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
        signal(&child, signal_number);
        let start = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(start.elapsed() < PATIENCE);
        let history = history(&folder, &model, &args);
        assert!(history.contains(&format!("[user] Hello {code}\n[assistant] {CHAIN}{CHAIN}")), "{history}");
    }
    assert_eq!(names(&folder.path("")), ["chain.gguf", "kiosk.session"], "no lock and nothing else is left");
}

#[test]
fn a_terminal_that_goes_away_loses_nothing_and_is_as_it_was() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    for (signal_number, code) in [(Signal::SIGHUP, 129), (Signal::SIGTERM, 143)] {
        let mut terminal = Terminal::start(chat(&folder, &model, &[]));
        terminal.line(&format!("Hello {code}"));
        signal(&terminal.child, signal_number);
        assert_eq!(terminal.child.wait().unwrap().code(), Some(code));
        let how = nix::sys::termios::tcgetattr(&terminal.keys).unwrap().local_flags;
        use nix::sys::termios::LocalFlags;
        assert!(how.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG), "{how:?}");
        let history = history(&folder, &model, &["--continue"]);
        assert!(history.contains(&format!("[user] Hello {code}\n[assistant] {CHAIN}")), "{history}");
    }
}

#[test]
fn files_of_others_are_left_as_they_are() {
    let folder = Folder::new();
    let (model, file) = (ONCE.write(&folder), folder.path("a.session"));
    let named = ["--session", file.to_str().unwrap()];
    assert_eq!(pipe(chat(&folder, &model, &named), "Hi\nHo\n").0, Some(0));
    let bytes = fs::read(&file).unwrap();
    // Another model.
    let elsewhere = Folder::new();
    let other = Chain { hidden: 64, ..ONCE }.write(&elsewhere);
    for input in ["", "Hi\n", "/reset\n"] {
        let (code, out, err) = pipe(chat(&folder, &other, &named), input);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert!(err.contains("a.session was saved with another model (chain)"), "{err}");
        assert!(err.contains("chain.gguf"), "with which: {err}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "{err}");
    }
    // Its messages can be read all the same.
    let (code, _, err) = pipe(chat(&folder, &other, &[]), &format!("/load {}\n/context\n", file.display()));
    assert!(code == Some(0) && err.contains("2 turns"), "{err}");
    // Another template, and a context that is too small, keep what was there.
    for (number, args) in [(1, ["-c", "40"]), (2, ["--template", "zephyr"])] {
        let (code, _, err) = pipe(chat(&folder, &model, &[named, args].concat()), "Ha\n");
        let aside = folder.path(&format!("a.session.{number}"));
        assert!(code == Some(0) && err.contains("as it was is kept in"), "{err}");
        if number == 1 {
            assert_eq!(fs::read(aside).unwrap(), bytes);
        } else {
            assert!(aside.exists());
        }
    }
    // What is no session.
    let note = folder.path("note.txt");
    for content in ["", "Buy milk.", "smoltse"] {
        fs::write(&note, content).unwrap();
        let (code, _, err) = pipe(chat(&folder, &model, &["--session", note.to_str().unwrap()]), "Hi\n");
        assert!(code == Some(2) && err.contains("not a saved session"), "{err}");
        let (code, _, err) = pipe(chat(&folder, &model, &[]), &format!("Hi\n/save {}\n", note.display()));
        assert!(code == Some(2) && err.contains("not a saved session"), "{err}");
        assert_eq!(fs::read_to_string(&note).unwrap(), content);
    }
    let mut run = crate::shared::smolt();
    run.args(["run", "-m"]).arg(&model).args(["--session"]).arg(&note).arg("Hi");
    assert_eq!(pipe(run, "").0, Some(2));
    // A session of another talk is kept under another name, a copy of the same talk is not.
    let before = fs::read(&file).unwrap();
    let save = format!("/save {}\n", file.display());
    let (code, _, err) = pipe(chat(&folder, &model, &[]), &format!("New\n{save}Newer\n{save}"));
    assert!(code == Some(0) && err.matches("as it was is kept").count() == 1, "{err}");
    assert_eq!(fs::read(folder.path("a.session.3")).unwrap(), before);
    // A link is not written through.
    let link = folder.path("link.session");
    symlink(&note, &link).unwrap();
    fs::write(&note, "").unwrap();
    assert_eq!(pipe(chat(&folder, &model, &["--session", link.to_str().unwrap()]), "Hi\n").0, Some(2));
    assert_eq!(fs::read_to_string(&note).unwrap(), "");
}

#[test]
fn one_process_at_a_time_talks_in_a_session() {
    let folder = Folder::new();
    let (model, file) = (ONCE.write(&folder), folder.path("a.session"));
    let named = ["--session", file.to_str().unwrap()];
    let mut command = chat(&folder, &model, &named);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut first = command.spawn().unwrap();
    let mut input = first.stdin.take().unwrap();
    writeln!(input, "Hi").unwrap();
    let mut answer = String::new();
    BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
    let (code, out, err) = pipe(chat(&folder, &model, &named), "Ho\n");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&format!("in use by process {}", first.id())) && err.contains("chat"), "{err}");
    // It can be read.
    let (code, _, err) = pipe(chat(&folder, &model, &[]), &format!("/load {}\n/context\n", file.display()));
    assert!(code == Some(0) && err.contains("1 turn"), "{err}");
    drop(input);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert!(history(&folder, &model, &named).contains("[user] Hi"));
}

#[test]
fn the_last_talk_goes_on() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let sessions = folder.path("state/smolt/sessions");
    let (code, _, err) = pipe(chat(&folder, &model, &["--continue"]), "/context\n");
    assert!(code == Some(0) && err.contains("no session is kept yet"), "{err}");
    // From a pipe nothing is kept that is not asked for; nor where a person does not want it.
    pipe(chat(&folder, &model, &[]), "From a script\n");
    for switch in ["--no-save", "--no-history"] {
        let mut terminal = Terminal::start(chat(&folder, &model, &[switch]));
        terminal.line("Secret");
        terminal.leave();
    }
    assert_eq!(names(&sessions), Vec::<String>::new());
    let mut terminal = Terminal::start(chat(&folder, &model, &[]));
    terminal.line("From a person");
    terminal.leave();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&sessions), 0o700);
    let kept = names(&sessions);
    assert_eq!((kept.len(), mode(&sessions.join(&kept[0]))), (1, 0o600));
    let mut terminal = Terminal::open(chat(&folder, &model, &["-c"]), 200);
    assert!(terminal.prompt(0).contains("going on after 1 turn;"));
    terminal.line("Again");
    terminal.leave();
    let both = "[user] From a person\n[assistant] \u{1F600} \n[user] Again\n[assistant] \u{1F600} ";
    assert!(history(&folder, &model, &["--continue"]).contains(both));
    // Without a model, the one it was begun with.
    let mut command = crate::shared::smolt();
    command.args(["run", "-t", "1", "-c", "Third"]).env("XDG_STATE_HOME", folder.path("state"));
    let (code, out, err) = pipe(command, "");
    assert_eq!((code, out.trim_end()), (Some(0), "\u{1F600}"), "{err}");
    assert!(history(&folder, &model, &["--continue"]).contains("[user] Third"));
    assert_eq!(names(&sessions).len(), 1);
    // Another model has no part in it.
    let elsewhere = Folder::new();
    let other = Chain { hidden: 64, ..ONCE }.write(&elsewhere);
    let (code, _, err) = pipe(chat(&folder, &other, &["--continue"]), "Hi\n");
    assert!(code == Some(2) && err.contains("the last is of chain"), "{err}");
    // Few are kept.
    for number in 0..30 {
        fs::copy(sessions.join(&kept[0]), sessions.join(format!("{number:010}-1-0.session"))).unwrap();
    }
    let mut terminal = Terminal::start(chat(&folder, &model, &[]));
    terminal.line("One more");
    terminal.leave();
    assert_eq!(names(&sessions).len(), 20);
}

/// An answer that was cut off goes on with the tokens that are there.
#[test]
fn an_answer_goes_on_where_it_was_cut() {
    let folder = Folder::new();
    let model = FOREVER.write(&folder);
    let file = folder.path("a.session");
    let args = ["-n", "5", "--stats", "--session", file.to_str().unwrap()];
    let (code, out, err) = pipe(chat(&folder, &model, &args), "Hi\n/continue\n/show history\n");
    assert_eq!((code, out), (Some(0), format!("{CHAIN}\n{CHAIN}\n")), "{err}");
    assert!(err.contains(&format!("[user] Hi\n[assistant] {CHAIN}{CHAIN}\n")), "{err}");
    assert!(err.contains(" 1 of them new"), "only the last token is read again: {err}");
    // Also after a restart, where a snapshot knows the tokens and where only the messages are known.
    let (code, out, err) = pipe(chat(&folder, &model, &args), "/continue\n/show history\n");
    assert_eq!((code, out), (Some(0), format!("{CHAIN}\n")), "{err}");
    assert!(err.contains(&format!("[user] Hi\n[assistant] {CHAIN}{CHAIN}{CHAIN}\n")), "{err}");
    let once = ONCE.write(&folder);
    let (code, out, err) = pipe(chat(&folder, &once, &[]), "Hi\n/continue\n");
    assert_eq!((code, out), (Some(2), format!("{CHAIN}\n")), "{err}");
    assert!(err.contains("ended by itself"), "{err}");
    let ended: Ended = pipe(chat(&folder, &once, &[]), "/continue\n");
    assert!(ended.0 == Some(2) && ended.2.contains("nothing was said"), "{}", ended.2);
}

/// After it is loaded nothing is wanted of the model's file.
#[test]
fn a_model_that_is_cut_short_while_it_talks_does_no_harm() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let copy = folder.path("session");
    let mut command = chat(&folder, &model, &[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "Hi").unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut answer = String::new();
    output.read_line(&mut answer).unwrap();
    fs::OpenOptions::new().write(true).open(&model).unwrap().set_len(0).unwrap();
    let commands = ["/show", "/model", "/stats", "/set temp 0.5", "/set answer regex (\u{1F600} )", "Ho"];
    for command in commands.iter().chain(&[format!("/save {}", copy.display()).as_str()]) {
        writeln!(input, "{command}").unwrap();
    }
    drop(input);
    output.read_to_string(&mut answer).unwrap();
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), answer), (Some(0), format!("{CHAIN}\n{CHAIN}\n")), "{err}");
    assert!(err.contains("saved in") && err.contains("answer"), "{err}");
    assert!(copy.exists());
}
