//! Log-probabilities, in the shapes of both interfaces.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::text::Tokenizer;

use super::job::{Scores, Token};

/// What stands for negative infinity, which JSON has not.
const LEAST: f32 = -9999.0;

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LEAST }
}

/// Of a chat.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChatLogprobs {
    content: Vec<ChatLogprob>,
    /// Always null.
    refusal: Option<String>,
}

/// A token, and the likeliest in its place.
#[derive(Serialize, JsonSchema)]
struct ChatLogprob {
    #[serde(flatten)]
    chosen: Scored,
    top_logprobs: Vec<Scored>,
}

/// A token with its log-probability.
#[derive(Serialize, JsonSchema)]
struct Scored {
    token: String,
    logprob: f32,
    /// The token's own, which may be a part of a character.
    bytes: Vec<u8>,
}

impl Scored {
    fn new(id: u32, logprob: f32, tokenizer: &Tokenizer) -> Scored {
        Scored { token: name(id, tokenizer), logprob: finite(logprob), bytes: tokenizer.piece(id).to_vec() }
    }
}

impl ChatLogprobs {
    /// Of tokens that were measured, with `count` alternatives.
    pub(super) fn new(tokens: &[Token], count: usize, tokenizer: &Tokenizer) -> ChatLogprobs {
        let measured = tokens.iter().filter_map(|token| Some((token.id?, token.logprobs.as_ref()?)));
        let content = measured.map(|(id, scores)| {
            let top = scores.top.iter().take(count);
            let top_logprobs = top.map(|(id, logprob)| Scored::new(*id, *logprob, tokenizer)).collect();
            ChatLogprob { chosen: Scored::new(id, scores.chosen, tokenizer), top_logprobs }
        });
        ChatLogprobs { content: content.collect(), refusal: None }
    }
}

/// Of a completion: one entry for each token in every list.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Characters of the text before each.
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Adds a token that begins after `offset` characters; without scores, for the first of a text.
    pub(super) fn push(
        &mut self,
        (id, scores): (u32, Option<&Scores>),
        count: usize,
        offset: usize,
        tokenizer: &Tokenizer,
    ) {
        self.tokens.push(name(id, tokenizer));
        self.text_offset.push(offset);
        self.token_logprobs.push(scores.map(|scores| finite(scores.chosen)));
        self.top_logprobs.push(scores.map(|scores| {
            let top = scores.top.iter().take(count).copied();
            let mut map = BTreeMap::new();
            // Of two tokens with one name, which few vocabularies have, the likelier counts.
            for (id, logprob) in std::iter::once((id, scores.chosen)).chain(top) {
                let entry = map.entry(name(id, tokenizer)).or_insert(f32::NEG_INFINITY);
                *entry = entry.max(finite(logprob));
            }
            map
        }));
    }
}

/// The text of a token, or its bytes where they are no text.
pub(super) fn name(id: u32, tokenizer: &Tokenizer) -> String {
    let piece = tokenizer.piece(id);
    match std::str::from_utf8(piece) {
        Ok(text) => text.to_owned(),
        Err(_) => piece.iter().fold("bytes:".to_owned(), |name, byte| format!("{name}\\x{byte:02x}")),
    }
}
