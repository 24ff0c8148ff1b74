//! `smolt store` and `--store`, by the commands, with signed packages.

mod hooks;
mod line;
#[cfg(feature = "pull")]
mod web;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use smolt::trust::{Package, ReleaseParts, SelfTest, SignOptions, Signer, Time, Version, publish, sign_path};
use smolt::{LoadOptions, load};

use crate::chat::{CHAIN, Chain, ONCE};
use crate::shared::{repository, smolt};

/// The folder of the store.
const STORE: &str = "slots";
/// What all versions continue where they work.
pub(crate) const PROMPT: &str = "Hi";

pub(crate) fn key(name: &str) -> PathBuf {
    repository("tests/data/oms/keys").join(name)
}

/// A folder of its own for a test, with a trust file for the key of the tests.
struct Bench {
    folder: PathBuf,
}

/// What a package is to be.
#[derive(Clone)]
pub(crate) struct Wanted {
    version: u64,
    floor: u64,
    name: &'static str,
    /// Whether it passes its self-test.
    works: bool,
    key: &'static str,
    expires: Option<&'static str>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { version: 1, floor: 0, name: "kiosk", works: true, key: "p256.pem", expires: None }
    }
}

pub(crate) fn version(version: u64) -> Wanted {
    Wanted { version, ..Wanted::default() }
}

/// The text of a trust file.
pub(crate) fn trust_text(version: u64, keys: &[&str]) -> String {
    let keys: Vec<Value> = keys
        .iter()
        .map(|name| {
            let pem = fs::read_to_string(key(name)).unwrap();
            serde_json::json!({"name": name, "roles": ["release", "trust"], "key": pem})
        })
        .collect();
    serde_json::json!({"format": "smolt-trust/1", "version": version, "keys": keys,
        "roles": {"release": {"threshold": 1}, "trust": {"threshold": 1}}})
    .to_string()
}

/// Makes the archive of a package in a folder; its versions differ in what changes no answer.
pub(crate) fn package(folder: &Path, wanted: &Wanted) -> PathBuf {
    let Wanted { version, floor, name, works, key: signer, expires } = wanted.clone();
    let stem = format!("{name}-{version}-{floor}-{works}-{signer}");
    let archive = folder.join(format!("{stem}.tar"));
    if archive.exists() {
        return archive;
    }
    let (model, parts_folder) = (folder.join("m.gguf"), folder.join(&stem));
    Chain { hidden: 32 * version as usize, ..ONCE }.write_to(&model);
    let loaded = load(&model, &LoadOptions::default()).unwrap();
    let mut tokens: Vec<u32> = loaded.continued(PROMPT, 4).unwrap().iter().map(|token| token.id).collect();
    if !works {
        tokens[0] ^= 1;
    }
    let parts = ReleaseParts {
        name: name.into(),
        version,
        architecture: "llama".into(),
        minimum_runner: Version::own(),
        memory: 1 << 20,
        created: Time::parse(&format!("2026-11-28T00:00:{version:02}Z")).unwrap(),
        expires: expires.map(|time| Time::parse(time).unwrap()),
        floor,
        self_test: SelfTest { prompt: PROMPT.into(), tokens },
    };
    publish(&model, &parts_folder, None, parts).unwrap();
    let signer = Signer::read(&key(signer), None).unwrap();
    sign_path(&parts_folder, &signer, &SignOptions::default()).unwrap();
    let mut to = fs::File::create(&archive).unwrap();
    std::io::copy(&mut Package::open(&parts_folder).unwrap().archive(), &mut to).unwrap();
    fs::remove_file(model).unwrap();
    archive
}

impl Bench {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("smolt-slots-{}-{name}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("trust.json"), trust_text(1, &["p256.pub.pem"])).unwrap();
        Self { folder }
    }

    /// The same with a store, to which versions were committed.
    fn with(name: &str, versions: &[u64]) -> Self {
        let bench = Self::new(name);
        bench.good(&["store", "init", "--trust", "trust.json"]);
        for number in versions {
            bench.install(&version(*number));
            bench.good(&["run", PROMPT]);
        }
        bench
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = smolt();
        command.args(arguments).current_dir(&self.folder).env("SMOLT_THREADS", "1").env("SMOLT_STORE", STORE);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let done = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }

    /// Standard output and standard error of what succeeds.
    fn good(&self, arguments: &[&str]) -> (String, String) {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        (out, err)
    }

    fn package(&self, wanted: &Wanted) -> String {
        package(&self.folder, wanted).display().to_string()
    }

    fn install(&self, wanted: &Wanted) {
        self.good(&["store", "install", &self.package(wanted)]);
    }

    fn status(&self) -> Value {
        let (code, out, err) = self.run(&["store", "status", "--json"]);
        assert!(code == 0 || code == 11, "{err}");
        serde_json::from_str(&out).unwrap()
    }

    /// What answers, which is the one that is said to be next.
    fn answers(&self) -> (u64, String) {
        let next = self.status()["next"][0]["version"].as_u64().unwrap();
        let (out, err) = self.good(&["run", PROMPT]);
        assert_eq!(out, format!("{CHAIN}\n"), "{err}");
        (next, err)
    }

    fn slot(&self, name: &str) -> PathBuf {
        self.folder.join(STORE).join(name)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
