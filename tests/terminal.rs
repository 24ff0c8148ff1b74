//! Answers on a terminal: lines, keys that are typed ahead, colours; and chats with programs.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::chat::{CHAIN, Chain, FOREVER, Folder, ONCE, Terminal, chat, has, pipe};

/// Never ends, fast.
const FAST: Chain = Chain { hidden: 32, ..FOREVER };

/// The lines of an answer of 16 emojis, each of which takes two columns and a space.
fn answer_lines(columns: u16, args: &[&str]) -> Vec<String> {
    let folder = Folder::new();
    let all = [&["--no-loop-guard", "-n", "80"], args].concat();
    let mut terminal = Terminal::open(chat(&folder, &FAST.write(&folder), &all), columns);
    terminal.wait(0, "prompt", |text| text.ends_with("> "));
    let from = terminal.send("Hi\r");
    let text = terminal.wait(from, "end", |text| text.contains("cut off"));
    terminal.wait(from, "prompt", |text| text.ends_with("> "));
    terminal.leave();
    let lines = text.lines().filter(|line| line.starts_with('\u{1F600}'));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn lines_of_answers_are_broken_between_words() {
    let emojis = |count: usize| ["\u{1F600}"].repeat(count).join(" ");
    assert_eq!(answer_lines(24, &[]), [emojis(8), emojis(8)]);
    assert_eq!(answer_lines(40, &[]), [emojis(13), emojis(3)]);
    assert_eq!(answer_lines(80, &[]), [emojis(16)]);
    assert_eq!(answer_lines(24, &["--no-wrap"]), [emojis(16)]);
    let folder = Folder::new();
    let model = FAST.write(&folder);
    let mut terminal = Terminal::open(chat(&folder, &model, &["--no-loop-guard", "-n", "80"]), 24);
    terminal.wait(0, "prompt", |text| text.ends_with("> "));
    terminal.line("/set wrap off");
    assert!(terminal.line("Hi").contains(&emojis(16)));
    terminal.leave();
    // A pipe gets what the model wrote.
    let (_, out, _) = pipe(chat(&folder, &model, &["--no-loop-guard", "-n", "80"]), "Hi\n");
    assert_eq!(out, format!("{}\n", CHAIN.repeat(16)));
}

/// What is typed while an answer comes is no part of it, and is there at the next prompt.
#[test]
fn keys_typed_ahead_wait_for_the_prompt() {
    let folder = Folder::new();
    let model = FOREVER.write(&folder);
    let mut terminal = Terminal::start(chat(&folder, &model, &["--no-loop-guard", "-n", "400"]));
    let from = terminal.send("Hi\r");
    terminal.wait(from, "answer", |text| text.matches('\u{1F600}').count() > 3);
    let at = terminal.send("next words");
    terminal.wait(at, "more of the answer", |text| text.matches('\u{1F600}').count() > 8);
    assert!(!terminal.text(at).contains("next"), "{}", terminal.text(at));
    // The system would drop what was typed before Ctrl-C, and show it as ^C.
    terminal.send("\x03");
    let text = terminal.wait(at, "typed text", |text| text.ends_with("> next words"));
    let answer = text.split("smolt:").next().unwrap();
    assert!(!answer.contains("next") && !text.contains("^C"), "{text}");
    // What comes in one piece with Ctrl-C, the line editor drops.
    let from = terminal.send("\x03");
    terminal.prompt(from);
    // Pasted lines are one message.
    let from = terminal.send("Ho\r");
    terminal.wait(from, "answer", |text| text.matches('\u{1F600}').count() > 3);
    terminal.send("\x1b[200~one\rtwo\x1b[201~");
    terminal.send("\x03");
    terminal.wait(from, "pasted text", |text| text.contains("two"));
    let from = terminal.send("\r");
    terminal.wait(from, "answer", |text| text.matches('\u{1F600}').count() > 3);
    terminal.send("\x03");
    terminal.wait(from, "prompt", |text| text.ends_with("\n> "));
    assert!(terminal.line("/show history").contains("[user] one\ntwo\n"), "one message");
    terminal.leave();
}

#[test]
fn a_long_prompt_is_shown_to_be_read() {
    let folder = Folder::new();
    let model = Chain { hidden: 8192, ..ONCE }.write(&folder);
    let mut command = chat(&folder, &model, &["--template", "chatml"]);
    command.env("SMOLT_ISA", "scalar");
    let mut terminal = Terminal::start(command);
    let from = terminal.send(&format!("{}\r", "words ".repeat(60)));
    let text = terminal.wait(from, "answer", |text| text.contains('\u{1F600}'));
    assert!(text.contains("reading: ") && text.contains(" % "), "{text}");
    // The line is taken away before the answer.
    let raw = String::from_utf8_lossy(&terminal.raw()[from..]).into_owned();
    let last = raw.split("reading: ").last().unwrap();
    assert!(last.split('\u{1F600}').next().unwrap().ends_with("\r\x1b[K"), "{last:?}");
    terminal.prompt(from);
    terminal.leave();
}

#[test]
fn colours_are_a_choice() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let shown = |args: &[&str]| {
        let mut terminal = Terminal::start(chat(&folder, &model, args));
        terminal.line("Hi");
        terminal.line("/nothing");
        terminal.leave()
    };
    let colours = [&b"\x1b[1;36m> "[..], b"\x1b[2msmolt: talking", b"\x1b[31msmolt: there is no command"];
    assert!(colours.iter().all(|colour| has(&shown(&[]), colour)));
    assert!(!colours.iter().any(|colour| has(&shown(&["--color", "never"]), colour)));
    let (_, out, err) = pipe(chat(&folder, &model, &["--color", "always"]), "Hi\n/undo\n");
    assert_eq!(out, format!("{CHAIN}\n"), "answers have none");
    assert!(err.contains("\x1b[2msmolt: taken back"), "{err}");
    assert!(!pipe(chat(&folder, &model, &[]), "Hi\n/undo\n").2.contains('\x1b'));
}

#[test]
fn run_leaves_the_terminal_as_it_was() {
    let folder = Folder::new();
    let model = FOREVER.write(&folder);
    for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGINT)] {
        let mut command = crate::shared::smolt();
        command.args(["run", "-t", "1", "--temp", "0", "-n", "800", "--no-loop-guard", "-m"]).arg(&model);
        command.arg("Hi").env("TERM", "xterm");
        let mut terminal = Terminal::open(command, 80);
        terminal.wait(0, "answer", |text| text.matches('\u{1F600}').count() > 3);
        terminal.send("typed");
        if let Some(signal) = signal {
            kill(Pid::from_raw(terminal.child.id() as i32), signal).unwrap();
        }
        let code = terminal.child.wait().unwrap().code();
        assert_eq!(code, Some(signal.map_or(0, |signal| 128 + signal as i32)));
        assert!(!terminal.text(0).contains("typed"), "{}", terminal.text(0));
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let how = tcgetattr(&terminal.keys).unwrap().local_flags;
        assert!(how.contains(LocalFlags::ECHO | LocalFlags::ICANON), "{how:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A shell's prompt begins a line of its own, and none of the chat's comes between.
#[test]
fn a_chat_that_is_told_to_end_ends_its_line() {
    let folder = Folder::new();
    let model = FOREVER.write(&folder);
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        for answers in [false, true] {
            let mut terminal = Terminal::start(chat(&folder, &model, &["--no-loop-guard", "-n", "400"]));
            if answers {
                let from = terminal.send("Hi\r");
                terminal.wait(from, "answer", |text| text.matches('\u{1F600}').count() > 3);
            }
            kill(Pid::from_raw(terminal.child.id() as i32), signal).unwrap();
            assert_eq!(terminal.child.wait().unwrap().code(), Some(128 + signal as i32));
            let text = terminal.wait(0, "end of line", |text| text.ends_with('\n'));
            assert_eq!(text.matches("\n> ").count(), 1, "{signal}: {text:?}");
        }
    }
}

/// Of a pipe, a message that cannot be asked is said to be one, and the next is answered.
#[test]
fn messages_that_cannot_be_asked_do_not_end_a_script() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let long = "x".repeat(5 << 20);
    let ask = |input: &[u8]| {
        let mut command = chat(&folder, &model, &["-c", "100"]);
        let file = folder.path("input");
        std::fs::write(&file, input).unwrap();
        let output = command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let one = format!("{CHAIN}\n");
    for (bad, code, part) in [
        (long.as_bytes(), 2, "longer than"),
        (&[b'a', 0xFF, b'b'][..], 2, "offset 4"),
        (&[b'x'; 200], 4, "-c N"),
        (format!("\"\"\"\n{long}\nsecond\n\"\"\"").as_bytes(), 2, "longer than"),
    ] {
        let (found, out, err) = ask(&[b"Hi\n", bad, b"\nHo\n"].concat());
        assert_eq!((found, out), (Some(code), one.repeat(2)), "{err}");
        assert!(err.contains(part), "{part}: {err}");
    }
    // A byte order mark is no part of the message.
    let (_, out, err) = ask("\u{FEFF}Hi\n/show history\n".as_bytes());
    assert_eq!(out, one);
    assert!(err.contains("[user] Hi\n"), "{err}");
    let lines = format!("\"\"\"\n{}\"\"\"\n/exit\n", "line\n".repeat(200_000));
    let start = std::time::Instant::now();
    assert_eq!(ask(lines.as_bytes()).0, Some(4));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// A program gets everything as JSON objects, one a line, and may send JSON.
#[test]
fn programs_talk_in_json() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let input = "Hi\n\"two\\nlines\"\n{\"message\": \"/etc\"}\n{\"command\": \"/show history\"}\n/nothing\n{\"a\": 1}\n\
                 {\"message\": \"bad\nHo\n";
    let (code, out, err) = pipe(chat(&folder, &model, &["--json"]), input);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let events: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "start");
    assert_eq!((events[0]["turns"].as_u64(), events[0]["model"].as_str()), (Some(0), Some("chain")));
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let answers = of("answer");
    assert_eq!(answers.len(), 4);
    let texts: String = of("text").iter().map(|event| event["text"].as_str().unwrap()).collect();
    assert_eq!(texts, CHAIN.repeat(4));
    assert_eq!((&answers[0]["text"], &answers[0]["finish_reason"]), (&CHAIN.into(), &"stop".into()));
    assert!(answers[1]["cached_tokens"].as_u64() > Some(0));
    let errors = of("error");
    assert_eq!(errors.len(), 3, "{out}");
    assert!(errors[0]["message"].as_str().unwrap().contains("/nothing"));
    assert!(errors[0]["hint"].is_string() && errors[0]["exit_code"] == 2);
    let shown = of("output")[0]["text"].as_str().unwrap();
    assert!(shown.contains("[user] two\nlines\n") && shown.contains("[user] /etc\n"), "{shown}");
}
