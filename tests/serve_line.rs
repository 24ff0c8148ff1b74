//! `smolt serve` as people type it: help, mistakes, options of other servers, and how it ends.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::chat::{Chain, Folder, ONCE, PATIENCE, Terminal, pipe};
use crate::connect::Serving;
use crate::shared::{Scratch, smolt};

/// Fails before it listens, with this code and a message with all these parts; what it said.
#[track_caller]
fn fails(args: &[&str], code: i32, parts: &[&str]) -> String {
    let mut command = smolt();
    command.args(["serve", "-t", "1"]).args(args);
    let (found, out, err) = pipe(command, "");
    assert_eq!((found, out.as_str()), (Some(code), ""), "{args:?}: {err}");
    assert!(err.starts_with("smolt: "), "{args:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{args:?}: no {part:?} in {err}");
    }
    for misleading in ["unexpected argument", "panicked", "error:", "tip:"] {
        assert!(!err.contains(misleading), "{args:?}: {err}");
    }
    err
}

#[test]
fn help_fits_every_terminal() {
    for (command, last) in [("serve", "--socket /run/smolt.sock"), ("chat", "| smolt chat")] {
        for columns in [40, 56, 80, 120] {
            let mut help = smolt();
            help.args(["help", command]);
            let mut terminal = Terminal::open(help, columns);
            // Examples are broken too, where they must.
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let text = terminal.wait(0, "end of the help", |text| words(text).ends_with(last));
            for line in text.lines().filter(|line| line.chars().count() > usize::from(columns)) {
                assert!(!line.trim().contains(' '), "{command} at {columns}: {line:?}");
            }
        }
    }
}

#[test]
fn mistakes_say_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for said in [
        fails(&["--port", &port], 1, &["cannot listen at", &port, "in use", "--port 0"]),
        fails(&["--host", "0.0.0.0"], 2, &["0.0.0.0:8080", "--allow-remote", "--token-file"]),
    ] {
        assert!(!said.contains("planned"), "no model is loaded before: {said}");
    }
    fails(&["--host", "::", "--port", "0"], 2, &["--allow-remote"]);
    fails(&["--allow-remote"], 2, &["--token-file"]);
    fails(&["--port", "70000"], 2, &["--port", "from 0 to 65535", "\"70000\""]);
    fails(&["--port", "-1"], 2, &["--port", "from 0 to 65535"]);
    fails(&["--slots", "0"], 2, &["--slots", "from 1 to"]);
    fails(&["--queue", "many"], 2, &["--queue", "whole number"]);
    let said = fails(&["--allow-host", "a b", "--port", "0"], 2, &["\"a b\"", "host"]);
    assert!(!said.contains("planned"), "no model is loaded before: {said}");
    fails(&["--token-file", "/absent", "--port", "0"], 2, &["/absent"]);
    fails(&["--socket", "/absent/smolt.sock"], 1, &["/absent/smolt.sock"]);
    let folder = Folder::new();
    let base = Chain { template: false, ..ONCE }.write(&folder).display().to_string();
    let kiosk = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kiosk/kiosk.toml");
    fails(&[&base, "--port", "0", "--kiosk", kiosk], 2, &["no chat template", "--template"]);
    fails(&["--prot", "1"], 2, &["--prot", "did you mean --port"]);
    fails(&["absent.gguf"], 3, &["absent.gguf"]);
    fails(&["demo", "Hello"], 2, &["\"Hello\""]);
}

#[test]
fn options_of_other_servers_are_explained() {
    for (option, parts) in [
        (&["--parallel", "4"][..], &["--parallel", "--slots"][..]),
        (&["-np", "4"], &["-np", "--slots"]),
        (&["--n-gpu-layers", "99"], &["processor"]),
        (&["-ngl", "99"], &["processor"]),
        (&["--api-key", "secret"], &["--token-file"]),
        (&["--ssl-cert-file", "x"], &["proxy"]),
        (&["--embeddings"], &["no embeddings"]),
        (&["--jinja"], &["leave it out"]),
        (&["-cb"], &["leave it out"]),
        (&["--flash-attn"], &["leave it out"]),
        (&["--chat-template-kwargs", "{}"], &["--template-var"]),
    ] {
        fails(option, 2, parts);
    }
    for words in [&["server"][..], &["start"], &["web"]] {
        let mut command = smolt();
        let (code, _, err) = pipe(std::mem::replace(command.args(words), smolt()), "");
        assert!(code == Some(2) && err.contains("smolt serve"), "{err}");
    }
}

#[test]
fn signals_end_it_with_their_codes() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let mut server = Serving::start(&[]);
        kill(Pid::from_raw(server.child.id() as i32), signal).unwrap();
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "{signal}: it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(code), "{signal}");
    }
}

#[test]
fn a_socket_is_this_users_alone_and_goes_away() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.path("smolt.sock");
    let mut server = Serving::start(&["--socket", path.to_str().unwrap()]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fails(&["--socket", path.to_str().unwrap()], 1, &["smolt.sock", "another server"]);
    kill(Pid::from_raw(server.child.id() as i32), Signal::SIGTERM).unwrap();
    server.child.wait().unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "text").unwrap();
    fails(&["--socket", path.to_str().unwrap()], 2, &["smolt.sock", "not replaced"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
}

#[test]
fn completions_manuals_and_settings_know_it() {
    let scratch = Scratch::new("completions", "serve");
    for shell in ["bash", "zsh", "fish"] {
        let script = scratch.out(&[shell]);
        for word in ["serve", "slots", "allow-remote", "connect"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let scratch = Scratch::new("man", "serve");
    std::fs::create_dir(scratch.folder.join("man1")).unwrap();
    scratch.out(&["man1"]);
    let page = scratch.read("man1/smolt-serve.1");
    assert!(page.contains("SMOLT_SLOTS") && page.contains("allow"), "{page}");
    assert!(scratch.read("man1/smolt-chat.1").contains("connect"));
    let scratch = Scratch::new("config", "serve");
    scratch.write("smolt.toml", "slots = 3\n");
    let mut command = scratch.command(&["--json"]);
    command.env("SMOLT_PORT", "9090");
    let (code, out, err) = pipe(command, "");
    assert_eq!(code, Some(0), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let value = |key: &str| {
        let mut settings = report["settings"].as_array().unwrap().iter();
        settings.find(|setting| setting["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!((value("port"), value("slots")), ("9090".into(), "3".into()));
    scratch.write("smolt.toml", "slots = \"many\"\n");
    fails_in(&scratch, &["smolt.toml", "slots"]);
}

#[track_caller]
fn fails_in(scratch: &Scratch, parts: &[&str]) {
    let (code, _, err) = scratch.run(&[]);
    assert_eq!(code, 2, "{err}");
    assert!(parts.iter().all(|part| err.contains(part)), "{err}");
}
