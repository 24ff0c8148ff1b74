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
    // With other weights and their checksum the answer is another one or none: the pack, not the model, was read.
    let mut bytes = std::fs::read(&pack).unwrap();
    let file = smolt::gguf::GgufFile::open(&pack).unwrap();
    let content = file.data(&file.tensors()[0]).unwrap();
    let start = bytes.windows(content.len()).position(|window| window == content).unwrap();
    let end = start + content.len();
    drop(file);
    let half = start + (end - start) / 2;
    bytes[half..end].reverse();
    let sum = smolt::files::checksum(&bytes[start..end]).to_le_bytes();
    let key = b"smolt.pack.checksum";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    bytes[at..at + 8].copy_from_slice(&sum);
    std::fs::write(&pack, bytes).unwrap();
    let out = smolt(&["run", "-n", "20", "Turn on the kitchen lights"], &copy.model());
    assert!(!out.stdout.starts_with(plain.0.as_bytes()), "{out:?}");
    assert!(!String::from_utf8(out.stderr).unwrap().contains(UNFIT));
}

/// Changes the bytes of a pack.
type Damage<'a> = &'a dyn Fn(&mut [u8]);

#[test]
fn a_damaged_pack_is_refused_and_made_anew() {
    let copy = Copy::new("damaged");
    let plain = copy.answer().0;
    let pack = copy.pack();
    let good = std::fs::read(&pack).unwrap();
    let content = good.len() - (1 << 20);
    let damage: [(&str, Damage<'_>); 6] = [
        ("one bit of the content", &|bytes| bytes[content] ^= 1),
        ("the top bit of two bytes", &|bytes| {
            bytes[content] ^= 0x80;
            bytes[content + 64] ^= 0x80;
        }),
        ("200,000 bytes", &|bytes| bytes[content..][..200_000].iter_mut().for_each(|byte| *byte = !*byte)),
        ("zeros", &|bytes| bytes[content..].fill(0)),
        ("two blocks in each other's place", &|bytes| {
            bytes[content..].rotate_left(4096);
        }),
        ("one bit of what it says of the model", &|bytes| {
            let key = b"smolt.pack.model_bytes";
            let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
            bytes[at + key.len() + 4] ^= 1;
        }),
    ];
    for (what, damage) in damage {
        let mut bad = good.clone();
        damage(&mut bad);
        // A change in place that not even the time of the file shows.
        let times = std::fs::metadata(&pack).unwrap().modified().unwrap();
        std::fs::write(&pack, bad).unwrap();
        std::fs::File::options().append(true).open(&pack).unwrap().set_modified(times).unwrap();
        for threads in ["1", "2"] {
            let bad = std::fs::read(&pack).unwrap();
            let out = smolt(&["run", "-t", threads, "Turn on the kitchen lights"], &copy.model());
            assert_eq!(String::from_utf8(out.stdout).unwrap(), plain, "{what}");
            let notes = String::from_utf8(out.stderr).unwrap();
            assert!(notes.contains(UNFIT) && notes.contains("made anew"), "{what}: {notes}");
            assert_eq!(std::fs::read(&pack).unwrap(), good, "{what}");
            assert_eq!(copy.answer(), (plain.clone(), false), "{what}");
            std::fs::write(&pack, bad).unwrap();
        }
        std::fs::write(&pack, &good).unwrap();
    }
}

#[test]
fn what_is_no_pack_is_neither_used_nor_replaced() {
    let copy = Copy::new("foreign");
    let plain = copy.answer().0;
    let pack = copy.pack();
    let other_model = DEMO;
    for foreign in [&b"my precious note"[..], other_model, &[0; 4096]] {
        std::fs::write(&pack, foreign).unwrap();
        assert_eq!(copy.answer(), (plain.clone(), true));
        let out = smolt(&["pack"], &copy.model());
        assert_eq!(out.status.code(), Some(1), "{out:?}");
        assert!(String::from_utf8(out.stderr).unwrap().contains("move it away"));
        assert_eq!(std::fs::read(&pack).unwrap(), foreign);
    }
    // What a power cut may leave of a new file holds nothing that could be lost.
    std::fs::write(&pack, "").unwrap();
    assert_eq!(copy.answer(), (plain.clone(), true));
    assert_eq!(copy.answer(), (plain, false));
}

#[test]
fn a_pack_of_another_model_is_not_used() {
    let copy = Copy::new("other");
    let plain = copy.answer().0;
    let pack = copy.pack();
    let changed = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().append(true).open(copy.model()).unwrap().set_modified(changed).unwrap();
    assert_eq!(copy.answer(), (plain.clone(), true));
    assert_eq!(copy.answer(), (plain.clone(), false), "it was made anew");

    let good = std::fs::read(&pack).unwrap();
    // The last 64 KiB may be padding.
    for length in [0, 100, good.len() / 2, good.len() - (64 << 10)] {
        std::fs::write(&pack, &good[..length]).unwrap();
        assert_eq!(copy.answer(), (plain.clone(), true), "cut to {length} bytes");
    }
    for at in (0..400).step_by(21) {
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
