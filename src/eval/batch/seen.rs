//! How often something was there before, in about four bytes for each thing.

/// Bits of a hash that are kept in full, and of those before them, which are kept by the place in the list.
const LOW_BITS: u32 = 32;
const HIGH_BITS: u32 = 12;
/// How many things, and which part of all, may wait to be sorted in.
const LEAST_RECENT: usize = 512;
const RECENT_PART: usize = 32;

/// Counts hashes.
///
/// Of a hash 44 bits are kept. Two of 200,000 different ones are taken for equal once in a thousand times; the second then
/// counts as a repetition, in every run over the same things.
pub(super) struct Seen {
    /// Where those of each value of the high bits begin in `lows`, and where the last end.
    starts: Vec<usize>,
    /// The low bits, in order.
    lows: Vec<u32>,
    /// Those that are not among them yet, in order.
    recent: Vec<u64>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self { starts: vec![0; (1 << HIGH_BITS) + 1], lows: vec![], recent: vec![] }
    }

    /// Adds a hash; how often it was there before.
    pub(super) fn add(&mut self, hash: u64) -> u32 {
        let key = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - HIGH_BITS - LOW_BITS);
        let (high, low) = parts(key);
        let same = |part: &[u32]| {
            part.partition_point(|other| *other <= low) - part.partition_point(|other| *other < low)
        };
        let old = same(&self.lows[self.starts[high]..self.starts[high + 1]]);
        let place = self.recent.partition_point(|other| *other <= key);
        let new = place - self.recent.partition_point(|other| *other < key);
        self.recent.insert(place, key);
        if self.recent.len() >= LEAST_RECENT.max(self.lows.len() / RECENT_PART) {
            self.sort_in();
        }
        u32::try_from(old + new).unwrap_or(u32::MAX)
    }

    /// Brings what is recent among the rest, from the last on, so that nothing is overwritten that is still to be moved.
    fn sort_in(&mut self) {
        let (mut left, mut at) = (self.lows.len(), self.lows.len() + self.recent.len());
        self.lows.reserve_exact(self.recent.len());
        self.lows.resize(at, 0);
        for high in (0..1 << HIGH_BITS).rev() {
            self.starts[high + 1] = at;
            loop {
                let new = self.recent.last().map(|key| parts(*key)).filter(|new| new.0 == high);
                let old = (left > self.starts[high]).then(|| self.lows[left - 1]);
                self.lows[at - 1] = match (new, old) {
                    (Some((_, new)), old) if old.is_none_or(|old| new >= old) => {
                        self.recent.pop();
                        new
                    }
                    (_, Some(old)) => {
                        left -= 1;
                        old
                    }
                    _ => break,
                };
                at -= 1;
            }
        }
    }
}

fn parts(key: u64) -> (usize, u32) {
    ((key >> LOW_BITS) as usize, key as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::files::Fnv;

    fn hash(number: u64) -> u64 {
        let mut hash = Fnv::default();
        hash.add(&number.to_le_bytes());
        hash.finish()
    }

    #[test]
    fn all_is_counted() {
        let (mut seen, mut expected) = (Seen::new(), HashMap::<u64, u32>::new());
        let mut state = 1_u64;
        for _ in 0..30_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Some often, some twice, most once.
            let number = match state >> 62 {
                0 => (state >> 40) % 7,
                1 => (state >> 32) % 10_000,
                _ => state,
            };
            let count = expected.entry(number).or_default();
            assert_eq!(seen.add(hash(number)), *count);
            *count += 1;
        }
    }

    #[test]
    fn neighbours_and_extremes_are_told_apart() {
        let mut seen = Seen::new();
        // Multiplied back, so that the keys are these.
        let inverse = 0xF1DE_83E1_9937_733D_u64;
        assert_eq!(inverse.wrapping_mul(0x9E37_79B9_7F4A_7C15), 1);
        let keys: [u64; 6] = [0, 1, 0xFFFF_FFFF, 0x1_0000_0000, (1 << 44) - 2, (1 << 44) - 1];
        for round in 0..LEAST_RECENT as u32 {
            for key in keys {
                assert_eq!(seen.add((key << 20).wrapping_mul(inverse)), round, "{key:x}");
            }
        }
    }

    #[test]
    fn two_hundred_thousand_take_less_than_a_megabyte() {
        let mut seen = Seen::new();
        for number in 0..200_000 {
            assert_eq!(seen.add(hash(number)), 0);
        }
        let bytes = seen.starts.capacity() * 8 + seen.lows.capacity() * 4 + seen.recent.capacity() * 8;
        assert!(bytes < 1_000_000, "{bytes} bytes");
    }
}
