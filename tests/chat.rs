//! `smolt chat` from outside: on a pseudo-terminal as a person uses it, and from a pipe as a script does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smolt::blocks::BlockType;
use smolt::gguf::GgufWriter;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}\
                      {% endfor %}{{ '<|im_start|>assistant\n' }}";
/// Ids 0..256 are the bytes.
const IM_START: u32 = 256;
pub(crate) const IM_END: u32 = 257;
const VOCAB: usize = 258;
/// What the model says: each byte is a token, so that the emoji takes four.
pub(crate) const CHAIN: &str = "\u{1F600} ";
/// Longest wait for something that must come; other work may slow the machine down.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A model in which a token alone decides what follows: [`CHAIN`], then its start again or the end token. The rest of
/// its layers costs time and changes nothing.
pub(crate) struct Chain {
    pub(crate) ends: bool,
    pub(crate) template: bool,
    /// Columns of the layers that change nothing.
    pub(crate) hidden: usize,
}

const DIM: usize = 64;
const LAYERS: usize = 2;
/// Says the chain once. Small, and fast.
pub(crate) const ONCE: Chain = Chain { ends: true, template: true, hidden: 32 };
/// Never ends; some milliseconds a token.
pub(crate) const FOREVER: Chain = Chain { ends: false, template: true, hidden: 8192 };

impl Chain {
    fn metadata(&self) -> GgufWriter {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", "llama").set("general.name", "chain");
        for (key, value) in [
            ("context_length", 4000),
            ("embedding_length", DIM as u32),
            ("block_count", LAYERS as u32),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("feed_forward_length", self.hidden as u32),
        ] {
            writer.set(format!("llama.{key}"), value);
        }
        let texts = (0..=255).map(|byte| byte_char(byte).to_string());
        let texts: Vec<String> = texts.chain(["<|im_start|>", "<|im_end|>"].map(String::from)).collect();
        let kinds: Vec<i32> = (0..VOCAB).map(|id| if id < 256 { 1 } else { 3 }).collect();
        writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
        writer.set("tokenizer.ggml.tokens", texts).set("tokenizer.ggml.token_type", kinds);
        writer.set("tokenizer.ggml.merges", Vec::<String>::new());
        writer.set("tokenizer.ggml.bos_token_id", IM_START).set("tokenizer.ggml.eos_token_id", IM_END);
        if self.template {
            writer.set("tokenizer.chat_template", CHATML);
        }
        writer
    }

    /// Rows of the embedding or of the head: a direction for each token of the chain and one for all others.
    fn rows(&self, is_head: bool) -> Vec<f32> {
        let chain: Vec<usize> = CHAIN.bytes().map(usize::from).collect();
        let mut rows = vec![0.0; VOCAB * DIM];
        for (id, row) in rows.chunks_exact_mut(DIM).enumerate() {
            let place = chain.iter().position(|token| *token == id);
            if !is_head {
                row[place.unwrap_or(chain.len())] = 1.0;
            } else if let Some(place) = place {
                // It follows the token before it; the first follows all that are not of the chain.
                row[place.checked_sub(1).unwrap_or(chain.len())] = 1.0;
            }
            let follows_last = if self.ends { id == IM_END as usize } else { place == Some(0) };
            if is_head && follows_last {
                row[chain.len() - 1] = 1.0;
            }
        }
        rows
    }

    pub(crate) fn write(&self, folder: &Folder) -> PathBuf {
        self.write_to(&folder.path("chain.gguf"))
    }

    pub(crate) fn write_to(&self, path: &Path) -> PathBuf {
        self.write_with(path, |_| {})
    }

    /// Writes it with other metadata.
    pub(crate) fn write_with(&self, path: &Path, change: impl Fn(&mut GgufWriter)) -> PathBuf {
        let mut writer = self.metadata();
        change(&mut writer);
        let mut add = |name: &str, cols: usize, rows: usize, kind| {
            let shape = if rows == 1 { vec![cols as u64] } else { vec![cols as u64, rows as u64] };
            writer.add_tensor(name, &shape, kind);
        };
        add("token_embd.weight", DIM, VOCAB, BlockType::F32);
        add("output.weight", DIM, VOCAB, BlockType::F32);
        add("output_norm.weight", DIM, 1, BlockType::F32);
        for layer in 0..LAYERS {
            for (name, cols, rows) in [
                ("attn_norm", DIM, 1),
                ("ffn_norm", DIM, 1),
                ("attn_q", DIM, DIM),
                ("attn_k", DIM, DIM / 2),
                ("attn_v", DIM, DIM / 2),
                ("attn_output", DIM, DIM),
                ("ffn_gate", DIM, self.hidden),
                ("ffn_up", DIM, self.hidden),
                ("ffn_down", self.hidden, DIM),
            ] {
                let kind = if rows == 1 { BlockType::F32 } else { BlockType::Q4_0 };
                add(&format!("blk.{layer}.{name}.weight"), cols, rows, kind);
            }
        }
        let bytes = writer.to_vec("chain", |tensor, out| {
            let values = match tensor.name.as_str() {
                "token_embd.weight" => self.rows(false),
                "output.weight" => self.rows(true),
                _ if tensor.block_type == BlockType::F32 => vec![1.0; DIM],
                // Blocks of zeros.
                _ => return out.write_all(&vec![0; tensor.bytes as usize]),
            };
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        });
        std::fs::write(path, bytes.unwrap()).unwrap();
        path.to_owned()
    }
}

/// The character that stands for a byte in byte-level vocabularies.
pub(crate) fn byte_char(byte: u8) -> char {
    let is_shown = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
    let hidden_before = (0..byte).filter(|&byte| !is_shown(byte)).count() as u32;
    if is_shown(byte) { char::from(byte) } else { char::from_u32(256 + hidden_before).unwrap() }
}

/// A directory that goes away.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("smolt-chat-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `smolt chat`, greedy, with a state directory of its own and nothing else of the environment.
pub(crate) fn chat(folder: &Folder, model: &Path, args: &[&str]) -> Command {
    let mut command = crate::shared::smolt();
    command.args(["chat", "-t", "1", "--temp", "0", "-m"]).arg(model).args(args);
    command.env("XDG_STATE_HOME", folder.path("state")).env("TERM", "xterm");
    command
}

/// A program on a pseudo-terminal.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    pub(crate) keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn start(command: Command) -> Terminal {
        let mut terminal = Terminal::open(command, 200);
        terminal.prompt(0);
        terminal
    }

    /// Starts a program on a terminal of so many columns.
    pub(crate) fn open(mut command: Command, columns: u16) -> Terminal {
        let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        #[expect(unsafe_code, reason = "there is no safe way to give a child a controlling terminal")]
        // SAFETY: only system calls that may follow a fork; standard input is the terminal by then.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match nix::libc::ioctl(0, nix::libc::TIOCSCTTY as _, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        drop((command, slave));
        let keys = File::from(master);
        let (mut output, screen) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(vec![])));
        let shown = Arc::clone(&screen);
        // Ends when the program does and nobody holds the terminal.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().extend_from_slice(&bytes[..read]);
            }
        });
        Terminal { child, keys, screen }
    }

    pub(crate) fn raw(&self) -> Vec<u8> {
        self.screen.lock().unwrap().clone()
    }

    /// What was shown from byte `from` on, without the sequences that move the cursor.
    pub(crate) fn text(&self, from: usize) -> String {
        let text = String::from_utf8_lossy(&self.raw()[from..]).replace('\r', "");
        let mut parts = text.split("\x1b[");
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
            shown.push_str(&part[end..]);
        }
        shown
    }

    pub(crate) fn send(&mut self, keys: &str) -> usize {
        let before = self.raw().len();
        self.keys.write_all(keys.as_bytes()).unwrap();
        before
    }

    #[track_caller]
    pub(crate) fn wait(&mut self, from: usize, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let text = self.text(from);
            if is_there(&text) {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "no {what} in {text:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the next prompt after byte `from`, at the start of a line.
    #[track_caller]
    pub(crate) fn prompt(&mut self, from: usize) -> String {
        self.wait(from, "prompt", |text| text.ends_with("\n> ") || text == "> ")
    }

    /// Types a line and waits until the next can be typed; what was shown in between.
    #[track_caller]
    pub(crate) fn line(&mut self, text: &str) -> String {
        let from = self.send(&format!("{text}\r"));
        self.prompt(from)
    }

    /// Leaves by Ctrl-D.
    #[track_caller]
    pub(crate) fn leave(mut self) -> Vec<u8> {
        self.send("\x04");
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not leave: {}", self.text(0));
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0), "{}", self.text(0));
        self.raw()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tokens(text: &str) -> usize {
    let shown = |c: &char| CHAIN.contains(*c);
    text.chars().filter(shown).map(char::len_utf8).sum()
}

pub(crate) fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The number before `unit` in what `/stats` says.
fn count(text: &str, unit: &str) -> usize {
    let before = text.split(unit).next().unwrap();
    before.rsplit(' ').find(|word| !word.is_empty()).unwrap().parse().unwrap()
}

#[test]
fn ctrl_c_stops_the_answer_and_keeps_the_session() {
    let folder = Folder::new();
    let model = FOREVER.write(&folder);
    let mut command = chat(&folder, &model, &["--no-loop-guard"]);
    command.env("SMOLT_ISA", "scalar");
    let mut terminal = Terminal::start(command);
    for round in 0..3 {
        let start = Instant::now();
        let from = terminal.send(&format!("Hello {round}\r"));
        terminal.wait(from, "answer", |text| tokens(text) >= 30 + 5 * round);
        let elapsed = start.elapsed();
        let at = terminal.send("\x03");
        let time = elapsed / tokens(&terminal.text(from)) as u32;
        let stopped = Instant::now();
        let after = terminal.prompt(at);
        let after = after.split("smolt:").next().unwrap().to_owned();
        // A token, those of 100 ms, and those on their way while this thread was waiting.
        let most = 1 + Duration::from_millis(100).div_duration_f32(time).ceil() as usize + 10;
        eprintln!("{} tokens of {time:?} after Ctrl-C, {:?}", tokens(&after), stopped.elapsed());
        assert!(tokens(&after) <= most, "{} tokens after Ctrl-C, {time:?} each: {after}", tokens(&after));
    }
    let history = terminal.line("/show history");
    for round in 0..3 {
        assert!(history.contains(&format!("[user] Hello {round}\n[assistant] {CHAIN}")), "{history}");
    }
    assert!(terminal.line("/context").contains("3 turns"));
    let stats = terminal.line("/stats");
    let new = "<>\n<>user\nHello 2<>\n<>assistant\n".replace("<>", "x").len();
    // The last token of an answer that was stopped is not read yet.
    assert!((new..=new + 1).contains(&count(&stats, " of them new")), "{new}: {stats}");
    let shown = terminal.leave();
    assert!(!has(&shown, "\u{FFFD}".as_bytes()), "an emoji was split");
}

#[test]
fn messages_of_several_lines_arrive_whole() {
    let folder = Folder::new();
    let mut terminal = Terminal::start(chat(&folder, &ONCE.write(&folder), &[]));
    // Pasting ends no message, whatever is in it.
    let from = terminal.send("\x1b[200~first \\\r/help\r\r  third \u{1F600}\x1b[201~");
    terminal.wait(from, "paste", |text| text.contains("third"));
    let answer = terminal.line("");
    assert!(answer.contains(CHAIN), "{answer}");
    terminal.send("\"\"\"one\r");
    terminal.send("two\r");
    terminal.line("\"\"\"");
    let history = terminal.line("/show history");
    let expected = format!(
        "[user] first \\\n/help\n\n  third \u{1F600}\n[assistant] {CHAIN}\n[user] one\ntwo\n[assistant]"
    );
    assert!(history.contains(&expected), "{history:?}");
    terminal.leave();
    let kept = std::fs::read_to_string(folder.path("state/smolt/history")).unwrap();
    assert!(kept.contains("third"), "{kept}");
}

#[test]
fn lines_are_edited() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    std::fs::create_dir_all(folder.path("home/aliases")).unwrap();
    std::fs::write(folder.path("home/aliases/kiosk"), model.display().to_string()).unwrap();
    let mut command = chat(&folder, &model, &["--no-history"]);
    command.env("SMOLT_HOME", folder.path("home"));
    let mut terminal = Terminal::start(command);
    let from = terminal.send("abc");
    terminal.wait(from, "echo", |text| text.contains("abc"));
    let from = terminal.send("\x03");
    terminal.prompt(from);
    let from = terminal.send("\x03");
    assert!(terminal.prompt(from).contains("Ctrl-D"), "the second time it says how to leave");
    assert!(terminal.line("/show history").contains("nothing was said"), "the line was cleared");
    let from = terminal.send("/conte\t");
    terminal.wait(from, "completion", |text| text.contains("/context"));
    assert!(terminal.line("").contains("0 turns"));
    assert!(terminal.line("/hlep").contains("did you mean /help"));
    let help = terminal.line("/help");
    assert!(help.contains("/retry") && help.contains("  \"\"\"  "), "{help}");
    assert!(terminal.line("/set temp hot").contains("from 0 to 10"));
    assert!(terminal.line("/load missing").contains("missing"), "errors do not end it");
    assert!(terminal.line("/retry").contains("nothing was said"));
    terminal.line("/system Be quick.");
    assert!(terminal.line("/show").contains("Be quick."));
    terminal.line("Hi");
    terminal.line("/retry");
    assert!(terminal.line("/context").contains("1 turn"));
    let shown = terminal.line("/tokens");
    assert!(shown.contains("5 tokens") && shown.contains(r#""\xF0""#), "{shown}");
    assert!(terminal.line("/undo").contains("taken back: Hi"));
    assert!(terminal.line("/model missing.gguf").contains("missing.gguf"));
    assert!(terminal.line(&format!("/model {}", model.display())).contains("talking with chain"));
    let from = terminal.send("/model kio\t");
    terminal.wait(from, "completion", |text| text.contains("/model kiosk"));
    assert!(terminal.line("").contains("talking with chain"), "aliases are names too");
    assert!(terminal.line("Hi").contains(CHAIN));
    terminal.leave();
    assert!(!folder.path("state").exists(), "no history is kept");
}

#[test]
fn plain_terminals_get_plain_text() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let mut command = chat(&folder, &model, &[]);
    let mut terminal = Terminal::start({
        command.env("TERM", "dumb");
        command
    });
    assert!(terminal.line("Hi").contains(CHAIN));
    assert!(!has(&terminal.leave(), b"\x1b"));
    let mut command = chat(&folder, &model, &[]);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::start(command);
    terminal.send("/he");
    terminal.line("lp");
    let shown = terminal.leave();
    for part in [&b"\x1b[1m"[..], b"\x1b[2m", b"\x1b[3"] {
        assert!(!has(&shown, part), "{}", String::from_utf8_lossy(&shown));
    }
}

/// How a process ended: exit code, standard output and standard error.
pub(crate) type Ended = (Option<i32>, String, String);

pub(crate) fn pipe(mut command: Command, input: &str) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_bytes().to_vec();
    // The process may end without reading it.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_pipe_gets_only_answers() {
    let folder = Folder::new();
    let model = ONCE.write(&folder);
    let ask = |args: &[&str], input: &str| pipe(chat(&folder, &model, args), input);
    let ok = |answers: usize| (Some(0), format!("{CHAIN}\n").repeat(answers), String::new());
    assert_eq!(ask(&[], "Hi\nHo\r\n\n"), ok(2));
    assert_eq!(ask(&[], "\"\"\"Hi\n/exit\n\"\"\"\n//etc"), ok(2));
    assert_eq!(ask(&[], "Hi\n/retry\n/reset\n/undo\nHo\n").0, Some(2), "nothing to take back");
    assert_eq!(ask(&[], "/exit\nHi\n"), ok(0));
    assert_eq!(ask(&[], ""), ok(0));
    let (code, out, err) = ask(&[], "Hi\n/system Be quick.\n/show history\n");
    assert_eq!((code, out.as_str()), (Some(0), "\u{1F600} \n"));
    assert!(err.contains("[system] Be quick.\n[user] Hi\n[assistant] "), "{err}");
    for (input, part) in [("Hi\n/hlep\n", "did you mean /help"), ("/set top_p 7\n", "top_p")] {
        let (code, _, err) = ask(&[], input);
        assert!(code == Some(2) && err.contains(part), "{err}");
    }
    let (code, out, err) = ask(&["-c", "30"], &format!("{}\n", "x".repeat(40)));
    assert_eq!((code, out.as_str()), (Some(4), ""));
    assert!(err.contains("-c"), "{err}");
    let base = Chain { template: false, ..ONCE };
    let (code, out, err) = pipe(chat(&folder, &base.write(&folder), &[]), "Hi\n");
    assert_eq!((code, out.as_str()), (Some(0), "\u{1F600} \n"));
    assert!(err.contains("no chat template"), "{err}");
}

#[test]
fn a_full_context_forgets_the_oldest_turns_and_says_so() {
    let folder = Folder::new();
    let input: String = (0..12).map(|number| format!("Question {number}\n")).collect();
    let args = ["-c", "200", "--system", "Be quick."];
    let (code, out, err) =
        pipe(chat(&folder, &ONCE.write(&folder), &args), &(input + "/show history\n/context\n"));
    assert_eq!((code, out.lines().count()), (Some(0), 12), "{err}");
    assert!(err.contains("forgotten; the system prompt is kept"), "{err}");
    assert!(err.contains("[system] Be quick.") && err.contains("Question 11") && !err.contains("Question 0"));
}

#[test]
fn answers_that_go_in_circles_are_ended() {
    let folder = Folder::new();
    let model = Chain { hidden: 32, ..FOREVER }.write(&folder);
    let (code, out, err) = pipe(chat(&folder, &model, &[]), "Hi\n");
    assert_eq!((code, out.trim_end()), (Some(0), CHAIN.repeat(12).trim_end()));
    assert!(err.contains("in circles"), "{err}");
    let (code, out, err) = pipe(chat(&folder, &model, &["--no-loop-guard", "-n", "400"]), "Hi\n");
    assert_eq!((code, out.trim_end(), err.as_str()), (Some(0), CHAIN.repeat(80).trim_end(), ""));
}

#[test]
fn an_interrupted_script_ends() {
    let folder = Folder::new();
    let model = Chain { hidden: 512, ..FOREVER }.write(&folder);
    let mut command = chat(&folder, &model, &["--no-loop-guard"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut keep_open = child.stdin.take().unwrap();
    keep_open.write_all(b"Hi\nHo\n").unwrap();
    let mut first = [0; 16];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let mut rest = vec![];
    child.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(first.len() + rest.len() < 4000, "before the context was full");
}

#[test]
fn sessions_go_on_with_what_was_computed() {
    let folder = Folder::new();
    let (model, file) = (ONCE.write(&folder), folder.path("kiosk.session"));
    let system = "A long system prompt. ".repeat(20);
    let run = |args: &[&str], input: &str| {
        let all = [&["--session", file.to_str().unwrap(), "--stats"], args].concat();
        pipe(chat(&folder, &model, &all), input)
    };
    // Without a message the system prompt alone is computed.
    assert_eq!(run(&["--system", &system], "").0, Some(0));
    let (_, out, err) = run(&[], "Hi\n");
    assert_eq!(out, format!("{CHAIN}\n"));
    let new = |err: &str| count(err, " of them new");
    let message = |text: &str| format!("{text}x\nxassistant\n").len();
    assert_eq!(new(&err), message("Hi"), "{err}");
    let (_, _, err) = run(&[], "Ho\n/show history\n");
    assert_eq!(new(&err), "x\nxuser\n".len() + message("Ho"), "{err}");
    assert!(err.contains("[user] Hi") && err.contains("A long system prompt."));
    assert!(run(&[], "Ho\n/undo\n/undo\n/undo\n/context\n").2.contains(" 0 turns"));

    // Another way to store keys and values: the same answers, computed again.
    let (code, out, err) = run(&["--kv", "q8_0"], "Hi\n");
    assert_eq!((code, out), (Some(0), format!("{CHAIN}\n")));
    assert!(err.contains("saved with another KV type") && new(&err) > system.len(), "{err}");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&file, &bytes).unwrap();
    let (code, out, err) = run(&["--kv", "q8_0"], "Hi\n");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("kiosk.session") && err.contains("damaged") && !err.contains("panicked"), "{err}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "it is left as it is");

    let other = folder.path("other.session");
    let (code, _, err) = pipe(
        chat(&folder, &model, &[]),
        &format!("Hi\n/save {0}\n/reset\n/load {0}\n/context\n", other.display()),
    );
    assert!(code == Some(0) && err.contains("1 turn"), "{err}");
}

#[test]
fn a_message_is_written_in_an_editor() {
    let folder = Folder::new();
    let script = folder.path("editor");
    std::fs::write(&script, "printf ' there' >> \"$1\"").unwrap();
    let mut command = chat(&folder, &ONCE.write(&folder), &[]);
    command.env("EDITOR", format!("sh {}", script.display())).env("PATH", std::env::var_os("PATH").unwrap());
    let (code, out, err) = pipe(command, "Hi\n/edit\n/show history\n");
    assert_eq!((code, out), (Some(0), format!("{CHAIN}\n").repeat(2)), "{err}");
    assert!(err.contains("[user] Hi there\n") && !err.contains("[user] Hi\n"), "{err}");
}
