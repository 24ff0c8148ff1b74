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

use tokenizers::Token;

use super::TextError;

/// How much of a window is merged again in the next, in longest tokens and at least in bytes, and which part of the window
/// that is.
const OVERLAP_PIECES: usize = 4;
const OVERLAP_BYTES: usize = 1 << 8;
const OVERLAP_PART: usize = 24;
/// Memory for merging one byte: a part of a list, a token with its text, and places in a queue, which doubles.
const BYTES_PER_BYTE: u64 = 192;
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

    /// Bytes that merging takes at most, whatever the length of the word.
    pub(super) fn planned_bytes(&self) -> u64 {
        self.bytes as u64 * BYTES_PER_BYTE
    }

    /// Appends the tokens of the word that `chars` spell to `out`; `merge` gives those of a part of it. `word` is a buffer.
    pub(super) fn encode(
        &self,
        chars: impl Iterator<Item = char> + Clone,
        merge: &dyn Fn(&str) -> Result<Vec<Token>, TextError>,
        word: &mut String,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let start = out.len();
        let mut windows = *self;
        while !windows.fit(chars.clone(), merge, word, out)? {
            out.truncate(start);
            windows.bytes = windows.bytes.saturating_mul(GROWTH);
        }
        Ok(())
    }

    /// As [`Windows::encode`]; whether the windows were large enough.
    fn fit(
        &self,
        mut chars: impl Iterator<Item = char>,
        merge: &dyn Fn(&str) -> Result<Vec<Token>, TextError>,
        word: &mut String,
        out: &mut Vec<u32>,
    ) -> Result<bool, TextError> {
        word.clear();
        let mut expected: Option<(u32, usize)> = None;
        loop {
            while word.len() < self.bytes
                && let Some(next) = chars.next()
            {
                word.push(next);
            }
            let is_last = word.len() < self.bytes;
            let tokens = merge(word)?;
            let first = tokens.first().map(|token| (token.id, length(token)));
            if expected.is_some() && first != expected {
                return Ok(false);
            }
            if is_last {
                out.extend(tokens.iter().map(|token| token.id));
                return Ok(true);
            }
            let Some(kept) = self.kept(word, &tokens) else { return Ok(false) };
            out.extend(tokens[..kept].iter().map(|token| token.id));
            expected = Some((tokens[kept].id, length(&tokens[kept])));
            word.drain(..tokens[kept].offsets.0);
        }
    }

    /// How many tokens of a window are kept: those before the overlap.
    fn kept(&self, word: &str, tokens: &[Token]) -> Option<usize> {
        let end = word.len() - self.overlap;
        (1..tokens.len()).rev().find(|&index| {
            let start = tokens[index].offsets.0;
            start <= end && start == tokens[index - 1].offsets.1 && word.is_char_boundary(start)
        })
    }
}

fn length(token: &Token) -> usize {
    token.offsets.1.saturating_sub(token.offsets.0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokenizers::Model;
    use tokenizers::models::bpe::{BPE, Merges, Vocab};

    use super::*;

    /// Letters, and what the merges make of them, in order.
    fn model(letters: &str, merges: &[(&str, &str)]) -> BPE {
        let mut vocab = Vocab::default();
        let joined = merges.iter().map(|(left, right)| format!("{left}{right}"));
        for text in letters.chars().map(String::from).chain(joined) {
            let id = vocab.len() as u32;
            vocab.entry(text).or_insert(id);
        }
        let merges: Merges = merges.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        BPE::builder().vocab_and_merges(vocab, merges).cache_capacity(0).build().unwrap()
    }

    fn models() -> Vec<(&'static str, BPE)> {
        let runs: &[_] = &[("a", "a"), ("aa", "aa"), ("aaaa", "aaaa"), ("b", "a"), ("ba", "aa")];
        let mixed: &[_] =
            &[("a", "b"), ("b", "é"), ("ab", "bé"), ("é", "a"), ("c", "ab"), ("éa", "b"), ("cab", "bé")];
        // Merges that depend on how a run began, from its first letter to its last.
        let parity: &[_] = &[("c", "a"), ("a", "a"), ("ca", "aa")];
        vec![("ab", model("ab", runs)), ("abcé", model("abcé", mixed)), ("ac", model("ac", parity))]
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

    #[test]
    fn windows_give_the_tokens_of_the_whole_word() {
        for (letters, model) in models() {
            for text in texts(letters) {
                let expected: Vec<u32> =
                    model.tokenize(&text).unwrap().iter().map(|token| token.id).collect();
                let merged = Cell::new(0);
                let merge = |word: &str| {
                    merged.set(merged.get().max(word.len()));
                    Ok(model.tokenize(word).unwrap())
                };
                let mut out = vec![9];
                Windows::new(9).encode(text.chars(), &merge, &mut String::new(), &mut out).unwrap();
                assert!(out[1..] == expected, "{letters}, {} bytes", text.len());
                // The last character may have more than one byte.
                assert!(
                    merged.get() <= OVERLAP_PART * OVERLAP_BYTES + 1,
                    "{letters}: merged {} bytes at once",
                    merged.get()
                );
            }
        }
    }

    #[test]
    fn windows_that_are_too_small_grow() {
        let (_, model) = models().remove(0);
        let text = format!("b{}", "a".repeat(3001));
        let expected: Vec<u32> = model.tokenize(&text).unwrap().iter().map(|token| token.id).collect();
        for (bytes, overlap) in [(2, 1), (8, 1), (16, 3), (64, 60)] {
            let mut out = vec![];
            let merge = |word: &str| Ok(model.tokenize(word).unwrap());
            let windows = Windows { bytes, overlap };
            windows.encode(text.chars(), &merge, &mut String::new(), &mut out).unwrap();
            assert!(out == expected, "{bytes} {overlap}");
        }
    }
}
