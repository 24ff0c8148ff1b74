//! Unicode classes of characters, as the pre-tokenizers need them.
//!
//! The table is two-stage: 128 code points share a block, equal blocks are stored once. `classes.bin` holds the number of
//! the block of every 128 code points and then the blocks; the test below writes it anew where `SMOLT_WRITE_CLASSES` is
//! set, and otherwise compares every code point with the tables of the `regex-syntax` crate.

/// Class of a character. Each has one or, with number 0, none: controls, formats, private use, not assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// Upper-case letters (`Lu`).
    Upper = 1,
    /// Lower-case letters (`Ll`).
    Lower = 2,
    /// Title-case letters (`Lt`).
    Title = 3,
    /// Modifier letters (`Lm`).
    Modifier = 4,
    /// Other letters (`Lo`).
    Letter = 5,
    /// Marks (`M`).
    Mark = 6,
    /// Numbers (`N`).
    Number = 7,
    /// Punctuation (`P`).
    Punctuation = 8,
    /// Symbols (`S`).
    Symbol = 9,
    /// White space (`White_Space`) other than the next two.
    White = 10,
    /// Carriage return and line feed.
    Newline = 11,
    /// U+0020.
    Space = 12,
}

/// Code points per block.
const BLOCK: usize = 128;
/// Blocks of all code points.
const BLOCKS: usize = 0x11_0000 / BLOCK;

static TABLE: &[u8] = include_bytes!("classes.bin");

/// The number of the class of a character.
pub(super) fn class(c: char) -> u8 {
    let code = c as usize;
    let block = usize::from(TABLE[code / BLOCK]);
    TABLE[BLOCKS + block * BLOCK + code % BLOCK]
}

#[cfg(test)]
mod tests {
    use regex_syntax::hir::{Class as Ranges, HirKind};

    use super::*;

    const PATTERNS: [(Class, &str); 12] = [
        (Class::Upper, r"\p{Lu}"),
        (Class::Lower, r"\p{Ll}"),
        (Class::Title, r"\p{Lt}"),
        (Class::Modifier, r"\p{Lm}"),
        (Class::Letter, r"\p{Lo}"),
        (Class::Mark, r"\p{M}"),
        (Class::Number, r"\p{N}"),
        (Class::Punctuation, r"\p{P}"),
        (Class::Symbol, r"\p{S}"),
        (Class::White, r"[\s--[\r\n ]]"),
        (Class::Newline, r"[\r\n]"),
        (Class::Space, r"[ --\t]"),
    ];

    fn expected() -> Vec<u8> {
        let mut classes = vec![0; 0x11_0000];
        for (class, pattern) in PATTERNS {
            let hir = regex_syntax::parse(pattern).unwrap();
            let ranges = match hir.kind() {
                HirKind::Class(Ranges::Unicode(class)) => {
                    class.ranges().iter().map(|range| range.start()..=range.end()).collect()
                }
                HirKind::Literal(literal) => vec![char::from(literal.0[0])..=char::from(literal.0[0])],
                other => panic!("{pattern}: {other:?}"),
            };
            for c in ranges.into_iter().flatten() {
                assert_eq!(classes[c as usize], 0, "{c:?} has two classes");
                classes[c as usize] = class as u8;
            }
        }
        classes
    }

    #[test]
    fn every_character_has_the_class_of_the_unicode_tables() {
        let expected = expected();
        if std::env::var_os("SMOLT_WRITE_CLASSES").is_some() {
            let mut blocks: Vec<&[u8]> = vec![];
            let mut table = vec![];
            for block in expected.chunks(BLOCK) {
                let number = blocks.iter().position(|known| *known == block).unwrap_or_else(|| {
                    blocks.push(block);
                    blocks.len() - 1
                });
                table.push(u8::try_from(number).unwrap());
            }
            table.extend(blocks.concat());
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/text/classes.bin"), table).unwrap();
            return;
        }
        for c in '\0'..=char::MAX {
            assert_eq!(class(c), expected[c as usize], "{c:?}");
        }
    }
}
