//! Notices an answer that goes in circles, as those of very small models do.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Longest cycle, in tokens.
const MAX_PERIOD: usize = 64;
/// Times a cycle is seen before it counts, at least.
const LEAST_REPEATS: usize = 5;
/// Tokens that all repeats of a cycle have together, at least: short cycles such as a ruled line are repeated
/// on purpose.
const LEAST_TOKENS: usize = 60;
/// Bytes of a line that counts, at least: a bracket or an empty cell may stand alone in many lines.
const LEAST_LINE: usize = 16;
/// Lines looked back on.
const LINES: usize = 32;
/// Times one of them is seen before it counts.
const LINE_REPEATS: usize = 8;

/// Watches the tokens of an answer.
///
/// Two rules: the last tokens are one sequence of at most 64 tokens over and over, at least 5 times and 60 tokens;
/// or of the last 32 lines 8 are the same, of 16 bytes at least. Neither allocates while the answer grows, but for
/// a line longer than all before.
#[derive(Debug)]
pub struct LoopGuard {
    /// `[index % MAX_PERIOD]`
    recent: [u32; MAX_PERIOD],
    /// Tokens seen.
    seen: usize,
    /// `[period - 1]`: tokens in a row that equal the one a period before.
    runs: [usize; MAX_PERIOD],
    line: String,
    /// `[line % LINES]`: hashes of the lines before.
    lines: [u64; LINES],
    lines_seen: usize,
}

impl Default for LoopGuard {
    fn default() -> LoopGuard {
        LoopGuard {
            recent: [0; MAX_PERIOD],
            seen: 0,
            runs: [0; MAX_PERIOD],
            line: String::new(),
            lines: [0; LINES],
            lines_seen: 0,
        }
    }
}

impl LoopGuard {
    /// Adds a token, if there is one, and text; returns whether the answer goes in circles.
    pub fn push(&mut self, id: Option<u32>, text: &str) -> bool {
        let cycles = id.is_some_and(|id| self.push_token(id));
        self.push_text(text) || cycles
    }

    fn push_token(&mut self, id: u32) -> bool {
        let mut cycles = false;
        for period in 1..=MAX_PERIOD.min(self.seen) {
            let run = &mut self.runs[period - 1];
            *run = if self.recent[(self.seen - period) % MAX_PERIOD] == id { *run + 1 } else { 0 };
            cycles |= *run >= (LEAST_REPEATS - 1) * period && *run + period >= LEAST_TOKENS;
        }
        self.recent[self.seen % MAX_PERIOD] = id;
        self.seen += 1;
        cycles
    }

    fn push_text(&mut self, text: &str) -> bool {
        let mut repeats = false;
        let mut parts = text.split('\n');
        self.line.push_str(parts.next().unwrap_or_default());
        for part in parts {
            repeats |= self.end_line();
            self.line.push_str(part);
        }
        repeats
    }

    fn end_line(&mut self) -> bool {
        let line = self.line.trim();
        let is_long = line.len() >= LEAST_LINE;
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        // Zero stands for lines that do not count.
        let hash = if is_long { hasher.finish().max(1) } else { 0 };
        self.line.clear();
        self.lines[self.lines_seen % LINES] = hash;
        self.lines_seen += 1;
        is_long && self.lines.iter().filter(|other| **other == hash).count() >= LINE_REPEATS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens until it says so.
    fn noticed(tokens: impl IntoIterator<Item = u32>) -> Option<usize> {
        let mut guard = LoopGuard::default();
        tokens.into_iter().position(|id| guard.push(Some(id), "")).map(|index| index + 1)
    }

    #[test]
    fn cycles_of_every_length_are_noticed() {
        for period in 1..=MAX_PERIOD {
            let start = [1000, 1001, 1002];
            let answer = start.into_iter().chain((0..1000).map(|i| i % period as u32));
            let expected = start.len() + (LEAST_REPEATS * period).max(LEAST_TOKENS);
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
    fn lines_that_come_again_and_again_are_noticed() {
        let mut guard = LoopGuard::default();
        let ends =
            |guard: &mut LoopGuard, text: &str| text.split_inclusive(' ').any(|part| guard.push(None, part));
        for number in 0..7 {
            assert!(!ends(&mut guard, &format!("I am sorry, I do not know.\n{number}. Something else\n")));
        }
        assert!(ends(&mut guard, "I am sorry, I do not know.\n"));
        let mut guard = LoopGuard::default();
        assert!(!ends(&mut guard, &"}\n\n| yes | no |\n".repeat(40)), "short lines");
    }
}
