//! Where text falls apart: between two bytes that no token has side by side.

use super::vocab::{PieceTable, Spellings};

/// Heap bytes.
pub(super) const BYTES: u64 = 1 << 13;

/// The pairs of bytes that stand side by side in some token.
///
/// No merge makes a token across any other pair, so that the text before and after it can be merged alone. In most
/// SentencePiece vocabularies these are the places before a space.
pub(super) struct Joints(Box<[u64; 1 << 10]>);

impl Default for Joints {
    fn default() -> Joints {
        Joints(Box::new([0; 1 << 10]))
    }
}

impl Joints {
    /// The pairs of all spellings.
    pub(super) fn new(pieces: &PieceTable, spellings: &Spellings) -> Joints {
        let mut joints = Joints::default();
        spellings.pieces(pieces).for_each(|(_, piece)| joints.add(piece));
        spellings.others.iter().for_each(|(spelt, _)| joints.add(spelt));
        joints
    }

    /// Adds the pairs of a token's spelling.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for (left, right) in pairs(bytes) {
            let number = usize::from(u16::from_le_bytes([left, right]));
            self.0[number / 64] |= 1 << (number % 64);
        }
    }

    /// Whether a token may have `left` and `right` side by side.
    pub(super) fn join(&self, left: u8, right: u8) -> bool {
        let number = usize::from(u16::from_le_bytes([left, right]));
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    /// Length of the first part of `bytes` that can be merged alone. It ends only where `may_start(byte that follows)`.
    pub(super) fn part(&self, bytes: &[u8], may_start: impl Fn(u8) -> bool) -> usize {
        let end = pairs(bytes).position(|(left, right)| !self.join(left, right) && may_start(right));
        end.map_or(bytes.len(), |end| end + 1)
    }
}

/// Every byte with the next one.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    bytes.iter().copied().zip(bytes.iter().copied().skip(1))
}
