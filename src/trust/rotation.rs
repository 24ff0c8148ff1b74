//! From one trust file to the next.
//!
//! The next one is believed when enough of those say so whom the last one names, and enough of those whom it names itself:
//! who has one of the two cannot take over. None is left out, and nothing that was refused is kept.

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use super::beside::signatures_beside;
use super::policy::{MAX_POLICY_BYTES, POLICY_FILE, Policy, Role};
use super::statement::SINGLE;
use super::{Bundle, CheckedReader, Refusal, TrustError, signed};
use crate::files::{self, ReadError};

/// Most trust files in a row.
pub const MAX_ROTATIONS: usize = 64;

/// A trust file with its signatures. Nobody vouches for it yet.
pub struct TrustFile {
    policy: Policy,
    bytes: Vec<u8>,
    signatures: Vec<Bundle>,
}

impl TrustFile {
    /// Reads one, with the signatures beside it: `trust.json.sig`, `trust.json.2.sig` to `trust.json.8.sig`.
    ///
    /// # Errors
    /// If there is none, or it or a signature is not as described.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let bytes = read_whole(path, MAX_POLICY_BYTES)?;
        let mut first = path.as_os_str().to_owned();
        first.push(".sig");
        let mut signatures = vec![];
        for file in signatures_beside(Path::new(&first)) {
            let io = |source| ReadError::Io { name: file.display().to_string(), source };
            if !files::is_there(&file).map_err(io)? {
                break;
            }
            signatures.push(Bundle::read(&file)?);
        }
        Ok(Self { policy: Policy::parse(&bytes)?, bytes, signatures })
    }

    /// Makes one of its bytes and those of its signatures.
    ///
    /// # Errors
    /// If one of them is not as described.
    pub fn parse(bytes: &[u8], signatures: &[Vec<u8>]) -> Result<Self, TrustError> {
        let policy = Policy::parse(bytes)?;
        let signatures =
            signatures.iter().map(|bytes| Bundle::parse(bytes, &format!("signature of {POLICY_FILE}")));
        Ok(Self { policy, bytes: bytes.into(), signatures: signatures.collect::<Result<_, _>>()? })
    }

    /// Returns what it says, of which nobody is sure yet.
    pub fn unchecked_policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what it says, if it follows `current`.
    ///
    /// # Errors
    /// If it is not the next one, or not enough of both have signed it.
    pub fn follow(&self, current: &Policy, clock: Option<SystemTime>) -> Result<&Policy, TrustError> {
        let (found, installed) = (self.policy.version(), current.version());
        let expected = installed + 1;
        if found != expected {
            return Err(Refusal::Rotation { found, installed, expected }.into());
        }
        for judge in [current, &self.policy] {
            let manifest = judge.check(Role::Trust, &self.signatures, clock)?;
            // A single file, whatever it is called: a signature over a folder is of something else.
            let resources = manifest.of_file(SINGLE);
            if resources.is_empty() {
                return Err(Refusal::NotSigned { file: POLICY_FILE.into() }.into());
            }
            let parts = signed::parts(&resources, self.bytes.len() as u64, POLICY_FILE)?;
            let mut reader = CheckedReader::new(&self.bytes[..], POLICY_FILE.into(), parts);
            if std::io::copy(&mut reader, &mut std::io::sink()).is_err() {
                return Err(Refusal::Changed { file: POLICY_FILE.into() }.into());
            }
        }
        Ok(&self.policy)
    }
}

/// Goes from one trust file over others to the last of them.
///
/// # Errors
/// If there are too many, or one does not follow the one before it.
pub fn rotate<'a>(
    current: &'a Policy,
    next: &'a [TrustFile],
    clock: Option<SystemTime>,
) -> Result<&'a Policy, TrustError> {
    if next.len() > MAX_ROTATIONS {
        return Err(Refusal::TooManyRotations { limit: MAX_ROTATIONS }.into());
    }
    next.iter().try_fold(current, |current, next| next.follow(current, clock))
}

fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>, TrustError> {
    let name = || path.display().to_string();
    let mut bytes = vec![];
    let read = files::open(path)?.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|source| ReadError::Io { name: name(), source })?;
    match bytes.len() as u64 > limit {
        true => Err(ReadError::TooLong { name: name(), limit }.into()),
        false => Ok(bytes),
    }
}
