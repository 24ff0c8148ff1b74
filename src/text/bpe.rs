//! Byte-level BPE (`tokenizer.ggml.model = "gpt2"`): vocabulary and merges as stored in the file.
//!
//! Token texts are written in the byte alphabet of GPT-2: every byte is one printable character, so that
//! merges can be stored as text. Bytes that are printable in Latin-1 stand for themselves, the others are
//! moved to U+0100 and up, in order.

use tokenizers::models::bpe::{BPE, Merges, Vocab};

use super::TextError;
use super::vocab::{KEY_MERGES, MAX_MERGES, PieceTable, TokenKind, TokenList};

/// The character that stands for each byte.
pub const BYTE_CHARS: [char; 256] = byte_chars();

/// One past the last character of the byte alphabet.
const ALPHABET_END: usize = 0x144;

const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn byte_chars() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 0x100u32;
    let mut byte = 0;
    while byte < 256 {
        if is_printable(byte as u8) {
            table[byte] = byte as u8 as char;
        } else if let Some(moved) = char::from_u32(next) {
            table[byte] = moved;
            next += 1;
        }
        byte += 1;
    }
    table
}

/// The byte each character of the alphabet stands for, by code point.
pub(super) struct ByteAlphabet([Option<u8>; ALPHABET_END]);

impl ByteAlphabet {
    pub(super) fn new() -> ByteAlphabet {
        let mut table = [None; ALPHABET_END];
        for (byte, character) in (0..=255u8).zip(BYTE_CHARS) {
            table[character as usize] = Some(byte);
        }
        ByteAlphabet(table)
    }

    pub(super) fn byte(&self, character: char) -> Option<u8> {
        self.0.get(character as usize).copied().flatten()
    }
}

/// Bytes of every token: ordinary tokens through the byte alphabet, added ones as they are written.
///
/// A character outside the alphabet (which no encoder produces) is kept as it is.
pub(super) fn pieces(tokens: &TokenList<'_>) -> Result<PieceTable, TextError> {
    let alphabet = ByteAlphabet::new();
    PieceTable::new(tokens, |_, kind, text, bytes| {
        if kind != TokenKind::Normal {
            bytes.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        for character in text.chars() {
            match alphabet.byte(character) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Ok(())
    })
}

/// The merging model of a file.
pub(super) fn model(tokens: &TokenList<'_>, ignore_merges: bool) -> Result<BPE, TextError> {
    let build =
        |vocab, merges| build(BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(ignore_merges));
    // The crate refuses a merge of tokens it does not have (and panics if the result were longer than any).
    // Few files hold one, so that every merge is looked up here only after that.
    let all = vocab(tokens)?;
    let longest = all.keys().map(String::len).max().unwrap_or(0);
    let mut fit = true;
    let merges = merges(tokens, |_, left, right| {
        fit &= left.len() + right.len() <= longest;
        Ok(fit)
    })?;
    if merges.is_empty() {
        let longer = |(_, kind, text): &(u32, TokenKind, &str)| {
            *kind == TokenKind::Normal && text.chars().nth(1).is_some()
        };
        let found = tokens.iter().filter(longer).count();
        if found > 0 {
            return Err(TextError::NoMerges { file: tokens.file.name().to_owned(), found });
        }
    }
    if fit && let Ok(model) = build(all, merges) {
        return Ok(model);
    }
    let vocab = vocab(tokens)?;
    let merges = known_merges(tokens, &vocab)?;
    build(vocab, merges)
}

/// Builds without the crate's word cache: it would grow with the text, per thread, outside the plan.
pub(super) fn build(builder: tokenizers::models::bpe::BpeBuilder) -> Result<BPE, TextError> {
    let model = builder.cache_capacity(0).build();
    model.map_err(|error| TextError::Library { what: "merge table", message: error.to_string() })
}

/// Texts that merging may produce. Control, unknown and unused tokens are left out, so that no text ever
/// merges into one.
fn vocab(tokens: &TokenList<'_>) -> Result<Vocab, TextError> {
    let mut vocab = Vocab::with_capacity(tokens.len());
    for (id, kind, text) in tokens.iter() {
        if !kind.is_mergeable() || text.is_empty() {
            continue;
        }
        vocab.entry(text.to_owned()).or_insert(id);
    }
    Ok(vocab)
}

/// The stored merges that `keep(index, left, right)` keeps, in order of rank.
pub(super) fn merges(
    tokens: &TokenList<'_>,
    mut keep: impl FnMut(usize, &str, &str) -> Result<bool, TextError>,
) -> Result<Merges, TextError> {
    let file = tokens.file;
    let Some(stored) = file.str_array(KEY_MERGES)? else { return Ok(Merges::new()) };
    if stored.len() > MAX_MERGES {
        let (what, found, limit) = ("the number of merges", stored.len(), MAX_MERGES);
        return Err(TextError::OutOfBounds { file: file.name().to_owned(), what, found, limit });
    }
    let mut merges = Merges::with_capacity(stored.len());
    for (index, merge) in stored.iter_str().enumerate() {
        let (left, right) = split_merge(merge)
            .ok_or_else(|| bad_merge(tokens, index, merge, "is not two parts and a space"))?;
        if keep(index, left, right)? {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}

/// The stored merges of tokens in `vocab`. A merge that needs or makes a token left out of it because of its
/// kind is dropped; one that names no token at all is an error.
fn known_merges(tokens: &TokenList<'_>, vocab: &Vocab) -> Result<Merges, TextError> {
    let left_out = left_out(tokens);
    // A token that has the text of another has lost its own, which merges may name.
    let named = tokens.iter().filter(|(_, kind, text)| kind.is_mergeable() && !text.is_empty()).count();
    let has_duplicates = named > vocab.len();
    let mut joined = String::new();
    merges(tokens, |index, left, right| {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let parts = [left, right, joined.as_str()];
        let is_kept = parts.iter().all(|part| vocab.contains_key(*part));
        if is_kept || parts.iter().all(|part| vocab.contains_key(*part) || left_out.contains(part)) {
            return Ok(is_kept);
        }
        if has_duplicates {
            return Ok(false);
        }
        let merge = format!("{left} {right}");
        Err(bad_merge(tokens, index, &merge, "needs or makes a token that is not in the vocabulary"))
    })
}

fn bad_merge(tokens: &TokenList<'_>, index: usize, merge: &str, problem: &'static str) -> TextError {
    let merge = merge.chars().take(64).collect();
    TextError::BadMerge { file: tokens.file.name().to_owned(), index, merge, problem }
}

/// Splits at the first space that is not the first character.
fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let second = merge.chars().next()?.len_utf8();
    let space = second + merge[second..].find(' ')?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    (!right.is_empty()).then_some((left, right))
}

/// Texts of the tokens that are not in the merging vocabulary.
fn left_out<'a>(tokens: &TokenList<'a>) -> std::collections::HashSet<&'a str> {
    tokens.iter().filter(|(_, kind, _)| !kind.is_mergeable()).map(|(_, _, text)| text).collect()
}
