//! Sealed models and packages: opened into locked memory, never onto a disk, and only what was signed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use smolt::trust::{
    Package, Recipients, ReleaseParts, SelfTest, SignOptions, Signer, Time, Version, publish, sign_path,
};

use crate::shared::{Scratch, repository};

const PROMPT: &str = "What time do you open?";
/// Secret keys for tests, and what is sealed to them.
const KEYS: [(&str, &str); 2] = [
    (
        "AGE-SECRET-KEY-1GPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQQAAKQ6V",
        "age16767s8fndetckyac6urwstgxrccr3jtteenvmn6s64ntjmwmhggqu6mc73",
    ),
    (
        "AGE-SECRET-KEY-1G9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9QSC006VW",
        "age10gdyuuym7zz6cj22hgzxnwd3aks2k8mck942hdullmdfqc37s53qf5r2e0",
    ),
];

fn key(name: &str) -> PathBuf {
    repository("tests/data/oms/keys").join(name)
}

fn demo() -> PathBuf {
    repository("src/cli/demo.gguf")
}

fn parts() -> ReleaseParts {
    ReleaseParts {
        name: "kiosk".into(),
        version: 1,
        architecture: "llama".into(),
        minimum_runner: Version::parse("0.1.0").unwrap(),
        memory: 1 << 20,
        created: Time::parse("2026-11-01T00:00:00Z").unwrap(),
        expires: None,
        floor: 1,
        self_test: SelfTest { prompt: PROMPT.into(), tokens: vec![1] },
    }
}

/// A folder with the demo model as the package `package`, sealed or plain, and as `package.tar`; the public key as
/// `trust.pem`, and secret keys as `model.key` and `other.key`.
fn scratch(name: &str, is_sealed: bool) -> Scratch {
    let scratch = Scratch::new("run", name);
    let folder = scratch.folder.join("package");
    let recipients = Recipients::parse(&[KEYS[0].1]).unwrap();
    publish(&demo(), &folder, is_sealed.then_some(&recipients), parts()).unwrap();
    sign(&folder);
    archive(&scratch);
    fs::copy(key("p256.pub.pem"), scratch.folder.join("trust.pem")).unwrap();
    for (name, (secret, _)) in ["model.key", "other.key"].iter().zip(KEYS) {
        let path = scratch.folder.join(name);
        fs::write(&path, format!("# a key\n{secret}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    scratch
}

fn sign(path: &Path) {
    let signer = Signer::read(&key("p256.pem"), None).unwrap();
    sign_path(path, &signer, &SignOptions::default()).unwrap();
}

fn archive(scratch: &Scratch) {
    let mut package = Package::open(&scratch.folder.join("package")).unwrap().archive();
    let mut file = fs::File::create(scratch.folder.join("package.tar")).unwrap();
    std::io::copy(&mut package, &mut file).unwrap();
}

/// The demo model sealed by anybody, to who has the key.
fn seal(to: &Path) {
    let recipients = Recipients::parse(&[KEYS[0].1]).unwrap();
    recipients.seal(fs::File::open(demo()).unwrap(), fs::File::create(to).unwrap()).unwrap();
}

const TRUST: [&str; 2] = ["--require-signature", "trust.pem"];
const KEY: [&str; 2] = ["--identity", "model.key"];

fn plain(scratch: &Scratch) -> String {
    scratch.out(&["-m", demo().to_str().unwrap(), PROMPT])
}

#[test]
fn packages_answer_as_their_model() {
    for is_sealed in [false, true] {
        let scratch = scratch(&format!("package-{is_sealed}"), is_sealed);
        let plain = plain(&scratch);
        for package in ["package", "package.tar"] {
            let keys = if is_sealed { &KEY[..] } else { &[] };
            let args = [&["-m", package], &TRUST[..], keys, &[PROMPT]].concat();
            assert_eq!(scratch.out(&args), plain, "{args:?}");
        }
    }
}

#[test]
fn a_package_is_refused_without_a_demand_a_key_or_the_right_one() {
    let scratch = scratch("package-keys", true);
    for package in ["package", "package.tar"] {
        let (code, out, error) = scratch.run(&["-m", package, KEY[0], KEY[1], PROMPT]);
        assert!(code == 7 && out.is_empty() && error.contains("signed package"), "{code} {error}");
        let run = |more: &[&str]| scratch.run(&[&["-m", package], &TRUST[..], more, &[PROMPT]].concat());
        let (code, out, error) = run(&[]);
        assert!(code == 2 && out.is_empty() && error.contains("no secret key"), "{code} {error}");
        let (code, out, error) = run(&["--identity", "other.key"]);
        assert!(code != 0 && out.is_empty() && error.contains("other keys"), "{code} {error}");
    }
    fs::copy(key("other.pub.pem"), scratch.folder.join("trust.pem")).unwrap();
    let (code, out, error) = scratch.run(&[&["-m", "package"], &TRUST[..], &KEY, &[PROMPT]].concat());
    assert!(code == 7 && out.is_empty(), "{code} {out} {error}");
}

#[test]
fn a_valid_sealed_file_of_somebody_else_is_refused() {
    let scratch = scratch("package-stranger", true);
    // The same model, sealed anew: only the signer could have sealed the one that was signed.
    seal(&scratch.folder.join("package/model.gguf.age"));
    let (code, out, error) = scratch.run(&[&["-m", "package"], &TRUST[..], &KEY, &[PROMPT]].concat());
    println!("{code} {error}");
    let is_same_model = code == 0 && out == plain(&scratch);
    assert!(is_same_model || (code == 7 && out.is_empty()), "{code} {out} {error}");
    // Another model, sealed to the right key.
    let recipients = Recipients::parse(&[KEYS[0].1]).unwrap();
    let mut other = fs::read(demo()).unwrap();
    *other.last_mut().unwrap() ^= 1;
    let target = fs::File::create(scratch.folder.join("package/model.gguf.age")).unwrap();
    recipients.seal(&other[..], target).unwrap();
    let (code, out, error) = scratch.run(&[&["-m", "package"], &TRUST[..], &KEY, &[PROMPT]].concat());
    assert!(code == 7 && out.is_empty(), "{code} {out} {error}");
}

#[test]
fn a_changed_byte_of_a_sealed_package_is_refused() {
    let scratch = scratch("package-changed", true);
    let path = scratch.folder.join("package.tar");
    let good = fs::read(&path).unwrap();
    let args = [&["-m", "package.tar"], &TRUST[..], &KEY, &[PROMPT]].concat();
    for at in [0, 700, good.len() / 3, good.len() / 2, good.len() - 2000] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        let (code, out, error) = scratch.run(&args);
        assert!(code != 0 && out.is_empty(), "{at}: {code} {out} {error}");
    }
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let (code, out, error) = scratch.run(&args);
    assert!(code != 0 && out.is_empty(), "{code} {out} {error}");
}

#[test]
fn a_sealed_file_alone_is_opened_and_may_be_signed() {
    let scratch = scratch("sealed-alone", true);
    let plain = plain(&scratch);
    let path = scratch.folder.join("m.gguf.age");
    seal(&path);
    let run = |more: &[&str]| scratch.run(&[&["-m", "m.gguf.age"], more, &[PROMPT]].concat());
    let (code, out, error) = run(&KEY);
    assert!(code == 0 && out == plain, "{code} {out} {error}");
    let (code, out, error) = run(&[]);
    assert!(code == 2 && out.is_empty() && error.contains("no secret key"), "{code} {out} {error}");
    let signed = [&KEY[..], &TRUST].concat();
    let (code, out, error) = run(&signed);
    assert!(code == 7 && out.is_empty() && error.contains("no signature"), "{code} {out} {error}");
    sign(&path);
    let (code, out, error) = run(&signed);
    assert!(code == 0 && out == plain, "{code} {out} {error}");
    // Sealed anew by somebody else, it is valid but not signed: the judgement comes with the last byte.
    seal(&path);
    let (code, out, error) = run(&signed);
    assert!(code == 7 && out.is_empty() && error.contains("is not what was signed"), "{code} {out} {error}");
    // Every way to be cut: in the header, between chunks and in them.
    let whole = fs::read(&path).unwrap();
    for len in [0, 30, 150, 216, 70_000, whole.len() - 20, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        let (code, out, error) = run(&KEY);
        assert!(code != 0 && out.is_empty(), "{len}: {code} {out} {error}");
    }
}

#[test]
fn the_key_may_come_from_a_descriptor_or_a_credential() {
    let scratch = scratch("sealed-fd", true);
    let plain = plain(&scratch);
    let script = format!(
        "exec {} run -m package --require-signature trust.pem --identity fd:3 '{PROMPT}' 3<model.key",
        env!("CARGO_BIN_EXE_smolt")
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env_clear().current_dir(&scratch.folder).stdin(Stdio::null());
    let done = shell.output().unwrap();
    assert!(done.status.success() && done.stdout == plain.as_bytes(), "{done:?}");
    let mut command = scratch
        .command(&[&["-m", "package"], &TRUST[..], &["--identity", "credential:model.key", PROMPT]].concat());
    let done = command.env("CREDENTIALS_DIRECTORY", &scratch.folder).output().unwrap();
    assert!(done.status.success() && done.stdout == plain.as_bytes(), "{done:?}");
    fs::set_permissions(scratch.folder.join("model.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, out, error) = scratch.run(&[&["-m", "package"], &TRUST[..], &KEY, &[PROMPT]].concat());
    assert!(code != 0 && out.is_empty() && error.contains("others may read it"), "{code} {error}");
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn nothing_of_a_sealed_model_is_written_to_a_disk() {
    let scratch = scratch("sealed-canary", true);
    let plain = fs::read(demo()).unwrap();
    // Of the header and of the weights.
    let canaries =
        [300, 5000, plain.len() / 3, plain.len() / 2, plain.len() - 4000].map(|at| &plain[at..at + 32]);
    let home = scratch.folder.join("home");
    fs::create_dir(&home).unwrap();
    let lines: [&[&str]; 4] = [
        &["run", "--session", "talk.session", PROMPT],
        &["run", "-t", "1", PROMPT],
        &["plan"],
        &["pack", "--pack-key", "device.key"],
    ];
    fs::write(scratch.folder.join("device.key"), [9; 32]).unwrap();
    fs::set_permissions(scratch.folder.join("device.key"), fs::Permissions::from_mode(0o600)).unwrap();
    for line in lines {
        let mut command = crate::shared::smolt();
        command.args(line).args(["-m", "package"]).args(TRUST).args(KEY).current_dir(&scratch.folder);
        for name in ["HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env(name, &home);
        }
        let done = command.stdin(Stdio::null()).output().unwrap();
        let is_refused = line[0] == "pack";
        assert_eq!(done.status.success(), !is_refused, "{line:?}: {done:?}");
    }
    let mut all = vec![];
    files(&scratch.folder, &mut all);
    assert!(all.len() > 6, "{all:?}");
    for path in all {
        let bytes = fs::read(&path).unwrap();
        for canary in canaries {
            assert!(!bytes.windows(canary.len()).any(|window| window == canary), "{}", path.display());
        }
    }
    // The same search finds them where they are.
    assert!(canaries.iter().all(|canary| plain.windows(32).any(|window| window == *canary)));
}

#[test]
#[cfg(target_os = "linux")]
fn the_weights_of_a_sealed_model_are_locked_and_no_core_is_written() {
    let scratch = scratch("sealed-locked", true);
    let mut command = crate::shared::smolt();
    command.args(["chat", "-m", "package"]).args(TRUST).args(KEY).current_dir(&scratch.folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let end = Instant::now() + Duration::from_secs(60);
    let locked = loop {
        let status = fs::read_to_string(process.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        if kilobytes > 1000 || Instant::now() > end {
            break kilobytes;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let limits = fs::read_to_string(process.join("limits"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(locked > 1000, "{locked} kB are locked");
    // Who may look into no other process may not read this either.
    let limits = limits.unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_sealed_model_takes_no_more_memory_than_planned() {
    let scratch = scratch("sealed-memory", true);
    let json = scratch.out(&[&["-m", "package"], &TRUST[..], &KEY, &["--json", "-n", "12", PROMPT]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    let bytes = |key: &str| json["memory"][key].as_u64().unwrap();
    let (planned, peak) = (bytes("planned_bytes"), bytes("peak_rss_bytes"));
    println!("{peak} taken, {planned} planned");
    assert!(peak <= planned + (8 << 20), "{peak} taken, {planned} planned");
}
