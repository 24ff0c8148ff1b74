//! SentencePiece BPE (`tokenizer.ggml.model = "llama"`): merges by score.
//!
//! The file stores a score for each token and no merges. The encoder joins, again and again, the two
//! neighbours whose joint text is the token with the highest score; of equal ones the leftmost.
//!
//! Tokens write spaces as `▁` (U+2581), and that character in a text is a space too. Here both are a space. A character
//! without a token becomes its bytes' tokens `<0xHH>`.

use std::borrow::Cow;

use crate::gguf::checked_text;

use super::TextError;
use super::index::TokenIndex;
use super::joints::Joints;
use super::merge::{Merger, Merges, UNKNOWN};
use super::scores::Scores;
use super::vocab::{PieceTable, Spelling, Spellings, TokenKind, TokenList};

/// The text that stands for a space in the file.
const SPACE: &str = "▁";

/// What merges characters into tokens.
pub(super) struct SentencePiece {
    index: TokenIndex,
    /// Of each token; higher ones merge first.
    scores: Scores,
    /// The token of each ASCII character.
    ascii: Box<[Option<u32>; 128]>,
    /// The tokens of bytes of characters that have no token; all or none.
    bytes: Option<Box<[u32; 256]>>,
    /// The token of characters that have no bytes either.
    unknown: Option<u32>,
    pub(super) joints: Joints,
}

/// How merging spells a token: with spaces. A file's own space never stands in a text that is merged.
fn spelling(kind: TokenKind, text: &[u8]) -> Spelling {
    if !kind.is_mergeable() || text.contains(&b' ') {
        return Spelling::Never;
    }
    if kind == TokenKind::Normal {
        return Spelling::Piece;
    }
    let mut spelt = Vec::new();
    write_spaces(text, &mut spelt);
    if spelt == text { Spelling::Piece } else { Spelling::Other(spelt.into()) }
}

/// Appends a text with spaces.
fn write_spaces(text: &[u8], out: &mut Vec<u8>) {
    let space = SPACE.as_bytes();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == space[0]) {
        let (before, found) = rest.split_at(at);
        out.extend_from_slice(before);
        rest = match found.strip_prefix(space) {
            Some(after) => {
                out.push(b' ');
                after
            }
            None => {
                out.push(space[0]);
                &found[1..]
            }
        };
    }
    out.extend_from_slice(rest);
}

impl SentencePiece {
    /// Reads the scores of a file; `unknown` stands for characters that have neither a token nor byte tokens.
    pub(super) fn new(
        tokens: &TokenList<'_>,
        (pieces, spellings): (&PieceTable, &Spellings),
        unknown: Option<u32>,
    ) -> Result<SentencePiece, TextError> {
        let scores = Scores::new(tokens.scores()?);
        let index = TokenIndex::new(pieces, spellings);
        let joints = Joints::new(pieces, spellings);
        let mut bytes = [UNKNOWN; 256];
        for (id, kind) in (0..).zip(&tokens.kinds) {
            if let (TokenKind::Byte, [byte]) = (kind, pieces.get(id)) {
                bytes[usize::from(*byte)] = id;
            }
        }
        let ascii = Box::new(std::array::from_fn(|byte| index.get(pieces, &[byte as u8])));
        let bytes = (!bytes.contains(&UNKNOWN)).then(|| Box::new(bytes));
        Ok(SentencePiece { index, scores, ascii, bytes, unknown, joints })
    }

    /// Whether every byte has a token.
    pub(super) fn has_bytes(&self) -> bool {
        self.bytes.is_some()
    }

    /// The token that [`UNKNOWN`] stands for.
    pub(super) fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// `text` with spaces only.
    pub(super) fn spaces(text: &str) -> Cow<'_, str> {
        if text.contains(SPACE) { Cow::Owned(text.replace(SPACE, " ")) } else { Cow::Borrowed(text) }
    }

    /// Which characters merge.
    pub(super) fn merges<'a>(&'a self, pieces: &'a PieceTable) -> Scored<'a> {
        Scored { tokens: self, pieces }
    }
}

/// Merges by score.
pub(super) struct Scored<'a> {
    tokens: &'a SentencePiece,
    pieces: &'a PieceTable,
}

impl Merges for Scored<'_> {
    type Unit = char;

    fn symbols(&self, word: &[u8], merger: &mut Merger) -> Result<(), TextError> {
        let SentencePiece { ascii, bytes, unknown, index, .. } = self.tokens;
        let mut rest = word;
        while let Some(&first) = rest.first() {
            // The first byte of a character tells how many it has.
            let length = (first.leading_ones() as usize).clamp(1, rest.len());
            let (spelt, after) = rest.split_at(length);
            let known = match ascii.get(usize::from(first)) {
                Some(known) => *known,
                None => merger.token_of(spelt, || index.get(self.pieces, spelt)),
            };
            match (known, bytes, unknown) {
                (Some(id), ..) => merger.push(id, length),
                (None, Some(bytes), _) => {
                    spelt.iter().for_each(|byte| merger.push_fixed(bytes[usize::from(*byte)], 1));
                }
                (None, None, Some(_)) => merger.push(UNKNOWN, length),
                (None, None, None) => {
                    let character = String::from_utf8_lossy(spelt).chars().next().unwrap_or_default();
                    return Err(TextError::NoTokenForChar { character });
                }
            }
            rest = after;
        }
        Ok(())
    }

    fn merged(&self, _: u32, _: u32, joined: &[u8]) -> Option<(u32, u32)> {
        let id = self.tokens.index.get(self.pieces, joined)?;
        Some((rank(self.tokens.scores.get(id)), id))
    }
}

/// A number that falls as a finite score rises.
fn rank(score: f32) -> u32 {
    // Zero has two signs and one rank.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

/// Bytes of every token.
pub(super) fn pieces(tokens: &TokenList<'_>) -> Result<(PieceTable, Spellings), TextError> {
    let mut seen = [false; 256];
    PieceTable::new(tokens, |id, kind, text, bytes| {
        match kind {
            TokenKind::Byte => {
                let text = checked_text(text);
                let byte =
                    parse_byte(text).filter(|byte| !std::mem::replace(&mut seen[usize::from(*byte)], true));
                let Some(byte) = byte else {
                    let file = tokens.file.name().to_owned();
                    return Err(TextError::BadByteToken { file, id, text: text.to_owned() });
                };
                bytes.push(byte);
            }
            TokenKind::Normal => write_spaces(text, bytes),
            _ => bytes.extend_from_slice(text),
        }
        Ok(spelling(kind, text))
    })
}

/// The byte of `<0xHH>`, in the upper-case form that the encoder looks up.
pub(super) fn parse_byte(text: &str) -> Option<u8> {
    let byte = u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()?;
    (text == format!("<0x{byte:02X}>")).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_fall_as_scores_rise() {
        let scores = [-f32::MAX, -3.5, -1.0, -1e-40, 0.0, 1e-40, 0.5, f32::MAX];
        assert!(scores.map(rank).is_sorted_by(|a, b| a > b));
        assert_eq!(rank(-0.0), rank(0.0));
        assert!(scores.map(rank).iter().all(|rank| *rank != u32::MAX));
    }
}
