//! Finds tokens by their bytes: one hash table of ids over the piece table.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::vocab::{MAX_TOKENS, PieceTable, Spellings};

/// Bits of an id; the others of a slot are bits of the hash, so that few slots of other tokens are looked into.
const ID_BITS: u32 = 20;
const ID_MASK: u32 = (1 << ID_BITS) - 1;
const TAG_MASK: u32 = u32::MAX >> ID_BITS;
/// A slot without a token. No tag has all bits set.
const EMPTY: u32 = u32::MAX;
/// Slots for so many tokens: half as many again.
const fn slots(tokens: usize) -> usize {
    tokens + tokens / 2 + 1
}

/// Bits per token of the filter, which is small enough for a processor's cache.
const FILTER_BITS: usize = 8;

const _: () = assert!(MAX_TOKENS == 1 << ID_BITS);

/// A hash table with open addressing. Of tokens with the same bytes it holds the first.
///
/// The hash has a random start, so that no file can be made of which all tokens fall into one slot.
pub(super) struct TokenIndex {
    slots: Box<[u32]>,
    /// The bit of a token's hash is set. Most of what is looked for is no token, and ends here.
    filter: Box<[u64]>,
    hash: RandomState,
    /// Tokens that merging spells otherwise than their piece is, ascending.
    others: Box<[(Box<[u8]>, u32)]>,
}

impl TokenIndex {
    /// Heap bytes for so many tokens; rare spellings are not counted.
    pub(super) const fn planned_bytes(tokens: u64) -> u64 {
        let filter = (tokens * FILTER_BITS as u64).next_multiple_of(64) / 8;
        (slots(tokens as usize) * size_of::<u32>()) as u64 + filter
    }

    /// Builds the index of the tokens that have a spelling.
    pub(super) fn new(pieces: &PieceTable, spellings: &Spellings) -> TokenIndex {
        let slots = vec![EMPTY; slots(pieces.len())].into();
        let filter = vec![0; (pieces.len() * FILTER_BITS).div_ceil(64)].into();
        let mut index = TokenIndex { slots, filter, hash: RandomState::default(), others: Box::default() };
        spellings.pieces(pieces).for_each(|(id, piece)| index.add(pieces, id, piece));
        let mut others = spellings.others.clone();
        others.retain(|(spelt, _)| !spelt.is_empty());
        others.sort_unstable();
        others.dedup_by(|later, first| later.0 == first.0);
        index.others = others.into();
        index
    }

    fn add(&mut self, pieces: &PieceTable, id: u32, piece: &[u8]) {
        let hash = self.hash(piece);
        let (word, bit) = self.filter_bit(hash);
        self.filter[word] |= bit;
        let (mut at, tag) = self.place(hash);
        while self.slots[at] != EMPTY {
            if self.slots[at] >> ID_BITS == tag && pieces.get(self.slots[at] & ID_MASK) == piece {
                return;
            }
            at = self.after(at);
        }
        self.slots[at] = tag << ID_BITS | id;
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hash.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// Word and bit of the filter.
    fn filter_bit(&self, hash: u64) -> (usize, u64) {
        // Bits of the hash in another order than `place` takes them.
        let word = ((hash & 0xFFFF_FFFF) * self.filter.len() as u64) >> 32;
        (word as usize, 1 << (hash >> 58))
    }

    /// The first slot that may hold bytes of this hash, and their tag.
    fn place(&self, hash: u64) -> (usize, u32) {
        let at = ((hash >> 32) * self.slots.len() as u64) >> 32;
        (at as usize, (hash as u32 & TAG_MASK).min(TAG_MASK - 1))
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// The token that merging spells `bytes`.
    pub(super) fn get(&self, pieces: &PieceTable, bytes: &[u8]) -> Option<u32> {
        let found = self.piece(pieces, bytes);
        if self.others.is_empty() {
            return found;
        }
        let other = self.others.binary_search_by(|(spelling, _)| (**spelling).cmp(bytes));
        let other = other.ok().map(|at| self.others[at].1);
        match (found, other) {
            (Some(found), Some(other)) => Some(found.min(other)),
            (found, other) => found.or(other),
        }
    }

    /// The token whose piece is `bytes`.
    fn piece(&self, pieces: &PieceTable, bytes: &[u8]) -> Option<u32> {
        let hash = self.hash(bytes);
        let (word, bit) = self.filter_bit(hash);
        if self.filter[word] & bit == 0 {
            return None;
        }
        let (mut at, tag) = self.place(hash);
        while self.slots[at] != EMPTY {
            let id = self.slots[at] & ID_MASK;
            if self.slots[at] >> ID_BITS == tag && pieces.get(id) == bytes {
                return Some(id);
            }
            at = self.after(at);
        }
        None
    }
}
