//! Tokens that are found in text before anything else: control tokens on request, user-defined ones always.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::TextError;
use super::vocab::{MAX_ADDED_BYTES, TokenKind, TokenList};

/// Finds added tokens, the leftmost first and of those that start there the longest.
pub(super) struct AddedTokens {
    matcher: AhoCorasick,
    ids: Vec<u32>,
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
    /// Collects the tokens of the wanted kinds; `None` when there are none.
    pub(super) fn new(
        tokens: &TokenList<'_>,
        wanted: impl Fn(TokenKind) -> bool,
    ) -> Result<Option<AddedTokens>, TextError> {
        let found = tokens.iter().filter(|(_, kind, text)| wanted(*kind) && !text.is_empty());
        let (ids, texts): (Vec<u32>, Vec<&str>) = found.map(|(id, _, text)| (id, text)).unzip();
        if ids.is_empty() {
            return Ok(None);
        }
        let bytes = texts.iter().map(|text| text.len()).sum();
        if bytes > MAX_ADDED_BYTES {
            let (what, limit) = ("the length of all control and user-defined tokens", MAX_ADDED_BYTES);
            let file = tokens.file.name().to_owned();
            return Err(TextError::OutOfBounds { file, what, found: bytes, limit });
        }
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(texts)
            .map_err(|error| TextError::Library { what: "token matcher", message: error.to_string() })?;
        Ok(Some(AddedTokens { matcher, ids }))
    }

    /// Cuts `text` at the added tokens and calls `emit` with every non-empty part, in order. A token for which
    /// `refuse(id, range of bytes)` holds is text.
    pub(super) fn partition<'t>(
        added: Option<&AddedTokens>,
        text: &'t str,
        refuse: impl Fn(u32, Range<usize>) -> bool,
        mut emit: impl FnMut(Part<'t>) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        let (mut done, mut has_guarded) = (0, false);
        if let Some(added) = added {
            for found in added.matcher.find_iter(text) {
                let id = added.ids[found.pattern().as_usize()];
                if refuse(id, found.range()) {
                    has_guarded = true;
                    continue;
                }
                if found.start() > done {
                    emit(Part::Text { text: &text[done..found.start()], has_guarded })?;
                }
                emit(Part::Token(id))?;
                (done, has_guarded) = (found.end(), false);
            }
        }
        if done < text.len() {
            emit(Part::Text { text: &text[done..], has_guarded })?;
        }
        Ok(())
    }
}
