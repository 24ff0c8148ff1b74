//! A store with two slots: whatever fails and whenever it is killed, a model answers, and no trial goes on without end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use smolt::trust::{SignOptions, Signer, sign_path};

use super::harness::{Case, Ended};
use super::{hurt, program, succeeds};
use crate::chat::CHAIN;
use crate::slots::{PROMPT, key, package, trust_text, version};

/// Largest exit code of a store.
const CODES: i32 = 12;
const AT: [&str; 2] = ["--store", "slots"];

fn smolt(folder: &Path, arguments: &[&str]) -> Command {
    program(folder, &[arguments, &AT].concat())
}

/// A store to which versions 1 and 2 were committed, and version 3 as a package.
fn store(folder: &Path) {
    fs::write(folder.join("trust.json"), trust_text(1, &["p256.pub.pem"])).unwrap();
    let good = |line: &[&str]| succeeds(folder, &[line, &AT].concat(), "");
    good(&["store", "init", "--trust", "trust.json"]);
    for number in 1..=3 {
        let archive = package(folder, &version(number));
        let parts = archive.with_extension("");
        fs::rename(archive, folder.join("new.tar")).unwrap();
        fs::remove_dir_all(parts).unwrap();
        if number < 3 {
            good(&["store", "install", "new.tar"]);
            good(&["run", PROMPT]);
        }
    }
    let next = folder.join("next.json");
    fs::write(&next, trust_text(2, &["p256.pub.pem", "other.pub.pem"])).unwrap();
    let signer = Signer::read(&key("p256.pem"), None).unwrap();
    sign_path(&next, &signer, &SignOptions::default()).unwrap();
}

fn on_trial(folder: &Path) {
    store(folder);
    succeeds(folder, &["store", "install", "new.tar", "--store", "slots"], "");
}

/// A copy of the store elsewhere, that goes away.
struct Copy(PathBuf);

impl Copy {
    fn of(folder: &Path) -> Self {
        let copy = folder.with_extension("copy");
        fs::create_dir_all(copy.join("slots")).unwrap();
        for entry in fs::read_dir(folder.join("slots")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join("slots").join(entry.file_name())).unwrap();
        }
        Self(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A model answers at once, and after at most three starts no version is on trial.
fn settles(folder: &Path, ended: &Ended) {
    let copy = Copy::of(folder);
    for start in 1..=3 {
        let done = smolt(&copy.0, &["run", PROMPT]).output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "start {start} after {ended:?}: {err}");
        assert_eq!(String::from_utf8_lossy(&done.stdout), format!("{CHAIN}\n"), "{ended:?}");
        let status = smolt(&copy.0, &["store", "status", "--json"]).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        let is_on_trial = ["a", "b"]
            .iter()
            .any(|slot| ["trial", "staged"].contains(&status[slot]["state"].as_str().unwrap()));
        assert!(status["highest"].as_u64().unwrap() >= 2, "{status}");
        if !is_on_trial {
            return;
        }
    }
    panic!("it is still on trial after {ended:?}");
}

fn case(name: &str, setup: &dyn Fn(&Path), line: &[&str]) {
    hurt(&Case {
        name,
        setup,
        command: &|folder| smolt(folder, line),
        input: "",
        growing: &[],
        repeats: false,
        codes: CODES,
        check: &settles,
    });
}

#[test]
fn an_installation_loses_no_model() {
    case("slots-install", &store, &["store", "install", "new.tar"]);
}

#[test]
fn a_start_on_trial_loses_no_model() {
    case("slots-start", &on_trial, &["run", PROMPT]);
}

#[test]
fn a_commit_loses_no_model() {
    case("slots-commit", &on_trial, &["store", "commit"]);
}

#[test]
fn a_rollback_loses_no_model() {
    case("slots-rollback", &store, &["store", "rollback"]);
}

#[test]
fn another_trust_file_loses_no_model() {
    case("slots-trust", &store, &["store", "trust", "next.json"]);
}

#[test]
fn a_check_loses_no_model() {
    case("slots-fsck", &store, &["store", "fsck"]);
}
