//! What can go wrong with models that must be signed.

use super::exit::Exit;

/// Bytes of the key under which packs are tagged.
pub(in crate::cli) const PACK_KEY_BYTES: usize = 32;

/// Why a model is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemandError {
    #[error("the built-in model is not signed by anybody, and a signature is required")]
    Demo,
    #[error("{file}: is a signed package, and nobody is named whose signature counts")]
    Package { file: String },
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
            Self::Package { .. } => "--require-signature TRUST names the key",
            Self::KeyBytes { .. } => "head -c 32 /dev/urandom > FILE makes one; chmod 600 it",
            Self::KeyMode { .. } => "chmod 600 it",
        }
    }

    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Demo | Self::Package { .. } => Exit::Untrusted,
            Self::KeyBytes { .. } | Self::KeyMode { .. } => Exit::Usage,
        }
    }
}
