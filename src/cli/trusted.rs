//! Models that must be signed.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::error::{CliError, Exit};
use super::load::Opened;
use crate::files;
use crate::gguf::GgufFile;
use crate::model::Verified;
use crate::runtime::Secrecy;
use crate::trust::{Authority, SignedFile, open_signed, system_clock};

/// Bytes of the key under which packs are tagged.
const PACK_KEY_BYTES: usize = 32;

/// Whose models are taken.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustArgs {
    /// Take only a model that is signed (MODEL.sig, or model.sig in its folder), and use nothing of it before every byte
    /// was checked; TRUST: a public key or certificates (PEM)
    #[arg(long, value_name = "TRUST", env = "SMOLT_REQUIRE_SIGNATURE", hide_short_help = true)]
    require_signature: Option<PathBuf>,

    /// Use and make packs of signed models, tagged under this secret of the computer: a file of 32 bytes that nobody else
    /// may read
    #[arg(long, value_name = "FILE", env = "SMOLT_PACK_KEY", hide_short_help = true)]
    pack_key: Option<PathBuf>,
}

/// Why a model is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemandError {
    #[error("the built-in model is not signed by anybody, and a signature is required")]
    Demo,
    #[error("{file}: expected a file of {PACK_KEY_BYTES} bytes, found {found}")]
    KeyBytes { file: String, found: u64 },
    #[error("{file}: others may read it (mode {mode:o})")]
    KeyMode { file: String, mode: u32 },
}

impl DemandError {
    /// What to do about it, where the message does not say.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Demo => "name a model with -m",
            Self::KeyBytes { .. } => "head -c 32 /dev/urandom > FILE makes one; chmod 600 it",
            Self::KeyMode { .. } => "chmod 600 it",
        }
    }

    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Demo => Exit::Untrusted,
            Self::KeyBytes { .. } | Self::KeyMode { .. } => Exit::Usage,
        }
    }
}

impl TrustArgs {
    /// Opens the model at `path` if a signature is demanded of it, which then is the only way.
    ///
    /// # Errors
    /// If it is not signed as demanded.
    pub(super) fn open(&self, path: &Path) -> Result<Option<Opened>, CliError> {
        let Some(trust) = &self.require_signature else { return Ok(None) };
        let authority = Authority::read(trust)?;
        let signed = open_signed(path, None, &authority, system_clock())?;
        let key = self.pack_key.as_deref().map(pack_key).transpose()?;
        Opened::signed(signed, path, Secrecy::Plain, key).map(Some)
    }

    /// Refuses the built-in model where a signature is demanded.
    ///
    /// # Errors
    /// If it is.
    pub(super) fn check_demo(&self) -> Result<(), DemandError> {
        if self.require_signature.is_some() { Err(DemandError::Demo) } else { Ok(()) }
    }
}

impl Opened {
    /// Reads the header of a signed file that lies at `path`; packs of it are tagged under `key`.
    ///
    /// # Errors
    /// If it is not valid GGUF.
    pub(super) fn signed(
        signed: SignedFile,
        path: &Path,
        secrecy: Secrecy,
        key: Option<[u8; 32]>,
    ) -> Result<Opened, CliError> {
        let verified = key.map(|key| Verified::new(path, signed.digest.bytes(), key));
        let file = GgufFile::from_reader(&signed.name, signed.reader, signed.bytes, secrecy)?;
        Ok(Opened { file, verified: verified.filter(|_| secrecy == Secrecy::Plain) })
    }
}

/// Reads the key under which packs are tagged.
fn pack_key(path: &Path) -> Result<[u8; PACK_KEY_BYTES], CliError> {
    let file = files::open(path)?;
    let name = || path.display().to_string();
    let metadata = file.metadata().map_err(|source| files::ReadError::Io { name: name(), source })?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(DemandError::KeyMode { file: name(), mode }.into());
        }
    }
    let mut key = [0; PACK_KEY_BYTES];
    let wrong = || DemandError::KeyBytes { file: name(), found: metadata.len() };
    if metadata.len() != PACK_KEY_BYTES as u64 || (&file).read_exact(&mut key).is_err() {
        return Err(wrong().into());
    }
    Ok(key)
}
