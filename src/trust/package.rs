//! Packages: a model, its release and the signatures over both, as a folder or as one archive.
//!
//! # Design
//!
//! ```text
//! Package            a head with the open file that the model is in; nobody vouches for it yet
//!   check            the signatures count, and are over this release and one model
//! CheckedPackage
//!   model            a reader of the plain model: what is loaded
//!   archive          a reader of the whole archive, of a folder too: what is carried
//! head               Head, CheckedHead: all before the model, also from a stream
//! carried            what follows a head, compared with what was signed
//! plain              what a model is, compared with its release
//! archive            the one form of the archive
//! ```
//!
//! The archive has one form: `model.sig` to `model.8.sig`, `release.json`, the model. A folder is what becomes that archive,
//! and nothing else. Every file is opened once: what is checked is what is handed out.

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::head::{CheckedHead, Head, MAX_SIGNATURE_BYTES, Parts, SIGNATURE_FILES, problem, unexpected};
use super::open::open_regular;
use super::plain::{PlainReader, Section};
use super::release::{MAX_RELEASE_BYTES, PLAIN_FILE, RELEASE_FILE, SEALED_FILE};
use super::seal::unseal;
use super::{
    Authority, Digest, HashType, Identities, PackageProblem, Refusal, Release, SignedFile, TrustError,
};
use crate::files::ReadError;

/// A package that nobody vouches for yet.
pub struct Package {
    head: Head,
    model: Section,
    /// Of an archive, all from the model on.
    rest: Option<Section>,
}

/// A package whose signatures count.
pub struct CheckedPackage {
    head: CheckedHead,
    model: Section,
    rest: Option<Section>,
    name: String,
}

impl Package {
    /// Opens a folder, or an archive.
    ///
    /// # Errors
    /// If there is no package, or it is not as described: see the head of this module.
    pub fn open(path: &Path) -> Result<Self, TrustError> {
        let name = path.display().to_string();
        let found = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ReadError::NotFound { name: name.clone() },
            _ => ReadError::Io { name: name.clone(), source },
        })?;
        if found.is_dir() {
            return Self::open_folder(path, &name);
        }
        let (file, bytes) = open_itself(path, &name, None)?;
        Self::of_archive(file, bytes, &name)
    }

    /// Reads an archive that is open already, from its first byte; it has so many bytes.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn of_archive(file: File, bytes: u64, name: &str) -> Result<Self, TrustError> {
        let file = Arc::new(file);
        let head = Head::read(&mut Section::new(file.clone(), 0, bytes), name)?;
        let expected = head.archive_bytes();
        if bytes != expected {
            let (file, expected) = ("the archive".into(), expected.to_string());
            return Err(problem(name, PackageProblem::Size { file, found: bytes, expected }));
        }
        let at = head.bytes().len() as u64;
        let model = Section::new(file.clone(), at, head.unchecked_release().model.bytes);
        let rest = Section::new(file, at, bytes - at);
        let package = Self { head, model, rest: Some(rest) };
        package.check_end()?;
        Ok(package)
    }

    fn open_folder(path: &Path, name: &str) -> Result<Self, TrustError> {
        let (signatures, model) = list(path, name)?;
        let mut parts = Parts { signatures: vec![], release: vec![] };
        for file in &SIGNATURE_FILES[..signatures] {
            parts.signatures.push(read_small(path, name, file, MAX_SIGNATURE_BYTES)?);
        }
        parts.release = read_small(path, name, RELEASE_FILE, MAX_RELEASE_BYTES)?;
        let (file, bytes) = open_itself(&path.join(model), name, Some(model))?;
        let head = Head::new(name, &parts, model, bytes)?;
        Ok(Self { head, model: Section::new(Arc::new(file), 0, bytes), rest: None })
    }

    /// Refuses an archive with anything but zeros after its model, also where only the model is used.
    fn check_end(&self) -> Result<(), TrustError> {
        let Some(rest) = &self.rest else { return Ok(()) };
        let mut end = vec![];
        let read = rest.after(self.head.unchecked_release().model.bytes).read_to_end(&mut end);
        read.map_err(|source| ReadError::Io { name: self.head.name().into(), source })?;
        match end.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(problem(self.head.name(), PackageProblem::NoZeros)),
        }
    }

    /// Returns what comes before the model.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Reads the whole archive, as it is: who gets it has to check it.
    pub fn archive(&self) -> impl Read + Send + use<> {
        let head = Cursor::new(self.head.bytes().to_vec());
        head.chain(after_head(&self.model, self.rest.as_ref(), self.head.end_bytes()))
    }

    /// Checks the signatures: see [`Head::check`].
    ///
    /// # Errors
    /// If too few signatures count, or they are over something else.
    pub fn check(
        self,
        authority: &Authority,
        clock: Option<SystemTime>,
    ) -> Result<CheckedPackage, TrustError> {
        let name = self.head.name().to_owned();
        let head = self.head.check(authority, clock)?;
        Ok(CheckedPackage { head, model: self.model, rest: self.rest, name })
    }
}

impl CheckedPackage {
    /// Returns what comes before the model.
    pub fn head(&self) -> &CheckedHead {
        &self.head
    }

    /// Returns the release.
    pub fn release(&self) -> &Release {
        self.head.release()
    }

    /// Opens the plain model. A sealed one takes a key. What is read is compared with the release; the last bytes are not
    /// handed out where it differs, is shorter or goes on.
    ///
    /// # Errors
    /// If there is no key that fits, or the head of the sealed file was changed.
    pub fn model(&self, identities: Option<&Identities>) -> Result<SignedFile, TrustError> {
        let model = &self.release().model;
        let name = format!("{} of {}", model.file, self.name);
        let section = self.model.again();
        let reader: Box<dyn Read + Send> = if model.sealed {
            let identities = identities.ok_or_else(|| Refusal::NeedsKey { file: name.clone() })?;
            let plain = unseal(section, &name, identities)?;
            Box::new(PlainReader::new(plain, &name, model.plain_bytes, model.plain_blake3))
        } else {
            Box::new(PlainReader::new(section, &name, model.plain_bytes, model.plain_blake3))
        };
        let digest = Digest::new(HashType::Blake3, model.plain_blake3.0.to_vec());
        let digest = digest.ok_or_else(|| Refusal::Changed { file: name.clone() })?;
        let manifest = self.head.manifest().clone();
        Ok(SignedFile { name, bytes: model.plain_bytes, digest, reader, manifest })
    }

    /// Reads the whole archive, which a folder becomes by it. The model is compared with what was signed, at the latest
    /// by the read that would return 0 bytes.
    pub fn archive(&self) -> impl Read + Send + use<> {
        let from = after_head(&self.model, self.rest.as_ref(), self.head.end_bytes());
        Cursor::new(self.head.bytes().to_vec()).chain(self.head.carried(from))
    }

    /// Compares the model as it is carried, and the end of an archive, with what was signed, without using it.
    ///
    /// # Errors
    /// If it was changed.
    pub fn check_model(&self) -> Result<(), TrustError> {
        let read = io::copy(&mut self.archive(), &mut io::sink());
        read.map(|_| ()).map_err(|error| trust_error(error, &self.name))
    }
}

/// What follows the head of an archive: as it is there, or as it would be.
fn after_head(model: &Section, rest: Option<&Section>, end: u64) -> Box<dyn Read + Send> {
    match rest {
        Some(rest) => Box::new(rest.again()),
        None => Box::new(model.again().chain(io::repeat(0).take(end))),
    }
}

/// What a reader of this module said: a refusal, or a fault of the disk.
pub fn trust_error(error: io::Error, name: &str) -> TrustError {
    match error.downcast::<TrustError>() {
        Ok(refusal) => refusal,
        Err(source) => ReadError::Io { name: name.into(), source }.into(),
    }
}

/// Looks at the names in a folder: how many signatures there are, and what the model is called.
fn list(path: &Path, name: &str) -> Result<(usize, &'static str), TrustError> {
    let io = |source| ReadError::Io { name: name.into(), source };
    let mut found = vec![];
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?.file_name();
        let all = SIGNATURE_FILES.iter().chain(&[RELEASE_FILE, PLAIN_FILE, SEALED_FILE]);
        match all.into_iter().find(|known| entry == **known) {
            Some(known) => found.push(*known),
            None => {
                let entry = entry.to_string_lossy().into_owned();
                return Err(unexpected(name, entry, "the files of a package"));
            }
        }
    }
    let missing = |file| Err(problem(name, PackageProblem::Missing { file }));
    let signatures = found.iter().filter(|file| SIGNATURE_FILES.contains(file)).count();
    if let Some(file) = SIGNATURE_FILES[..signatures.max(1)].iter().find(|file| !found.contains(file)) {
        return missing(file);
    }
    if !found.contains(&RELEASE_FILE) {
        return missing(RELEASE_FILE);
    }
    match [PLAIN_FILE, SEALED_FILE].map(|file| found.contains(&file)) {
        [true, false] => Ok((signatures, PLAIN_FILE)),
        [false, true] => Ok((signatures, SEALED_FILE)),
        [false, false] => missing(PLAIN_FILE),
        [true, true] => Err(unexpected(name, SEALED_FILE.into(), "one model")),
    }
}

fn read_small(folder: &Path, package: &str, name: &'static str, limit: u64) -> Result<Vec<u8>, TrustError> {
    let (file, found) = open_itself(&folder.join(name), package, Some(name))?;
    let size = |found| {
        let (file, expected) = (name.into(), format!("1 to {limit}"));
        problem(package, PackageProblem::Size { file, found, expected })
    };
    if found == 0 || found > limit {
        return Err(size(found));
    }
    let mut content = vec![];
    let read = file.take(limit + 1).read_to_end(&mut content);
    read.map_err(|source| ReadError::Io { name: format!("{name} of {package}"), source })?;
    match content.len() as u64 == found {
        true => Ok(content),
        false => Err(size(content.len() as u64)),
    }
}

/// Opens a regular file, and returns its bytes. `part` is what the package calls it; who names an archive may name a link.
fn open_itself(path: &Path, package: &str, part: Option<&str>) -> Result<(File, u64), TrustError> {
    let name = part.map_or_else(|| package.to_owned(), |part| format!("{part} of {package}"));
    match open_regular(path, part.is_some()) {
        Ok(Ok((file, found))) => Ok((file, found.len())),
        Ok(Err(found)) => {
            let file = part.unwrap_or("the archive").to_owned();
            Err(problem(package, PackageProblem::NotAFile { file, found }))
        }
        Err(source) => Err(ReadError::Io { name, source }.into()),
    }
}
