//! Speed: tests of reading a prompt and writing tokens.
//!
//! What is timed is what `llama-bench` of llama.cpp times, so figures can be compared:
//!
//! * `ppN` reads N tokens at once, with logits for the last only; `tgN` reads N tokens one by one, with
//!   logits for each. `@dD` does so after D tokens, which are not timed.
//! * Tokens are random. Neither tokenization nor sampling is included.
//! * Each test runs once untimed, then as often as asked.

use super::error::EvalError;
use super::probe;
use super::report::{Probe, Report, Row};
use super::stats::Summary;
use crate::gguf::{EMBEDDING_TENSOR, GgufFile, HEAD_TENSOR};
use crate::kernels::KvType;
use crate::model::{LanguageModel, MAX_CONTEXT, Model, ModelError, RunOptions, Runner};
use rand::rngs::ChaCha12Rng;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens that are read before the first token in [`Report::start_to_first_token_ms`].
pub const FIRST_PROMPT: usize = 8;
/// Most repetitions of a test.
pub const MAX_REPETITIONS: usize = 10_000;
/// Most threads.
pub const MAX_THREADS: usize = 256;
/// Seed of the random tokens.
const SEED: u64 = 1;

/// What is done with the tokens of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Read all at once.
    Prompt,
    /// Read one by one, as when they are generated.
    Generate,
}

/// One test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// What is done.
    pub work: Work,
    /// With how many tokens.
    pub tokens: usize,
    /// After how many others.
    pub depth: usize,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = match self.work {
            Work::Prompt => "pp",
            Work::Generate => "tg",
        };
        write!(f, "{work}{}", self.tokens)?;
        if self.depth > 0 { write!(f, "@d{}", self.depth) } else { Ok(()) }
    }
}

/// What to measure. Every depth is combined with every prompt and every number of tokens to generate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchOptions {
    /// Lengths of prompts; 0 is left out.
    pub prompts: Vec<usize>,
    /// Numbers of tokens to generate; 0 is left out.
    pub generate: Vec<usize>,
    /// Tokens before the test.
    pub depths: Vec<usize>,
    /// Numbers of threads; everything is measured for each.
    pub threads: Vec<usize>,
    /// Timed runs of each test.
    pub repetitions: usize,
    /// Positions of the KV cache; as many as the tests need if `None`.
    pub context: Option<usize>,
    /// How the KV cache is stored.
    pub kv: KvType,
}

impl BenchOptions {
    /// The tests, for one number of threads.
    pub fn tests(&self) -> Vec<Test> {
        let kinds = [(Work::Prompt, &self.prompts), (Work::Generate, &self.generate)];
        let mut tests = vec![];
        for &depth in &self.depths {
            for (work, counts) in kinds {
                let counts = counts.iter().filter(|&&tokens| tokens > 0);
                tests.extend(counts.map(|&tokens| Test { work, tokens, depth }));
            }
        }
        tests
    }

    /// Whether this can be measured.
    ///
    /// # Errors
    /// If there is nothing to do or a number is out of range.
    pub fn check(&self) -> Result<(), EvalError> {
        let tests = self.tests();
        let check = |what, found, least, most| {
            if (least..=most).contains(&found) {
                Ok(())
            } else {
                Err(EvalError::OutOfRange { what, found, least, most })
            }
        };
        if tests.is_empty() || self.threads.is_empty() {
            return Err(EvalError::NoTests);
        }
        check("the number of repetitions", self.repetitions, 1, MAX_REPETITIONS)?;
        self.threads.iter().try_for_each(|&n| check("the number of threads", n, 1, MAX_THREADS))?;
        tests.iter().try_for_each(|test| {
            check("the depth", test.depth, 0, MAX_CONTEXT)?;
            check("the number of tokens", test.tokens, 1, MAX_CONTEXT)
        })
    }
}

/// A model to measure, and how it came to be here.
pub struct Subject<'a> {
    /// The file.
    pub file: &'a GgufFile,
    /// What to call it.
    pub name: String,
    /// The model loaded from it.
    pub model: Arc<Model>,
    /// When the command started.
    pub started: Instant,
    /// How long loading took, opening the file included.
    pub load: Duration,
}

/// Bytes that the next token needs to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Weights, each once, as stored in the file. An embedding that is not the output head too is left out:
    /// one of its rows is read.
    pub weights: u64,
    /// Keys and values of one position, in all layers.
    pub position: u64,
}

impl Traffic {
    /// That of the model in `file`.
    pub fn of(file: &GgufFile, model: &Model, kv: KvType) -> Self {
        let spec = model.spec();
        let separate_head = file.tensor(HEAD_TENSOR).is_some();
        let read = |name: &str| !(separate_head && name == EMBEDDING_TENSOR);
        let tensors = file.tensors().iter().filter(|tensor| read(&tensor.name));
        let position = 2 * spec.layers * spec.kv_heads * kv.position_bytes(spec.head_dim);
        Self { weights: tensors.map(|tensor| tensor.bytes).sum(), position: position as u64 }
    }

    /// The mean over the tokens of a test.
    pub fn per_token(&self, test: &Test) -> f64 {
        // Token i of n finds depth + i positions and adds its own.
        let positions = test.depth as f64 + (test.tokens as f64 + 1.0) / 2.0;
        self.weights as f64 + positions * self.position as f64
    }
}

/// Runs the tests. `progress` is told which comes next.
///
/// # Errors
/// If the options make no sense, or the model cannot be run with them.
pub fn bench(
    subject: &Subject<'_>,
    options: &BenchOptions,
    progress: &mut dyn FnMut(&Test, usize),
) -> Result<Report, EvalError> {
    let tests = options.tests();
    options.check()?;
    let needed = tests.iter().map(|test| test.depth + test.tokens).max().unwrap_or(1).max(FIRST_PROMPT);
    let context = options.context.unwrap_or(needed);
    if context < needed {
        return Err(ModelError::ContextFull { needed, context }.into());
    }
    let traffic = Traffic::of(subject.file, &subject.model, options.kv);
    let mut first_token = None;
    let mut rows = vec![];
    for &threads in &options.threads {
        let run = RunOptions { context, threads, slots: 1, logit_rows: 1, kv: options.kv };
        let mut runner = Runner::new(Arc::clone(&subject.model), &run)?;
        let mut tokens = RandomTokens::new(runner.vocab_size());
        if first_token.is_none() {
            runner.feed(tokens.take(FIRST_PROMPT), &|| false)?;
            first_token = Some(subject.started.elapsed());
        }
        for &test in &tests {
            progress(&test, runner.threads());
            let seconds = time(&mut runner, &test, options.repetitions, &mut tokens)?;
            if seconds.iter().any(|seconds| *seconds <= 0.0) {
                return Err(EvalError::FrozenClock);
            }
            rows.push((test, runner.threads(), rates(&test, &seconds)));
        }
    }
    // The probe's own array must not count.
    let peak_rss_bytes = probe::peak_rss();
    let probes = probe_threads(&rows, traffic.weights as usize)?;
    let row = |(test, threads, samples): (Test, usize, Vec<f64>)| {
        let bandwidth = probes.iter().find(|probe| probe.threads == threads).map(|probe| probe.read_gb_s);
        Row::new(&test, threads, samples, &traffic, bandwidth)
    };
    Ok(Report {
        model: subject.name.clone(),
        isa: subject.model.kernels().name,
        model_bytes: subject.file.file_bytes(),
        weight_bytes_per_token: traffic.weights,
        tests: rows.into_iter().filter_map(row).collect(),
        read_gb_s: probes.iter().map(|probe| probe.read_gb_s).fold(0.0, f64::max),
        probes,
        peak_rss_bytes,
        context,
        kv: options.kv.name(),
        repetitions: options.repetitions,
        load_ms: subject.load.as_secs_f64() * 1e3,
        start_to_first_token_ms: first_token.map(|time| time.as_secs_f64() * 1e3),
    })
}

fn probe_threads(rows: &[(Test, usize, Vec<f64>)], bytes: usize) -> Result<Vec<Probe>, EvalError> {
    let mut threads: Vec<usize> = rows.iter().map(|(_, threads, _)| *threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let probe = |threads| Ok(Probe { threads, read_gb_s: probe::read_bandwidth(bytes, threads)? / 1e9 });
    threads.into_iter().map(probe).collect()
}

/// Seconds of each timed run.
fn time(
    model: &mut dyn LanguageModel,
    test: &Test,
    repetitions: usize,
    tokens: &mut RandomTokens,
) -> Result<Vec<f64>, ModelError> {
    model.truncate(0);
    if test.depth > 0 {
        model.feed(tokens.take(test.depth), &|| false)?;
    }
    let mut seconds = Vec::with_capacity(repetitions);
    for run in 0..=repetitions {
        model.truncate(test.depth);
        let tokens = tokens.take(test.tokens);
        let start = Instant::now();
        match test.work {
            Work::Prompt => {
                model.feed(tokens, &|| false)?;
            }
            Work::Generate => {
                for token in tokens {
                    model.feed(std::slice::from_ref(token), &|| false)?;
                }
            }
        }
        let elapsed = start.elapsed().as_secs_f64();
        // The first run warms up.
        if run > 0 {
            seconds.push(elapsed);
        }
    }
    Ok(seconds)
}

/// Tokens per second of each run.
fn rates(test: &Test, seconds: &[f64]) -> Vec<f64> {
    seconds.iter().map(|s| test.tokens as f64 / s.max(f64::MIN_POSITIVE)).collect()
}

impl Row {
    /// A row of the report; `None` without samples.
    pub(super) fn new(
        test: &Test,
        threads: usize,
        samples: Vec<f64>,
        traffic: &Traffic,
        read_gb_s: Option<f64>,
    ) -> Option<Self> {
        let tok_s = Summary::of(&samples)?;
        let share = |gb_s: f64| tok_s.median * traffic.per_token(test) / (gb_s * 1e9);
        let bandwidth_share = read_gb_s.filter(|_| test.work == Work::Generate).map(share);
        Some(Self { name: test.to_string(), threads, tok_s, samples, bandwidth_share })
    }
}

/// Random tokens, the same in every run.
struct RandomTokens {
    random: ChaCha12Rng,
    vocab: usize,
    tokens: Vec<u32>,
}

impl RandomTokens {
    fn new(vocab: usize) -> Self {
        Self { random: ChaCha12Rng::seed_from_u64(SEED), vocab, tokens: vec![] }
    }

    fn take(&mut self, count: usize) -> &[u32] {
        self.tokens.clear();
        self.tokens.extend((0..count).map(|_| self.random.random_range(0..self.vocab) as u32));
        &self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogitRows;

    fn options() -> BenchOptions {
        BenchOptions {
            prompts: vec![128, 512],
            generate: vec![64],
            depths: vec![0, 1024],
            threads: vec![1, 2],
            repetitions: 3,
            context: None,
            kv: KvType::F16,
        }
    }

    #[test]
    fn tests_are_named_and_combined() {
        let names: Vec<String> = options().tests().iter().map(Test::to_string).collect();
        assert_eq!(names, ["pp128", "pp512", "tg64", "pp128@d1024", "pp512@d1024", "tg64@d1024"]);
        let only = BenchOptions { prompts: vec![0], generate: vec![32], depths: vec![7], ..options() };
        let names: Vec<String> = only.tests().iter().map(Test::to_string).collect();
        assert_eq!(names, ["tg32@d7"]);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let fail = |options: BenchOptions| options.check().unwrap_err().to_string();
        assert!(options().check().is_ok());
        assert!(fail(BenchOptions { repetitions: 0, ..options() }).contains("repetitions is 0"));
        assert!(fail(BenchOptions { threads: vec![1, 0], ..options() }).contains("threads is 0"));
        assert!(fail(BenchOptions { threads: vec![], ..options() }).contains("nothing to measure"));
        assert!(fail(BenchOptions { depths: vec![usize::MAX], ..options() }).contains("depth is"));
        assert!(fail(BenchOptions { prompts: vec![usize::MAX], ..options() }).contains("tokens is"));
        let none = BenchOptions { prompts: vec![0], generate: vec![], ..options() };
        assert!(fail(none).contains("nothing to measure"));
    }

    /// A model that counts what it is given.
    struct Counter {
        position: usize,
        /// `(position before, tokens)` of every call.
        calls: Vec<(usize, usize)>,
    }

    impl LanguageModel for Counter {
        fn context(&self) -> usize {
            100
        }

        fn vocab_size(&self) -> usize {
            4
        }

        fn position(&self) -> usize {
            self.position
        }

        fn truncate(&mut self, position: usize) {
            self.position = self.position.min(position);
        }

        fn logit_rows(&self) -> usize {
            1
        }

        fn feed_rows(
            &mut self,
            tokens: &[u32],
            rows: usize,
            _: &dyn Fn() -> bool,
        ) -> Result<LogitRows<'_>, ModelError> {
            assert_eq!(rows, 1);
            assert!(tokens.iter().all(|&token| token < 4));
            self.calls.push((self.position, tokens.len()));
            self.position += tokens.len();
            Ok(LogitRows { vocab: 4, values: &[], peaks: &[] })
        }
    }

    #[test]
    fn a_test_feeds_what_its_name_says() {
        let run = |test: Test| {
            let mut model = Counter { position: 9, calls: vec![] };
            let seconds = time(&mut model, &test, 2, &mut RandomTokens::new(4)).unwrap();
            assert_eq!(seconds.len(), 2);
            model.calls
        };
        let prompt = Test { work: Work::Prompt, tokens: 5, depth: 0 };
        assert_eq!(run(prompt), [(0, 5), (0, 5), (0, 5)]);
        let generate = Test { work: Work::Generate, tokens: 2, depth: 10 };
        assert_eq!(run(generate), [(0, 10), (10, 1), (11, 1), (10, 1), (11, 1), (10, 1), (11, 1)]);
    }

    #[test]
    fn rates_by_hand() {
        let test = Test { work: Work::Prompt, tokens: 128, depth: 0 };
        assert_eq!(rates(&test, &[0.5, 2.0]), [256.0, 64.0]);
    }

    /// 3 tokens after 10 find 11, 12 and 13 positions: 12 on average.
    #[test]
    fn bandwidth_share_by_hand() {
        let traffic = Traffic { weights: 1_000_000, position: 1000 };
        let test = Test { work: Work::Generate, tokens: 3, depth: 10 };
        assert_eq!(traffic.per_token(&test), 1_012_000.0);
        let row = Row::new(&test, 1, vec![400.0, 500.0, 9.0, 900.0], &traffic, Some(0.9)).unwrap();
        assert_eq!(row.tok_s, Summary { median: 450.0, min: 9.0, max: 900.0 });
        assert!((row.bandwidth_share.unwrap() - 0.506).abs() < 1e-12);
        let prompt = Test { work: Work::Prompt, ..test };
        assert_eq!(Row::new(&prompt, 1, vec![1.0], &traffic, Some(0.9)).unwrap().bandwidth_share, None);
        assert!(Row::new(&test, 1, vec![], &traffic, None).is_none());
    }
}
