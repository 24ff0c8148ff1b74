//! Text as words that no merge can cross, and each word as tokens.

use super::TextError;
use super::joints::Joints;
use super::merge::{Merger, Merges, Sink, Unit};
use super::windows::Windows;

/// Times the tokens there is room for that a text may have before its encoding ends; up to there the number of its
/// tokens can be told.
const MAX_OVER: usize = 4;

/// Buffers and bounds of one encoding.
pub(super) struct Work {
    /// A window of a long word, and the symbols of a word.
    buffers: (Vec<u8>, Merger),
    windows: Windows,
    /// Of the text that is encoded.
    bytes: usize,
    /// Tokens there is room for.
    limit: usize,
}

impl Work {
    /// `longest`: bytes of the longest token; `bytes`: of the text; `limit`: tokens there is room for.
    pub(super) fn new(longest: usize, bytes: usize, limit: usize) -> Work {
        Work { buffers: Default::default(), windows: Windows::new(longest), bytes, limit }
    }

    /// Refuses what is far longer than there is room for.
    pub(super) fn check(&self, out: &Sink<'_>) -> Result<(), TextError> {
        let Work { bytes, limit, .. } = *self;
        let tokens = out.out.len();
        if tokens > limit.saturating_mul(MAX_OVER) {
            return Err(TextError::TooLong { bytes, tokens, limit });
        }
        Ok(())
    }
}

/// Encodes text that is cut into words where no merge can cross.
pub(super) struct Words<'a, M> {
    pub(super) joints: &'a Joints,
    pub(super) merges: &'a M,
    pub(super) work: &'a mut Work,
}

impl<M: Merges> Words<'_, M> {
    /// Encodes `text`; `units` gives the units of a part of it.
    pub(super) fn encode<'t, I: Iterator<Item = M::Unit> + Clone>(
        &mut self,
        text: &'t [u8],
        units: impl Fn(&'t [u8]) -> I,
        out: &mut Sink<'_>,
    ) -> Result<(), TextError> {
        let mut rest = text;
        while !rest.is_empty() {
            let word = &rest[..self.joints.part(rest, M::Unit::starts_with)];
            self.encode_word(word, || units(word), out)?;
            rest = &rest[word.len()..];
        }
        Ok(())
    }

    fn encode_word<I: Iterator<Item = M::Unit> + Clone>(
        &mut self,
        word: &[u8],
        units: impl Fn() -> I,
        out: &mut Sink<'_>,
    ) -> Result<(), TextError> {
        let Work { buffers, windows, .. } = &mut *self.work;
        if word.len() <= windows.bytes() {
            out.add(buffers.1.merge(word, self.merges)?);
        } else {
            windows.encode(units(), self.merges, buffers, out)?;
        }
        self.work.check(out)
    }
}

impl<M: Merges<Unit = char>> Words<'_, M> {
    /// Encodes `text` with a character before it.
    pub(super) fn encode_prefixed(
        &mut self,
        prefix: Option<char>,
        text: &str,
        out: &mut Sink<'_>,
    ) -> Result<(), TextError> {
        let chars = |bytes| std::str::from_utf8(bytes).unwrap_or_default().chars();
        let Some(prefix) = prefix else { return self.encode(text.as_bytes(), chars, out) };
        let (first, rest) = text.split_at(self.joints.part(text.as_bytes(), char::starts_with));
        // The prefix and what it may merge with.
        let mut word = std::mem::take(&mut self.work.buffers.0);
        word.clear();
        prefix.write(&mut word);
        let units = || std::iter::once(prefix).chain(first.chars());
        if first.len() < self.work.windows.bytes() {
            word.extend_from_slice(first.as_bytes());
            let encoded = self.encode_word(&word, units, out);
            self.work.buffers.0 = word;
            encoded?;
        } else {
            self.work.buffers.0 = word;
            let Work { buffers, windows, .. } = &mut *self.work;
            windows.encode(units(), self.merges, buffers, out)?;
        }
        self.encode(rest.as_bytes(), chars, out)
    }
}
