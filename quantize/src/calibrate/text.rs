//! The calibration text as token sequences.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use smolt::text::{EncodeOptions, Tokenizer};

use crate::QuantizeError;

/// Which part of a text calibrates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Tokens in all.
    pub tokens: usize,
    /// Tokens of a sequence, at most what the model was trained for.
    pub sequence: usize,
    /// Which sequences are drawn, if the text has more.
    pub seed: u64,
    /// Read control tokens in the text, such as those of a chat format, as what they are.
    pub control_tokens: bool,
}

impl Default for Draw {
    fn default() -> Self {
        Self { tokens: 32_768, sequence: 512, seed: 0, control_tokens: false }
    }
}

/// Token sequences, all of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequences {
    pub(crate) tokens: Vec<u32>,
    pub(crate) length: usize,
}

impl Sequences {
    /// Draws sequences from the texts, which are joined. Each begins with the start token if the vocabulary adds one.
    pub(crate) fn draw(
        tokenizer: &Tokenizer,
        texts: &[(String, String)],
        draw: Draw,
    ) -> Result<Self, QuantizeError> {
        let options = EncodeOptions { add_special: false, parse_special: draw.control_tokens };
        let mut all = Vec::new();
        for (name, text) in texts {
            let failed = |source| QuantizeError::CalibrationText { file: name.clone(), source };
            tokenizer.encode(text, options, &mut all).map_err(failed)?;
        }
        let length = draw.sequence;
        let wanted = (draw.tokens / length).max(1);
        let found = all.len() / length;
        if found < FEWEST_SEQUENCES.min(wanted) {
            return Err(QuantizeError::TooLittleText {
                found: all.len(),
                needed: FEWEST_SEQUENCES.min(wanted) * length,
            });
        }
        let mut starts: Vec<usize> = (0..found).collect();
        let mut random = ChaCha8Rng::seed_from_u64(draw.seed);
        // A partial Fisher-Yates shuffle.
        for i in 0..wanted.min(found) {
            starts.swap(i, random.random_range(i..found));
        }
        starts.truncate(wanted);
        starts.sort_unstable();
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let mut tokens = Vec::with_capacity(starts.len() * length);
        for start in starts {
            tokens.extend_from_slice(&all[start * length..][..length]);
            if let Some(bos) = bos {
                let first = tokens.len() - length;
                tokens[first] = bos;
            }
        }
        Ok(Self { tokens, length })
    }
}

impl Sequences {
    /// The first sequences, of at most `tokens` tokens but at least one.
    pub(crate) fn first(&self, tokens: usize) -> Self {
        let whole = (tokens / self.length).max(1) * self.length;
        Self { tokens: self.tokens[..whole.min(self.tokens.len())].to_vec(), length: self.length }
    }

    /// The first `length` tokens of `count` sequences, evenly spread; fewer or shorter if there are no more.
    pub(crate) fn spread(&self, count: usize, length: usize) -> Self {
        let (all, length) = (self.tokens.len() / self.length, length.min(self.length));
        let step = (all / count).max(1);
        let chosen = self.tokens.chunks_exact(self.length).step_by(step).take(count);
        Self { tokens: chosen.flat_map(|sequence| &sequence[..length]).copied().collect(), length }
    }
}

/// Fewest sequences that calibrate; fewer say too little about the inputs of a matrix.
const FEWEST_SEQUENCES: usize = 8;
