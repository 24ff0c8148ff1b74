//! The checksum of session files.

use std::io::{self, Read, Write};

/// A checksum of 64 bits, eight bytes a step. It resists accidents, not attackers; it does not depend on how the
/// bytes are cut into calls.
#[derive(Clone, Debug)]
pub(in crate::generate) struct Checksum {
    sum: u64,
    /// Bytes that do not fill a word yet.
    rest: [u8; 8],
    filled: usize,
    bytes: u64,
}

impl Checksum {
    pub(in crate::generate) fn new() -> Checksum {
        Checksum { sum: 0x5342_4c54_5345_5331, rest: [0; 8], filled: 0, bytes: 0 }
    }

    pub(in crate::generate) fn add(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.filled > 0 {
            let part = bytes.len().min(8 - self.filled);
            self.rest[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
            self.filled += part;
            bytes = &bytes[part..];
            if self.filled < 8 {
                return;
            }
            self.sum = mix(self.sum, u64::from_le_bytes(self.rest));
            self.filled = 0;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        self.sum = words.iter().fold(self.sum, |sum, word| mix(sum, u64::from_le_bytes(*word)));
        self.rest[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    pub(in crate::generate) fn finish(&self) -> u64 {
        let mut last = [0; 8];
        last[..self.filled].copy_from_slice(&self.rest[..self.filled]);
        let sum = mix(mix(self.sum, u64::from_le_bytes(last)), self.bytes);
        sum ^ (sum >> 32)
    }
}

/// The multiplier is odd and the rotation a bijection, so that no single changed word goes unnoticed.
fn mix(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Passes bytes on and sums them.
pub(super) struct Summed<T> {
    pub(super) inner: T,
    pub(super) sum: Checksum,
}

impl<T> Summed<T> {
    pub(super) fn new(inner: T) -> Summed<T> {
        Summed { inner, sum: Checksum::new() }
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.sum.add(&out[..read]);
        Ok(read)
    }
}
