//! `smolt bundle`: packages that say what is in them, and nothing that was changed.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::shared::{Scratch, repository};

const KEY: &str = "tests/data/oms/keys/p256.pem";
const PUBLIC: &str = "tests/data/oms/keys/p256.pub.pem";
const OTHER: &str = "tests/data/oms/keys/other.pub.pem";
/// A key of age for these tests alone, and its recipient.
const IDENTITY: &str = "AGE-SECRET-KEY-1GPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQQAAKQ6V";
const RECIPIENT: &str = "age16767s8fndetckyac6urwstgxrccr3jtteenvmn6s64ntjmwmhggqu6mc73";

fn path(file: &str) -> String {
    repository(file).display().to_string()
}

fn create(scratch: &Scratch, output: &str, more: &[&str]) -> (i32, String, String) {
    let model = path("src/cli/demo.gguf");
    let arguments = ["create", &model, "--name", "kiosk", "--version", "3", "-o", output];
    scratch.run(&[&arguments, more].concat())
}

fn release(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("release.json")).unwrap()).unwrap()
}

#[test]
fn a_package_is_made_signed_carried_and_shown() {
    let scratch = Scratch::new("bundle", "plain");
    let key = path(KEY);
    let more = ["--key", &key, "--tar", "kiosk.tar", "--floor", "2", "--expires", "2099-06-30", "--json"];
    let (exit, report, notes) = create(&scratch, "kiosk", &more);
    assert_eq!(exit, 0, "{notes}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let written = release(&scratch.folder.join("kiosk"));
    assert_eq!(report["release"], written);
    assert_eq!(written["architecture"], "llama");
    assert_eq!(written["floor"], 2);
    assert_eq!(written["expires"], "2099-06-30T00:00:00Z");
    assert_eq!(written["minimum_runner"], env!("CARGO_PKG_VERSION"));
    assert!(written["memory"].as_u64().unwrap() > written["model"]["bytes"].as_u64().unwrap());
    let tar = scratch.folder.join("kiosk.tar");
    assert_eq!(report["archive_bytes"], fs::metadata(&tar).unwrap().len());
    let model = fs::read(scratch.folder.join("kiosk/model.gguf")).unwrap();
    assert_eq!(model, fs::read(repository("src/cli/demo.gguf")).unwrap());
    for package in ["kiosk", "kiosk.tar"] {
        let (exit, shown, notes) = scratch.run(&["show", package, "--trust", &path(PUBLIC), "--json"]);
        assert_eq!(exit, 0, "{notes}");
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["release"], written);
        assert_eq!(shown["signed_by"].as_array().unwrap().len(), 1);
        let (exit, _, _) = scratch.run(&["show", package, "--trust", &path(OTHER)]);
        assert_eq!(exit, 7);
        let (exit, shown, _) = scratch.run(&["show", package]);
        assert!(exit == 0 && shown.contains("not checked"), "{shown}");
    }
    // The archive of the folder, later and again.
    assert_eq!(scratch.run(&["pack", "kiosk", "again.tar"]).0, 0);
    assert_eq!(fs::read(&tar).unwrap(), fs::read(scratch.folder.join("again.tar")).unwrap());
}

#[test]
fn a_changed_package_is_not_shown_as_signed() {
    let scratch = Scratch::new("bundle", "changed");
    let (exit, _, notes) = create(&scratch, "kiosk", &["--key", &path(KEY), "--tar", "kiosk.tar"]);
    assert_eq!(exit, 0, "{notes}");
    let tar = fs::read(scratch.folder.join("kiosk.tar")).unwrap();
    for at in [700, tar.len() / 2, tar.len() - 1] {
        let mut changed = tar.clone();
        changed[at] ^= 1;
        fs::write(scratch.folder.join("changed.tar"), changed).unwrap();
        let (exit, shown, notes) = scratch.run(&["show", "changed.tar", "--trust", &path(PUBLIC)]);
        assert!(exit == 7 && shown.is_empty(), "byte {at}: {exit} {notes}");
    }
}

#[cfg(unix)]
#[test]
fn a_sealed_package_holds_nothing_of_the_model() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("bundle", "sealed");
    let (exit, _, notes) = create(&scratch, "kiosk", &["--key", &path(KEY), "--seal", RECIPIENT]);
    assert_eq!(exit, 0, "{notes}");
    let sealed = fs::read(scratch.folder.join("kiosk/model.gguf.age")).unwrap();
    let plain = fs::read(repository("src/cli/demo.gguf")).unwrap();
    assert!(!scratch.folder.join("kiosk/model.gguf").exists());
    let canary = &plain[plain.len() / 2..][..32];
    assert!(plain.windows(32).any(|part| part == canary) && !sealed.windows(32).any(|part| part == canary));
    let key = scratch.folder.join("key");
    fs::write(&key, IDENTITY).unwrap();
    let show = || scratch.run(&["show", "kiosk", "--trust", &path(PUBLIC), "--identity", "key"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, _, notes) = show();
    assert!(exit != 0 && notes.contains("chmod 600"), "{notes}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let (exit, shown, notes) = show();
    assert!(exit == 0 && shown.contains("sealed"), "{notes}");
}

#[test]
fn a_self_test_is_the_same_on_every_instruction_set() {
    let scratch = Scratch::new("bundle", "self-test");
    assert_eq!(create(&scratch, "usual", &["--self-test", "The museum opens"]).0, 0);
    let model = path("src/cli/demo.gguf");
    let arguments = [
        "create",
        &model,
        "--name",
        "kiosk",
        "--version",
        "3",
        "-o",
        "scalar",
        "--self-test",
        "The museum opens",
    ];
    let out = scratch.command(&arguments).env("SMOLT_ISA", "scalar").output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let [usual, scalar] = ["usual", "scalar"].map(|folder| release(&scratch.folder.join(folder)));
    assert!(!usual["self_test"]["tokens"].as_array().unwrap().is_empty());
    assert_eq!(usual["self_test"], scalar["self_test"]);
    // And as the library continues it, in as many tokens.
    let expected: Vec<u64> =
        usual["self_test"]["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    let loaded = smolt::load(&model, &smolt::LoadOptions::default()).unwrap();
    let continued = loaded.continued("The museum opens", expected.len()).unwrap();
    assert_eq!(continued.iter().map(|token| u64::from(token.id)).collect::<Vec<_>>(), expected);
}

#[test]
fn what_cannot_be_a_package_is_refused_before_anything_is_written() {
    let scratch = Scratch::new("bundle", "refused");
    for more in [
        &["--floor", "4"][..],
        &["--expires", "2020-01-01"],
        &["--expires", "tomorrow"],
        &["--seal", "age1nobody"],
        &["--seal", RECIPIENT, "--seal", RECIPIENT],
        &["--key", "none.pem"],
        &["--tar", "kiosk.tar"],
        &["--self-test", ""],
        &["--minimum-runner", "1"],
    ] {
        let (exit, _, notes) = create(&scratch, "kiosk", more);
        assert!(exit != 0 && !notes.is_empty(), "{more:?}");
        assert!(!scratch.folder.join("kiosk").exists(), "{more:?}");
    }
    // A folder with something in it stays as it is.
    fs::create_dir(scratch.folder.join("mine")).unwrap();
    fs::write(scratch.folder.join("mine/notes.txt"), "notes").unwrap();
    assert_ne!(create(&scratch, "mine", &[]).0, 0);
    assert_eq!(fs::read_dir(scratch.folder.join("mine")).unwrap().count(), 1);
}

/// What smolt seals the stock programs of age open, and the other way round; `scripts/check.sh --install` fetches one.
#[cfg(unix)]
#[test]
fn sealed_models_go_both_ways_with_the_stock_programs() {
    let has = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    if !["age", "rage"].into_iter().any(has)
        || std::process::Command::new("openssl").arg("version").output().is_err()
    {
        eprintln!("SKIPPED: no age and no rage, or no openssl: no sealed model was exchanged with them");
        return;
    }
    let script = repository("scripts/trust/age_round_trip.sh");
    let done = std::process::Command::new(script).arg(env!("CARGO_BIN_EXE_smolt")).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    eprint!("{said}");
    assert!(done.status.success() && said.contains("opened what smolt sealed"), "{said}");
}
