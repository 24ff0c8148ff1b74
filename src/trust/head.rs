//! What comes before the model in a package.

use std::io::{self, Read};
use std::time::SystemTime;

use super::archive::{self, BLOCK, END_BYTES, fill};
use super::carried::Carried;
use super::release::{MAX_RELEASE_BYTES, RELEASE_FILE};
use super::{
    Authority, Bundle, CheckedReader, Manifest, PackageProblem, Part, Refusal, Release, TrustError, signed,
};
use crate::files::ReadError;

/// The names of signatures, in their order: the first must be there, none may be left out. Every signature over a package
/// ignores all of them.
pub const SIGNATURE_FILES: [&str; 8] = [
    "model.sig",
    "model.2.sig",
    "model.3.sig",
    "model.4.sig",
    "model.5.sig",
    "model.6.sig",
    "model.7.sig",
    "model.8.sig",
];
/// Most bytes of a signature in a package: one over two files takes 4 KiB, its certificates as much again.
pub const MAX_SIGNATURE_BYTES: u64 = 256 << 10;

/// What comes before the model in a package. Nobody vouches for it yet.
pub struct Head {
    name: String,
    bytes: Vec<u8>,
    signatures: Vec<Bundle>,
    release: Release,
    release_bytes: Vec<u8>,
}

/// The head of a package whose signatures count.
pub struct CheckedHead {
    head: Head,
    manifest: Manifest,
    /// What is signed of the model.
    model: Vec<Part>,
}

/// The small files of a package, as they are.
pub(super) struct Parts {
    pub(super) signatures: Vec<Vec<u8>>,
    pub(super) release: Vec<u8>,
}

impl Head {
    /// Reads the first bytes of an archive, not one more than the head has. `name` is what messages call it.
    ///
    /// # Errors
    /// If it is not the archive of a package, or a part is not as described.
    pub fn read(from: &mut impl Read, name: &str) -> Result<Self, TrustError> {
        let mut reader = HeadReader { from, name, at: 0 };
        let mut signatures = vec![];
        let (mut file, mut bytes) = reader.header()?;
        while SIGNATURE_FILES.get(signatures.len()).is_some_and(|next| *next == file) {
            signatures.push(reader.content(&file, bytes, MAX_SIGNATURE_BYTES)?);
            (file, bytes) = reader.header()?;
        }
        if signatures.is_empty() {
            return Err(unexpected(name, file, SIGNATURE_FILES[0]));
        }
        if file != RELEASE_FILE {
            return Err(unexpected(name, file, RELEASE_FILE));
        }
        let release = reader.content(RELEASE_FILE, bytes, MAX_RELEASE_BYTES)?;
        let (file, bytes) = reader.header()?;
        Self::new(name, &Parts { signatures, release }, &file, bytes)
    }

    /// Puts the parts of a package together, of which the model has this name and so many bytes.
    pub(super) fn new(name: &str, parts: &Parts, model: &str, found: u64) -> Result<Self, TrustError> {
        let release = Release::parse(&parts.release)?;
        let expected = &release.model;
        if model != expected.file {
            return Err(unexpected(name, model.into(), &expected.file));
        }
        if found != expected.bytes {
            let (file, expected) = (model.into(), expected.bytes.to_string());
            return Err(problem(name, PackageProblem::Size { file, found, expected }));
        }
        let mut bytes = vec![];
        let mut signatures = vec![];
        for (file, signature) in SIGNATURE_FILES.iter().zip(&parts.signatures) {
            put(&mut bytes, file, signature);
            signatures.push(Bundle::parse(signature, &format!("{file} of {name}"))?);
        }
        put(&mut bytes, RELEASE_FILE, &parts.release);
        bytes.extend(archive::header(model, found));
        Ok(Self { name: name.into(), bytes, signatures, release, release_bytes: parts.release.clone() })
    }

    /// Returns the bytes as they stand in the archive.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes of the whole archive.
    pub fn archive_bytes(&self) -> u64 {
        self.bytes.len() as u64 + self.release.model.bytes + self.end_bytes()
    }

    /// Returns the bytes after the model in the archive.
    pub(super) fn end_bytes(&self) -> u64 {
        (archive::padding(self.release.model.bytes) + END_BYTES) as u64
    }

    /// Returns the release, which anybody may have written.
    pub fn unchecked_release(&self) -> &Release {
        &self.release
    }

    /// Returns how many signatures there are, good or not.
    pub fn signatures(&self) -> usize {
        self.signatures.len()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Checks the signatures, and that they are over this release and its model and nothing else. Certificates must be
    /// valid at `clock`, where there is one.
    ///
    /// # Errors
    /// If too few signatures count, or they are over something else.
    pub fn check(self, authority: &Authority, clock: Option<SystemTime>) -> Result<CheckedHead, TrustError> {
        let manifest = authority.check(&self.signatures, clock)?;
        if let Authority::Policy(policy) = authority {
            policy.check_name(&self.release.name)?;
        }
        let model = &self.release.model;
        let foreign = manifest.resources().iter().find(|of| of.path != RELEASE_FILE && of.path != model.file);
        if let Some(foreign) = foreign {
            return Err(Refusal::Foreign { file: foreign.path.clone() }.into());
        }
        let release = parts(&manifest, RELEASE_FILE, self.release_bytes.len() as u64)?;
        let model = parts(&manifest, &model.file, model.bytes)?;
        let mut reader = CheckedReader::new(&self.release_bytes[..], RELEASE_FILE.into(), release);
        if io::copy(&mut reader, &mut io::sink()).is_err() {
            return Err(Refusal::Changed { file: RELEASE_FILE.into() }.into());
        }
        Ok(CheckedHead { head: self, manifest, model })
    }
}

impl CheckedHead {
    /// Returns the release.
    pub fn release(&self) -> &Release {
        &self.head.release
    }

    /// Returns what was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the bytes as they stand in the archive.
    pub fn bytes(&self) -> &[u8] {
        self.head.bytes()
    }

    /// Returns the bytes of the whole archive.
    pub fn archive_bytes(&self) -> u64 {
        self.head.archive_bytes()
    }

    /// Reads what follows the head in an archive, as it is: the model, zeros, the end. A read fails where it is not what
    /// was signed, ends early or goes on, at the latest the read that would return 0 bytes.
    pub fn carried<R: Read>(&self, from: R) -> Carried<R> {
        let model = &self.head.release.model;
        Carried::new(from, &self.head.name, &model.file, self.model.clone(), self.end_bytes())
    }

    pub(super) fn end_bytes(&self) -> u64 {
        self.head.end_bytes()
    }
}

/// Reads entries of an archive.
struct HeadReader<'a, R> {
    from: &'a mut R,
    name: &'a str,
    at: u64,
}

impl<R: Read> HeadReader<'_, R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TrustError> {
        let read =
            fill(self.from, buffer).map_err(|source| ReadError::Io { name: self.name.into(), source })?;
        self.at += read as u64;
        match read == buffer.len() {
            true => Ok(()),
            false => Err(problem(self.name, PackageProblem::Ends { at: self.at })),
        }
    }

    /// Reads the header of the next file.
    fn header(&mut self) -> Result<(String, u64), TrustError> {
        let at = self.at;
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        archive::read_header(&block, at).map_err(|found| problem(self.name, found))
    }

    /// Reads a file and the zeros after it.
    fn content(&mut self, file: &str, bytes: u64, limit: u64) -> Result<Vec<u8>, TrustError> {
        if bytes == 0 || bytes > limit {
            let (file, expected) = (file.into(), format!("1 to {limit}"));
            return Err(problem(self.name, PackageProblem::Size { file, found: bytes, expected }));
        }
        let length = bytes as usize;
        let mut content = vec![0; length + archive::padding(bytes)];
        self.fill(&mut content)?;
        if content[length..].iter().any(|byte| *byte != 0) {
            return Err(problem(self.name, PackageProblem::Padding { at: self.at }));
        }
        content.truncate(length);
        Ok(content)
    }
}

/// What is signed of a file of so many bytes.
fn parts(manifest: &Manifest, file: &str, bytes: u64) -> Result<Vec<Part>, TrustError> {
    let resources = manifest.of_file(file);
    match resources.is_empty() {
        true => Err(Refusal::NotSigned { file: file.into() }.into()),
        false => signed::parts(&resources, bytes, file),
    }
}

fn put(bytes: &mut Vec<u8>, file: &str, content: &[u8]) {
    bytes.extend(archive::header(file, content.len() as u64));
    bytes.extend(content);
    bytes.resize(bytes.len() + archive::padding(content.len() as u64), 0);
}

pub(super) fn problem(name: &str, problem: PackageProblem) -> TrustError {
    Refusal::Package { package: name.into(), problem }.into()
}

pub(super) fn unexpected(name: &str, found: String, expected: &str) -> TrustError {
    problem(name, PackageProblem::Unexpected { found, expected: expected.into() })
}
