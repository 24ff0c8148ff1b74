//! Models that must be signed, and sealed ones.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{CliError, DemandError, PACK_KEY_BYTES};
use super::opened::Opened;
use super::stored::{architectures, identities};
use crate::files;
use crate::gguf::GgufFile;
use crate::runtime::Secrecy;
use crate::trust::{
    Authority, Package, RELEASE_FILE, Refusal, Runner, SEALED_MAGIC, TrustError, Version, open_sealed,
    open_signed,
};

/// Where an archive says that it is one.
const ARCHIVE_AT: usize = 257;
const ARCHIVE_MAGIC: &[u8] = b"ustar";
/// Bytes of a file that tell what it is.
const FIRST_BYTES: usize = ARCHIVE_AT + ARCHIVE_MAGIC.len();
/// Time keeps nothing from running that runs: certificates are judged at the time at which they begin.
const NO_CLOCK: Option<SystemTime> = None;

/// Whose models are taken.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustArgs {
    /// Take only a model that is signed (MODEL.sig, or model.sig in its folder), and use nothing of it before every byte
    /// was checked; TRUST: a public key, certificates (PEM) or a trust file
    #[arg(long, value_name = "TRUST", env = "SMOLT_REQUIRE_SIGNATURE", hide_short_help = true)]
    require_signature: Option<PathBuf>,

    /// Use and make packs of signed models, tagged under this secret of the computer: a file of 32 bytes that nobody else
    /// may read
    #[arg(long, value_name = "FILE", env = "SMOLT_PACK_KEY", hide_short_help = true)]
    pack_key: Option<PathBuf>,
}

impl TrustArgs {
    /// Opens the model at `path` if a signature is demanded of it, it is sealed or a package: then this is the only way.
    ///
    /// # Errors
    /// If it is not signed as demanded, or no key opens it.
    pub(super) fn open(&self, path: &Path, keys: Option<&str>) -> Result<Option<Opened>, CliError> {
        let first =
            if path.is_dir() { vec![] } else { files::first_bytes(path, FIRST_BYTES).unwrap_or_default() };
        let is_archive = first.get(ARCHIVE_AT..).is_some_and(|rest| rest.starts_with(ARCHIVE_MAGIC));
        if is_archive || path.join(RELEASE_FILE).is_file() {
            return self.open_package(path, keys).map(Some);
        }
        let is_sealed = first.starts_with(SEALED_MAGIC);
        let signed = match &self.require_signature {
            Some(trust) => {
                let signed = open_signed(path, None, &Authority::read(trust)?, NO_CLOCK)?;
                if !is_sealed {
                    return Opened::signed(signed, path, Secrecy::Plain, self.key()?).map(Some);
                }
                (signed.reader, signed.bytes)
            }
            None if is_sealed => {
                let file = files::open(path)?;
                let name = || path.display().to_string();
                let found =
                    file.metadata().map_err(|source| files::ReadError::Io { name: name(), source })?;
                (Box::new(file) as Box<dyn Read + Send>, found.len())
            }
            None => return Ok(None),
        };
        let name = path.display().to_string();
        let keys = keys.ok_or_else(|| TrustError::from(Refusal::NeedsKey { file: name.clone() }))?;
        let (reader, bytes) = open_sealed(signed.0, signed.1, &name, &identities(keys)?)?;
        let file = GgufFile::from_reader(&name, reader, bytes, Secrecy::Secret)?;
        Ok(Some(Opened { file, verified: None }))
    }

    fn open_package(&self, path: &Path, keys: Option<&str>) -> Result<Opened, CliError> {
        let name = || path.display().to_string();
        let trust = self.require_signature.as_ref().ok_or_else(|| DemandError::Package { file: name() })?;
        let package = Package::open(path)?.check(&Authority::read(trust)?, NO_CLOCK)?;
        let architectures = architectures();
        // Memory is planned from the model itself.
        let runner =
            Runner { version: Version::own(), architectures: &architectures, memory: None, name: None };
        package.release().check_runner(&runner).map_err(TrustError::from)?;
        if !package.release().model.sealed {
            return Opened::signed(package.model(None)?, path, Secrecy::Plain, self.key()?);
        }
        let keys = keys.map(identities).transpose()?;
        Opened::signed(package.model(keys.as_ref())?, path, Secrecy::Secret, None)
    }

    /// The key under which packs are tagged, if they are wanted.
    fn key(&self) -> Result<Option<[u8; PACK_KEY_BYTES]>, CliError> {
        self.pack_key.as_deref().map(pack_key).transpose()
    }

    /// Refuses the built-in model where a signature is demanded.
    ///
    /// # Errors
    /// If it is.
    pub(super) fn check_demo(&self) -> Result<(), DemandError> {
        if self.require_signature.is_some() { Err(DemandError::Demo) } else { Ok(()) }
    }
}

/// Reads the key under which packs are tagged.
fn pack_key(path: &Path) -> Result<[u8; PACK_KEY_BYTES], CliError> {
    let file = files::open(path)?;
    let name = || path.display().to_string();
    let metadata = file.metadata().map_err(|source| files::ReadError::Io { name: name(), source })?;
    #[cfg(unix)]
    if let Some(mode) = files::mode_for_others(&metadata) {
        return Err(DemandError::KeyMode { file: name(), mode }.into());
    }
    let mut key = [0; PACK_KEY_BYTES];
    let wrong = || DemandError::KeyBytes { file: name(), found: metadata.len() };
    if metadata.len() != PACK_KEY_BYTES as u64 || (&file).read_exact(&mut key).is_err() {
        return Err(wrong().into());
    }
    Ok(key)
}
