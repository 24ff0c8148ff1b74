//! The tokens of a model as bytes, and what a trie of them takes.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie,
};

use crate::gguf::GgufFile;
use crate::text::{KEY_TOKENS, TokenKind, Tokenizer};

use super::GrammarError;
use super::error::message;

/// Bytes of a token that may be part of an answer; longer ones are never allowed. A node of the trie counts its
/// ancestors in 10 bits.
const MAX_PIECE: usize = 512;
/// Bytes of all such tokens. A node of the trie counts its descendants in 22 bits.
const MAX_BYTES: usize = (1 << 22) - 1;
/// Tokens that stay within a JSON string, which most of its lexer states allow as a whole. Each such slice is
/// four more tries; those of shorter strings, which the library makes too, double the memory and save no time.
const SLICE: &str = r#"[^"\\\x00-\x1F\x7F]+"#;

/// Heap bytes of a usual grammar with the lexer states that answers meet.
const GRAMMAR_BYTES: u64 = 1 << 20;

/// An upper estimate, in bytes, of the heap that a [`super::GrammarCompiler`] for this file takes while it is made;
/// afterwards it keeps about two thirds.
///
/// It holds six tries: all tokens twice, and twice each those within and outside of the slice. A trie has the
/// bytes of all tokens, an offset, a length and a rank for each, and its nodes of 8 bytes in vectors that double.
/// The largest is built from nodes of 20 bytes.
pub fn planned_grammar_bytes(file: &GgufFile) -> u64 {
    let Ok(Some(texts)) = file.str_array(KEY_TOKENS) else { return 0 };
    planned_bytes(texts.iter_str().map(str::as_bytes).collect())
}

/// The same of a model that is loaded, whose file may be gone.
pub fn loaded_grammar_bytes(tokenizer: &Tokenizer) -> u64 {
    planned_bytes((0..tokenizer.vocab_size() as u32).map(|id| tokenizer.piece(id)).collect())
}

fn planned_bytes(mut texts: Vec<&[u8]>) -> u64 {
    texts.sort_unstable();
    let (mut bytes, mut nodes, mut last) = (0, 1, &[][..]);
    for text in &texts {
        let shared = text.iter().zip(last).take_while(|(a, b)| a == b).count();
        bytes += text.len() as u64;
        nodes += (text.len() - shared).max(1) as u64;
        last = text;
    }
    let tokens = texts.len() as u64;
    6 * (12 * tokens + bytes) + 4 * 16 * nodes + 20 * nodes.max(3 * tokens) + GRAMMAR_BYTES
}

/// The factory of parsers over the tokens of `tokenizer`. It holds the trie and a slice of it.
pub(super) fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, GrammarError> {
    let pieces: Vec<Vec<u8>> =
        (0..tokenizer.vocab_size() as u32).map(|id| text_piece(tokenizer, id)).collect();
    let bytes: usize = pieces.iter().map(Vec::len).sum();
    if bytes > MAX_BYTES {
        let text = format!("its tokens have {bytes} bytes, at most {MAX_BYTES} are allowed");
        return Err(GrammarError::Vocabulary(text));
    }
    if bytes == 0 {
        return Err(GrammarError::Vocabulary("it has no text tokens".to_owned()));
    }
    let ends = tokenizer.end_ids().to_vec();
    catch_unwind(std::panic::AssertUnwindSafe(|| {
        let end = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(pieces.len() as u32, end), &pieces);
        drop(pieces);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        ParserFactory::new(&env, InferenceCapabilities::default(), &[SLICE.to_owned()])
    }))
    .map_err(|error| GrammarError::Vocabulary(message(&error)))
}

/// The bytes a token adds to an answer; none for a token that is no text. Byte 0xFF is in no UTF-8 text and
/// marks control tokens in the trie.
fn text_piece(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let piece = tokenizer.piece(id);
    let is_text =
        matches!(tokenizer.kind(id), Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte));
    if is_text && !tokenizer.is_end(id) && piece.len() <= MAX_PIECE && !piece.contains(&0xFF) {
        piece.to_vec()
    } else {
        vec![]
    }
}
