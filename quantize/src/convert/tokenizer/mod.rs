//! From tokenizer.json to the `tokenizer.ggml` keys.
//!
//! ```text
//! source    the parts of tokenizer.json that are read
//! vocab     one row per id, the merges
//! pre       byte-level BPE: the pre-tokenizer's name, from its definition
//! spm       SentencePiece: spaces, scores from merges
//! special   ids with a meaning, what is added to a text
//! template  chat templates
//! check     the converted tokenizer gives the ids of the original
//! ```

mod check;
mod pre;
mod source;
mod special;
mod spm;
mod template;
mod vocab;

use std::path::Path;

use smolt::files::read_text_if_there;
use smolt::gguf::GgufWriter;
use smolt::text::TokenKind;

use self::check::Comparable;
use self::source::{Source, steps};
use self::special::{Configs, Special};
use self::spm::Spaces;
use self::vocab::Vocab;
use super::ConvertError;
use super::config::{Config, MAX_CONFIG_BYTES};
use super::family::Axis;
use super::json::Json;
use super::sampling;

/// Bytes of tokenizer.json and of tokenizer_config.json.
const MAX_TOKENIZER_BYTES: u64 = 1 << 27;

/// Sets the keys of the tokenizer in `folder`. `pre` names the pre-tokenizer in place of its definition. Returns
/// what could not be expressed.
pub(super) fn describe(
    folder: &Path,
    config: &Config,
    pre: Option<&str>,
    writer: &mut GgufWriter,
) -> Result<Vec<String>, ConvertError> {
    let path = folder.join("tokenizer.json");
    let file = path.display().to_string();
    let Some(json) = read_text_if_there(&path, MAX_TOKENIZER_BYTES)? else {
        return Err(ConvertError::MissingFile {
            folder: folder.display().to_string(),
            what: "tokenizer.json (save the tokenizer with a fast class of `transformers` to get one)",
        });
    };
    let mut notes = Vec::new();
    let source = Source::parse(&file, json.as_bytes())?;
    let mut vocab = Vocab::new(&source, config.sizes.get(Axis::Vocab), &mut notes)?;
    let comparable = if pre::is_byte_level(&source) {
        byte_level(&source, &vocab, pre, writer, &mut notes)?
    } else if source.model.byte_fallback {
        if let Some(name) = pre {
            notes
                .push(format!("--pre {name} is not used: the tokenizer is of SentencePiece, which has none"));
        }
        sentence_piece(&source, &mut vocab, writer, &mut notes)?
    } else {
        let reason = format!("neither byte-level nor with byte_fallback: {}", pre::definition(&source));
        return Err(source.refused("model", reason));
    };
    let tokenizer = Json::read(&folder.join("tokenizer_config.json"), MAX_TOKENIZER_BYTES)?;
    let generation = Json::read(&folder.join("generation_config.json"), MAX_CONFIG_BYTES)?;
    let configs = Configs {
        tokenizer: tokenizer.as_ref().map(Json::root),
        model: config.root(),
        generation: generation.as_ref().map(Json::root),
    };
    if let Some(generation) = &configs.generation {
        sampling::describe(generation, writer)?;
    }
    Special::read(&source, &vocab, &configs, &mut notes)?.describe(writer);
    template::describe(folder, configs.tokenizer.as_ref(), writer)?;
    drop((source, vocab));
    check::same_ids(&file, json.as_bytes(), writer, comparable)?;
    Ok(notes)
}

/// Byte-level BPE. Nothing is known of a pre-tokenizer that the caller names.
fn byte_level(
    source: &Source,
    vocab: &Vocab,
    pre: Option<&str>,
    writer: &mut GgufWriter,
    notes: &mut Vec<String>,
) -> Result<Comparable, ConvertError> {
    for step in steps(source.normalizer.as_ref(), "normalizers") {
        match source::kind(step) {
            "NFC" => {
                notes.push("GGUF runtimes do not compose characters (NFC) as the original does".to_owned())
            }
            other => {
                let reason = format!("the step {other:?} cannot be expressed in GGUF");
                return Err(source.refused("normalizer", reason));
            }
        }
    }
    let name = match pre {
        Some(name) => {
            notes.push(format!("--pre {name} is not compared with the {}", pre::definition(source)));
            name
        }
        None => pre::recognise(source)?,
    };
    let merges = vocab.merges(source)?;
    let merges: Vec<String> = merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
    writer.set("tokenizer.ggml.model", "gpt2");
    writer.set("tokenizer.ggml.pre", name);
    set_tokens(vocab, None, writer);
    writer.set("tokenizer.ggml.merges", merges);
    Ok(if pre.is_some() { Comparable::Nothing } else { Comparable::Everything })
}

fn sentence_piece(
    source: &Source,
    vocab: &mut Vocab,
    writer: &mut GgufWriter,
    notes: &mut Vec<String>,
) -> Result<Comparable, ConvertError> {
    spm::mark(source, vocab)?;
    let spaces = Spaces::read(source, vocab)?;
    if spaces.first_only {
        notes.push(
            "GGUF runtimes add a space after every special token, the original only before the text".into(),
        );
    }
    if spaces.before_words {
        notes.push("GGUF runtimes add a space before any text, the original not where there is one".into());
    }
    let scores = spm::scores(source, vocab)?;
    writer.set("tokenizer.ggml.model", "llama");
    writer.set("tokenizer.ggml.pre", "default");
    set_tokens(vocab, Some(scores), writer);
    writer.set("tokenizer.ggml.add_space_prefix", spaces.prefix);
    Ok(if spaces.before_words { Comparable::StartingWithWords } else { Comparable::Everything })
}

/// Sets the table of tokens.
fn set_tokens(vocab: &Vocab, scores: Option<Vec<f32>>, writer: &mut GgufWriter) {
    writer.set("tokenizer.ggml.tokens", vocab.texts.clone());
    if let Some(scores) = scores {
        writer.set("tokenizer.ggml.scores", scores);
    }
    let kinds: Vec<i32> = vocab.kinds.iter().map(|kind: &TokenKind| *kind as i32).collect();
    writer.set("tokenizer.ggml.token_type", kinds);
}
