//! A byte-level BPE vocabulary trained on the dialogues, and the chat format.
//!
//! Text is cut as GPT-2 does. In addition no merge joins two digits, so that every number is spelled digit
//! by digit: training sees digits apart, and a tokenizer with the GPT-2 cut alone then keeps them apart.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::{digits::Digits, sequence::Sequence};
use tokenizers::{
    AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer, Trainer,
};

use crate::dialogues::Dialogue;
use crate::train::Example;

/// Tokens with a meaning of their own; their place is their id.
pub(crate) const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// Ends the text of every speaker.
pub(crate) const END_ID: u32 = 2;
/// Weight of the user's tokens in the loss; the assistant's weigh one.
const USER_WEIGHT: f32 = 0.1;

/// The chat format as a Jinja template.
pub(crate) const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + \
     '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ \
     '<|im_start|>assistant\\n' }}{% endif %}";

/// The vocabulary with its encoder.
pub(crate) struct Vocab {
    /// Text of every token in GPT-2's byte alphabet, by id.
    pub(crate) tokens: Vec<String>,
    /// Merges in order, the two parts separated by a space.
    pub(crate) merges: Vec<String>,
    pub(crate) tokenizer: Tokenizer,
}

impl Vocab {
    /// Trains a vocabulary of at most `size` tokens.
    pub(crate) fn train(dialogues: &[Dialogue], size: usize) -> Result<Self> {
        let special = SPECIAL.map(|text| AddedToken::from(text, true));
        let mut trainer = BpeTrainer::builder()
            .vocab_size(size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(special.to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let cut = Sequence::new(vec![Digits::new(true).into(), byte_level().into()]);
        let texts = dialogues.iter().flat_map(|dialogue| [chat(&dialogue.prompt), dialogue.reply.clone()]);
        trainer.feed(texts, |text| pieces(&cut, text)).map_err(|fault| anyhow!(fault))?;
        let mut bpe = BPE::default();
        trainer.train(&mut bpe).map_err(|fault| anyhow!(fault))?;
        Self::new(bpe, &special)
    }

    fn new(bpe: BPE, special: &[AddedToken]) -> Result<Self> {
        let by_text: HashMap<String, u32> = bpe.get_vocab().into_iter().collect();
        let mut tokens = vec![String::new(); by_text.len()];
        for (text, id) in by_text {
            tokens[id as usize] = text;
        }
        let json = serde_json::to_value(&bpe)?;
        let merges = json["merges"].as_array().context("the vocabulary has no merges")?;
        let merges = merges.iter().map(joined).collect::<Option<_>>().context("a merge has no two parts")?;
        let mut tokenizer = Tokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(byte_level()));
        tokenizer.with_decoder(Some(byte_level()));
        tokenizer.add_special_tokens(special.to_vec()).map_err(|fault| anyhow!(fault))?;
        Ok(Self { tokens, merges, tokenizer })
    }

    /// Token ids of text that may hold special tokens.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, false).map_err(|fault| anyhow!(fault))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, without special tokens.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|fault| anyhow!(fault))
    }

    /// A conversation of one or more turns as training data.
    pub(crate) fn example(&self, turns: &[Dialogue]) -> Result<Example> {
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        for turn in turns {
            let asked = self.encode(&chat(&turn.prompt))?;
            let answered = self.encode(&format!("{}{}\n", turn.reply, SPECIAL[END_ID as usize]))?;
            weights.extend(std::iter::repeat_n(USER_WEIGHT, asked.len()));
            weights.extend(std::iter::repeat_n(1.0, answered.len()));
            ids.extend(asked);
            ids.extend(answered);
        }
        Ok(Example { ids, weights })
    }
}

/// A request in the chat format, up to where the answer begins.
pub(crate) fn chat(prompt: &str) -> String {
    format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
}

/// The GPT-2 cut.
fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// The pieces of text that merges stay within, in GPT-2's byte alphabet. Special tokens have no pieces.
fn pieces(cut: &Sequence, text: &str) -> tokenizers::Result<Vec<String>> {
    let mut all = Vec::new();
    for part in SPECIAL.iter().fold(vec![text], |parts, token| {
        parts.into_iter().flat_map(|part| part.split(token)).collect::<Vec<_>>()
    }) {
        let mut split = PreTokenizedString::from(part);
        cut.pre_tokenize(&mut split)?;
        let splits = split.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        all.extend(splits.into_iter().map(|(piece, ..)| piece.to_owned()));
    }
    Ok(all)
}

/// A merge of a serialized model: a pair, or its parts separated by a space.
fn joined(merge: &serde_json::Value) -> Option<String> {
    match merge {
        serde_json::Value::Array(pair) => {
            Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?))
        }
        other => other.as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogues::training;

    #[test]
    fn text_survives_and_numbers_are_spelled() {
        let vocab = Vocab::train(&training(1, 2_000), 600).unwrap();
        for text in ["Set the bedroom heating to 21°C.", "{\"level\":100}\n", "naïve ☕ 42  x"] {
            assert_eq!(vocab.decode(&vocab.encode(text).unwrap()).unwrap(), text);
        }
        for token in &vocab.tokens {
            assert!(token.len() == 1 || !token.bytes().any(|byte| byte.is_ascii_digit()), "{token}");
        }
    }

    #[test]
    fn training_is_deterministic_and_special_tokens_come_first() {
        let make = || Vocab::train(&training(1, 2_000), 600).unwrap();
        let (a, b) = (make(), make());
        assert_eq!((&a.tokens, &a.merges), (&b.tokens, &b.merges));
        assert_eq!(a.tokens[..3], SPECIAL);
        assert_eq!(a.encode(SPECIAL[2]).unwrap(), [END_ID]);
        assert_eq!(a.tokens.len(), 600);
        assert_eq!(a.merges.len(), 600 - 256 - 3);
    }

    #[test]
    fn only_answers_weigh_fully() {
        let vocab = Vocab::train(&training(1, 2_000), 600).unwrap();
        let example = vocab.example(&training(2, 1)).unwrap();
        let start = example.weights.iter().position(|&weight| weight == 1.0).unwrap();
        assert!(vocab.decode(&example.ids[..start]).unwrap().ends_with("assistant\n"));
        assert!(example.weights[start..].iter().all(|&weight| weight == 1.0));
    }
}
