//! SentencePiece BPE in the clothes of tokenizer.json: `▁` for spaces, `<0xHH>` for what has no token.
//!
//! tokenizer.json has merges in order of rank. GGUF has a score for each token and no merges: there, two neighbours
//! may always be joined where their text is a token, the highest score first. Both are the same if the merges are
//! all the ways to cut each token into two tokens, and the ways to make one token follow each other in rank. That
//! is how `transformers` makes the merges of a SentencePiece model; it is checked here, and the scores are the
//! tokens' places in the order.

use std::collections::HashSet;

use serde_json::Value;
use smolt::text::TokenKind;

use super::source::{Source, kind, steps};
use super::vocab::Vocab;
use crate::convert::ConvertError;

const SPACE: &str = "▁";
/// Bytes that may be hashed while cutting tokens in two; real vocabularies need less than a tenth.
const MAX_CUT_BYTES: usize = 1 << 29;

/// How spaces become part of the text's alphabet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spaces {
    replaced: bool,
    /// A space is added before the text.
    pub(super) prefix: bool,
    /// It is not added before a space.
    pub(super) before_words: bool,
    /// It is not added after a special token.
    pub(super) first_only: bool,
    /// Words are merged one by one.
    words: bool,
}

/// Marks the tokens of bytes and the one for unknown text.
pub(super) fn mark(source: &Source, vocab: &mut Vocab) -> Result<(), ConvertError> {
    for byte in 0..=255u8 {
        let text = format!("<0x{byte:02X}>");
        let Some(id) = vocab.id(&text) else {
            return Err(source.refused("model.vocab", format!("there is no token {text} for this byte")));
        };
        vocab.kinds[id as usize] = TokenKind::Byte;
    }
    if let Some(text) = &source.model.unk_token {
        let Some(id) = vocab.id(text) else {
            return Err(source.refused("model.unk_token", "is not in the vocabulary"));
        };
        vocab.kinds[id as usize] = TokenKind::Unknown;
    }
    // The text of added tokens is compared with text as it is written.
    for (text, kind) in vocab.texts.iter_mut().zip(&vocab.kinds) {
        if *kind == TokenKind::UserDefined {
            *text = text.replace(SPACE, " ");
        }
    }
    Ok(())
}

impl Spaces {
    /// Reads the normalizer and the pre-tokenizer. Refuses any step that GGUF does not have.
    pub(super) fn read(source: &Source, vocab: &Vocab) -> Result<Self, ConvertError> {
        let mut spaces = Self::default();
        for step in steps(source.normalizer.as_ref(), "normalizers") {
            let is = |key: &str, value: &Value| step.get(key) == Some(value);
            match kind(step) {
                "Prepend" if is("prepend", &SPACE.into()) => spaces.prefix = true,
                "Replace"
                    if is("pattern", &serde_json::json!({"String": " "})) && is("content", &SPACE.into()) =>
                {
                    spaces.replaced = true;
                }
                _ => return Err(unknown_step(source, "normalizer", step)),
            }
        }
        for step in steps(source.pre_tokenizer.as_ref(), "pretokenizers") {
            match kind(step) {
                "Metaspace" => spaces.metaspace(source, step)?,
                // No space is left to split at.
                "Split"
                    if spaces.replaced
                        && step.get("pattern") == Some(&serde_json::json!({"String": " "})) => {}
                _ => return Err(unknown_step(source, "pre_tokenizer", step)),
            }
        }
        if !spaces.replaced {
            let reason = format!("neither byte-level nor with {SPACE} for spaces; GGUF has nothing else");
            return Err(source.refused("pre_tokenizer", reason));
        }
        if spaces.words
            && let Some(text) = vocab.texts.iter().find(|text| vocab.is_normal(text) && spans_words(text))
        {
            let reason = format!("words are merged one by one, but the token {text:?} has several");
            return Err(source.refused("pre_tokenizer", reason));
        }
        Ok(spaces)
    }

    fn metaspace(&mut self, source: &Source, step: &Value) -> Result<(), ConvertError> {
        if step.get("replacement").is_some_and(|found| found != SPACE) {
            return Err(unknown_step(source, "pre_tokenizer", step));
        }
        self.replaced = true;
        // Before there were schemes there was a flag, true by default.
        let flag = step.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true);
        let (prefix, first_only) = match step.get("prepend_scheme").and_then(Value::as_str) {
            Some("never") => (false, false),
            Some("first") => (true, true),
            Some("always") => (true, false),
            Some(_) => return Err(unknown_step(source, "pre_tokenizer", step)),
            None => (flag, false),
        };
        // A normalizer that adds a space leaves nothing to do here.
        if !self.prefix {
            (self.prefix, self.before_words, self.first_only) = (prefix, prefix, first_only);
        }
        self.words = step.get("split").and_then(Value::as_bool).unwrap_or(true);
        Ok(())
    }
}

/// Whether a space lies within the text.
fn spans_words(text: &str) -> bool {
    text.rfind(SPACE).is_some_and(|place| place > 0)
}

fn unknown_step(source: &Source, key: &str, step: &Value) -> ConvertError {
    let shown = crate::convert::json::cut(&step.to_string(), 300);
    source.refused(key, format!("the step {shown} cannot be expressed in GGUF"))
}

/// The scores that give the same tokens as the merges.
pub(super) fn scores(source: &Source, vocab: &Vocab) -> Result<Vec<f32>, ConvertError> {
    let merges = vocab.merges(source)?;
    let mut places: Vec<Option<u32>> = vec![None; vocab.len()];
    let mut cuts: HashSet<(u32, usize)> = HashSet::with_capacity(merges.len());
    let mut made = 0;
    let mut last = None;
    for (index, (left, right)) in merges.into_iter().enumerate() {
        let text = format!("{left}{right}");
        // Merges with other tokens never apply: their texts are taken out before, or are no text.
        let Some(id) =
            vocab.id(&text).filter(|_| [left, right, &text].into_iter().all(|t| vocab.is_normal(t)))
        else {
            continue;
        };
        let place = places[id as usize].get_or_insert_with(|| {
            made += 1;
            made
        });
        if last.is_some_and(|last| last != id) && *place != made {
            let reason = format!(
                "{text:?} is made in several places of the order, which no scores express: the tokenizer does not \
                 come from SentencePiece"
            );
            return Err(source.refused(&format!("model.merges[{index}]"), reason));
        }
        last = Some(id);
        cuts.insert((id, left.len()));
    }
    check_cuts(source, vocab, &cuts)?;
    // Whole numbers up to MAX_MERGES + 1 are exact in f32.
    Ok(places.into_iter().map(|place| -(place.unwrap_or(made + 1) as f32)).collect())
}

/// Checks that every way to cut a token into two tokens is a merge.
fn check_cuts(source: &Source, vocab: &Vocab, cuts: &HashSet<(u32, usize)>) -> Result<(), ConvertError> {
    let mut work = 0usize;
    for (id, text) in (0u32..).zip(&vocab.texts) {
        if vocab.kind(id) != TokenKind::Normal {
            continue;
        }
        work = work.saturating_add(text.len().saturating_mul(text.len()));
        if work > MAX_CUT_BYTES {
            return Err(
                source.refused("model.vocab", "the tokens are too long to be compared with the merges")
            );
        }
        for (place, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(place);
            if !cuts.contains(&(id, place)) && vocab.is_normal(left) && vocab.is_normal(right) {
                let reason = format!(
                    "{left:?} and {right:?} would make {text:?} in GGUF, but are no merge: the tokenizer does not \
                     come from SentencePiece"
                );
                return Err(source.refused("model.merges", reason));
            }
        }
    }
    Ok(())
}
