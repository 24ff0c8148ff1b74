//! SentencePiece BPE (`tokenizer.ggml.model = "llama"`): merges derived from the scores.
//!
//! The file stores a score for each token and no merges. The encoder joins, again and again, the two
//! neighbours whose joint text has the highest score. That is BPE with one merge for every way to cut a
//! token into two tokens, ranked by the score of the whole; among equal scores the lower id comes first.
//!
//! Spaces are written `▁` (U+2581). A character without a token becomes its bytes' tokens `<0xHH>`.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use tokenizers::models::bpe::{BPE, Merges, Vocab};

use super::TextError;
use super::bpe::build;
use super::vocab::{MAX_MERGES, PieceTable, TokenKind, TokenList};

/// The character that stands for a space.
pub(super) const SPACE: char = '▁';

/// Bytes that may be hashed while cutting tokens in two; real vocabularies need less than a tenth.
const MAX_CUT_BYTES: usize = 1 << 29;

/// The merging model of a file; `unknown` stands for characters that have neither a token nor byte tokens.
pub(super) fn model(tokens: &TokenList<'_>, unknown: Option<u32>) -> Result<BPE, TextError> {
    let merges = merges(tokens)?;
    let mut vocab = Vocab::with_capacity(tokens.len());
    let mut unknown_text = None;
    for (id, kind, text) in tokens.iter() {
        let is_unknown = unknown == Some(id);
        if text.is_empty() || !(kind.is_mergeable() || kind == TokenKind::Byte || is_unknown) {
            continue;
        }
        if is_unknown {
            unknown_text = Some(text.to_owned());
        }
        vocab.entry(text.to_owned()).or_insert(id);
    }
    let mut builder = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true).fuse_unk(true);
    if let Some(text) = unknown_text {
        builder = builder.unk_token(text);
    }
    build(builder)
}

/// Every cut of a token into two tokens, in order of rank.
fn merges(tokens: &TokenList<'_>) -> Result<Merges, TextError> {
    let scores = tokens.scores()?;
    let too_large = |what, found, limit| {
        Err(TextError::OutOfBounds { file: tokens.file.name().to_owned(), what, found, limit })
    };
    let mut texts: HashSet<&str> = HashSet::new();
    let mergeable = tokens.iter().filter(|(_, kind, text)| kind.is_mergeable() && texts.insert(text));
    let mergeable: Vec<(u32, &str)> = mergeable.map(|(id, _, text)| (id, text)).collect();
    let mut work = 0usize;
    let mut cuts: Vec<(u32, &str, &str)> = Vec::new();
    for (id, text) in mergeable {
        work = work.saturating_add(text.len() * text.chars().count());
        if work > MAX_CUT_BYTES {
            return too_large("the work of deriving merges from scores", work, MAX_CUT_BYTES);
        }
        let positions = text.char_indices().skip(1).map(|(position, _)| position);
        let cut = positions.map(|position| text.split_at(position));
        cuts.extend(
            cut.filter(|(left, right)| texts.contains(left) && texts.contains(right))
                .map(|(left, right)| (id, left, right)),
        );
        if cuts.len() > MAX_MERGES {
            return too_large("the number of merges derived from scores", cuts.len(), MAX_MERGES);
        }
    }
    let score = |id: u32| scores[id as usize];
    // Stable: the cuts of one token stay in order, shortest left part first.
    cuts.sort_by(|(a, ..), (b, ..)| {
        score(*b).partial_cmp(&score(*a)).unwrap_or(Ordering::Equal).then(a.cmp(b))
    });
    Ok(cuts.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect())
}

/// Bytes of every token.
pub(super) fn pieces(tokens: &TokenList<'_>) -> Result<PieceTable, TextError> {
    let mut seen: HashMap<u8, u32> = HashMap::new();
    let mut space = [0; 4];
    let space: &str = SPACE.encode_utf8(&mut space);
    PieceTable::new(tokens, |id, kind, text, bytes| {
        match kind {
            TokenKind::Byte => {
                let byte = parse_byte(text).filter(|byte| seen.insert(*byte, id).is_none());
                let Some(byte) = byte else {
                    let file = tokens.file.name().to_owned();
                    return Err(TextError::BadByteToken { file, id, text: text.to_owned() });
                };
                bytes.push(byte);
            }
            TokenKind::Normal => {
                for (index, part) in text.split(space).enumerate() {
                    if index > 0 {
                        bytes.push(b' ');
                    }
                    bytes.extend_from_slice(part.as_bytes());
                }
            }
            _ => bytes.extend_from_slice(text.as_bytes()),
        }
        Ok(())
    })
}

/// The byte of `<0xHH>`, in the upper-case form that the encoder looks up.
pub(super) fn parse_byte(text: &str) -> Option<u8> {
    let byte = u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()?;
    (text == format!("<0x{byte:02X}>")).then_some(byte)
}
