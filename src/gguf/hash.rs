//! A hash that is the same on every machine and in every version of this program.

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

    /// The hash of all bytes added.
    pub fn finish(&self) -> u64 {
        self.0
    }
}
