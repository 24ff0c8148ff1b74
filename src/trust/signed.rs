//! One signed file, read while it is checked.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::authority::Authority;
use super::beside::{OF_FOLDER, of_file, read_all};
use super::checked::{CheckedReader, Part};
use super::digest::{Digest, HashType, Hasher};
use super::error::TrustError;
use super::statement::{Manifest, Resource, SINGLE};
use crate::files::{is_there, open};

/// A file that somebody who counts has signed, and its bytes.
pub struct SignedFile {
    /// The file, for messages.
    pub name: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// What is signed of it: the digest of all its bytes, or the SHA-256 over the digests of its ranges.
    pub digest: Digest,
    /// Its bytes, from the first. The read that would return 0 fails if they are not what was signed; until then nothing
    /// of them may be relied on (see [`CheckedReader`]).
    pub reader: Box<dyn Read + Send>,
    /// What was signed, and by whom.
    pub manifest: Manifest,
}

/// Opens a file with its signature: `FILE.sig`, else `model.sig` in its folder, of which then only this file counts; or
/// the signature that is given.
///
/// # Errors
/// If there is no signature, none that counts, or none of this file. Whether the bytes are the signed ones, reading tells.
pub fn open_signed(
    model: &Path,
    signature: Option<&Path>,
    authority: &Authority,
    clock: Option<SystemTime>,
) -> Result<SignedFile, TrustError> {
    let first = match signature {
        Some(signature) => signature.to_owned(),
        None => find(model)?,
    };
    let manifest = authority.check(&read_all(&first)?, clock)?;
    let resources = resources_of(&manifest, model, &first)?;
    let name = model.display().to_string();
    let file = open(model)?;
    let metadata = file.metadata();
    let metadata =
        metadata.map_err(|source| TrustError::Io { file: name.clone(), action: "look at it", source })?;
    let bytes = metadata.len();
    let parts = parts(&resources, bytes, &name)?;
    let digest = match &parts[..] {
        [part] => part.digest.clone(),
        parts => {
            let mut hasher = Hasher::new(HashType::Sha256);
            parts.iter().for_each(|part| hasher.update(part.digest.bytes()));
            hasher.finish()
        }
    };
    let reader = Box::new(CheckedReader::new(file, name.clone(), parts));
    Ok(SignedFile { name, bytes, digest, reader, manifest })
}

/// The first signature of a file.
fn find(model: &Path) -> Result<PathBuf, TrustError> {
    let own = of_file(model);
    let of_folder = model.with_file_name(OF_FOLDER);
    for path in [&own, &of_folder] {
        let io = |source| TrustError::Io {
            file: path.display().to_string(),
            action: "look for a signature",
            source,
        };
        if is_there(path).map_err(io)? {
            return Ok(path.clone());
        }
    }
    let expected = format!("{} or {}", own.display(), of_folder.display());
    Err(TrustError::NoSignature { model: model.display().to_string(), expected })
}

/// What is signed of a file: by its path from the folder of the signature, or its name; or the single file there is.
fn resources_of<'a>(
    manifest: &'a Manifest,
    model: &Path,
    signature: &Path,
) -> Result<Vec<&'a Resource>, TrustError> {
    if manifest.is_single() {
        return Ok(manifest.of_file(SINGLE));
    }
    let folder = signature.parent().unwrap_or(Path::new(""));
    let name = model.file_name().map(PathBuf::from).unwrap_or_default();
    let below = model.strip_prefix(folder).map(Path::to_owned).ok();
    let name = below.unwrap_or(name).display().to_string();
    let found = manifest.of_file(&name);
    if found.is_empty() {
        let mut names: Vec<_> = manifest.resources().iter().map(|resource| &resource.path[..]).collect();
        names.dedup();
        let more = if names.len() > 5 { ", …" } else { "" };
        let listed = format!("{}{more}", names[..names.len().min(5)].join(", "));
        let signature = signature.display().to_string();
        return Err(TrustError::NotListed { signature, name, listed });
    }
    Ok(found)
}

/// The parts that a file of so many bytes must have.
pub(super) fn parts(resources: &[&Resource], bytes: u64, name: &str) -> Result<Vec<Part>, TrustError> {
    let part = |resource: &&Resource| Part {
        end: resource.range.map_or(bytes, |(_, end)| end),
        digest: resource.digest.clone(),
    };
    let parts: Vec<_> = resources.iter().map(part).collect();
    let expected = parts.last().map_or(0, |part| part.end);
    if expected != bytes {
        return Err(TrustError::Length { file: name.to_owned(), expected, found: bytes });
    }
    Ok(parts)
}
