//! Secret keys that open sealed models.
//!
//! They come from a descriptor, from the folder of credentials of systemd, or from a file that its owner alone can read.
//! Their text is wiped once the keys are read, and the keys once they are no longer used; nothing prints either.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use age::x25519;
use zeroize::Zeroizing;

use super::archive::fill;
use super::open::open_regular;
use super::{Refusal, TrustError};
use crate::files::{self, ReadError};

/// Most bytes of a text of keys.
const MAX_BYTES: usize = 16 << 10;
/// Most keys in it.
const MAX_KEYS: usize = 16;
/// Where systemd says that credentials are.
const FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// Where secret keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// A descriptor that the process was started with: `fd:3`.
    Descriptor(u32),
    /// A credential of the service: `credential:model-identity`.
    Credential(String),
    /// A file.
    File(PathBuf),
}

impl IdentitySource {
    /// Reads `fd:N`, `credential:NAME` or the path of a file.
    ///
    /// # Errors
    /// If the number or the name is none.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let fail = |problem: &str| Refusal::Identity { name: text.into(), problem: problem.into() };
        if let Some(number) = text.strip_prefix("fd:") {
            let number = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
            let number = number.and_then(|number| number.parse().ok());
            return number.map(Self::Descriptor).ok_or_else(|| fail("expected the number of a descriptor"));
        }
        if let Some(name) = text.strip_prefix("credential:") {
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let is_name = !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_usual);
            return match is_name {
                true => Ok(Self::Credential(name.into())),
                false => Err(fail("expected the name of a credential, without folders")),
            };
        }
        match text.is_empty() {
            true => Err(fail("expected a file, fd:N or credential:NAME")),
            false => Ok(Self::File(text.into())),
        }
    }
}

/// Secret keys.
pub struct Identities(Vec<x25519::Identity>);

impl Identities {
    /// Reads the keys of a source; [`IdentitySource::Credential`] is looked for where the environment says.
    ///
    /// # Errors
    /// If there are none, others may read them, or they are of another kind.
    pub fn read(source: &IdentitySource) -> Result<Self, TrustError> {
        Self::read_with(source, std::env::var_os(FOLDER))
    }

    pub(super) fn read_with(source: &IdentitySource, folder: Option<OsString>) -> Result<Self, TrustError> {
        match source {
            IdentitySource::Descriptor(number) => {
                let path = PathBuf::from(format!("/dev/fd/{number}"));
                Self::read_from(files::open(&path)?, &format!("descriptor {number}"))
            }
            IdentitySource::Credential(name) => {
                let folder = folder.filter(|folder| !folder.is_empty()).ok_or_else(|| Refusal::Identity {
                    name: format!("credential {name}"),
                    problem: format!("{FOLDER} is not set: systemd sets it for services with credentials"),
                })?;
                // Its mode is what systemd made it: with an access list it seems to be readable by a group.
                let path = Path::new(&folder).join(name);
                Self::read_from(open_private(&path, false)?, &path.display().to_string())
            }
            IdentitySource::File(path) => {
                Self::read_from(open_private(path, true)?, &path.display().to_string())
            }
        }
    }

    /// Reads keys from text as `age-keygen` writes it.
    ///
    /// # Errors
    /// If there are none, too many, or others than X25519 keys.
    pub fn read_from(mut from: impl Read, name: &str) -> Result<Self, TrustError> {
        // Of its full size from the start: what grows leaves copies behind.
        let mut text = Zeroizing::new(vec![0; MAX_BYTES + 1]);
        let length =
            fill(&mut from, &mut text).map_err(|source| ReadError::Io { name: name.into(), source })?;
        let fail = |problem: String| Refusal::Identity { name: name.into(), problem };
        if length > MAX_BYTES {
            return Err(fail(format!("is longer than {MAX_BYTES} bytes")).into());
        }
        let text = std::str::from_utf8(&text[..length]).map_err(|_| fail("is no text".into()))?;
        let mut keys = vec![];
        for (number, line) in text.lines().enumerate().map(|(number, line)| (number + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if keys.len() == MAX_KEYS {
                return Err(fail(format!("more than {MAX_KEYS} keys")).into());
            }
            // What the line says is never part of a message.
            let key = line.parse().map_err(|_| {
                fail(format!("line {number}: expected a key as age-keygen writes it: AGE-SECRET-KEY-1…"))
            })?;
            keys.push(key);
        }
        match keys.is_empty() {
            true => Err(fail("holds no key".into()).into()),
            false => Ok(Self(keys)),
        }
    }

    /// Returns how many keys there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|key| key as _)
    }
}

/// Opens a regular file that is no link; with `is_alone`, one that its owner alone may read: this user or root.
fn open_private(path: &Path, is_alone: bool) -> Result<File, TrustError> {
    let name = || path.display().to_string();
    let fail = |problem: String| Refusal::Identity { name: name(), problem };
    let opened = open_regular(path, true).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ReadError::NotFound { name: name() },
        _ => ReadError::Io { name: name(), source },
    })?;
    let (file, found) = opened.map_err(|found| fail(format!("is {found}, expected a file of its own")))?;
    #[cfg(unix)]
    if is_alone {
        use std::os::unix::fs::MetadataExt;
        if let Some(mode) = files::mode_for_others(&found) {
            return Err(fail(format!("others may read it (mode {mode:04o}); chmod 600 it")).into());
        }
        if found.uid() != 0 && found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(fail("belongs to somebody else".into()).into());
        }
    }
    #[cfg(not(unix))]
    let _ = (found, is_alone);
    Ok(file)
}
