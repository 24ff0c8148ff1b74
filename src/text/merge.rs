//! Merging: the symbols of a word become tokens, pair by pair, in the order of the vocabulary.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::TextError;

/// Stands for text that has no token.
pub(super) const UNKNOWN: u32 = u32::MAX;
/// Set in what never merges.
const FIXED: u32 = 1 << 31;
/// Rank of neighbours that do not merge.
const NEVER: u32 = u32::MAX;
/// Symbols up to which looking at every pair is faster than a queue of them.
const FEW: usize = 32;

/// Memory for one byte of a word that is merged: a symbol, its neighbours, and three places in a queue that doubles.
pub(super) const BYTES_PER_BYTE: u64 = 20 + 8 + 2 * 3 * 8;

/// What words are made of, and which neighbours merge.
pub(super) trait Merges {
    /// Bytes or characters.
    type Unit: Unit;

    /// Adds the symbols of a word to `merger`.
    fn symbols(&self, word: &[u8], merger: &mut Merger) -> Result<(), TextError>;

    /// Rank and id of the token that two neighbours make; the lowest rank merges first, of equal ones the leftmost.
    /// `joined` are the bytes of both.
    fn merged(&self, left: u32, right: u32, joined: &[u8]) -> Option<(u32, u32)>;
}

/// What a word is made of: a byte or a character.
pub(super) trait Unit: Copy {
    /// Appends its bytes.
    fn write(self, word: &mut Vec<u8>);
    /// Whether a unit may start with `byte`.
    fn starts_with(byte: u8) -> bool;
}

impl Unit for u8 {
    fn write(self, word: &mut Vec<u8>) {
        word.push(self);
    }

    fn starts_with(_: u8) -> bool {
        true
    }
}

impl Unit for char {
    fn write(self, word: &mut Vec<u8>) {
        word.extend_from_slice(self.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn starts_with(byte: u8) -> bool {
        byte & 0xC0 != 0x80
    }
}

/// Where tokens go.
pub(super) struct Sink<'a> {
    pub(super) out: &'a mut Vec<u32>,
    /// Stands for any number of characters in a row that have no token.
    unknown: Option<u32>,
    after_unknown: bool,
}

impl<'a> Sink<'a> {
    pub(super) fn new(out: &'a mut Vec<u32>, unknown: Option<u32>) -> Sink<'a> {
        Sink { out, unknown, after_unknown: false }
    }

    pub(super) fn add(&mut self, tokens: &[Symbol]) {
        for token in tokens {
            let is_unknown = token.id == UNKNOWN;
            if !is_unknown {
                self.out.push(token.id & !FIXED);
            } else if !self.after_unknown {
                self.out.extend(self.unknown);
            }
            self.after_unknown = is_unknown;
        }
    }

    pub(super) fn mark(&self) -> (usize, bool) {
        (self.out.len(), self.after_unknown)
    }

    pub(super) fn back_to(&mut self, (length, after_unknown): (usize, bool)) {
        self.out.truncate(length);
        self.after_unknown = after_unknown;
    }
}

/// A part of a word: first a byte or character, in the end a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Token, perhaps with [`FIXED`], or [`UNKNOWN`].
    id: u32,
    /// Where it lies in the word, in bytes.
    pub(super) start: u32,
    pub(super) end: u32,
    /// Of merging it with the next one.
    rank: u32,
    made: u32,
}

impl Symbol {
    /// Whether both are the same token of the same length.
    pub(super) fn is_like(&self, other: &Symbol) -> bool {
        (self.id, self.end - self.start) == (other.id, other.end - other.start)
    }
}

/// Pairs and characters that are remembered: texts repeat a few of them, and a vocabulary is larger than a cache.
const REMEMBERED: usize = 1 << 13;

/// Heap bytes of what is remembered.
pub(super) const MEMORY_BYTES: u64 = (REMEMBERED * (size_of::<Pair>() + size_of::<(u32, u32)>())) as u64;

/// What two neighbours make: rank [`NEVER`] where they do not merge. Two [`UNKNOWN`] are no pair.
#[derive(Clone, Copy)]
struct Pair {
    left: u32,
    right: u32,
    rank: u32,
    made: u32,
}

/// The pairs and characters looked up last, each at its place.
struct Memory {
    pairs: Box<[Pair]>,
    /// The bytes of characters, and their tokens or [`UNKNOWN`].
    chars: Box<[(u32, u32)]>,
}

impl Default for Memory {
    fn default() -> Memory {
        let none = Pair { left: UNKNOWN, right: UNKNOWN, rank: NEVER, made: 0 };
        Memory { pairs: vec![none; REMEMBERED].into(), chars: vec![(0, UNKNOWN); REMEMBERED].into() }
    }
}

impl Memory {
    /// Rank and token of a pair, looked up where it is not remembered.
    fn get(&mut self, left: u32, right: u32, look_up: impl FnOnce() -> Option<(u32, u32)>) -> (u32, u32) {
        // Multiplicative hashing: the upper bits of the product depend on all of both.
        let mixed = (u64::from(left) << 32 | u64::from(right)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let pair = &mut self.pairs[(mixed >> 32) as usize % REMEMBERED];
        if (pair.left, pair.right) != (left, right) {
            let (rank, made) = look_up().unwrap_or((NEVER, 0));
            *pair = Pair { left, right, rank, made };
        }
        (pair.rank, pair.made)
    }
}

/// The parts of a word, in buffers that are used again, for one vocabulary.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    memory: Memory,
    /// Index of the symbol before and after; only with many symbols.
    links: Vec<[u32; 2]>,
    /// Rank and index, in one number.
    queue: BinaryHeap<Reverse<u64>>,
}

impl Merger {
    /// Adds a symbol of `len` bytes at the end of the word.
    pub(super) fn push(&mut self, id: u32, len: usize) {
        let start = self.symbols.last().map_or(0, |last| last.end);
        self.symbols.push(Symbol { id, start, end: start + len as u32, rank: NEVER, made: 0 });
    }

    /// Adds a symbol that never merges.
    pub(super) fn push_fixed(&mut self, id: u32, len: usize) {
        self.push(id | FIXED, len);
    }

    /// The token of a character of more than one byte, looked up where it is not remembered.
    pub(super) fn token_of(&mut self, spelt: &[u8], look_up: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let bits = spelt.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        // The last byte differs most, and has six bits of its own.
        let known = &mut self.memory.chars[(bits ^ bits >> 2) as usize % REMEMBERED];
        if known.0 != bits {
            *known = (bits, look_up().unwrap_or(UNKNOWN));
        }
        (known.1 != UNKNOWN).then_some(known.1)
    }

    /// The tokens of a word.
    pub(super) fn merge(&mut self, word: &[u8], pairs: &impl Merges) -> Result<&[Symbol], TextError> {
        self.symbols.clear();
        pairs.symbols(word, self)?;
        for left in 1..self.symbols.len() {
            self.rate(left - 1, left, word, pairs);
        }
        if self.symbols.len() <= FEW {
            self.merge_few(word, pairs);
        } else {
            self.merge_many(word, pairs);
        }
        Ok(&self.symbols)
    }

    /// Looks up what the symbol at `left` and its neighbour at `right` make.
    fn rate(&mut self, left: usize, right: usize, word: &[u8], pairs: &impl Merges) -> u32 {
        let (a, b) = (self.symbols[left], self.symbols[right]);
        let joined = &word[a.start as usize..b.end as usize];
        let (rank, made) = if (a.id | b.id) & FIXED == 0 {
            self.memory.get(a.id, b.id, || pairs.merged(a.id, b.id, joined))
        } else {
            (NEVER, 0)
        };
        let symbol = &mut self.symbols[left];
        (symbol.rank, symbol.made) = (rank, made);
        symbol.rank
    }

    fn merge_few(&mut self, word: &[u8], pairs: &impl Merges) {
        loop {
            let lowest = self.symbols.iter().enumerate().min_by_key(|(_, symbol)| symbol.rank);
            let Some((at, symbol)) = lowest.filter(|(_, symbol)| symbol.rank != NEVER) else { return };
            let merged = Symbol { id: symbol.made, rank: NEVER, end: self.symbols[at + 1].end, ..*symbol };
            self.symbols.remove(at + 1);
            self.symbols[at] = merged;
            if at + 1 < self.symbols.len() {
                self.rate(at, at + 1, word, pairs);
            }
            if at > 0 {
                self.rate(at - 1, at, word, pairs);
            }
        }
    }

    fn merge_many(&mut self, word: &[u8], pairs: &impl Merges) {
        let count = self.symbols.len();
        self.links.clear();
        self.links.extend((0..count as u32).map(|at| [at.wrapping_sub(1), at + 1]));
        self.queue.clear();
        for at in 0..count {
            self.enqueue(at);
        }
        while let Some(Reverse(next)) = self.queue.pop() {
            let (rank, at) = ((next >> 32) as u32, next as u32 as usize);
            if self.symbols[at].rank != rank {
                continue;
            }
            let [before, gone] = self.links[at];
            let gone = gone as usize;
            let after = self.links[gone][1];
            self.symbols[gone].rank = NEVER;
            self.symbols[at] = Symbol {
                id: self.symbols[at].made,
                end: self.symbols[gone].end,
                rank: NEVER,
                ..self.symbols[at]
            };
            self.links[at][1] = after;
            if let Some(link) = self.links.get_mut(after as usize) {
                link[0] = at as u32;
                self.rate(at, after as usize, word, pairs);
                self.enqueue(at);
            }
            if (before as usize) < count {
                self.rate(before as usize, at, word, pairs);
                self.enqueue(before as usize);
            }
        }
        let mut kept = 0;
        let mut at = 0;
        while at < count {
            self.symbols[kept] = self.symbols[at];
            kept += 1;
            at = self.links[at][1] as usize;
        }
        self.symbols.truncate(kept);
    }

    fn enqueue(&mut self, at: usize) {
        if self.symbols[at].rank != NEVER {
            self.queue.push(Reverse(u64::from(self.symbols[at].rank) << 32 | at as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges any two neighbours whose bytes stand in a list; earlier ones first.
    struct Listed(Vec<Vec<u8>>);

    impl Merges for Listed {
        type Unit = u8;

        fn symbols(&self, word: &[u8], merger: &mut Merger) -> Result<(), TextError> {
            for byte in word {
                match byte {
                    b'?' => merger.push(UNKNOWN, 1),
                    b'!' => merger.push_fixed(1000, 1),
                    _ => merger.push(u32::from(*byte), 1),
                }
            }
            Ok(())
        }

        fn merged(&self, _: u32, _: u32, joined: &[u8]) -> Option<(u32, u32)> {
            // Tokens of one length have one rank, so that places decide too.
            let at = self.0.iter().position(|known| known == joined)? as u32;
            Some((at / 3, 256 + at))
        }
    }

    /// The definition: of all neighbours that merge those of the lowest rank, of these the leftmost, again and again.
    fn definition(word: &[u8], merges: &Listed) -> Vec<(u32, u32)> {
        let mut merger = Merger::default();
        merges.symbols(word, &mut merger).unwrap();
        let mut parts = merger.symbols;
        loop {
            let rank = |at: usize| {
                let (left, right) = (parts[at], parts[at + 1]);
                let fixed = (left.id | right.id) & FIXED != 0;
                let joined = &word[left.start as usize..right.end as usize];
                (!fixed).then(|| merges.merged(left.id, right.id, joined)).flatten()
            };
            let best = (1..parts.len())
                .filter_map(|right| Some((rank(right - 1)?, right - 1)))
                .min_by_key(|((rank, _), at)| (*rank, *at));
            let Some(((_, id), at)) = best else { break };
            parts[at] = Symbol { id, end: parts[at + 1].end, ..parts[at] };
            parts.remove(at + 1);
        }
        parts.iter().map(|part| (part.id, part.end)).collect()
    }

    #[test]
    fn words_of_any_length_are_merged_by_the_definition() {
        let mut state = 5u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for round in 0..400 {
            let letters = b"abc?!";
            let mut word = |length: usize, kinds: usize| -> Vec<u8> {
                (0..length).map(|_| letters[next(kinds)]).collect()
            };
            let merges = Listed((0..12).map(|at| word(2 + at / 3, 3)).collect());
            let text = word(round % 120, if round % 2 == 0 { 3 } else { 5 });
            let mut merger = Merger::default();
            let found = merger.merge(&text, &merges).unwrap();
            let found: Vec<(u32, u32)> = found.iter().map(|part| (part.id, part.end)).collect();
            assert_eq!(found, definition(&text, &merges), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn unknown_text_in_a_row_is_one_token() {
        let merges = Listed(vec![]);
        let (mut merger, mut out) = (Merger::default(), vec![]);
        let mut sink = Sink::new(&mut out, Some(7));
        for word in [&b"??a"[..], b"?", b"?!?"] {
            sink.add(merger.merge(word, &merges).unwrap());
        }
        assert_eq!(out, [7, 97, 7, 1000, 7]);
    }
}
