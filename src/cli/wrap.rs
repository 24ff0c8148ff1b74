//! Lines of an answer that are broken between words, as it comes.
//!
//! What was shown is never moved: a word that does not begin its line is held until it ends or would not fit. Columns
//! are those that terminals give characters: two for wide ones, none for combining ones. Where a text has no spaces,
//! lines break before any wide character. Lines of code, between lines that begin with three backticks, are not broken.

use unicode_width::UnicodeWidthChar;

/// Columns between tab stops.
const TAB: usize = 8;
/// What lines before and after code begin with.
const FENCE: &str = "```";
const JOINER: char = '\u{200D}';

/// Where the next character goes.
#[derive(Debug, Default)]
pub(super) struct Wrap {
    /// Columns taken on this line.
    column: usize,
    /// Spaces before the word that is held.
    gap: usize,
    word: String,
    word_columns: usize,
    /// Whether the word that comes begins its line, and is shown as it comes.
    begins_line: bool,
    /// What the line of the model begins with, as far as it may be a fence; nothing when it is none.
    fence: Option<String>,
    is_code: bool,
    is_joined: bool,
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

impl Wrap {
    pub(super) fn new() -> Wrap {
        Wrap { begins_line: true, fence: Some(String::new()), ..Wrap::default() }
    }

    /// Adds to `out` what of the text can be shown, on lines of `width` columns.
    pub(super) fn push(&mut self, text: &str, width: usize, out: &mut String) {
        for c in text.chars() {
            self.note_fence(c);
            match c {
                '\n' => self.end_line(width, out),
                _ if self.is_code => self.show(c, out),
                ' ' => self.space(1, width, out),
                '\t' => {
                    self.end_word(width, out);
                    self.space(TAB - (self.column + self.gap) % TAB, width, out);
                }
                c => self.letter(c, width, out),
            }
        }
    }

    /// Adds to `out` the word that is held.
    pub(super) fn finish(&mut self, width: usize, out: &mut String) {
        self.end_word(width, out);
        self.end_gap(width, out);
        self.is_joined = false;
    }

    /// Shows spaces at the end of a line, if they fit.
    fn end_gap(&mut self, width: usize, out: &mut String) {
        let gap = std::mem::take(&mut self.gap);
        if self.column + gap <= width {
            out.extend(std::iter::repeat_n(' ', gap));
            self.column += gap;
        }
    }

    fn show(&mut self, c: char, out: &mut String) {
        out.push(c);
        self.column += columns(c);
    }

    fn end_line(&mut self, width: usize, out: &mut String) {
        self.end_word(width, out);
        self.end_gap(width, out);
        out.push('\n');
        let is_code = self.is_code;
        *self = Wrap { is_code, ..Wrap::new() };
    }

    fn space(&mut self, count: usize, width: usize, out: &mut String) {
        self.end_word(width, out);
        if self.column == 0 || (self.begins_line && self.column < width && self.is_blank_so_far()) {
            // What a line of the model is indented by.
            out.extend(std::iter::repeat_n(' ', count));
            self.column += count;
        } else {
            self.gap += count;
            self.begins_line = false;
        }
    }

    /// Whether only spaces were shown on this line.
    fn is_blank_so_far(&self) -> bool {
        self.fence.as_deref().is_some_and(|line| line.trim().is_empty())
    }

    fn letter(&mut self, c: char, width: usize, out: &mut String) {
        let wide = columns(c) > 1;
        let is_joined = std::mem::replace(&mut self.is_joined, c == JOINER);
        if columns(c) == 0 || is_joined {
            // It belongs to the character before, wherever that is; behind a space that is not shown yet it begins a word.
            if self.word.is_empty() && self.gap == 0 {
                out.push(c);
            } else {
                self.word.push(c);
            }
            return;
        }
        if wide {
            self.end_word(width, out);
            self.word.push(c);
            self.word_columns = columns(c);
            self.end_word(width, out);
            self.begins_line = false;
        } else if self.begins_line {
            if self.column + columns(c) > width {
                out.push('\n');
                self.column = 0;
            }
            self.show(c, out);
        } else {
            self.word.push(c);
            self.word_columns += columns(c);
            if self.word_columns > width {
                // A word that no line holds.
                self.end_word(width, out);
                self.begins_line = true;
            }
        }
    }

    /// Shows the word that is held: on this line if it fits, else on the next.
    fn end_word(&mut self, width: usize, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let (word, columns_of_word) =
            (std::mem::take(&mut self.word), std::mem::take(&mut self.word_columns));
        let gap = std::mem::take(&mut self.gap);
        if self.column + gap + columns_of_word <= width {
            out.extend(std::iter::repeat_n(' ', gap));
            self.column += gap;
        } else if self.column > 0 {
            out.push('\n');
            self.column = 0;
        }
        for c in word.chars() {
            if self.column + columns(c) > width && self.column > 0 {
                out.push('\n');
                self.column = 0;
            }
            self.show(c, out);
        }
        self.begins_line = false;
    }

    /// Notices lines that begin or end code.
    fn note_fence(&mut self, c: char) {
        let Some(line) = &mut self.fence else { return };
        if c == '\n' {
            return;
        }
        line.push(c);
        let start = line.trim_start();
        if start == FENCE {
            self.is_code = !self.is_code;
            self.fence = None;
        } else if !FENCE.starts_with(start) {
            self.fence = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wraps a text that comes in parts of `part` characters.
    fn wrapped(text: &str, width: usize, part: usize) -> String {
        let (mut wrap, mut out) = (Wrap::new(), String::new());
        let chars: Vec<char> = text.chars().collect();
        for part in chars.chunks(part) {
            wrap.push(&part.iter().collect::<String>(), width, &mut out);
        }
        wrap.finish(width, &mut out);
        out
    }

    fn width_of(line: &str) -> usize {
        line.chars().map(columns).sum()
    }

    #[test]
    fn lines_break_between_words() {
        for (text, width, expected) in [
            ("one two three four", 9, "one two\nthree\nfour"),
            ("one two three four", 80, "one two three four"),
            ("exactly nine", 7, "exactly\nnine"),
            ("abcdefghijklm no", 5, "abcde\nfghij\nklm\nno"),
            ("no abcdefghijklm", 5, "no\nabcde\nfghij\nklm"),
            ("one\ntwo three\n\nfour", 9, "one\ntwo three\n\nfour"),
            ("  - indented item of a list", 12, "  - indented\nitem of a\nlist"),
            ("a\tb", 80, "a       b"),
            ("ab   cd", 4, "ab\ncd"),
            ("ab  ", 4, "ab  "),
            ("ab \ncd", 4, "ab \ncd"),
            ("ends \nnext", 4, "ends\nnext"),
            // Wide, combining, joined.
            ("\u{65E5}\u{672C}\u{8A9E}\u{6587}", 4, "\u{65E5}\u{672C}\n\u{8A9E}\u{6587}"),
            ("\u{65E5}\u{672C}\u{8A9E}", 5, "\u{65E5}\u{672C}\n\u{8A9E}"),
            ("xy e\u{301}e\u{301}e\u{301}", 6, "xy e\u{301}e\u{301}e\u{301}"),
            ("xyz e\u{301}e\u{301}e\u{301}", 6, "xyz\ne\u{301}e\u{301}e\u{301}"),
            ("a \u{1F469}\u{200D}\u{1F52C} b", 6, "a \u{1F469}\u{200D}\u{1F52C} b"),
            ("```\nlet long = line;\n```\nand text here", 8, "```\nlet long = line;\n```\nand text\nhere"),
        ] {
            for part in [1, 2, 3, 100] {
                assert_eq!(wrapped(text, width, part), expected, "{text:?} in {width}, by {part}");
            }
        }
    }

    #[test]
    fn no_line_is_too_long_and_nothing_is_lost() {
        let text = "The quick brown fo\u{301}x, \u{65E5}\u{672C}\u{8A9E}\u{306E}\u{6587}\u{7AE0} and \
                    averyveryverylongwordwithoutanend\u{1F600}\u{1F600}   jumps\tover the\n\n  lazy dog. ";
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        for width in 2..90 {
            for part in [1, 4, 1000] {
                let out = wrapped(text, width, part);
                assert_eq!(letters(&out), letters(text), "{width}");
                assert!(out.lines().all(|line| width_of(line.trim_end()) <= width), "{width}: {out:?}");
            }
        }
    }

    #[test]
    fn words_are_shown_as_soon_as_they_end() {
        let (mut wrap, mut out) = (Wrap::new(), String::new());
        wrap.push("Fir", 20, &mut out);
        assert_eq!(out, "Fir", "the first word as it comes");
        wrap.push("st se", 20, &mut out);
        assert_eq!(out, "First");
        wrap.push("cond ", 20, &mut out);
        assert_eq!(out, "First second");
        // Another width from here on.
        wrap.push("third fourth", 16, &mut out);
        wrap.finish(16, &mut out);
        assert_eq!(out, "First second\nthird fourth");
    }
}
