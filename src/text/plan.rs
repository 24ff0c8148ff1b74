//! The memory of a tokenizer, computed from the header alone.

use crate::gguf::GgufFile;

use super::added::AddedTokens;
use super::bpe::MergeTable;
use super::index::TokenIndex;
use super::joints;
use super::scores::Scores;
use super::stored::StoredTemplates;
use super::vocab::{KEY_MERGES, KEY_SCORES, KEY_TOKENS, KEY_TYPES, PieceTable, TokenKind};

/// Bytes of an id, in a list that doubles.
const ID_BYTES: u64 = 8;
/// Heap bytes of what has the same size in every tokenizer: tokens by byte, boxes, the ids with a meaning.
const FIXED: u64 = 8 << 10;

/// An upper estimate, in bytes, of the heap a [`super::Tokenizer`] of this file keeps.
///
/// It counts what the tokenizer is made of: the piece table and the kind of each token, the index of tokens by their
/// bytes, the table of merges (byte-level) or the scores (SentencePiece), the added tokens and the chat templates.
/// Working memory of an encoding ([`planned_encoding_bytes`]) and temporary memory of the rebuild are not included.
pub fn planned_bytes(file: &GgufFile) -> u64 {
    let Ok(Some(texts)) = file.str_array(KEY_TOKENS) else { return 0 };
    let tokens = texts.len() as u64;
    let bytes = texts.text_bytes();
    let is_added = |kind: &i64| {
        [TokenKind::Control, TokenKind::UserDefined, TokenKind::Unknown]
            .iter()
            .any(|added| *added as i64 == *kind)
    };
    let kinds = file.integer_array(KEY_TYPES).ok().flatten();
    let added = kinds.map_or(0, |kinds| kinds.iter_i64().filter(is_added).count());
    let scheme = match (file.str("tokenizer.ggml.model"), file.str_array(KEY_MERGES)) {
        (Ok(Some("llama")), _) => match file.f32_array(KEY_SCORES) {
            Ok(Some(scores)) => Scores::planned_bytes(scores.iter_f32()),
            _ => 0,
        },
        (_, Ok(Some(merges))) => MergeTable::planned_bytes(merges.len() as u64),
        _ => 0,
    };
    PieceTable::planned_bytes(tokens, bytes as u64)
        + tokens * size_of::<TokenKind>() as u64
        + TokenIndex::planned_bytes(tokens)
        + scheme
        + AddedTokens::planned_bytes(added as u64)
        + joints::BYTES
        + FIXED
        + StoredTemplates::planned_bytes(file)
}

/// An upper estimate, in bytes, of what one encoding takes beside the text: for merging, and for the ids that fit into
/// `context` and those that are counted beyond it. `longest` is the length of the longest token.
pub fn planned_encoding_bytes(longest: usize, context: usize) -> u64 {
    let ids = (context as u64).saturating_mul(ID_BYTES);
    super::windows::Windows::new(longest).planned_bytes() + ids
}
