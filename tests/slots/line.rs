//! What the commands do and say.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Bench, PROMPT, STORE, Wanted, key, trust_text, version};
use smolt::trust::{SignOptions, Signer, sign_path};

#[test]
fn a_version_is_installed_tried_and_committed() {
    let bench = Bench::with("life", &[]);
    let (code, out, _) = bench.run(&["store", "status"]);
    assert_eq!((code, out.starts_with("next      nothing")), (11, true), "{out}");
    let (code, _, err) = bench.run(&["run", PROMPT]);
    assert!(code == 11 && err.contains("nothing is installed"), "{code} {err}");

    bench.install(&version(1));
    let (out, _) = bench.good(&["store", "status"]);
    assert!(out.contains("version 1 (slot a, on trial)") && out.contains("2 starts left"), "{out}");
    let (_, err) = bench.answers();
    assert!(err.contains("kiosk 1 is on trial") && err.contains("kiosk 1 has proved itself"), "{err}");
    assert_eq!(bench.status()["a"]["state"], "good");

    bench.install(&version(2));
    // To look at a store is no start.
    assert!(!bench.good(&["tokenize", PROMPT]).0.is_empty());
    assert_eq!(bench.status()["b"]["starts_left"], 2);
    bench.good(&["store", "commit"]);
    let (out, err) = bench.good(&["store", "status"]);
    assert!(out.starts_with("next      version 2 (slot b); if it fails, version 1 (slot a)\n"), "{out}{err}");
    bench.good(&["store", "rollback"]);
    assert_eq!(bench.answers().0, 1);
    // What was counted.
    let (out, _) = bench.good(&["stats", "slots/stats"]);
    assert!(out.contains("run"), "{out}");
    assert!(fs::metadata(bench.slot("stats")).unwrap().len() <= 4096);
}

#[test]
fn a_version_that_answers_wrongly_never_takes_over() {
    let bench = Bench::with("wrong", &[1]);
    bench.install(&Wanted { works: false, ..version(2) });
    let (out, err) = bench.good(&["run", PROMPT]);
    assert!(
        !out.is_empty() && err.contains("slot b: the self-test expected") && err.contains("kiosk 1 runs"),
        "{err}"
    );
    let (code, _, err) = bench.run(&["store", "commit"]);
    assert!(code == 12 && err.contains("version 2 failed its trial"), "{code} {err}");
    assert_eq!(bench.answers().0, 1);
    // The same by commit, which tries it itself.
    bench.install(&Wanted { works: false, floor: 1, ..version(3) });
    let (code, _, err) = bench.run(&["store", "commit"]);
    assert!(code == 12 && err.contains("version 3 failed its trial"), "{code} {err}");
    assert_eq!(bench.status()["b"]["state"], "bad");
}

#[test]
fn what_is_refused_has_its_exit_code_and_leaves_nothing() {
    let bench = Bench::with("refused", &[2]);
    let before = bench.status();
    let other = Wanted { name: "other", ..version(9) };
    let expired = Wanted { expires: Some("2026-11-28T01:00:00Z"), ..version(9) };
    let stranger = Wanted { key: "other.pem", ..version(9) };
    for (wanted, code, words) in [
        (version(1), 8, "version 2 was committed before"),
        (version(2), 8, "version 2 was committed before"),
        (other, 8, "this store has \"kiosk\""),
        (expired, 8, "expired at 2026-11-28T01:00:00Z"),
        (stranger, 7, "signature"),
    ] {
        let (found, _, err) = bench.run(&["store", "install", &bench.package(&wanted)]);
        assert!(found == code && err.contains(words), "{found} {err}");
        assert_eq!(bench.status(), before);
    }
    let good = fs::read(bench.package(&version(3))).unwrap();
    for (name, bytes) in [
        ("cut.tar", good[..good.len() - 1].to_vec()),
        ("long.tar", [&good[..], b"x"].concat()),
        (
            "flipped.tar",
            good.iter().enumerate().map(|(at, b)| if at == good.len() / 2 { b ^ 1 } else { *b }).collect(),
        ),
        ("text.tar", b"hello".to_vec()),
    ] {
        fs::write(bench.folder.join(name), bytes).unwrap();
        let (code, _, err) = bench.run(&["store", "install", name]);
        assert!(code == 7 || (code == 1 && name == "cut.tar"), "{name}: {code} {err}");
        assert!(!bench.slot("slot.b.tar").exists(), "{name}");
    }
    let mut changed = bench.status();
    changed["origin"] = before["origin"].clone();
    assert_eq!(changed, before);
    assert_eq!(bench.answers().0, 2);
}

#[test]
fn a_package_comes_as_a_folder_or_through_a_pipe() {
    let bench = Bench::with("sources", &[]);
    let archive = bench.package(&version(1));
    bench.good(&["store", "install", archive.strip_suffix(".tar").unwrap()]);
    assert_eq!(fs::read(bench.slot("slot.a.tar")).unwrap(), fs::read(&archive).unwrap());
    let mut child =
        bench.command(&["store", "install", "-", "--json"]).stdin(Stdio::piped()).spawn().unwrap();
    let bytes = fs::read(bench.package(&version(2))).unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let done = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["installed"]["version"], 2, "{done:?}");
    assert_eq!(bench.answers().0, 2);
    // It comes out as it went in.
    bench.good(&["store", "export", "out"]);
    let names = ["model.gguf", "model.sig", "release.json"];
    for name in names {
        let from = bench.folder.join("kiosk-2-0-true-p256.pem").join(name);
        assert_eq!(fs::read(bench.folder.join("out").join(name)).unwrap(), fs::read(from).unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(bench.folder.join("out")).unwrap().count(), names.len());
}

#[test]
fn a_store_lets_no_other_model_run() {
    let bench = Bench::with("others", &[1]);
    fs::copy(crate::shared::repository("src/cli/demo.gguf"), bench.folder.join("m.gguf")).unwrap();
    for line in [
        &["run", "-m", "m.gguf", PROMPT][..],
        &["run", "-m", "demo", PROMPT],
        &["run", "m.gguf", PROMPT],
        &["chat", "-m", "m.gguf"],
        &["batch", "-m", "m.gguf", "-"],
        &["serve", "-m", "m.gguf", "--port", "0"],
        &["show", "-m", "m.gguf"],
        &["bench", "-m", "m.gguf"],
    ] {
        let (code, out, err) = bench.run(line);
        assert!(
            code == 7 && out.is_empty() && err.contains("lets no other model run"),
            "{line:?}: {code} {err}"
        );
    }
    let done = bench.command(&["run", PROMPT]).env("SMOLT_MODEL", "m.gguf").output().unwrap();
    assert_eq!(done.status.code(), Some(7));
    // Not even where it has none.
    fs::write(bench.slot("slot.a.tar"), b"damaged").unwrap();
    let (code, out, err) = bench.run(&["run", PROMPT]);
    assert!(code == 11 && out.is_empty() && err.contains("slot a"), "{code} {err}");
}

#[test]
fn a_golden_package_runs_until_there_is_another_and_again_when_all_is_lost() {
    let bench = Bench::new("golden");
    let golden = bench.package(&version(1));
    bench.good(&["store", "init", "--trust", "trust.json", "--golden", &golden]);
    assert_eq!(bench.answers().0, 1);
    bench.install(&version(2));
    assert_eq!(bench.answers().0, 2);
    for name in ["slot.a.tar", "record.0", "record.1"] {
        fs::write(bench.slot(name), b"").unwrap();
    }
    let (_, err) = bench.good(&["run", PROMPT]);
    assert!(err.contains("kiosk 1 runs instead, from the golden package"), "{err}");
    let (out, _) = bench.good(&["store", "fsck"]);
    assert!(out.contains("slot.a.tar") && out.contains("verified  kiosk 1, golden package"), "{out}");
    // What changed it is seen.
    let mut bytes = fs::read(&golden).unwrap();
    let middle = bytes.len() - 2000;
    bytes[middle] ^= 1;
    fs::write(&golden, bytes).unwrap();
    let (code, _, err) = bench.run(&["run", PROMPT]);
    assert!(code == 11 && err.contains("is not what was signed"), "{code} {err}");
}

#[test]
fn what_is_no_file_is_refused_in_a_store() {
    for (name, code) in [("slot.b.tar", 7), ("record.0", 7), ("record.1", 7), ("good.b", 7), ("lock", 7)] {
        for kind in ["link", "pipe", "folder"] {
            let bench = Bench::with(&format!("kind-{name}-{kind}"), &[1]);
            let archive = bench.package(&version(2));
            let path = bench.slot(name);
            let aside = bench.folder.join("aside");
            // Before the second install slot b is empty.
            if path.exists() {
                fs::rename(&path, &aside).unwrap();
            } else {
                fs::write(&aside, b"mine").unwrap();
            }
            let kept = fs::read(&aside).unwrap();
            match kind {
                "link" => symlink(&aside, &path).unwrap(),
                "pipe" => mkfifo(&path, Mode::S_IRWXU).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            let (found, _, err) = bench.run(&["store", "install", &archive]);
            assert!(found == code && err.contains("regular file"), "{name} {kind}: {found} {err}");
            assert_eq!(fs::read(&aside).unwrap(), kept, "{name} {kind}");
            bench.good(&["run", PROMPT]);
        }
    }
}

#[test]
fn files_of_a_store_are_of_their_owner_alone() {
    let bench = Bench::with("modes", &[1]);
    assert_eq!(fs::metadata(bench.folder.join(STORE)).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(bench.folder.join(STORE)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "stats" {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }
    let (code, _, err) = bench.run(&["store", "init", "--trust", "trust.json"]);
    assert!(code == 2 && err.contains("is a store already"), "{err}");
}

#[test]
fn a_second_installer_is_told_that_the_store_is_busy() {
    let bench = Bench::with("busy", &[1]);
    let mut child = bench.command(&["store", "install", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let bytes = fs::read(bench.package(&version(2))).unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let start = std::time::Instant::now();
    while !bench.slot("slot.b.tar").exists() && start.elapsed() < crate::chat::PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let (code, _, err) = bench.run(&["store", "install", &bench.package(&version(3))]);
    assert!(code == 9 && err.contains("another process"), "{code} {err}");
    // Who answers does not wait.
    assert_eq!(bench.answers().0, 1);
    input.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(bench.answers().0, 2);
}

#[test]
fn the_next_trust_file_is_signed_by_the_one_before() {
    let bench = Bench::with("trust", &[1]);
    let next = bench.folder.join("next.json");
    let sign = |names: &[&str]| {
        for at in 1..=8 {
            let suffix = if at == 1 { ".sig".to_owned() } else { format!(".{at}.sig") };
            let _ = fs::remove_file(bench.folder.join(format!("next.json{suffix}")));
        }
        for (at, name) in names.iter().enumerate() {
            let suffix = if at == 0 { ".sig".to_owned() } else { format!(".{}.sig", at + 1) };
            let output = Some(bench.folder.join(format!("next.json{suffix}")));
            let signer = Signer::read(&key(name), None).unwrap();
            sign_path(&next, &signer, &SignOptions { output, ..SignOptions::default() }).unwrap();
        }
    };
    // Only by its own key; a version left out; without the key of what runs.
    for (version, keys, signers) in [
        (2, &["p256.pub.pem", "other.pub.pem"][..], &["other.pem"][..]),
        (3, &["p256.pub.pem"], &["p256.pem"]),
        (1, &["p256.pub.pem", "other.pub.pem"], &["p256.pem"]),
        (2, &["other.pub.pem"], &["p256.pem", "other.pem"]),
    ] {
        fs::write(&next, trust_text(version, keys)).unwrap();
        sign(signers);
        let (code, _, err) = bench.run(&["store", "trust", "next.json"]);
        let refused = version != 2 || signers.len() == 1 || err.contains("would not be trusted");
        assert!((code == 7 || code == 8) && refused, "{code} {err}");
        assert_eq!(bench.status()["trust"], 1);
    }
    fs::write(&next, trust_text(2, &["p256.pub.pem", "other.pub.pem"])).unwrap();
    sign(&["p256.pem"]);
    bench.good(&["store", "trust", "next.json"]);
    assert_eq!(bench.status()["trust"], 2);
    bench.good(&["store", "trust", "next.json"]);
    // The new key signs from now on, and the old one may go.
    bench.install(&Wanted { key: "other.pem", ..version(2) });
    assert_eq!(bench.answers().0, 2);
    fs::write(&next, trust_text(3, &["other.pub.pem"])).unwrap();
    sign(&["p256.pem", "other.pem"]);
    bench.good(&["store", "trust", "next.json"]);
    let (code, _, err) = bench.run(&["store", "install", &bench.package(&version(3))]);
    assert!(code == 7, "{code} {err}");
}
