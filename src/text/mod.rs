//! Text to token ids and back, with the tokenizer rebuilt from the metadata of a GGUF file.
//!
//! # Design
//!
//! ```text
//! tokenizer   Tokenizer: encode, decode, ids with a meaning
//!   vocab     token list checked against the file; the bytes of every token in one table
//!   kinds     control tokens that the file does not call so
//!   special   start, end, unknown and all end-of-generation ids
//!   added     control and user-defined tokens, found before anything else
//!   pre       pre-tokenizers of BPE families, as rows of data
//!   bpe       byte-level BPE: vocabulary and merges as stored
//!   spm       SentencePiece: merges derived from the scores
//! detok       Detokenizer: streaming, never splits a character
//! stored      the chat templates of a file
//! template    chat templates, in which user text stays text
//! nearest     what a misspelt word may have meant
//! plan        memory of a tokenizer, from the header
//! error       everything that can be wrong
//! ```
//!
//! Encoding takes three steps: added tokens are cut out, the text between them is cut into words
//! (BPE) or written with `▁` for spaces (SentencePiece), and each word is merged by the `tokenizers` crate's
//! BPE model, which keeps a heap of candidate merges and so takes n log n steps for any text. Decoding joins
//! the pieces of the table; the crate is not involved.
//!
//! Control tokens are not part of the merging vocabulary. With `parse_special` off there is no path from
//! text to their ids.
//!
//! What is never guessed: the pre-tokenizer of a BPE file. The wrong one changes ids without any error, so a
//! missing or unknown name is refused and the caller may give one.

mod added;
mod bpe;
mod detok;
mod error;
mod kinds;
mod nearest;
mod normal;
mod plan;
mod pre;
mod special;
mod spm;
mod stored;
mod template;
mod tokenizer;
mod vocab;
mod windows;

#[cfg(test)]
mod tests;

pub use self::bpe::BYTE_CHARS;
pub use self::detok::Detokenizer;
pub use self::error::TextError;
pub use self::kinds::TextWarning;
#[doc(hidden)]
pub use self::nearest::nearest;
#[doc(hidden)]
pub use self::plan::{planned_bytes, planned_encoding_bytes};
pub use self::template::{
    BUILTIN_TEMPLATES, ChatTemplate, DocumentTemplate, MAX_MESSAGE_BYTES, MAX_TEMPLATE_BYTES, MAX_VARIABLES,
    Message, Prompt, ReasoningMarks, Role, TemplateError, TemplateVariables, ToolCall,
};
pub use self::tokenizer::{EncodeOptions, Tokenizer, TokenizerOptions};
pub(crate) use self::vocab::KEY_TOKENS;
pub use self::vocab::{MAX_ADDED_BYTES, MAX_MERGES, MAX_TOKEN_BYTES, MAX_TOKENS, TokenKind};
