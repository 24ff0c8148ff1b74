//! A model file that was opened.

#[cfg(feature = "trust")]
use std::path::Path;

#[cfg(feature = "trust")]
use super::error::{CliError, PACK_KEY_BYTES};
use crate::gguf::GgufFile;
use crate::model::Verified;
#[cfg(feature = "trust")]
use crate::runtime::Secrecy;
#[cfg(feature = "trust")]
use crate::trust::SignedFile;

/// A model file that was opened.
pub(super) struct Opened {
    pub(super) file: GgufFile,
    /// What its pack is bound to, if it must be signed.
    pub(super) verified: Option<Verified>,
}

impl From<GgufFile> for Opened {
    fn from(file: GgufFile) -> Opened {
        Opened { file, verified: None }
    }
}

#[cfg(feature = "trust")]
impl Opened {
    /// Reads the header of a signed file that lies at `path`; packs of it are tagged under `key`, unless it is secret.
    ///
    /// # Errors
    /// If it is not valid GGUF.
    pub(super) fn signed(
        signed: SignedFile,
        path: &Path,
        secrecy: Secrecy,
        key: Option<[u8; PACK_KEY_BYTES]>,
    ) -> Result<Opened, CliError> {
        let verified = key.map(|key| Verified::new(path, signed.digest.bytes(), key));
        let file = GgufFile::from_reader(&signed.name, signed.reader, signed.bytes, secrecy)?;
        Ok(Opened { file, verified: verified.filter(|_| secrecy == Secrecy::Plain) })
    }
}
