//! Notices an answer that goes in circles, as those of very small models do.
//!
//! # Design
//!
//! Three rules, each for what the others cannot see:
//! * the last tokens are one sequence of at most [`MAX_PERIOD`] tokens over and over;
//! * they are, but for the numbers in it: "Step 4 is to rest. Step 5 is to rest.";
//! * of the last [`SENTENCES`] lines or sentences many are the same, whatever stands between them.
//!
//! What is repeated on purpose stays below them: ruled lines, tables, brackets, lists that count, a chorus. Nothing
//! allocates: text is hashed as it comes.

use crate::files::Fnv;

/// Longest cycle, in tokens.
const MAX_PERIOD: usize = 128;
/// Tokens that all repeats of a cycle have together, at least: short cycles such as a ruled line are repeated on
/// purpose.
const LEAST_TOKENS: usize = 60;
/// Times a cycle is seen before it counts, at least.
const REPEATS: usize = 5;
/// Tokens of a cycle that few would say three times on purpose.
const LONG_PERIOD: usize = 40;
/// As [`REPEATS`], of these.
const LONG_REPEATS: usize = 3;
/// As [`REPEATS`], where numbers differ.
const COUNTING_REPEATS: usize = 12;
/// Letters of a cycle whose numbers differ, at least: a line of a multiplication table has fewer.
const COUNTING_LETTERS: u32 = 16;
/// Lines and sentences looked back on.
const SENTENCES: usize = 32;
/// Bytes of one that counts, at least: a bracket or an empty cell may stand alone in many lines.
const LEAST_BYTES: usize = 16;
/// Times one of them is seen before it counts.
const SENTENCE_REPEATS: usize = 8;
/// Stands for a number in place of its tokens.
const NUMBER: u64 = u64::MAX;

/// Watches the tokens of an answer.
#[derive(Debug, Default)]
pub(super) struct LoopGuard {
    tokens: Cycles,
    /// The tokens, but each number is one symbol.
    shapes: Cycles,
    after_number: bool,
    sentence: Sentence,
    /// `[sentence % SENTENCES]`: hashes of those before; 0 for those that do not count.
    sentences: [u64; SENTENCES],
    sentences_seen: usize,
}

impl LoopGuard {
    /// Adds a token with its text; returns whether the answer goes in circles.
    pub(super) fn push(&mut self, id: u32, text: &str) -> bool {
        let cycle = self.tokens.push(u64::from(id), text, |period, run| {
            let repeats = if period < LONG_PERIOD { REPEATS } else { LONG_REPEATS };
            run >= (repeats - 1) * period && run + period >= LEAST_TOKENS
        });
        let mut circles = cycle.is_some();
        let trimmed = text.trim();
        let is_number = !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit());
        if !(is_number && self.after_number) {
            let symbol = if is_number { NUMBER } else { u64::from(id) };
            let cycle = self.shapes.push(symbol, text, |period, run| run >= (COUNTING_REPEATS - 1) * period);
            circles |= cycle.is_some_and(|letters| letters >= COUNTING_LETTERS);
        }
        self.after_number = is_number;
        for c in text.chars() {
            if self.sentence.push(c) {
                circles |= self.end_sentence();
            }
        }
        circles
    }

    fn end_sentence(&mut self) -> bool {
        let sentence = std::mem::take(&mut self.sentence);
        let counts = sentence.bytes >= LEAST_BYTES;
        let hash = if counts { sentence.hash.finish().max(1) } else { 0 };
        self.sentences[self.sentences_seen % SENTENCES] = hash;
        self.sentences_seen += 1;
        counts && self.sentences.iter().filter(|other| **other == hash).count() >= SENTENCE_REPEATS
    }
}

/// Finds out whether the last symbols are a sequence over and over.
#[derive(Debug)]
struct Cycles {
    /// `[index % MAX_PERIOD]`
    recent: [u64; MAX_PERIOD],
    /// `[index % MAX_PERIOD]`: letters before that symbol.
    before: [u32; MAX_PERIOD],
    letters: u32,
    /// Symbols seen.
    seen: usize,
    /// `[period - 1]`: symbols in a row that equal the one a period before.
    runs: [usize; MAX_PERIOD],
}

impl Default for Cycles {
    fn default() -> Cycles {
        Cycles {
            recent: [0; MAX_PERIOD],
            before: [0; MAX_PERIOD],
            letters: 0,
            seen: 0,
            runs: [0; MAX_PERIOD],
        }
    }
}

impl Cycles {
    /// Adds a symbol; returns the letters of the shortest cycle that `counts`, given its period and run.
    fn push(&mut self, symbol: u64, text: &str, counts: impl Fn(usize, usize) -> bool) -> Option<u32> {
        let letters = self.letters + text.chars().filter(|c| c.is_alphabetic()).count() as u32;
        let mut found = None;
        for period in 1..=MAX_PERIOD.min(self.seen) {
            let (run, at) = (&mut self.runs[period - 1], (self.seen - period) % MAX_PERIOD);
            *run = if self.recent[at] == symbol { *run + 1 } else { 0 };
            if found.is_none() && *run > 0 && counts(period, *run) {
                // The first symbol of the period that ends here is the one behind `at`.
                let start = if period == 1 { self.letters } else { self.before[(at + 1) % MAX_PERIOD] };
                found = Some(letters - start);
            }
        }
        self.recent[self.seen % MAX_PERIOD] = symbol;
        self.before[self.seen % MAX_PERIOD] = self.letters;
        (self.letters, self.seen) = (letters, self.seen + 1);
        found
    }
}

/// A line or sentence under way, without white space at its ends.
#[derive(Debug, Default)]
struct Sentence {
    hash: Fnv,
    bytes: usize,
    /// White space that counts if anything follows it.
    space: bool,
    /// Whether the last character may end a sentence.
    is_closed: bool,
}

impl Sentence {
    /// Adds a character; returns whether the sentence ended before it.
    fn push(&mut self, c: char) -> bool {
        if c.is_whitespace() {
            self.space = self.bytes > 0;
            return c == '\n' || self.is_closed;
        }
        if self.space {
            self.add(' ');
        }
        self.add(c);
        self.space = false;
        self.is_closed = matches!(c, '.' | '!' | '?' | '\u{3002}');
        false
    }

    fn add(&mut self, c: char) {
        self.hash.add(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.bytes += c.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens until it says so.
    fn noticed(tokens: impl IntoIterator<Item = u32>) -> Option<usize> {
        let mut guard = LoopGuard::default();
        tokens.into_iter().position(|id| guard.push(id, "")).map(|index| index + 1)
    }

    /// The text up to where it says so; a token for each word or digit.
    fn cut(text: &str) -> Option<&str> {
        let mut guard = LoopGuard::default();
        let mut start = 0;
        let ends = text.char_indices().map(|(at, c)| (at + c.len_utf8(), c));
        for (end, c) in ends {
            let next = text[end..].chars().next();
            let goes_on = next.is_some_and(|next| next.is_alphabetic() && (c.is_alphabetic() || c == ' '));
            if goes_on {
                continue;
            }
            let piece = &text[start..end];
            let mut hash = Fnv::default();
            hash.add(piece.as_bytes());
            if guard.push(hash.finish() as u32, piece) {
                return Some(&text[..end]);
            }
            start = end;
        }
        None
    }

    #[test]
    fn cycles_of_every_length_are_noticed() {
        for period in 1..=MAX_PERIOD {
            let start = [1000, 1001, 1002];
            let answer = start.into_iter().chain((0..1000).map(|i| i % period as u32));
            let repeats = if period < LONG_PERIOD { REPEATS } else { LONG_REPEATS };
            let expected = start.len() + (repeats * period).max(LEAST_TOKENS);
            assert_eq!(noticed(answer), Some(expected), "{period}");
        }
    }

    #[test]
    fn what_is_not_a_cycle_is_left_alone() {
        assert_eq!(noticed((0..10_000).map(|i| i * i % 10_007)), None);
        // Counting: a cycle but for one token.
        assert_eq!(noticed((0..2000).map(|i| if i % 8 == 3 { 100 + i } else { i % 8 })), None);
        assert_eq!(noticed([7; LEAST_TOKENS - 1]), None, "a ruled line");
        let four = (0..4).flat_map(|_| 0..30);
        assert_eq!(noticed(four), None, "a chorus");
    }

    #[test]
    fn lines_and_sentences_that_come_again_and_again_are_noticed() {
        let mut text = String::new();
        for name in ["Ann", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus"] {
            text += &format!("I am sorry, I do not know. Ask {name} about that!\n");
        }
        assert_eq!(cut(&text), None);
        text += "I am sorry, I do not know. Or Hal.\n";
        assert!(cut(&text).unwrap().ends_with("know. Or"));
        let lines = text.replace(". ", "\n  ");
        assert!(cut(&lines).unwrap().ends_with("know\n"));
        let short: String =
            ('a'..='z').map(|c| format!("{{\n  {c} of {c}{c}\n}}\n\n| yes | no |\n")).collect();
        assert_eq!(cut(&short), None, "short lines");
    }

    #[test]
    fn the_same_sentence_with_other_numbers_is_noticed() {
        let count = |text: fn(u32) -> String| (7..1200).map(text).collect::<String>();
        for looped in [
            count(|i| format!("{i}. The number {i} is a number.\n")),
            count(|i| format!("In {} the king of France was born in Paris. ", 1000 + i)),
            count(|i| format!("- {i} litres of water are {}.5 kilograms of ice\n", i * 7)),
        ] {
            let cut = cut(&looped).unwrap();
            assert!(cut.len() < 900, "{cut}");
        }
    }

    #[test]
    fn counting_and_tables_are_left_alone() {
        let count = |text: fn(u32) -> String| (1..200).map(text).collect::<String>();
        for fine in [
            count(|i| format!("{i}, ")),
            count(|i| format!("7 x {i} = {}\n", 7 * i)),
            count(|i| format!("| {i} | {} | {} |\n", i * i, i * i * i)),
            count(|i| format!("square({i}) == {}\n", i * i)),
        ] {
            assert_eq!(cut(&fine), None, "{fine}");
        }
    }
}
