//! Releases, trust files, sealed models and packages: what is right is taken, and attacks are refused.

mod attacks;
mod flips;
mod identities;
mod packages;
mod policies;
mod releases;
mod sealing;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use base64ct::{Base64, Encoding as _};

use super::*;

/// A folder that is removed at the end of a test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("smolt-release-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A private key on P-256, the same for the same number.
fn private_pem(number: u8) -> String {
    let curve: &[u8] = &[0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let der = [&[0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20][..], &[number; 32], curve].concat();
    format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n", Base64::encode_string(&der))
}

fn private(number: u8) -> SigningKey {
    SigningKey::from_pem(&private_pem(number), "key").unwrap()
}

fn public(number: u8) -> PublicKey {
    private(number).public()
}

fn authority(number: u8) -> Authority {
    Authority::Key(public(number))
}

/// Signs a file or a folder; the signature is the next one beside it.
fn sign(path: &Path, number: u8) -> PathBuf {
    let first =
        if path.is_dir() { path.join("model.sig") } else { PathBuf::from(format!("{}.sig", path.display())) };
    let output = signatures_beside(&first).into_iter().find(|path| !path.exists()).unwrap();
    let options = SignOptions { output: Some(output.clone()), ..SignOptions::default() };
    sign_path(path, &Signer::Key(private(number)), &options).unwrap();
    output
}

/// Bytes that look like nothing, more than one chunk of a sealed file.
fn model_bytes() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..150_000).map(|_| next()).collect()
}

fn time(text: &str) -> Time {
    Time::parse(text).unwrap()
}

fn parts() -> ReleaseParts {
    ReleaseParts {
        name: "kiosk".into(),
        version: 7,
        architecture: "llama".into(),
        minimum_runner: Version::parse("0.1.0").unwrap(),
        memory: 1 << 20,
        created: time("2026-12-01T00:00:00Z"),
        expires: Some(time("2027-12-01T00:00:00Z")),
        floor: 5,
        self_test: SelfTest { prompt: "What time is it?".into(), tokens: vec![1, 2, 3] },
    }
}

/// Publishes a model as a folder, not signed.
fn unsigned(scratch: &Scratch, name: &str, recipients: Option<&Recipients>) -> PathBuf {
    let model = scratch.path("plain.gguf");
    fs::write(&model, model_bytes()).unwrap();
    let folder = scratch.path(name);
    publish(&model, &folder, recipients, parts()).unwrap();
    folder
}

/// Publishes a model as a folder, signed with key 1.
fn folder(scratch: &Scratch) -> PathBuf {
    let folder = unsigned(scratch, "folder", None);
    sign(&folder, 1);
    folder
}

/// The archive of a folder.
fn archive(folder: &Path) -> Vec<u8> {
    let mut bytes = vec![];
    Package::open(folder).unwrap().archive().read_to_end(&mut bytes).unwrap();
    bytes
}

/// A key to sealed models, the same for the same number.
fn identity(number: u8) -> (Identities, Recipients) {
    let text = IDENTITIES[usize::from(number)];
    let key: age::x25519::Identity = text.parse().unwrap();
    let recipients = Recipients::parse(&[key.to_public().to_string()]).unwrap();
    (Identities::read_from(text.as_bytes(), "key").unwrap(), recipients)
}

/// Keys for these tests alone.
const IDENTITIES: [&str; 2] = [
    "AGE-SECRET-KEY-1GPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQQAAKQ6V",
    "AGE-SECRET-KEY-1G9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9QSC006VW",
];

/// All bytes of a model, or why they were refused.
fn read(package: &CheckedPackage, identities: Option<&Identities>) -> Result<Vec<u8>, TrustError> {
    let mut bytes = vec![];
    let mut file = package.model(identities)?;
    match file.reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(trust_error(error, "model")),
    }
}

/// Opens, checks and reads a package, as installing and loading do together.
fn take(path: &Path, authority: &Authority, identities: Option<&Identities>) -> Result<Vec<u8>, TrustError> {
    let package = Package::open(path)?.check(authority, None)?;
    package.check_model()?;
    read(&package, identities)
}
