//! A whole model against its signature.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::authority::Authority;
use super::beside::{OF_FOLDER, of_file, read_all, signatures_beside};
use super::checked::CheckedReader;
use super::error::{Differences, TrustError};
use super::folder::{Found, files};
use super::signed::parts;
use super::statement::{Manifest, Method, SINGLE, is_within};
use crate::files::{is_there, open};

/// What belongs to git, at the top of a folder: left out unless it was signed.
pub(super) const GIT: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];
/// Bytes read at once.
const CHUNK: usize = 1 << 18;

/// How a model is verified.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The signature [default: `FILE.sig` or `FOLDER/model.sig`].
    pub signature: Option<PathBuf>,
    /// Paths from the folder that are left out, with all below them.
    pub ignore: Vec<String>,
    /// The time, where it is known.
    pub clock: Option<SystemTime>,
}

/// What was verified.
#[derive(Debug)]
pub struct Report {
    /// The file of the first signature.
    pub signature: PathBuf,
    /// What was signed, and by whom.
    pub manifest: Manifest,
    /// How many files are as they were signed.
    pub files: usize,
    /// How many bytes these have.
    pub bytes: u64,
}

/// Verifies that a file or folder is what somebody who counts has signed, and nothing else is in the folder.
///
/// # Errors
/// If it is not, or cannot be read.
pub fn verify_path(
    path: &Path,
    authority: &Authority,
    options: &VerifyOptions,
) -> Result<Report, TrustError> {
    let shown = || path.display().to_string();
    let io = |source| TrustError::Io { file: shown(), action: "look at it", source };
    let is_folder = match fs::metadata(path) {
        Ok(metadata) => metadata.is_dir(),
        // The usual words for what is not there.
        Err(_) => return Err(open(path).err().map_or_else(|| io(io::ErrorKind::Other.into()), Into::into)),
    };
    let signature = match &options.signature {
        Some(signature) => signature.clone(),
        None if is_folder => path.join(OF_FOLDER),
        None => of_file(path),
    };
    if options.signature.is_none() && !is_there(&signature).map_err(io)? {
        return Err(TrustError::NoSignature { model: shown(), expected: signature.display().to_string() });
    }
    let bundles = read_all(&signature)?;
    let manifest = authority.check(&bundles, options.clock)?;
    let found = if is_folder {
        let mut ignored = options.ignore.clone();
        ignored.extend(signatures_in(path, &signature, bundles.len()));
        in_folder(path, &manifest, ignored)?
    } else {
        vec![single(path, &manifest)?]
    };
    let (files, bytes) = compare(path, &manifest, &found)?;
    Ok(Report { signature, manifest, files, bytes })
}

/// The one file that is signed. Others of the same signature may be elsewhere only if it names none.
fn single(path: &Path, manifest: &Manifest) -> Result<Found, TrustError> {
    let own = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = if manifest.is_single() { SINGLE.to_owned() } else { own };
    Ok(Found { name, path: path.to_owned() })
}

/// The files of a folder that are to be compared, but those that are ignored.
fn in_folder(folder: &Path, manifest: &Manifest, mut ignored: Vec<String>) -> Result<Vec<Found>, TrustError> {
    let is_signed = |path: &str| manifest.resources().iter().any(|resource| is_within(&resource.path, path));
    ignored.extend(manifest.ignored().iter().cloned());
    ignored.extend(GIT.iter().filter(|name| !is_signed(name)).map(|name| (*name).to_owned()));
    files(folder, manifest.allows_links(), &|name| ignored.iter().any(|ignored| is_within(name, ignored)))
}

/// The names of so many signatures that were read, if they lie in the folder.
fn signatures_in(folder: &Path, signature: &Path, count: usize) -> Vec<String> {
    let place = |path: &Path| fs::canonicalize(path).ok();
    let Some(folder) = place(folder) else { return vec![] };
    let there = signatures_beside(signature).into_iter().take(count).filter_map(|path| {
        let name = path.file_name()?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let path = place(parent.unwrap_or(Path::new(".")))?.join(name);
        path.strip_prefix(&folder).ok()?.to_str().map(str::to_owned)
    });
    there.collect()
}

/// Compares files with what was signed, and counts them and their bytes.
fn compare(path: &Path, manifest: &Manifest, found: &[Found]) -> Result<(usize, u64), TrustError> {
    let mut differences = Differences::default();
    let (mut count, mut total) = (0, 0);
    for file in found {
        let resources = manifest.of_file(&file.name);
        let source = open(&file.path)?;
        let shown = file.path.display().to_string();
        let io = |source| TrustError::Io { file: shown.clone(), action: "read it", source };
        let bytes = source.metadata().map_err(io)?.len();
        // Cut into ranges, an empty file has none.
        if resources.is_empty() && bytes == 0 && matches!(manifest.method(), Method::Shards(_)) {
            continue;
        }
        if resources.is_empty() {
            differences.unsigned.push(file.name.clone());
            continue;
        }
        let parts = parts(&resources, bytes, &shown);
        match parts.and_then(|parts| read_whole(CheckedReader::new(source, shown.clone(), parts), &shown)) {
            Ok(()) => {
                count += 1;
                total += bytes;
            }
            Err(TrustError::Digest { .. } | TrustError::Length { .. }) => {
                differences.changed.push(file.name.clone());
            }
            Err(other) => return Err(other),
        }
    }
    let there: BTreeSet<&str> = found.iter().map(|file| &file.name[..]).collect();
    let signed: BTreeSet<&str> = manifest.resources().iter().map(|resource| &resource.path[..]).collect();
    differences.missing = signed.difference(&there).map(|name| (*name).to_owned()).collect();
    if !differences.is_empty() {
        return Err(TrustError::Differs { model: path.display().to_string(), differences });
    }
    Ok((count, total))
}

/// Reads to the end and returns the verdict.
fn read_whole(mut reader: impl Read, name: &str) -> Result<(), TrustError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(TrustError::from_read(error, name)),
        }
    }
}

impl TrustError {
    /// Takes the verdict out of what a [`CheckedReader`] returned.
    pub fn from_read(error: io::Error, file: &str) -> TrustError {
        error.downcast::<TrustError>().unwrap_or_else(|source| TrustError::Io {
            file: file.to_owned(),
            action: "read it",
            source,
        })
    }
}
