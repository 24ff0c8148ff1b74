//! Constrained output at length: a thousand answers to each of five schemas, judged by another validator, and the
//! time that a mask takes.

use crate::shared::{self, repository};
use smolt::generate::{
    Constraint, FinishReason, Grammar, GrammarCompiler, LogitFilter, Request, Sampler, SamplerOptions,
    Session,
};
use smolt::gguf::GgufFile;
use smolt::model::{LanguageModel, LogitRows, Logits, ModelError};
use smolt::text::{EncodeOptions, Tokenizer, TokenizerOptions};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ANSWERS: u64 = 1000;
const CONTEXT: usize = 4096;
/// Rows of logits that [`Random`] chooses from.
const ROWS: usize = 61;

const PERSON: &str = r##"{
  "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A person",
  "type": "object",
  "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 12},
    "age": {"type": "integer", "minimum": 0, "maximum": 130},
    "role": {"enum": ["guest", "host", "h\"ost\n", "\u00fcber"]},
    "married": {"type": "boolean"},
    "size": {"type": ["number", "null"], "exclusiveMinimum": 0.3, "maximum": 2.75}
  },
  "required": ["name", "role", "size"], "additionalProperties": false
}"##;
const LISTS: &str = r##"{
  "type": "array", "minItems": 1, "maxItems": 3,
  "items": {
    "type": "object",
    "properties": {
      "point": {"type": "array", "prefixItems": [{"type": "integer"}, {"const": -7}], "items": false, "minItems": 2},
      "tags": {"type": "array", "items": {"enum": ["a", "b", 3, null, [1, {"x": true}]]}, "maxItems": 4},
      "kind": {"const": "list/item~"}
    },
    "required": ["kind", "point"], "additionalProperties": false
  }
}"##;
const TREE: &str = r##"{
  "$ref": "#/$defs/node",
  "$defs": {
    "node": {
      "type": "object",
      "properties": {
        "value": {"anyOf": [{"type": "integer", "multipleOf": 3}, {"$ref": "#/$defs/leaf"}]},
        "left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}
      },
      "required": ["value"], "additionalProperties": false
    },
    "leaf": {"type": "string", "pattern": "^[a-z]{2,5}(-[0-9]+)?$", "maxLength": 9}
  }
}"##;
const FORMATS: &str = r##"{
  "oneOf": [
    {"type": "object", "properties": {"type": {"const": "id"}, "id": {"type": "string", "format": "uuid"}},
     "required": ["type", "id"], "additionalProperties": false},
    {"type": "object", "properties": {"type": {"const": "host"}, "ip": {"type": "string", "format": "ipv4"},
     "port": {"type": "integer", "minimum": 1024, "exclusiveMaximum": 65536}},
     "required": ["type", "ip", "port"], "additionalProperties": false},
    {"type": "object", "properties": {"type": {"const": "time"}, "at": {"type": "string", "format": "time"}, "on": {"type": ["string", "null"], "format": "date"},
     "when": {"type": "string", "format": "date-time"}},
     "required": ["type", "at", "when"], "additionalProperties": false}
  ]
}"##;
const OPEN: &str = r##"{
  "type": "object",
  "allOf": [
    {"properties": {"a": {"type": "integer", "minimum": -5}}},
    {"properties": {"a": {"maximum": 5, "type": "integer"}, "note": {"type": "string"}}, "required": ["a"]}
  ],
  "properties": {"b": {"type": "array", "items": {"type": "null"}, "minItems": 1}},
  "patternProperties": {"^x_": {"type": "boolean"}}, "maxProperties": 6, "required": ["b", "note"],
  "additionalProperties": {"type": ["string", "number", "array", "object"], "items": {"type": "null"},
                           "additionalProperties": {"type": "boolean"}}
}"##;
const SCHEMAS: [&str; 5] = [PERSON, LISTS, TREE, FORMATS, OPEN];

fn tokenizer(path: &Path) -> Arc<Tokenizer> {
    let file = GgufFile::open(path).unwrap();
    Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap())
}

/// One step of SplitMix64.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A model that says nonsense: which of its rows of random logits follows depends on all tokens before. It
/// likes to close what is open, so that answers end within its context.
struct Random {
    vocab: usize,
    /// `[row][vocab]`
    table: Vec<f32>,
    /// A hash of the tokens up to each position.
    history: Vec<u64>,
    values: Vec<f32>,
    peaks: Vec<f32>,
}

impl Random {
    fn new(tokenizer: &Tokenizer) -> Random {
        let vocab = tokenizer.vocab_size();
        let mut state = 7;
        let mut next = || {
            state = mix(state);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let closes = |id: usize| {
            let piece = tokenizer.piece(id as u32);
            piece.iter().any(|byte| b"\"]}".contains(byte)) || tokenizer.is_end(id as u32)
        };
        let likes: Vec<f32> = (0..vocab).map(|id| if closes(id) { 10.0 } else { 0.0 }).collect();
        let table = (0..ROWS * vocab).map(|at| 6.0 * next() + likes[at % vocab]).collect();
        Random { vocab, table, history: vec![], values: vec![], peaks: vec![] }
    }

    fn row(&self, hash: u64) -> &[f32] {
        &self.table[(hash % ROWS as u64) as usize * self.vocab..][..self.vocab]
    }
}

impl LanguageModel for Random {
    fn context(&self) -> usize {
        CONTEXT
    }

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn position(&self) -> usize {
        self.history.len()
    }

    fn truncate(&mut self, position: usize) {
        self.history.truncate(position);
    }

    fn logit_rows(&self) -> usize {
        8
    }

    fn feed_rows(
        &mut self,
        tokens: &[u32],
        rows: usize,
        _: &dyn Fn() -> bool,
    ) -> Result<LogitRows<'_>, ModelError> {
        for token in tokens {
            let last = self.history.last().copied().unwrap_or(1469);
            self.history.push(mix(last ^ u64::from(*token)));
        }
        let hashes = &self.history[self.history.len() - rows..];
        let values: Vec<f32> = hashes.iter().flat_map(|hash| self.row(*hash).to_vec()).collect();
        let mut peaks = vec![];
        self.peaks.clear();
        for row in values.chunks_exact(self.vocab) {
            self.peaks.extend(Logits::scan(row, &mut peaks).peaks);
        }
        self.values = values;
        Ok(LogitRows { vocab: self.vocab, values: &self.values, peaks: &self.peaks })
    }
}

/// A sampler of every kind, by number; most are close to uniform.
fn sampler(seed: u64) -> SamplerOptions {
    let wild =
        SamplerOptions { temperature: 4.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed, ..Default::default() };
    match seed % 8 {
        0 => SamplerOptions { repeat_penalty: 1.3, ..wild },
        1 => SamplerOptions { top_k: 12, ..wild },
        2 => SamplerOptions { top_p: 0.8, min_p: 0.01, ..wild },
        _ => wild,
    }
}

fn validator(schema: &str) -> jsonschema::Validator {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

/// All answers to a schema are valid, by the judgement of the `jsonschema` crate.
fn answers_are_valid(schema: &str) {
    let tokenizer = tokenizer(&repository("src/cli/demo.gguf"));
    let compiled = GrammarCompiler::new(Arc::clone(&tokenizer)).unwrap();
    let compiled = compiled.compile(&Grammar::Schema(schema.to_owned())).unwrap();
    let validator = validator(schema);
    let mut session = Session::new(Random::new(&tokenizer), Arc::clone(&tokenizer));
    let (mut valid, mut different, mut tokens) = (0, std::collections::HashSet::new(), 0);
    for seed in 0..ANSWERS {
        let mut constraint = compiled.clone();
        let prompt = [(mix(seed) % 1000) as u32, 5];
        let lookup = if seed % 3 == 0 { 7 } else { 0 };
        let filter: Option<Box<dyn LogitFilter + '_>> = Some(Box::new(&mut constraint));
        let request = Request { sampler: sampler(seed), lookup, filter, ..Request::new(&prompt) };
        let outcome = session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap();
        let ended = matches!(outcome.finish, FinishReason::EndToken(_) | FinishReason::Complete);
        let value = serde_json::from_str(&outcome.text);
        let judged = value.map(|value| validator.validate(&value).map_err(|error| error.to_string()));
        match judged {
            Ok(Ok(())) if ended => valid += 1,
            other => eprintln!("seed {seed}, {:?}: {other:?}\n{}", outcome.finish, outcome.text),
        }
        tokens += outcome.tokens.len();
        different.insert(outcome.text);
    }
    eprintln!("{valid} of {ANSWERS} valid, {} different, {tokens} tokens", different.len());
    assert_eq!(valid, ANSWERS);
    assert!(different.len() > 300, "answers are hardly random: {}", different.len());
}

#[test]
fn objects_are_valid() {
    answers_are_valid(PERSON);
}

#[test]
fn lists_are_valid() {
    answers_are_valid(LISTS);
}

#[test]
fn trees_are_valid() {
    answers_are_valid(TREE);
}

#[test]
fn formats_are_valid() {
    answers_are_valid(FORMATS);
}

#[test]
fn open_objects_are_valid() {
    answers_are_valid(OPEN);
}

/// The validator would notice: each schema refuses what is almost right.
#[test]
fn the_validator_refuses_what_is_wrong() {
    for (schema, wrong) in [
        (PERSON, r#"{"name":"a","role":"guest","size":0.3}"#),
        (LISTS, r#"[{"kind":"list/item~","point":[1,-8]}]"#),
        (TREE, r#"{"value":4}"#),
        (FORMATS, r#"{"type":"host","ip":"1.2.3.256","port":1024}"#),
        (OPEN, r#"{"a":6,"b":[null],"note":""}"#),
    ] {
        let wrong = serde_json::from_str(wrong).unwrap();
        assert!(!validator(schema).is_valid(&wrong), "{wrong}");
    }
}

/// Times of the masks of `answers` random answers.
fn mask_times(constraint: &Constraint, tokenizer: &Tokenizer, answers: u64) -> Vec<Duration> {
    let random = Random::new(tokenizer);
    let mut times = vec![];
    for seed in 0..answers {
        let mut constraint = constraint.clone();
        let mut sampler = Sampler::new(random.vocab);
        sampler.start(&self::sampler(seed), true).unwrap();
        let (mut hash, mut peaks) = (mix(seed), vec![]);
        while !constraint.is_done() {
            let mut logits = random.row(hash).to_vec();
            let start = Instant::now();
            constraint.apply(&mut logits).unwrap();
            times.push(start.elapsed());
            let id = sampler.sample(Logits::scan(&logits, &mut peaks), &[], None).unwrap();
            constraint.accept(id).unwrap();
            hash = mix(hash ^ u64::from(id));
        }
    }
    times
}

/// A mask over the 50,257 tokens of GPT-2, its application to the logits included.
#[test]
fn masks_of_a_large_vocabulary_take_less_than_a_millisecond() {
    let Some(path) = shared::file("data/vocab/ggml-vocab-gpt-2.gguf") else { return };
    let tokenizer = tokenizer(&path);
    let start = Instant::now();
    let compiler = GrammarCompiler::new(Arc::clone(&tokenizer)).unwrap();
    eprintln!("{} tokens, prepared in {:?}", tokenizer.vocab_size(), start.elapsed());
    let mut all = vec![];
    for schema in SCHEMAS {
        let start = Instant::now();
        let constraint = compiler.compile(&Grammar::Schema(schema.to_owned())).unwrap();
        let compiled = start.elapsed();
        let mut times = mask_times(&constraint, &tokenizer, 30);
        times.sort_unstable();
        eprintln!("compiled in {compiled:?}; {}", percentiles(&times));
        all.extend(times);
    }
    all.sort_unstable();
    eprintln!("all: {}", percentiles(&all));
    if cfg!(debug_assertions) {
        eprintln!("SKIPPED: the bar of 1 ms, in a build for development");
    } else {
        assert!(all[all.len() * 99 / 100] < Duration::from_millis(1));
    }
}

/// A tokenizer that puts a space before what starts a text: choices are written without it within one.
#[test]
fn choices_are_written_after_any_prompt() {
    let Some(path) = shared::file("data/vocab/ggml-vocab-llama-spm.gguf") else { return };
    let tokenizer = tokenizer(&path);
    let mut session = Session::new(Random::new(&tokenizer), Arc::clone(&tokenizer));
    let texts = ["cat", " cat", "a cat", "12", "\u{1F600}", "\n"].map(str::to_owned);
    let mut text = vec![];
    tokenizer.encode("It is a", EncodeOptions::default(), &mut text).unwrap();
    for prompt in [text, vec![1]] {
        let request = Request { sampler: SamplerOptions::greedy(), ..Request::new(&prompt) };
        for choice in session.choose(&request, &texts, None).unwrap().1 {
            let all = [prompt.as_slice(), &choice.tokens].concat();
            let (before, after) = (tokenizer.decode(&prompt, true), tokenizer.decode(&all, true));
            assert_eq!(after.strip_prefix(before.as_slice()), Some(choice.text.as_bytes()), "{choice:?}");
        }
    }
}

/// Of sorted times.
fn percentiles(times: &[Duration]) -> String {
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    format!("{} masks, p50 {:?}, p99 {:?}, most {:?}", times.len(), at(50), at(99), at(100))
}
