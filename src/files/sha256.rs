//! SHA-256, which others compute too.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// SHA-256 as 64 hexadecimal digits, in small letters.
pub type Sha256Hex = String;

/// Computes the SHA-256 of bytes that come in parts.
pub fn sha256_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Sha256Hex {
    let mut hash = Sha256::new();
    parts.for_each(|part| hash.update(part));
    sha256_hex(hash)
}

/// Writes the digits of a finished hash.
pub fn sha256_hex(hash: Sha256) -> Sha256Hex {
    hash.finalize().iter().fold(String::with_capacity(64), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}
