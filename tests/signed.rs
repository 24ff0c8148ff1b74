//! Models that must be signed: what is used is what was checked, whatever happens to the file, and packs are no way around.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smolt::generate::{Request, SamplerOptions};
use smolt::gguf::{GgufError, GgufFile};
use smolt::kernels::Kernels;
use smolt::runtime::Secrecy;
use smolt::trust::{Authority, SignOptions, Signer, open_signed, sign_path, system_clock};
use smolt::{LoadError, LoadOptions, Loaded, Prepared};

use crate::shared::{Scratch, repository};

const PROMPT: &str = "What time do you open?";

fn key(name: &str) -> PathBuf {
    repository("tests/data/oms/keys").join(name)
}

/// Signs a model of a folder, and puts the public key there as `trust.pem` and a secret as `device.key`.
pub(crate) fn prepare(folder: &Path, model: &str) {
    fs::copy(key("p256.pub.pem"), folder.join("trust.pem")).unwrap();
    sign(&folder.join(model));
    device_key(&folder.join("device.key"), 7);
}

fn sign(model: &Path) {
    let signer = Signer::read(&key("p256.pem"), None).unwrap();
    sign_path(model, &signer, &SignOptions::default()).unwrap();
}

fn device_key(path: &Path, byte: u8) {
    fs::write(path, [byte; 32]).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A folder with the demo model as `m.gguf`, signed.
fn signed(command: &'static str, name: &str) -> Scratch {
    let scratch = Scratch::new(command, name);
    fs::copy(repository("src/cli/demo.gguf"), scratch.folder.join("m.gguf")).unwrap();
    prepare(&scratch.folder, "m.gguf");
    scratch
}

/// Changes a byte of a file in place.
fn flip(path: &Path, at: u64) {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

const SIGNED: [&str; 4] = ["-m", "m.gguf", "--require-signature", "trust.pem"];

#[test]
fn a_signed_model_answers_as_ever() {
    let scratch = signed("run", "signed-alike");
    let plain = scratch.out(&["-m", "m.gguf", PROMPT]);
    assert_eq!(scratch.out(&[&SIGNED[..], &[PROMPT]].concat()), plain);
    assert_eq!(scratch.out(&[&SIGNED[..], &["-t", "1", PROMPT]].concat()), plain);
    // The variable, and a file of settings.
    let mut command = scratch.command(&["-m", "m.gguf", PROMPT]);
    let done = command.env("SMOLT_REQUIRE_SIGNATURE", "trust.pem").output().unwrap();
    assert!(done.status.success() && done.stdout == plain.as_bytes(), "{done:?}");
    scratch.write("smolt.toml", "require_signature = \"other.pem\"\n");
    fs::copy(key("other.pub.pem"), scratch.folder.join("other.pem")).unwrap();
    let (code, out, error) = scratch.run(&["-m", "m.gguf", PROMPT]);
    assert!(code == 7 && out.is_empty() && error.contains("another key"), "{code} {out} {error}");
}

#[test]
fn every_command_wants_the_signature() {
    let scratch = signed("run", "signed-commands");
    scratch.write("prompts.jsonl", format!("{{\"prompt\": \"{PROMPT}\"}}\n"));
    scratch.write("text.txt", "We are open every day except Monday. ".repeat(20));
    let lines: [&[&str]; 8] = [
        &["run", PROMPT],
        &["batch", "prompts.jsonl"],
        &["perplexity", "text.txt", "-c", "64"],
        &["plan"],
        &["show"],
        &["tokenize", PROMPT],
        &["bench", "-p", "8", "-n", "2", "-r", "1"],
        &["chat"],
    ];
    let run = |line: &[&str]| {
        let mut command = crate::shared::smolt();
        command.args(line).args(SIGNED).current_dir(&scratch.folder).stdin(std::process::Stdio::null());
        let done = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
    };
    for line in lines {
        let (code, _, error) = run(line);
        assert_eq!(code, 0, "{line:?}: {error}");
    }
    // The last byte is one of a weight.
    let model = scratch.folder.join("m.gguf");
    flip(&model, fs::metadata(&model).unwrap().len() - 1);
    let server: &[&[&str]] = if cfg!(feature = "serve") { &[&["serve", "--port", "0"]] } else { &[] };
    for line in lines.iter().chain(server) {
        let (code, out, error) = run(line);
        assert!(code == 7 && out.is_empty(), "{line:?}: {code} {out} {error}");
        assert!(error.contains("is not what was signed"), "{line:?}: {error}");
    }
    scratch.remove("m.gguf.sig");
    for line in lines {
        let (code, out, error) = run(line);
        assert!(code == 7 && out.is_empty() && error.contains("no signature"), "{line:?}: {code} {error}");
    }
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    let scratch = signed("run", "signed-changed");
    let model = scratch.folder.join("m.gguf");
    let bytes = fs::metadata(&model).unwrap().len();
    // In the header, also where it is no longer a model; between; and in the data.
    for at in [0, 4, 8, 30, 5000, bytes / 3, bytes / 2, bytes - 1000] {
        flip(&model, at);
        let (code, out, error) = scratch.run(&[&SIGNED[..], &[PROMPT]].concat());
        assert!(
            code == 7 && out.is_empty() && error.contains("is not what was signed"),
            "{at}: {code} {error}"
        );
        flip(&model, at);
    }
    let whole = fs::read(&model).unwrap();
    for other in [&whole[..whole.len() - 1], &[&whole[..], &[0]].concat()[..], b""] {
        fs::write(&model, other).unwrap();
        let (code, out, error) = scratch.run(&[&SIGNED[..], &[PROMPT]].concat());
        assert!(code == 7 && out.is_empty(), "{code} {out} {error}");
    }
}

#[test]
fn the_built_in_model_is_not_signed() {
    let scratch = signed("run", "signed-demo");
    for model in [&[][..], &["-m", "demo"]] {
        let (code, out, error) =
            scratch.run(&[model, &["--require-signature", "trust.pem", PROMPT]].concat());
        assert!(code == 7 && out.is_empty() && error.contains("built-in model"), "{code} {out} {error}");
    }
}

/// Where the pack of a model lies.
fn pack_of(scratch: &Scratch, ending: &str) -> PathBuf {
    let isa = Kernels::detect().unwrap().name;
    scratch.folder.join(format!("m.gguf.{isa}{ending}"))
}

const PACKED: [&str; 6] = ["-m", "m.gguf", "--require-signature", "trust.pem", "--pack-key", "device.key"];

fn pack(scratch: &Scratch, args: &[&str]) -> PathBuf {
    let mut command = crate::shared::smolt();
    let done = command.args(["pack", "--json"]).args(args).current_dir(&scratch.folder).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    scratch.folder.join(report["pack"].as_str().unwrap())
}

#[test]
fn with_a_tagged_pack_only_the_header_of_the_model_is_read() {
    let scratch = signed("run", "signed-pack");
    let plain = scratch.out(&["-m", "m.gguf", PROMPT]);
    assert_eq!(pack(&scratch, &PACKED), pack_of(&scratch, ".verified.pack"));
    let answer = || scratch.run(&[&PACKED[..], &[PROMPT]].concat());
    let (code, out, error) = answer();
    assert!(code == 0 && out == plain && !error.contains("not used"), "{code} {out} {error}");
    // The pack, which was verified, is what is used.
    let model = scratch.folder.join("m.gguf");
    flip(&model, fs::metadata(&model).unwrap().len() - 1);
    let (code, out, error) = answer();
    assert!(code == 0 && out == plain && !error.contains("not used"), "{code} {out} {error}");
    // Of another header it is no pack, and then the model counts.
    flip(&model, 5000);
    let (code, out, error) = answer();
    assert!(code == 7 && out.is_empty() && error.contains("is not what was signed"), "{code} {out} {error}");
}

#[test]
fn a_pack_of_another_or_a_damaged_one_is_refused_and_made_anew() {
    let scratch = signed("run", "signed-pack-other");
    let plain = scratch.out(&["-m", "m.gguf", PROMPT]);
    let path = pack(&scratch, &PACKED);
    let good = fs::read(&path).unwrap();
    let is_made_anew = |what: &str| {
        let (code, out, error) = scratch.run(&[&PACKED[..], &[PROMPT]].concat());
        assert!(code == 0 && out == plain && error.contains("made anew"), "{what}: {code} {out} {error}");
        assert!(fs::read(&path).unwrap() == good, "{what}");
        let (code, out, error) = scratch.run(&[&PACKED[..], &[PROMPT]].concat());
        assert!(code == 0 && out == plain && !error.contains("not used"), "{what}: {code} {out} {error}");
    };
    let len = good.len() as u64;
    for at in [100, 200, len / 3, len / 2, len - 1] {
        flip(&path, at);
        is_made_anew(&format!("byte {at}"));
    }
    fs::write(&path, &good[..good.len() - 4]).unwrap();
    is_made_anew("cut short");
    // One that another computer made, with its own secret.
    device_key(&scratch.folder.join("device.key"), 8);
    pack(&scratch, &PACKED);
    assert!(fs::read(&path).unwrap() != good);
    device_key(&scratch.folder.join("device.key"), 7);
    is_made_anew("another key");
    // One of another model with the same header, made here too: its tag names another digest.
    let model = scratch.folder.join("m.gguf");
    let own = fs::read(&model).unwrap();
    flip(&model, own.len() as u64 - 1);
    sign(&model);
    pack(&scratch, &PACKED);
    fs::write(&model, &own).unwrap();
    sign(&model);
    is_made_anew("another model");
}

#[test]
fn a_pack_without_a_tag_never_serves_a_signed_model() {
    let scratch = signed("run", "signed-untagged");
    let plain = scratch.out(&["-m", "m.gguf", PROMPT]);
    let path = pack(&scratch, &["-m", "m.gguf"]);
    // A right pack of other weights.
    let mut bytes = fs::read(&path).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let content = file.data(&file.tensors()[0]).unwrap();
    let start = bytes.windows(content.len()).position(|window| window == content).unwrap();
    let end = start + content.len();
    drop(file);
    bytes[start + (end - start) / 2..end].reverse();
    let sum = smolt::files::checksum(&bytes[start..end]).to_le_bytes();
    let name = b"smolt.pack.checksum";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4;
    bytes[at..at + 8].copy_from_slice(&sum);
    fs::write(&path, &bytes).unwrap();
    assert_ne!(scratch.run(&["-m", "m.gguf", "-n", "20", PROMPT]).1, plain, "it is used without a demand");
    assert_eq!(scratch.out(&[&SIGNED[..], &[PROMPT]].concat()), plain);
    fs::rename(&path, pack_of(&scratch, ".verified.pack")).unwrap();
    let (code, out, error) = scratch.run(&[&PACKED[..], &[PROMPT]].concat());
    assert!(code == 0 && out == plain && error.contains("made anew"), "{code} {out} {error}");
}

#[test]
fn the_key_of_packs_is_a_secret() {
    let scratch = signed("run", "signed-key");
    let path = scratch.folder.join("device.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let (code, _, error) = scratch.run(&[&PACKED[..], &[PROMPT]].concat());
    assert!(code == 2 && error.contains("others may read it"), "{code} {error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, [1; 31]).unwrap();
    let (code, _, error) = scratch.run(&[&PACKED[..], &[PROMPT]].concat());
    assert!(code == 2 && error.contains("32 bytes"), "{code} {error}");
}

/// Opens a signed model as programs that embed this do.
fn open(path: &Path) -> Result<Prepared, LoadError> {
    let authority = Authority::read(&key("p256.pub.pem")).unwrap();
    let signed = open_signed(path, None, &authority, system_clock()).unwrap();
    let file = GgufFile::from_reader(&signed.name, signed.reader, signed.bytes, Secrecy::Plain)?;
    let options = LoadOptions { context: Some(128), threads: Some(2), ..LoadOptions::default() };
    Prepared::new(file, &options)
}

fn answer(model: &Loaded) -> String {
    let prompt = model.prompt(PROMPT).unwrap();
    let request = Request { sampler: SamplerOptions::greedy(), ..Request::new(&prompt) };
    model.session().unwrap().generate(request, &mut |_| ControlFlow::Continue(())).unwrap().text
}

#[test]
fn a_file_that_is_changed_between_check_and_load_is_refused() {
    let scratch = signed("run", "signed-swapped");
    let path = scratch.folder.join("m.gguf");
    let whole = fs::read(&path).unwrap();
    let expected = answer(&open(&path).unwrap().load().unwrap());
    // Another file in its place: the open one is still the one that was signed.
    let prepared = open(&path).unwrap();
    scratch.write("other", b"GGUF");
    fs::rename(scratch.folder.join("other"), &path).unwrap();
    assert_eq!(answer(&prepared.load().unwrap()), expected);
    fs::write(&path, &whole).unwrap();
    // Changed in place after the header was read.
    let prepared = open(&path).unwrap();
    flip(&path, whole.len() as u64 - 1);
    let refused = prepared.load().err();
    let is_refused =
        matches!(&refused, Some(LoadError::Model(error)) if error.to_string().contains("cannot read"));
    assert!(is_refused, "{refused:?}");
    assert!(matches!(prepared.load(), Err(LoadError::Model(_))), "there is no second time");
    fs::write(&path, &whole).unwrap();
    // Cut short after the header was read.
    let prepared = open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(whole.len() as u64 / 2).unwrap();
    assert!(matches!(prepared.load(), Err(LoadError::Model(_))));
    // Grown after the header was read.
    fs::write(&path, &whole).unwrap();
    let prepared = open(&path).unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    assert!(matches!(prepared.load(), Err(LoadError::Model(_))));
}

#[test]
fn a_file_that_is_cut_short_while_it_runs_changes_nothing() {
    let scratch = signed("run", "signed-running");
    let path = scratch.folder.join("m.gguf");
    let model = open(&path).unwrap().load().unwrap();
    let expected = answer(&model);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(100).unwrap();
    assert_eq!(answer(&model), expected);
    file.set_len(0).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(answer(&model), expected);
}

#[test]
fn what_is_read_once_says_so() {
    let scratch = signed("run", "signed-once");
    let prepared = open(&scratch.folder.join("m.gguf")).unwrap();
    let file = prepared.file();
    assert!(matches!(file.data(&file.tensors()[0]), Err(GgufError::NotInPlace { .. })));
    assert!(matches!(file.fingerprint(), Err(GgufError::NotRead { .. })));
    prepared.load().unwrap();
    let plain = GgufFile::open(&repository("src/cli/demo.gguf")).unwrap();
    assert_eq!(file.fingerprint().unwrap(), plain.fingerprint().unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn a_signed_model_takes_no_more_memory_than_planned() {
    let scratch = signed("run", "signed-memory");
    for more in [&[][..], &["-t", "1"]] {
        let json = scratch.out(&[&SIGNED[..], more, &["--json", "-n", "12", PROMPT]].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        let bytes = |key: &str| json["memory"][key].as_u64().unwrap();
        let (planned, peak) = (bytes("planned_bytes"), bytes("peak_rss_bytes"));
        println!("{peak} taken, {planned} planned");
        assert!(peak <= planned + (8 << 20), "{peak} taken, {planned} planned");
    }
}
