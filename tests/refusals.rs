//! The system says no: threads, memory, file sizes, and files that change under a running process.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use crate::shared::{Scratch, smolt};

const DEMO: &[u8] = include_bytes!("../src/cli/demo.gguf");

/// The program under limits that the shell sets.
fn limited(limits: &str, arguments: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} && exec {} {arguments}", env!("CARGO_BIN_EXE_smolt"))]);
    command.env_clear().stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn too_little_memory_is_exit_code_4_and_never_a_signal() {
    let (mut fitted, mut refused) = (0, 0);
    for command in ["run -t 2 -n 2 --temp 0 Hi", "run -t 1 -n 2 --temp 0 --regex '[a-z]+' Hi"] {
        for mebibytes in (64..=1024).step_by(16).take_while(|size| size % 64 == 0 || *size <= 448) {
            let out = limited(&format!("ulimit -v {}", mebibytes * 1024), command);
            let err = text(&out.stderr);
            assert_eq!(out.status.signal(), None, "{command}, {mebibytes} MiB: {err}");
            match out.status.code() {
                Some(0) => fitted += 1,
                Some(4) => refused += 1,
                code => panic!("{command}, {mebibytes} MiB: {code:?} {err}"),
            }
        }
    }
    assert!(fitted > 0 && refused > 0, "{fitted} fitted, {refused} did not");
}

#[test]
fn a_limit_on_file_sizes_is_an_error_like_a_full_disk() {
    let scratch = Scratch::new("batch", "file-sizes");
    let item = format!("{{\"prompt\": \"{}\", \"max_tokens\": 2}}\n", "Lock the front door ".repeat(3));
    scratch.write("in.jsonl", item.repeat(40));
    let at = |file: &str| scratch.folder.join(file).display().to_string();
    // Blocks of 512 bytes.
    let command = format!("batch {} -o {} -n 2 --raw", at("in.jsonl"), at("out.jsonl"));
    let out = limited("ulimit -f 4", &command);
    assert_eq!((out.status.signal(), out.status.code()), (None, Some(1)), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("out.jsonl"), "{}", text(&out.stderr));
    // The same command goes on.
    assert_eq!(limited("true", &command).status.code(), Some(0));
    assert_eq!(scratch.read("out.jsonl").lines().count(), 40);
    let out = limited("ulimit -f 4", &format!("run --session {} -n 2 Hi", at("s")));
    assert_eq!((out.status.signal(), out.status.code()), (None, Some(1)), "{}", text(&out.stderr));
    fs::write(scratch.folder.join("m.gguf"), DEMO).unwrap();
    let out = limited("ulimit -f 4", &format!("pack -m {}", at("m.gguf")));
    assert_eq!((out.status.signal(), out.status.code()), (None, Some(1)), "{}", text(&out.stderr));
    let names = fs::read_dir(&scratch.folder).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.as_encoded_bytes().starts_with(b".")).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn without_threads_it_goes_on_or_says_why() {
    // Only processes of other users than root are counted.
    let is_root = fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"));
    let has_tools = Command::new("setpriv").arg("--version").output().is_ok();
    if !is_root || !has_tools {
        eprintln!("SKIPPED: needs root and setpriv");
        return;
    }
    let scratch = Scratch::new("run", "threads");
    let program = scratch.folder.join("smolt");
    fs::copy(env!("CARGO_BIN_EXE_smolt"), &program).unwrap();
    let open = |path: &std::path::Path| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    open(&program);
    open(&scratch.folder);
    // An id of its own, of which nobody runs anything.
    let id = 60_000 + std::process::id() % 5_000;
    for (arguments, expected) in [
        (&["run", "-n", "2", "-t", "2", "--temp", "0", "--raw", "Hi"][..], Some(0)),
        (&["run", "-n", "2", "-t", "1", "--temp", "0", "--raw", "Hi"], Some(0)),
        // The chat template and the grammar need a stack of their own.
        (&["run", "-n", "2", "Hi"], Some(4)),
        (&["run", "-n", "2", "--raw", "--regex", "a+", "Hi"], Some(4)),
    ] {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={id}")).arg(format!("--regid={id}")).arg("--clear-groups");
        command.args(["prlimit", "--nproc=1"]).arg(&program).args(arguments);
        let out = command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).output().unwrap();
        let err = text(&out.stderr);
        assert_eq!((out.status.signal(), out.status.code()), (None, expected), "{arguments:?}: {err}");
        assert!(err.contains("thread"), "{arguments:?}: {err}");
        if expected == Some(0) {
            let usual = smolt().args(arguments).output().unwrap();
            assert_eq!(text(&out.stdout), text(&usual.stdout), "the answer is the same");
        }
    }
}

#[test]
fn a_model_that_is_cut_short_ends_no_process_by_a_signal() {
    use std::io::{BufRead, BufReader, Write};
    let scratch = Scratch::new("chat", "cut-models");
    let model = scratch.folder.join("m.gguf");
    // Cut once it is loaded, nothing needs it any more.
    fs::write(&model, DEMO).unwrap();
    let mut command = scratch.command(&["-m", "m.gguf", "--raw", "-n", "2", "--temp", "0"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    writeln!(input, "Hi").unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    fs::File::options().write(true).open(&model).unwrap().set_len(0).unwrap();
    for command in ["/show", "/model", "/context", "/save kept", "/set temp 0.5", "/set answer a|b", "Ho"] {
        writeln!(input, "{command}").unwrap();
    }
    drop(input);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.signal(), None, "{}", text(&done.stderr));
    assert!(scratch.folder.join("kept").exists(), "{}", text(&done.stderr));
    // Cut while it is loaded: an answer or an error.
    let mut large = DEMO.to_vec();
    large.extend(vec![0; 1 << 20]);
    let mut ends = std::collections::BTreeMap::<i32, usize>::new();
    for round in 0..60u64 {
        fs::write(&model, &large).unwrap();
        let mut command = smolt();
        command.args(["run", "-n", "1", "--raw", "Hi", "-m"]).arg(&model);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(round * 1500));
        fs::File::options().write(true).open(&model).unwrap().set_len(round * 1000).unwrap();
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.signal(), None, "{}", text(&done.stderr));
        *ends.entry(done.status.code().unwrap()).or_default() += 1;
    }
    assert!(ends.keys().all(|code| matches!(code, 0 | 3)), "{ends:?}");
    eprintln!("exit codes: {ends:?}");
}

/// Editors and other programs that are started have their signals as usual: only handlers are given up for them.
#[cfg(target_os = "linux")]
#[test]
fn no_signal_is_kept_from_other_programs() {
    use std::io::{BufRead, BufReader, Write};
    let mut command = smolt();
    command.args(["chat", "--json", "--no-save", "-n", "1"]).stderr(Stdio::null());
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    writeln!(input, "Hi").unwrap();
    let answers = BufReader::new(chat.stdout.take().unwrap()).lines();
    assert!(answers.map_while(Result::ok).any(|line| line.contains("\"answer\"")));
    let status = std::fs::read_to_string(format!("/proc/{}/status", chat.id())).unwrap();
    drop(input);
    chat.wait().unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // SIGXFSZ is number 25.
    let has = |name: &str| (mask(name) >> 24) & 1 == 1;
    assert_eq!((has("SigBlk:"), has("SigIgn:"), has("SigCgt:")), (false, false, true));
}
