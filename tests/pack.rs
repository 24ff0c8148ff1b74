//! `smolt pack`: a faster start with the same answers, and never a wrong one.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime};

const DEMO: &[u8] = include_bytes!("../src/cli/demo.gguf");
const UNFIT: &str = "is not used";

/// A copy of the demo model in a directory that goes away.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("smolt-pack-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("demo.gguf"), DEMO).unwrap();
        Self(path)
    }

    fn model(&self) -> PathBuf {
        self.0.join("demo.gguf")
    }

    fn pack(&self) -> PathBuf {
        let out = smolt(&["pack", "--json"], &self.model());
        assert!(out.status.success(), "{out:?}");
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        let path = PathBuf::from(report["pack"].as_str().unwrap());
        assert_eq!(report["bytes"], std::fs::metadata(&path).unwrap().len());
        path
    }

    /// The answer to a fixed prompt, and whether a note said that the pack is not used.
    fn answer(&self) -> (String, bool) {
        let out = smolt(&["run", "Turn on the kitchen lights"], &self.model());
        assert!(out.status.success(), "{out:?}");
        let notes = String::from_utf8(out.stderr).unwrap();
        (String::from_utf8(out.stdout).unwrap(), notes.contains(UNFIT))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn smolt(args: &[&str], model: &Path) -> Output {
    let mut command = crate::shared::smolt();
    command.args(args).arg("-m").arg(model).output().unwrap()
}

#[test]
fn a_pack_is_used_and_changes_no_answer() {
    let copy = Copy::new("used");
    let plain = copy.answer();
    let pack = copy.pack();
    assert_eq!(copy.answer(), plain);
    assert!(!plain.1);
    // With damaged weights the answer is another one or none: the pack, not the model, was read.
    let mut bytes = std::fs::read(&pack).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].reverse();
    std::fs::write(&pack, bytes).unwrap();
    let out = smolt(&["run", "-n", "20", "Turn on the kitchen lights"], &copy.model());
    assert!(!out.stdout.starts_with(plain.0.as_bytes()), "{out:?}");
    assert!(!String::from_utf8(out.stderr).unwrap().contains(UNFIT));
}

#[test]
fn a_pack_of_another_model_is_not_used() {
    let copy = Copy::new("other");
    let plain = copy.answer().0;
    let pack = copy.pack();
    let changed = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().append(true).open(copy.model()).unwrap().set_modified(changed).unwrap();
    assert_eq!(copy.answer(), (plain.clone(), true));
    copy.pack();
    assert_eq!(copy.answer(), (plain.clone(), false));

    let good = std::fs::read(&pack).unwrap();
    // The last 64 KiB may be padding.
    for length in [0, 100, good.len() / 2, good.len() - (64 << 10)] {
        std::fs::write(&pack, &good[..length]).unwrap();
        assert_eq!(copy.answer(), (plain.clone(), true), "cut to {length} bytes");
    }
    for at in (0..400).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&pack, bad).unwrap();
        assert_eq!(copy.answer(), (plain.clone(), true), "bit flipped at {at}");
    }
}

#[test]
fn errors_have_their_exit_codes() {
    let copy = Copy::new("errors");
    let missing = smolt(&["pack"], &copy.0.join("none.gguf"));
    assert_eq!(missing.status.code(), Some(3));
    let built_in = crate::shared::smolt().arg("pack").output().unwrap();
    assert_eq!(built_in.status.code(), Some(2));
    assert!(String::from_utf8(built_in.stderr).unwrap().contains("needs no pack"));
    // The place of the pack is taken by a directory.
    let pack = copy.pack();
    std::fs::remove_file(&pack).unwrap();
    std::fs::create_dir(&pack).unwrap();
    assert_eq!(smolt(&["pack"], &copy.model()).status.code(), Some(1));
    assert_eq!(std::fs::read_dir(&copy.0).unwrap().count(), 2, "no temporary file is left");
}
