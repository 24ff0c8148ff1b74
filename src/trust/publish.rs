//! The publisher's side: from a model to the folder of a package.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::release::{Blake3, ModelFile, PLAIN_FILE, RELEASE_FILE, Release, ReleaseParts, SEALED_FILE};
use super::seal::Recipients;
use super::{Refusal, TrustError};
use crate::files::{self, Access, ReadError, WriteError, write_stream, write_whole};

/// Writes a model, sealed where there are recipients, and its release into a new folder, to be signed there.
///
/// # Errors
/// If a part of the release is out of its bounds, the folder holds anything, or the disk refuses. What was begun is
/// removed.
pub fn publish(
    model: &Path,
    folder: &Path,
    recipients: Option<&Recipients>,
    parts: ReleaseParts,
) -> Result<Release, TrustError> {
    // Before a large model is copied for nothing.
    let example = ModelFile {
        file: PLAIN_FILE.into(),
        bytes: 1,
        plain_bytes: 1,
        plain_blake3: Blake3([0; 32]),
        sealed: false,
    };
    Release::new(parts.clone(), example).map_err(|error| match error {
        TrustError::Refused(Refusal::Field { field, problem, .. }) => Refusal::Part { field, problem }.into(),
        other => other,
    })?;
    let is_new = make_folder(folder)?;
    let written = write(model, folder, recipients, parts);
    if written.is_err() {
        for file in [PLAIN_FILE, SEALED_FILE, RELEASE_FILE] {
            let _ = fs::remove_file(folder.join(file));
        }
        if is_new {
            let _ = fs::remove_dir(folder);
        }
    }
    written
}

fn write(
    model: &Path,
    folder: &Path,
    recipients: Option<&Recipients>,
    parts: ReleaseParts,
) -> Result<Release, TrustError> {
    let file = if recipients.is_some() { SEALED_FILE } else { PLAIN_FILE };
    let mut plain = Hashing { from: files::open(model)?, hash: blake3::Hasher::new(), bytes: 0 };
    let target = folder.join(file);
    write_stream(&target, Access::Usual, |to| match recipients {
        Some(recipients) => recipients.seal(&mut plain, to),
        None => io::copy(&mut plain, to).map(|_| ()),
    })?;
    let bytes = fs::metadata(&target)
        .map_err(|source| ReadError::Io { name: target.display().to_string(), source })?
        .len();
    let model = ModelFile {
        file: file.into(),
        bytes,
        plain_bytes: plain.bytes,
        plain_blake3: Blake3(*plain.hash.finalize().as_bytes()),
        sealed: recipients.is_some(),
    };
    let release = Release::new(parts, model)?;
    write_whole(&folder.join(RELEASE_FILE), release.to_json().as_bytes())?;
    Ok(release)
}

/// Makes a folder, or takes an empty one; returns whether it was made.
fn make_folder(folder: &Path) -> Result<bool, TrustError> {
    let name = || folder.display().to_string();
    let fail = |source| WriteError::Io { file: name(), action: "make the folder", source };
    match fs::create_dir(folder) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fail(error).into()),
    }
    match fs::read_dir(folder).map_err(fail)?.next() {
        None => Ok(false),
        Some(entry) => {
            let found = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            Err(Refusal::Occupied { folder: name(), found }.into())
        }
    }
}

struct Hashing<R> {
    from: R,
    hash: blake3::Hasher,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
