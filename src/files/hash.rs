//! Hashes that are the same on every machine and in every version of this program.

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

    /// Adds a number.
    pub fn add_number(&mut self, number: u64) {
        self.add(&number.to_le_bytes());
    }

    /// Adds a text with its length, so that texts do not run into one another.
    pub fn add_text(&mut self, text: &str) {
        self.add_number(text.len() as u64);
        self.add(text.as_bytes());
    }

    /// Adds a number that may be missing.
    pub fn add_option(&mut self, number: Option<u64>) {
        self.add_number(u64::from(number.is_some()));
        self.add_number(number.unwrap_or(0));
    }

    /// Returns the hash of all bytes added.
    pub fn finish(&self) -> u64 {
        self.0
    }
}

/// Words that [`checksum`] mixes side by side, so that the processor need not wait for one multiplication before the
/// next.
const LANES: usize = 8;
/// An odd number, so that multiplying by it loses nothing: 2^64 divided by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// A 64-bit checksum of much data, computed as fast as memory is read. One changed word always changes it. It resists
/// accidents, not attackers.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut lanes: [u64; LANES] = std::array::from_fn(|lane| lane as u64 + 1);
    let mix = |lane: u64, word: u64| (lane ^ word).wrapping_mul(MIX).rotate_left(29);
    let (blocks, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks().0) {
            *lane = mix(*lane, u64::from_le_bytes(*word));
        }
    }
    let mut sum = Fnv::default();
    sum.add(rest);
    lanes.iter().fold(mix(sum.finish(), bytes.len() as u64), |sum, lane| mix(sum, *lane))
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn a_checksum_notices_every_kind_of_damage() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| ((i * i) >> 3) as u8).collect();
        let good = checksum(&bytes);
        assert_eq!(good, checksum(&bytes.clone()));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert_ne!(checksum(&bad), good, "bit {bit} of byte {at}");
                // The same bit again one block later, where sums without rotation cancel.
                if let Some(byte) = bad.get_mut(at + 64) {
                    *byte ^= 1 << bit;
                    assert_ne!(checksum(&bad), good, "bit {bit} of bytes {at} and {}", at + 64);
                }
            }
        }
        for length in 0..bytes.len() {
            assert_ne!(checksum(&bytes[..length]), good, "cut to {length}");
        }
        let swapped = [&bytes[64..128], &bytes[..64], &bytes[128..]].concat();
        let flipped: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        let padded = [&bytes[..], &[0]].concat();
        for bad in [swapped, flipped, padded, vec![0; 1000]] {
            assert_ne!(checksum(&bad), good);
        }
    }
}
