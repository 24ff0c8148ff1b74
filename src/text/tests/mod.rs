//! Tests on small vocabularies made here, and on real ones where the shared data is present.

mod hugging_face;
mod long;
mod mended;
mod patterns;
mod shared;
mod tiny;

use crate::gguf::{GgufFile, GgufWriter};

use super::{EncodeOptions, TextError, Tokenizer, TokenizerOptions};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const MARKED: EncodeOptions = EncodeOptions { add_special: true, parse_special: false };

fn file(writer: &GgufWriter) -> GgufFile {
    let bytes = writer.to_vec("tiny", |_, _| Ok(())).unwrap();
    GgufFile::from_vec("tiny", bytes).unwrap()
}

fn build(writer: &GgufWriter) -> Result<Tokenizer, TextError> {
    Tokenizer::from_gguf(&file(writer), TokenizerOptions::default())
}

fn encode(tokenizer: &Tokenizer, text: &str, options: EncodeOptions) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, options, &mut ids).unwrap();
    ids
}

/// A vocabulary under construction.
#[derive(Clone, Default)]
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
    scores: Vec<f32>,
}

impl Tokens {
    fn add(&mut self, text: &str, kind: i32, score: f32) -> u32 {
        self.texts.push(text.to_owned());
        self.kinds.push(kind);
        self.scores.push(score);
        self.texts.len() as u32 - 1
    }

    fn writer(&self, model: &str) -> GgufWriter {
        let mut writer = GgufWriter::new();
        writer.set("tokenizer.ggml.model", model);
        writer.set("tokenizer.ggml.tokens", self.texts.clone());
        writer.set("tokenizer.ggml.token_type", self.kinds.clone());
        writer.set("tokenizer.ggml.scores", self.scores.clone());
        if model == "gpt2" && self.texts.iter().any(|text| text == "hello") {
            writer.set("tokenizer.ggml.merges", ["h e", "l l", "he ll", "hell o"].map(String::from).to_vec());
        }
        writer
    }
}
