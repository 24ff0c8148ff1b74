//! The memory of a tokenizer, computed from the header alone.

use crate::gguf::GgufFile;

use super::stored::StoredTemplates;
use super::vocab::{KEY_MERGES, KEY_TOKENS, KEY_TYPES, TokenKind};

/// Heap bytes of the compiled patterns of a pre-tokenizer, the largest chain known.
const PATTERN_BYTES: u64 = 1 << 20;
/// Heap bytes per byte of added-token text: nodes of the two matchers and their tables.
const ADDED_FACTOR: u64 = 24;
/// Bytes of a map entry from text to id or back, with its control byte.
const VOCAB_ENTRY: u64 = 33;
/// Bytes of a map entry from a pair of ids to rank and id, with its control byte.
const MERGE_ENTRY: u64 = 17;
/// Bytes of an id, in a list that doubles.
const ID_BYTES: u64 = 8;
/// Smallest block of the allocator and its granularity, in bytes.
const ALLOCATION_MIN: u64 = 32;
const ALLOCATION_STEP: u64 = 16;

/// An upper estimate, in bytes, of the heap a [`super::Tokenizer`] of this file keeps.
///
/// It counts what the tokenizer is made of: two maps between texts and ids with a copy of every text each,
/// the map of merges, the piece table, one byte of kind per token, the matchers for added tokens, the
/// pre-tokenizer's patterns and the chat template. Maps are counted at their power-of-two capacity, texts at
/// the block sizes of a common allocator. SentencePiece files store no merges; there every cut of every
/// token counts, about twice what is kept. Working memory of an encoding ([`planned_encoding_bytes`]) and
/// temporary memory of the rebuild are not included.
pub fn planned_bytes(file: &GgufFile) -> u64 {
    let Ok(Some(texts)) = file.str_array(KEY_TOKENS) else { return 0 };
    let tokens = texts.len() as u64;
    let mut kinds = file.integer_array(KEY_TYPES).ok().flatten().map(|kinds| kinds.iter_i64());
    let (mut blocks, mut pieces, mut cuts, mut added) = (0u64, 0u64, 0u64, 0u64);
    for text in texts.iter_str() {
        let kind = kinds.as_mut().and_then(Iterator::next);
        let bytes = text.len() as u64;
        blocks += allocation(bytes);
        pieces += bytes;
        cuts += (text.chars().count() as u64).saturating_sub(1);
        if kind.is_some_and(|kind| kind == TokenKind::Control as i64 || kind == TokenKind::UserDefined as i64)
        {
            added += bytes;
        }
    }
    let merges = match file.str_array(KEY_MERGES) {
        Ok(Some(merges)) => merges.len() as u64,
        _ => cuts,
    };
    let template = StoredTemplates::planned_bytes(file);
    2 * (map(tokens, VOCAB_ENTRY) + blocks)
        + map(merges, MERGE_ENTRY)
        + pieces
        + tokens * 5
        + added * ADDED_FACTOR
        + PATTERN_BYTES
        + template
}

/// An upper estimate, in bytes, of what one encoding takes beside the text: for merging, and for the ids that fit into
/// `context` and those that are counted beyond it. `longest` is the length of the longest token.
pub fn planned_encoding_bytes(longest: usize, context: usize) -> u64 {
    let ids = (context as u64).saturating_mul(ID_BYTES);
    super::windows::Windows::new(longest).planned_bytes() + ids
}

/// Bytes of a hash map: a power of two of slots, at most seven of eight in use.
fn map(entries: u64, entry_bytes: u64) -> u64 {
    (entries * 8 / 7 + 1).next_power_of_two().max(4) * entry_bytes + ALLOCATION_STEP
}

fn allocation(bytes: u64) -> u64 {
    (bytes + 8).next_multiple_of(ALLOCATION_STEP).max(ALLOCATION_MIN)
}
