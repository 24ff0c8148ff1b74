//! The ids with a meaning: start, end, unknown, and every token at which generation ends.

use super::TextError;
use super::pre::PreRule;
use super::vocab::{TokenKind, TokenList};

/// Control tokens that end a text, a turn or a message in some published vocabulary.
const END_TEXTS: &[&str] = &[
    "</s>",
    "<eos>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<turn|>",
    "<end_of_utterance>",
    "<EOT>",
    "[EOT]",
    "[EOS]",
    "<|EOT|>",
    "<|eot|>",
    "<|end_of_turn|>",
    "<|call|>",
    "_<EOT>",
    "<｜end▁of▁sentence｜>",
];

const KEY_BOS: &str = "tokenizer.ggml.bos_token_id";
const KEY_EOS: &str = "tokenizer.ggml.eos_token_id";
const KEY_EOT: &str = "tokenizer.ggml.eot_token_id";
const KEY_EOM: &str = "tokenizer.ggml.eom_token_id";
const KEY_UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const KEY_ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const KEY_ADD_EOS: &str = "tokenizer.ggml.add_eos_token";

/// Whether a control token of this text ends an answer.
pub(super) fn is_end(text: &str) -> bool {
    END_TEXTS.contains(&text)
}

/// The ids that the file says to start or end a text, a turn or a message.
pub(super) fn named(tokens: &TokenList<'_>) -> Result<Vec<u32>, TextError> {
    let mut ids = vec![];
    for key in [KEY_BOS, KEY_EOS, KEY_EOT, KEY_EOM] {
        ids.extend(tokens.special_id(key)?);
    }
    Ok(ids)
}

/// Special ids of a vocabulary.
pub(super) struct SpecialIds {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    /// Implies that `bos` is known.
    pub(super) add_bos: bool,
    /// Implies that `eos` is known.
    pub(super) add_eos: bool,
    /// Ascending.
    pub(super) ends: Box<[u32]>,
}

impl SpecialIds {
    /// Reads the ids; `rule` is the pre-tokenizer of a BPE file, `None` for SentencePiece, whose
    /// conventional ids (0 unknown, 1 start, 2 end) apply where the file is silent.
    pub(super) fn read(tokens: &TokenList<'_>, rule: Option<&PreRule>) -> Result<SpecialIds, TextError> {
        let usual = |id: u32, wanted: TokenKind| {
            let kind = tokens.kinds.get(id as usize).copied();
            (rule.is_none() && kind == Some(wanted)).then_some(id)
        };
        let bos = tokens.special_id(KEY_BOS)?.or_else(|| usual(1, TokenKind::Control));
        let eos = tokens.special_id(KEY_EOS)?.or_else(|| usual(2, TokenKind::Control));
        let unknown = tokens.special_id(KEY_UNKNOWN)?.or_else(|| usual(0, TokenKind::Unknown));
        let file = tokens.file;
        let flag = |flag: &'static str, usual: bool, key: &'static str, id: Option<u32>| match (
            file.bool(flag)?,
            id,
        ) {
            (Some(true), None) => Err(TextError::MissingId { file: file.name().to_owned(), flag, key }),
            (stored, id) => Ok(stored.unwrap_or(usual) && id.is_some()),
        };
        let add_bos = flag(KEY_ADD_BOS, rule.is_none_or(|rule| rule.add_bos), KEY_BOS, bos)?;
        let add_eos = flag(KEY_ADD_EOS, false, KEY_EOS, eos)?;
        let named = [eos, tokens.special_id(KEY_EOT)?, tokens.special_id(KEY_EOM)?];
        let known = tokens
            .iter_where(|kind, _| kind == TokenKind::Control)
            .filter(|(_, _, text)| is_end(text))
            .map(|(id, ..)| id);
        let mut ends: Vec<u32> = named.into_iter().flatten().chain(known).collect();
        ends.sort_unstable();
        ends.dedup();
        Ok(SpecialIds { bos, eos, unknown, add_bos, add_eos, ends: ends.into() })
    }
}
