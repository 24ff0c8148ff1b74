//! Merging long words a window at a time.
//!
//! Merging takes about a hundred bytes of memory for one of text, and a word can be as long as the text: all of it with
//! SentencePiece, a run of letters with byte-level BPE. So a long word is merged in windows that overlap.
//!
//! # Why the tokens are those of the whole word
//!
//! Tokens are the result of merging a word if and only if every two neighbours are the result of merging their joint
//! text: up to the first merge across the border of two tokens, both were made just as they would have been alone.
//! Within a window all neighbours are such pairs. The next window starts where the last token that is kept ends; if
//! its first token is the one that the window before had there, the pair at the border was in that window, and all
//! others are in one of the two. Tokens near the end of a window may be others in the whole word; those of the overlap are
//! dropped. If the first token differs all the same, larger windows are taken, at last one for all.

use super::TextError;
use super::merge::{BYTES_PER_BYTE, MEMORY_BYTES, Merger, Merges, Sink, Symbol, Unit};

/// How much of a window is merged again in the next, in longest tokens and at least in bytes, and which part of the window
/// that is.
const OVERLAP_PIECES: usize = 4;
const OVERLAP_BYTES: usize = 1 << 8;
const OVERLAP_PART: usize = 24;
/// How much larger windows are after one that was too small.
const GROWTH: usize = 16;

/// The sizes of windows for a vocabulary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    bytes: usize,
    overlap: usize,
}

impl Windows {
    pub(super) fn new(longest_piece: usize) -> Windows {
        let overlap = (longest_piece * OVERLAP_PIECES).max(OVERLAP_BYTES);
        Windows { bytes: overlap * OVERLAP_PART, overlap }
    }

    /// Bytes of a word that is merged at once.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that merging takes at most, whatever the length of the word.
    pub(super) fn planned_bytes(&self) -> u64 {
        // The last character may reach over the end of a window.
        (self.bytes + size_of::<char>()) as u64 * (BYTES_PER_BYTE + 1) + MEMORY_BYTES
    }

    /// Adds the tokens of the word that `units` spell to `out`. `buffers` hold a window and its symbols.
    pub(super) fn encode<M: Merges>(
        &self,
        units: impl Iterator<Item = M::Unit> + Clone,
        merges: &M,
        buffers: &mut (Vec<u8>, Merger),
        out: &mut Sink<'_>,
    ) -> Result<(), TextError> {
        let (mut windows, mark) = (*self, out.mark());
        while !windows.fit(units.clone(), merges, buffers, out)? {
            out.back_to(mark);
            windows.bytes = windows.bytes.saturating_mul(GROWTH);
        }
        Ok(())
    }

    /// As [`Windows::encode`]; whether the windows were large enough.
    fn fit<M: Merges>(
        &self,
        mut units: impl Iterator<Item = M::Unit>,
        merges: &M,
        (word, merger): &mut (Vec<u8>, Merger),
        out: &mut Sink<'_>,
    ) -> Result<bool, TextError> {
        word.clear();
        let mut expected: Option<Symbol> = None;
        loop {
            while word.len() < self.bytes
                && let Some(next) = units.next()
            {
                next.write(word);
            }
            let is_last = word.len() < self.bytes;
            let tokens = merger.merge(word, merges)?;
            if let (Some(expected), Some(first)) = (&expected, tokens.first())
                && !first.is_like(expected)
            {
                return Ok(false);
            }
            if is_last {
                out.add(tokens);
                return Ok(true);
            }
            let Some(kept) = self.kept::<M::Unit>(word, tokens) else { return Ok(false) };
            out.add(&tokens[..kept]);
            expected = Some(tokens[kept]);
            word.drain(..tokens[kept].start as usize);
        }
    }

    /// How many tokens of a window are kept: those before the overlap.
    fn kept<U: Unit>(&self, word: &[u8], tokens: &[Symbol]) -> Option<usize> {
        let end = word.len() - self.overlap;
        (1..tokens.len()).rev().find(|&index| {
            let start = tokens[index].start as usize;
            start <= end && U::starts_with(word[start])
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;

    use super::*;

    /// Merges of letters, in order, and the longest text that was merged at once.
    struct Letters {
        ids: HashMap<String, u32>,
        ranks: HashMap<String, u32>,
        longest: Cell<usize>,
    }

    impl Letters {
        fn new(letters: &str, merges: &[(&str, &str)]) -> Letters {
            let joined: Vec<String> = merges.iter().map(|(left, right)| format!("{left}{right}")).collect();
            let all = letters.chars().map(String::from).chain(joined.iter().cloned());
            let ids = all.enumerate().map(|(id, text)| (text, id as u32)).collect();
            let pairs = merges.iter().map(|(left, right)| format!("{left} {right}"));
            let ranks = pairs.enumerate().map(|(rank, pair)| (pair, rank as u32)).collect();
            Letters { ids, ranks, longest: Cell::new(0) }
        }

        fn text(&self, id: u32) -> &str {
            self.ids.iter().find(|(_, known)| **known == id).unwrap().0
        }

        /// The tokens of a text that is merged at once.
        fn expected(&self, text: &str) -> Vec<u32> {
            let (mut merger, mut out) = (Merger::default(), vec![]);
            Sink::new(&mut out, None).add(merger.merge(text.as_bytes(), self).unwrap());
            out
        }
    }

    impl Merges for Letters {
        type Unit = char;

        fn symbols(&self, word: &[u8], merger: &mut Merger) -> Result<(), TextError> {
            self.longest.set(self.longest.get().max(word.len()));
            for c in std::str::from_utf8(word).unwrap().chars() {
                merger.push(self.ids[&c.to_string()], c.len_utf8());
            }
            Ok(())
        }

        fn merged(&self, left: u32, right: u32, joined: &[u8]) -> Option<(u32, u32)> {
            let rank = self.ranks.get(&format!("{} {}", self.text(left), self.text(right)))?;
            Some((*rank, self.ids[std::str::from_utf8(joined).unwrap()]))
        }
    }

    fn letters() -> Vec<(&'static str, Letters)> {
        let runs: &[_] = &[("a", "a"), ("aa", "aa"), ("aaaa", "aaaa"), ("b", "a"), ("ba", "aa")];
        let mixed: &[_] =
            &[("a", "b"), ("b", "é"), ("ab", "bé"), ("é", "a"), ("c", "ab"), ("éa", "b"), ("cab", "bé")];
        // Merges that depend on how a run began, from its first letter to its last.
        let parity: &[_] = &[("c", "a"), ("a", "a"), ("ca", "aa")];
        let made = [("ab", runs), ("abcé", mixed), ("ac", parity)];
        made.map(|(letters, merges)| (letters, Letters::new(letters, merges))).into()
    }

    fn texts(letters: &str) -> Vec<String> {
        let letters: Vec<char> = letters.chars().collect();
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize
        };
        let mut texts: Vec<String> = letters.iter().map(|c| c.to_string().repeat(30_001)).collect();
        texts.push(String::new());
        texts.push((0..50_000).map(|_| letters[next() % letters.len()]).collect());
        texts.push(
            (0..9_000)
                .flat_map(|_| std::iter::repeat_n(letters[next() % letters.len()], next() % 40))
                .collect(),
        );
        for length in [6142, 6143, 6144, 6145, 12287] {
            texts.push((0..length).map(|_| letters[next() % letters.len()]).collect());
        }
        texts
    }

    fn encode(windows: Windows, letters: &Letters, text: &str) -> Vec<u32> {
        let mut out = vec![9];
        let mut buffers = (vec![], Merger::default());
        windows.encode(text.chars(), letters, &mut buffers, &mut Sink::new(&mut out, None)).unwrap();
        out.split_off(1)
    }

    #[test]
    fn windows_give_the_tokens_of_the_whole_word() {
        for (alphabet, letters) in letters() {
            for text in texts(alphabet) {
                let expected = letters.expected(&text);
                letters.longest.set(0);
                assert!(
                    encode(Windows::new(9), &letters, &text) == expected,
                    "{alphabet}, {} bytes",
                    text.len()
                );
                let merged = letters.longest.get();
                // The last character may have more than one byte.
                assert!(
                    merged <= OVERLAP_PART * OVERLAP_BYTES + 1,
                    "{alphabet}: merged {merged} bytes at once"
                );
            }
        }
    }

    #[test]
    fn windows_that_are_too_small_grow() {
        let (_, letters) = letters().remove(0);
        let text = format!("b{}", "a".repeat(3001));
        let expected = letters.expected(&text);
        for (bytes, overlap) in [(2, 1), (8, 1), (16, 3), (64, 60)] {
            assert!(encode(Windows { bytes, overlap }, &letters, &text) == expected, "{bytes} {overlap}");
        }
    }
}
