//! Hashes that are the same on every machine and in every version of this program.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The 64-bit FNV-1a hash (Fowler, Noll, Vo). It resists accidents, not attackers.
#[derive(Clone, Debug)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Returns the hash of all bytes added.
    pub fn finish(&self) -> u64 {
        self.0
    }
}

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
