//! Cutting text into words by the patterns of a pre-tokenizer, in linear time and without memory of its own.

use super::classes::{Class, class};

/// A set of characters: classes, single characters and ranges, or all but those.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    /// Bit `n` is the class with number `n`.
    classes: u16,
    chars: &'static str,
    ranges: &'static [(char, char)],
    negated: bool,
}

impl Set {
    const EMPTY: Set = Set { classes: 0, chars: "", ranges: &[], negated: false };

    /// The characters of some classes.
    pub(super) const fn of(classes: &[Class]) -> Set {
        let (mut bits, mut at) = (0, 0);
        while at < classes.len() {
            bits |= 1 << classes[at] as u8;
            at += 1;
        }
        Set { classes: bits, ..Set::EMPTY }
    }

    /// The characters of some ranges, both ends included.
    pub(super) const fn ranges(ranges: &'static [(char, char)]) -> Set {
        Set { ranges, ..Set::EMPTY }
    }

    /// These and the classes of another set.
    pub(super) const fn and(self, other: Set) -> Set {
        Set { classes: self.classes | other.classes, ..self }
    }

    /// These and single characters.
    pub(super) const fn with(self, chars: &'static str) -> Set {
        Set { chars, ..self }
    }

    /// All but these.
    pub(super) const fn not(self) -> Set {
        Set { negated: !self.negated, ..self }
    }

    fn has(&self, c: char) -> bool {
        let is_in = self.classes >> class(c) & 1 == 1
            || (!self.chars.is_empty() && self.chars.contains(c))
            || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&c));
        is_in != self.negated
    }
}

/// A part of a pattern.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    /// At least and at most so many characters of a set: as many as there are, fewer where the rest needs them.
    Chars(Set, u32, u32),
    /// `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d`.
    Ending { any_case: bool },
    /// The same in any case, or nothing. Stands last.
    MaybeEnding,
}

/// One cut of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    /// The first that matches is taken.
    pub(super) patterns: &'static [&'static [Item]],
    /// After them come `\s+(?!\S)|\s+`.
    pub(super) spaces: bool,
}

const WHITE: Set = Set::of(&[Class::White, Class::Newline, Class::Space]);

/// Calls `emit` with every piece of `text`, in order; the pieces joined are `text`.
pub(super) fn split<'t, E>(
    stages: &[Stage],
    text: &'t str,
    emit: &mut dyn FnMut(&'t str) -> Result<(), E>,
) -> Result<(), E> {
    let Some((stage, later)) = stages.split_first() else {
        return if text.is_empty() { Ok(()) } else { emit(text) };
    };
    // Text without a match, up to the next one.
    let (mut done, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        let Some(end) = stage.end(text, at) else {
            at += c.len_utf8();
            continue;
        };
        if at > done {
            split(later, &text[done..at], emit)?;
        }
        split(later, &text[at..end], emit)?;
        (done, at) = (end, end);
    }
    if done < text.len() { split(later, &text[done..], emit) } else { Ok(()) }
}

impl Stage {
    /// Where the match that starts at `at` ends. No match is empty.
    fn end(&self, text: &str, at: usize) -> Option<usize> {
        let found = self.patterns.iter().find_map(|items| items_end(items, text, at));
        found.or_else(|| if self.spaces { spaces_end(text, at) } else { None })
    }
}

/// Where `items` end that start at `at`.
///
/// No pattern looks at a character more often than it has items, but where a run gives characters back; then the
/// patterns that follow take that run whole, so that the time of all is linear in the text.
fn items_end(items: &[Item], text: &str, at: usize) -> Option<usize> {
    let Some((item, rest)) = items.split_first() else { return Some(at) };
    let (set, least, most) = match item {
        Item::Chars(set, least, most) => (set, *least, *most),
        Item::Ending { any_case } => return items_end(rest, text, at + ending(&text[at..], *any_case)?),
        Item::MaybeEnding => return Some(at + ending(&text[at..], true).unwrap_or(0)),
    };
    let (mut end, mut count) = (at, 0);
    for c in text[at..].chars() {
        if count == most || !set.has(c) {
            break;
        }
        end += c.len_utf8();
        count += 1;
    }
    while count >= least {
        let found = items_end(rest, text, end);
        if found.is_some() || count == 0 {
            return found;
        }
        count -= 1;
        end = text[..end].char_indices().next_back().map_or(0, |(start, _)| start);
    }
    None
}

/// Length of the ending that `text` begins with.
fn ending(text: &str, any_case: bool) -> Option<usize> {
    let bytes = text.strip_prefix('\'')?.as_bytes();
    let lower = |at: usize| match bytes.get(at) {
        Some(byte) if any_case => byte.to_ascii_lowercase(),
        Some(byte) => *byte,
        None => 0,
    };
    match (lower(0), lower(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', b'e') | (b'l', b'l') => Some(3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+`: a run of white space, without its last character if a word follows it.
fn spaces_end(text: &str, at: usize) -> Option<usize> {
    let length = text[at..].find(|c| !WHITE.has(c)).unwrap_or(text.len() - at);
    if length == 0 || at + length == text.len() {
        return (length > 0).then_some(text.len());
    }
    let last = text[at..at + length].char_indices().next_back().map_or(0, |(start, _)| start);
    Some(at + if last > 0 { last } else { length })
}
