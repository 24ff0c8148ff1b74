//! `/tokenize`, `/detokenize` and `/tokenizer_info`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Shared;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ask::ItemError;
use crate::ask::keys::Field;
use crate::text::{EncodeOptions, Tokenizer};

use super::body;
use super::error::ApiError;
use super::state::State;

/// Tokens of a text at most: as many as the largest body may have.
const MAX_TOKENS: usize = 1 << 20;

/// A text as tokens.
#[derive(Serialize, JsonSchema)]
pub(super) struct Tokenized {
    tokens: Vec<u32>,
    count: usize,
    /// Tokens that prompt and answer have together at most.
    max_model_len: usize,
}

/// Tokens as a text, under both names that clients know.
#[derive(Serialize, JsonSchema)]
pub(super) struct Detokenized {
    prompt: String,
    content: String,
}

/// What clients need of a vocabulary.
#[derive(Serialize, JsonSchema)]
pub(super) struct TokenizerInfo {
    bos_token: Option<String>,
    eos_token: String,
    pad_token: Option<String>,
    chat_template: Option<String>,
    vocab_size: usize,
    /// Whether texts begin with the first of these tokens.
    add_bos_token: bool,
}

/// Turns a text into tokens.
pub(super) async fn encode(
    Shared(state): Shared<Arc<State>>,
    body: Bytes,
) -> Result<Json<Tokenized>, ApiError> {
    let mut keys = body::keys(&body)?;
    drop(keys.take("model"));
    drop(keys.take("with_pieces"));
    let text = keys.take_any(&["prompt", "content"])?;
    let text = text.ok_or_else(|| ApiError::invalid("prompt is missing").with_param("prompt"))?.text()?;
    let add_special = keys.take_any(&["add_special_tokens", "add_special"])?;
    let add_special = add_special.map(Field::flag).transpose()?.unwrap_or(false);
    let parse_special = keys.take("parse_special").map(Field::flag).transpose()?.unwrap_or(true);
    keys.finish(&[])?;
    let options = EncodeOptions { add_special, parse_special };
    body::apart(move || {
        let mut tokens = vec![];
        let tokenizer = state.engine.tokenizer();
        let encoded = tokenizer.encode_within(&text, &[], options, MAX_TOKENS, &mut tokens);
        encoded.map_err(|error| ItemError::new(&error))?;
        Ok(Json(Tokenized { count: tokens.len(), tokens, max_model_len: state.engine.context() }))
    })
    .await
}

/// Turns tokens into a text.
pub(super) async fn decode(
    Shared(state): Shared<Arc<State>>,
    body: Bytes,
) -> Result<Json<Detokenized>, ApiError> {
    let mut keys = body::keys(&body)?;
    drop(keys.take("model"));
    let tokens = keys.take("tokens");
    let tokens = tokens.ok_or_else(|| ApiError::invalid("tokens is missing").with_param("tokens"))?;
    let tokens = ids(tokens, state.engine.tokenizer())?;
    keys.finish(&[])?;
    let prompt = state.engine.tokenizer().decode_lossy(&tokens, false);
    Ok(Json(Detokenized { content: prompt.clone(), prompt }))
}

/// Says what the vocabulary has.
pub(super) async fn info(Shared(state): Shared<Arc<State>>) -> Json<TokenizerInfo> {
    let tokenizer = state.engine.tokenizer();
    let text = |id: u32| String::from_utf8_lossy(tokenizer.piece(id)).into_owned();
    let end = tokenizer.eos().or(tokenizer.end_ids().first().copied());
    Json(TokenizerInfo {
        bos_token: tokenizer.bos().map(text),
        eos_token: end.map(text).unwrap_or_default(),
        pad_token: None,
        chat_template: tokenizer.chat_template().map(str::to_owned),
        vocab_size: tokenizer.vocab_size(),
        add_bos_token: tokenizer.adds_bos(),
    })
}

/// Reads token ids of the vocabulary.
pub(super) fn ids(field: Field, tokenizer: &Tokenizer) -> Result<Vec<u32>, ApiError> {
    let size = tokenizer.vocab_size();
    let expected = format!("a list of token ids below {size}");
    let error = ApiError::from(field.expected(expected.clone()));
    let id = |field: &serde_json::Value| {
        field.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < size)
    };
    let found = field.value.as_array().and_then(|list| list.iter().map(id).collect());
    found.ok_or(error)
}
