//! Byte-level BPE (`tokenizer.ggml.model = "gpt2"`): vocabulary and merges as stored in the file.
//!
//! Token texts are written in the byte alphabet of GPT-2: every byte is one printable character, so that
//! merges can be stored as text. Bytes that are printable in Latin-1 stand for themselves, the others are
//! moved to U+0100 and up, in order.

use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::gguf::checked_text;

use super::TextError;
use super::index::TokenIndex;
use super::joints::Joints;
use super::merge::{Merger, Merges};
use super::vocab::{
    KEY_MERGES, MAX_MERGES, MAX_TOKENS, PieceTable, Spelling, Spellings, TokenKind, TokenList,
};

/// The character that stands for each byte.
pub const BYTE_CHARS: [char; 256] = byte_chars();

/// One past the last character of the byte alphabet.
const ALPHABET_END: usize = 0x144;

const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn byte_chars() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 0x100u32;
    let mut byte = 0;
    while byte < 256 {
        if is_printable(byte as u8) {
            table[byte] = byte as u8 as char;
        } else if let Some(moved) = char::from_u32(next) {
            table[byte] = moved;
            next += 1;
        }
        byte += 1;
    }
    table
}

/// The byte each character of the alphabet stands for, by code point.
pub(super) struct ByteAlphabet([Option<u8>; ALPHABET_END]);

impl ByteAlphabet {
    pub(super) fn new() -> ByteAlphabet {
        let mut table = [None; ALPHABET_END];
        for (byte, character) in (0..=255u8).zip(BYTE_CHARS) {
            table[character as usize] = Some(byte);
        }
        ByteAlphabet(table)
    }

    pub(super) fn byte(&self, character: char) -> Option<u8> {
        self.0.get(character as usize).copied().flatten()
    }

    /// The bytes of a text of this alphabet, in `buffer`.
    fn spell<'b>(&self, text: &str, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        buffer.clear();
        for character in text.chars() {
            buffer.push(self.byte(character)?);
        }
        Some(buffer)
    }
}

/// Bytes of every token: ordinary tokens through the byte alphabet, added ones as they are written.
///
/// A character outside the alphabet (which no encoder produces) is kept as it is.
pub(super) fn pieces(tokens: &TokenList<'_>) -> Result<(PieceTable, Spellings), TextError> {
    let alphabet = ByteAlphabet::new();
    PieceTable::new(tokens, |_, kind, text, bytes| {
        let text = checked_text(text);
        if kind != TokenKind::Normal {
            bytes.extend_from_slice(text.as_bytes());
            return Ok(spelling(&alphabet, kind, text));
        }
        for character in text.chars() {
            match alphabet.byte(character) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Ok(spelling(&alphabet, kind, text))
    })
}

/// How merging spells a token: its text in the byte alphabet. Control, unknown and unused tokens are never spelt.
fn spelling(alphabet: &ByteAlphabet, kind: TokenKind, text: &str) -> Spelling {
    if !kind.is_mergeable() || text.is_empty() {
        return Spelling::Never;
    }
    if kind == TokenKind::Normal {
        let is_spelt = text.chars().all(|c| alphabet.byte(c).is_some());
        return if is_spelt { Spelling::Piece } else { Spelling::Never };
    }
    // The piece of other tokens is their text.
    let bytes: Option<Box<[u8]>> = text.chars().map(|c| alphabet.byte(c)).collect();
    match bytes {
        Some(bytes) if *bytes == *text.as_bytes() => Spelling::Piece,
        Some(bytes) => Spelling::Other(bytes),
        None => Spelling::Never,
    }
}

/// Bits of a rank and of an id in a slot of the table of merges.
const RANK_BITS: u32 = 22;
const ID_BITS: u32 = 21;
const EMPTY: u64 = u64::MAX;
/// Slots per merge.
const SLOTS: usize = 2;

const _: () =
    assert!(MAX_MERGES <= 1 << RANK_BITS && MAX_TOKENS < 1 << ID_BITS && RANK_BITS + 2 * ID_BITS == 64);

/// The merges of a vocabulary: a hash table with open addressing from pairs of tokens to ranks.
pub(super) struct MergeTable {
    /// Left and right token and rank, from the highest bit on.
    slots: Box<[u64]>,
    /// The token that each merge makes, by rank.
    made: Box<[u32]>,
    hash: RandomState,
}

impl MergeTable {
    /// Heap bytes for so many merges.
    pub(super) const fn planned_bytes(merges: u64) -> u64 {
        merges * (SLOTS * size_of::<u64>() + size_of::<u32>()) as u64
    }

    /// Builds the table of `(left, right, made)`, the first merging first. Of merges of one pair the first counts.
    fn new(merges: usize, each: impl Iterator<Item = (u32, u32, u32)>) -> MergeTable {
        let slots = vec![EMPTY; merges * SLOTS].into();
        let mut table = MergeTable { slots, made: Box::default(), hash: RandomState::default() };
        let mut made = Vec::with_capacity(merges);
        for (left, right, id) in each {
            if let Err(slot) = table.find(left, right) {
                table.slots[slot] = pair(left, right) | made.len() as u64;
                made.push(id);
            }
        }
        table.made = made.into();
        table
    }

    /// Rank and token of a pair that merges.
    fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[self.find(left, right).ok()?];
        let rank = (slot & ((1 << RANK_BITS) - 1)) as u32;
        Some((rank, self.made[rank as usize]))
    }

    /// The slot of a pair, or the free one where it belongs.
    fn find(&self, left: u32, right: u32) -> Result<usize, usize> {
        let wanted = pair(left, right);
        let hash = self.hash.hash_one(wanted);
        let mut at = (((hash >> 32) * self.slots.len() as u64) >> 32) as usize;
        while self.slots[at] != EMPTY {
            if self.slots[at] >> RANK_BITS == wanted >> RANK_BITS {
                return Ok(at);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        Err(at)
    }
}

/// A slot of rank 0.
fn pair(left: u32, right: u32) -> u64 {
    (u64::from(left) << ID_BITS | u64::from(right)) << RANK_BITS
}

/// What merges bytes into tokens.
pub(super) struct ByteLevel {
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
    merges: MergeTable,
    pub(super) joints: Joints,
    /// Where a word that is a token is that token, whatever the merges say.
    words: Option<TokenIndex>,
}

impl ByteLevel {
    /// Reads the merges of a file.
    pub(super) fn new(
        tokens: &TokenList<'_>,
        (pieces, spellings): (&PieceTable, &Spellings),
        ignore_merges: bool,
    ) -> Result<ByteLevel, TextError> {
        let index = TokenIndex::new(pieces, spellings);
        let merges = known_merges(tokens, pieces, &index, &ByteAlphabet::new())?;
        let joints = Joints::new(pieces, spellings);
        let bytes = Box::new(std::array::from_fn(|byte| index.get(pieces, &[byte as u8])));
        Ok(ByteLevel { bytes, merges, joints, words: ignore_merges.then_some(index) })
    }

    /// The token that a whole word is.
    pub(super) fn word(&self, pieces: &PieceTable, word: &[u8]) -> Option<u32> {
        self.words.as_ref()?.get(pieces, word)
    }
}

impl Merges for ByteLevel {
    type Unit = u8;

    fn symbols(&self, word: &[u8], merger: &mut Merger) -> Result<(), TextError> {
        for &byte in word {
            merger.push(self.bytes[usize::from(byte)].ok_or(TextError::NoTokenForByte { byte })?, 1);
        }
        Ok(())
    }

    fn merged(&self, left: u32, right: u32, _: &[u8]) -> Option<(u32, u32)> {
        self.merges.get(left, right)
    }
}

/// Calls `visit(index, left, right)` with the stored merges, in order of rank.
pub(super) fn each_merge(
    tokens: &TokenList<'_>,
    mut visit: impl FnMut(usize, &str, &str) -> Result<(), TextError>,
) -> Result<usize, TextError> {
    let file = tokens.file;
    let Some(stored) = file.str_array(KEY_MERGES)? else { return Ok(0) };
    if stored.len() > MAX_MERGES {
        let (what, found, limit) = ("the number of merges", stored.len(), MAX_MERGES);
        return Err(TextError::OutOfBounds { file: file.name().to_owned(), what, found, limit });
    }
    for (index, merge) in stored.iter_str().enumerate() {
        let (left, right) = split_merge(merge)
            .ok_or_else(|| bad_merge(tokens, index, merge, "is not two parts and a space"))?;
        visit(index, left, right)?;
    }
    Ok(stored.len())
}

/// The stored merges of tokens that merging spells. A merge that needs or makes a token left out because of its
/// kind is dropped; one that names no token at all is an error.
fn known_merges(
    tokens: &TokenList<'_>,
    pieces: &PieceTable,
    index: &TokenIndex,
    alphabet: &ByteAlphabet,
) -> Result<MergeTable, TextError> {
    let mut found: Vec<(u32, u32, u32)> = Vec::new();
    let mut left_out: Option<LeftOut<'_>> = None;
    let (mut joined, mut spelt) = (String::new(), Vec::new());
    let stored = each_merge(tokens, |at, left, right| {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let parts = [left, right, joined.as_str()];
        let ids =
            parts.map(|part| alphabet.spell(part, &mut spelt).and_then(|spelt| index.get(pieces, spelt)));
        if let [Some(left), Some(right), Some(made)] = ids {
            found.push((left, right, made));
            return Ok(());
        }
        let left_out = left_out.get_or_insert_with(|| LeftOut::new(tokens));
        let is_known = ids.iter().zip(parts).all(|(id, part)| id.is_some() || left_out.texts.contains(part));
        // A token that has the text of another has lost its own, which merges may name.
        if is_known || left_out.has_duplicates {
            return Ok(());
        }
        let merge = format!("{left} {right}");
        Err(bad_merge(tokens, at, &merge, "needs or makes a token that is not in the vocabulary"))
    })?;
    if stored == 0 {
        let longer = |(_, kind, text): &(u32, TokenKind, &str)| {
            *kind == TokenKind::Normal && text.chars().nth(1).is_some()
        };
        let found = tokens.iter().filter(longer).count();
        if found > 0 {
            return Err(TextError::NoMerges { file: tokens.file.name().to_owned(), found });
        }
    }
    Ok(MergeTable::new(found.len(), found.into_iter()))
}

fn bad_merge(tokens: &TokenList<'_>, index: usize, merge: &str, problem: &'static str) -> TextError {
    let merge = merge.chars().take(64).collect();
    TextError::BadMerge { file: tokens.file.name().to_owned(), index, merge, problem }
}

/// Splits at the first space that is not the first character.
fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let second = merge.chars().next()?.len_utf8();
    let space = second + merge[second..].find(' ')?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    (!right.is_empty()).then_some((left, right))
}

/// Texts of tokens that merging never makes.
struct LeftOut<'a> {
    texts: HashSet<&'a str>,
    /// Whether two tokens that it makes have the same text.
    has_duplicates: bool,
}

impl<'a> LeftOut<'a> {
    fn new(tokens: &TokenList<'a>) -> LeftOut<'a> {
        let alphabet = ByteAlphabet::new();
        let (mut texts, mut spelt) = (HashSet::new(), HashSet::new());
        let mut has_duplicates = false;
        for (_, kind, text) in tokens.iter() {
            if matches!(spelling(&alphabet, kind, text), Spelling::Never) {
                texts.insert(text);
            } else {
                has_duplicates |= !spelt.insert(text);
            }
        }
        LeftOut { texts, has_duplicates }
    }
}
