//! A model whose logits are a function of its history, and a vocabulary small enough to read.

mod choices;
mod conversations;
mod forms;
mod grammars;
mod layouts;
mod lookups;
mod sampling;
mod saves;
mod sessions;
mod slots;
mod stops;

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use crate::gguf::{GgufFile, GgufWriter};
use crate::model::{LanguageModel, LogitRows, Logits, ModelError, Resume};
use crate::text::{TokenKind, Tokenizer, TokenizerOptions};

use super::{Request, SamplerOptions, Session};

/// The end token of [`tokenizer`].
const END: u32 = 2;
/// Words of [`tokenizer`]; their ids start at [`FIRST_WORD`].
const WORDS: [&str; 8] = ["The", " cat", " sat", " ST", "OP", "P!", "\n", " STOPPING"];
const FIRST_WORD: u32 = 259;
const VOCAB: usize = FIRST_WORD as usize + WORDS.len();

/// Unknown, start and end token, a token for every byte, and [`WORDS`].
fn tokenizer() -> Arc<Tokenizer> {
    tokenizer_with(false, Some(END))
}

/// As [`tokenizer`]; `space_prefix` puts a space before text, and without an `end` the end token is text.
fn tokenizer_with(space_prefix: bool, end: Option<u32>) -> Arc<Tokenizer> {
    let mut texts: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    let last = if end.is_some() { TokenKind::Control } else { TokenKind::UserDefined };
    let mut kinds = vec![TokenKind::Unknown as i32, TokenKind::Control as i32, last as i32];
    for byte in 0..=255u8 {
        texts.push(format!("<0x{byte:02X}>"));
        kinds.push(TokenKind::Byte as i32);
    }
    for word in WORDS {
        texts.push(word.replace(' ', "\u{2581}"));
        kinds.push(TokenKind::Normal as i32);
    }
    assert_eq!(texts.len(), VOCAB);
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "llama");
    writer.set("tokenizer.ggml.scores", vec![0.0f32; texts.len()]);
    writer.set("tokenizer.ggml.tokens", texts);
    writer.set("tokenizer.ggml.token_type", kinds);
    writer.set("tokenizer.ggml.add_space_prefix", space_prefix);
    let bytes = writer.to_vec("tiny", |_, _| Ok(())).unwrap();
    let file = GgufFile::from_vec("tiny", bytes).unwrap();
    Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap())
}

fn byte(value: u8) -> u32 {
    3 + u32::from(value)
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(byte).collect()
}

fn word(text: &str) -> u32 {
    FIRST_WORD + WORDS.iter().position(|word| *word == text).unwrap() as u32
}

type Rule = Box<dyn Fn(&[u32], &mut [f32])>;

/// Logits with their peaks.
struct Scanned {
    values: Vec<f32>,
    peaks: Vec<f32>,
}

impl Scanned {
    fn new(values: &[f32]) -> Scanned {
        let mut peaks = vec![];
        Logits::scan(values, &mut peaks);
        Scanned { values: values.to_vec(), peaks }
    }

    fn get(&self) -> Logits<'_> {
        Logits { values: &self.values, peaks: &self.peaks }
    }
}

/// Feeds in tiles of [`TILE`] tokens; its logits are `rule(history)`.
struct FakeModel {
    context: usize,
    history: Vec<u32>,
    /// Rows that were asked for, `[row][vocab]`.
    logits: Vec<f32>,
    /// `[row][block]`
    peaks: Vec<f32>,
    rule: Rule,
    /// Calls of `feed_rows`.
    calls: usize,
    /// Tokens fed since it was made.
    fed: Cell<usize>,
    /// Positions below this cannot be cut off one by one: cutting there forgets everything.
    indivisible: usize,
    /// Called after every tile with the tokens now in the cache.
    after_tile: Box<dyn Fn(usize)>,
}

const TILE: usize = 4;
/// Rows of logits of [`FakeModel`].
const ROWS: usize = 12;

impl FakeModel {
    fn new(context: usize, rule: impl Fn(&[u32], &mut [f32]) + 'static) -> FakeModel {
        FakeModel {
            context,
            history: Vec::new(),
            logits: vec![],
            peaks: vec![],
            rule: Box::new(rule),
            calls: 0,
            fed: Cell::new(0),
            indivisible: 0,
            after_tile: Box::new(|_| ()),
        }
    }

    /// Says `script` after a prompt of `prompt` tokens, then the end token.
    fn scripted(context: usize, prompt: usize, script: Vec<u32>) -> FakeModel {
        FakeModel::new(context, move |history, logits| {
            let next = history.len().checked_sub(prompt).and_then(|at| script.get(at));
            logits.fill(-5.0);
            logits[*next.unwrap_or(&END) as usize] = 5.0;
        })
    }

    /// Logits between -4 and 4 from a hash of the history; the end token never comes.
    fn hashed(context: usize) -> FakeModel {
        FakeModel::new(context, |history, logits| {
            hash_logits(history.iter().fold(1469, |hash, id| mix(hash ^ u64::from(*id))), 4.0, logits);
            logits[END as usize] = f32::NEG_INFINITY;
        })
    }

    /// Likes to say what followed its last token before, and may end; prefers hashed tokens at hashed places.
    fn copying(context: usize) -> FakeModel {
        FakeModel::new(context, |history, logits| {
            let (last, before) = history.split_last().unwrap();
            hash_logits(u64::from(*last), 4.0, logits);
            if let Some(at) = before.iter().rposition(|id| id == last)
                && !mix(history.len() as u64).is_multiple_of(5)
            {
                logits[history[at + 1] as usize] += 9.0;
            }
        })
    }
}

/// Logits between -`height` and `height` from a hash of what `key` makes of the history.
fn hash_logits(key: u64, height: f32, logits: &mut [f32]) {
    let mut state = key;
    for logit in logits.iter_mut() {
        state = mix(state);
        *logit = ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * height;
    }
}

/// One step of SplitMix64.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl LanguageModel for FakeModel {
    fn context(&self) -> usize {
        self.context
    }

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn position(&self) -> usize {
        self.history.len()
    }

    fn truncate(&mut self, position: usize) {
        if position < self.history.len() {
            self.history.truncate(if position < self.indivisible { 0 } else { position });
        }
    }

    fn logit_rows(&self) -> usize {
        ROWS
    }

    fn feed_rows(
        &mut self,
        tokens: &[u32],
        rows: usize,
        cancel: &dyn Fn() -> bool,
    ) -> Result<LogitRows<'_>, ModelError> {
        assert!(rows <= tokens.len().min(ROWS));
        self.calls += 1;
        let needed = self.history.len() + tokens.len();
        if needed > self.context {
            return Err(ModelError::ContextFull { needed, context: self.context });
        }
        if let Some(&token) = tokens.iter().find(|id| **id as usize >= VOCAB) {
            return Err(ModelError::TokenOutOfRange { token, vocab: VOCAB });
        }
        for tile in tokens.chunks(TILE) {
            if cancel() {
                return Err(ModelError::Cancelled);
            }
            self.history.extend_from_slice(tile);
            self.fed.set(self.fed.get() + tile.len());
            (self.after_tile)(self.history.len());
        }
        self.logits.resize(rows * VOCAB, 0.0);
        let first = self.history.len() - rows;
        for (row, logits) in self.logits.chunks_exact_mut(VOCAB).enumerate() {
            (self.rule)(&self.history[..=first + row], logits);
        }
        let peaks = self.logits.chunks_exact(VOCAB).flat_map(|row| Scanned::new(row).peaks);
        self.peaks = peaks.collect();
        Ok(LogitRows { vocab: VOCAB, values: &self.logits, peaks: &self.peaks })
    }
}

/// The state is the history, eight bytes a token.
impl Resume for FakeModel {
    fn state_key(&self) -> u64 {
        1
    }

    fn state_bytes(&mut self, positions: usize) -> u64 {
        8 * positions as u64
    }

    fn write_state(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        self.history.iter().try_for_each(|id| out.write_all(&u64::from(*id).to_le_bytes()))
    }

    fn read_state(&mut self, positions: usize, from: &mut dyn io::Read) -> io::Result<()> {
        self.history.clear();
        let mut history = vec![];
        for _ in 0..positions {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            match u32::try_from(u64::from_le_bytes(bytes)) {
                Ok(id) if (id as usize) < VOCAB => history.push(id),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        self.history = history;
        Ok(())
    }
}

fn session(model: FakeModel) -> Session<FakeModel> {
    Session::new(model, tokenizer())
}

fn greedy(prompt: &[u32]) -> Request<'_> {
    Request { sampler: SamplerOptions::greedy(), ..Request::new(prompt) }
}
