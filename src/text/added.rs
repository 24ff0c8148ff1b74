//! Tokens that are found in text before anything else: control tokens on request, user-defined ones always.

use std::ops::Range;

use super::TextError;
use super::vocab::{MAX_ADDED_BYTES, PieceTable, TokenKind, TokenList};

/// Finds added tokens, the leftmost first and of those that start there the longest.
///
/// Their ids are sorted by their texts, so that those which begin as a text does are a range that narrows byte by byte.
pub(super) struct AddedTokens {
    sorted: Box<[(u32, TokenKind)]>,
    /// Where the tokens that begin with each byte start in `sorted`, and its length.
    starts: Box<[u32; 257]>,
    /// Whether some token begins with a pair of bytes.
    pairs: super::joints::Joints,
}

/// Which added tokens are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    UserDefined,
    /// Control tokens too.
    All,
}

impl Wanted {
    fn has(self, kind: TokenKind) -> bool {
        kind == TokenKind::UserDefined || (self == Wanted::All && kind.is_special())
    }
}

/// A stretch of text between added tokens, or an added token.
pub(super) enum Part<'t> {
    /// `has_guarded`: a token in it was found and refused.
    Text {
        text: &'t str,
        has_guarded: bool,
    },
    Token(u32),
}

impl AddedTokens {
    /// Heap bytes for so many tokens.
    pub(super) const fn planned_bytes(tokens: u64) -> u64 {
        tokens * size_of::<(u32, TokenKind)>() as u64 + 4 * 257 + super::joints::BYTES
    }

    /// Collects the added tokens, whose pieces are their texts.
    pub(super) fn new(tokens: &TokenList<'_>, pieces: &PieceTable) -> Result<AddedTokens, TextError> {
        // Of the table and not of the file, whose texts may have changed since.
        let is_found = |(id, kind): &(u32, TokenKind)| Wanted::All.has(*kind) && !pieces.get(*id).is_empty();
        let mut sorted: Vec<_> = (0u32..).zip(tokens.kinds.iter().copied()).filter(is_found).collect();
        let bytes = sorted.iter().map(|(id, _)| pieces.get(*id).len()).sum();
        if bytes > MAX_ADDED_BYTES {
            let (what, limit) = ("the length of all control and user-defined tokens", MAX_ADDED_BYTES);
            let file = tokens.file.name().to_owned();
            return Err(TextError::OutOfBounds { file, what, found: bytes, limit });
        }
        // Of tokens with the same text the first of its kind counts.
        let key = |(id, kind): &(u32, TokenKind)| (pieces.get(*id), kind.is_special(), *id);
        sorted.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        sorted.dedup_by(|later, first| {
            let text = |token: &(u32, TokenKind)| (pieces.get(token.0), token.1.is_special());
            text(later) == text(first)
        });
        let mut pairs = super::joints::Joints::default();
        for (id, _) in &sorted {
            match pieces.get(*id) {
                [first] => (0..=u8::MAX).for_each(|second| pairs.add(&[*first, second])),
                [first, second, ..] => pairs.add(&[*first, *second]),
                [] => {}
            }
        }
        let first = |token: &(u32, TokenKind)| usize::from(pieces.get(token.0)[0]);
        let start = |byte| sorted.partition_point(|token| first(token) < byte) as u32;
        let starts = Box::new(std::array::from_fn(start));
        Ok(AddedTokens { sorted: sorted.into(), starts, pairs })
    }

    /// The first added token in `text` from `at` on.
    fn find(
        &self,
        pieces: &PieceTable,
        text: &[u8],
        at: usize,
        wanted: Wanted,
    ) -> Option<(u32, Range<usize>)> {
        (at..text.len()).find_map(|start| {
            let range = self.starts[usize::from(text[start])]..self.starts[usize::from(text[start]) + 1];
            let may_start = !range.is_empty()
                && text.get(start + 1).is_none_or(|second| self.pairs.join(text[start], *second));
            if !may_start {
                return None;
            }
            let (id, length) =
                self.longest(pieces, &text[start..], range.start as usize..range.end as usize, wanted)?;
            Some((id, start..start + length))
        })
    }

    /// The longest token that `text` begins with, and its length. `range` holds those with its first byte.
    fn longest(
        &self,
        pieces: &PieceTable,
        text: &[u8],
        mut range: Range<usize>,
        wanted: Wanted,
    ) -> Option<(u32, usize)> {
        let piece = |at: usize| pieces.get(self.sorted[at].0);
        let mut longest: Option<(u32, usize)> = None;
        let mut depth = 1;
        loop {
            // Those that end here come first.
            while !range.is_empty() && piece(range.start).len() == depth {
                let (id, kind) = self.sorted[range.start];
                if wanted.has(kind) {
                    let same = longest.filter(|(_, length)| *length == depth);
                    longest = Some((same.map_or(id, |(other, _)| other.min(id)), depth));
                }
                range.start += 1;
            }
            if range.is_empty() {
                break;
            }
            // What all that are left have in common is compared at once.
            let (first, last) = (piece(range.start), piece(range.end - 1));
            let alike = first[depth..].iter().zip(&last[depth..]).take_while(|(a, b)| a == b).count();
            if alike > 0 {
                if !text[depth..].starts_with(&first[depth..depth + alike]) {
                    break;
                }
                depth += alike;
                continue;
            }
            let Some(byte) = text.get(depth) else { break };
            let within = &self.sorted[range.clone()];
            let below = within.partition_point(|token| pieces.get(token.0)[depth] < *byte);
            let upto = within.partition_point(|token| pieces.get(token.0)[depth] <= *byte);
            range = range.start + below..range.start + upto;
            depth += 1;
        }
        longest
    }

    /// Cuts `text` at the added tokens and calls `emit` with every non-empty part, in order. A token for which
    /// `refuse(id, range of bytes)` holds is text.
    pub(super) fn partition<'t>(
        &self,
        pieces: &PieceTable,
        text: &'t str,
        wanted: Wanted,
        refuse: impl Fn(u32, Range<usize>) -> bool,
        mut emit: impl FnMut(Part<'t>) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        let (mut done, mut at, mut has_guarded) = (0, 0, false);
        while let Some((id, range)) = self.find(pieces, text.as_bytes(), at, wanted) {
            at = range.end;
            if refuse(id, range.clone()) {
                has_guarded = true;
                continue;
            }
            if range.start > done {
                emit(Part::Text { text: &text[done..range.start], has_guarded })?;
            }
            emit(Part::Token(id))?;
            (done, has_guarded) = (range.end, false);
        }
        if done < text.len() {
            emit(Part::Text { text: &text[done..], has_guarded })?;
        }
        Ok(())
    }
}
