//! The embedded demo model: its golden ids, and its accuracy on requests phrased as none of the training's.

use crate::shared::repository;
use smolt::generate::{Request, SamplerOptions, Session};
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{LanguageModel, Logits, Model, ModelError, RunOptions, Runner};
use smolt::text::{EncodeOptions, Tokenizer, TokenizerOptions};
use std::ops::ControlFlow;
use std::sync::Arc;

const FLOAT: &str = "tests/data/demo/demo-f16.gguf";
const EMBEDDED: &str = "src/cli/demo.gguf";

struct Demo {
    session: Session<Runner>,
    tokenizer: Arc<Tokenizer>,
}

impl Demo {
    fn open(path: &str) -> Self {
        let file = GgufFile::open(&repository(path)).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap());
        Self { session: Session::new(runner(&file), Arc::clone(&tokenizer)), tokenizer }
    }

    /// The greedy reply to one user turn in the model's chat format.
    fn reply(&mut self, prompt: &str) -> String {
        let mut ids = vec![];
        let mut add = |text: &str, parse_special| {
            let options = EncodeOptions { add_special: false, parse_special };
            self.tokenizer.encode(text, options, &mut ids).unwrap();
        };
        add("<|im_start|>user\n", true);
        add(prompt, false);
        add("<|im_end|>\n<|im_start|>assistant\n", true);
        let request =
            Request { max_tokens: Some(80), sampler: SamplerOptions::greedy(), ..Request::new(&ids) };
        self.session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap().text
    }
}

fn runner(file: &GgufFile) -> Runner {
    let model = Arc::new(Model::load(file, Kernels::detect().unwrap()).unwrap());
    Runner::new(model, &RunOptions { context: 256, threads: 1, slots: 1, logit_rows: 1, kv: KvType::F16 })
        .unwrap()
}

/// Commands answered with exactly the right action line, commands, other requests answered without one, and
/// other requests.
fn accuracy(model: &str) -> [usize; 4] {
    let mut demo = Demo::open(model);
    let text = std::fs::read_to_string(repository("prompts/demo-heldout.jsonl")).unwrap();
    let mut counts = [0; 4];
    for line in text.lines() {
        let item: serde_json::Value = serde_json::from_str(line).unwrap();
        let reply = demo.reply(item["prompt"].as_str().unwrap());
        let action = reply.lines().find(|line| line.starts_with('{'));
        let at = if item["action"].is_null() { 2 } else { 0 };
        counts[at] += usize::from(action == item["action"].as_str());
        counts[at + 1] += 1;
    }
    eprintln!(
        "{model}: actions {}/{}, none where none is due {}/{}",
        counts[0], counts[1], counts[2], counts[3]
    );
    counts
}

#[test]
fn commands_are_understood_in_new_phrasings() {
    let [float, commands, none, others] = accuracy(FLOAT);
    assert!(commands >= 100 && others >= 40, "{commands} commands, {others} other requests");
    assert!(float * 100 >= commands * 90 && none * 100 >= others * 90);
    let [embedded, _, none, _] = accuracy(EMBEDDED);
    assert!(embedded * 100 + commands >= float * 100, "4 bits may cost one point of a hundred");
    assert!(none * 100 >= others * 90);
    let file = GgufFile::open(&repository(EMBEDDED)).unwrap();
    let bits: u64 = file.tensors().iter().map(|tensor| 8 * tensor.bytes).sum();
    let weights: u64 = file.tensors().iter().map(|tensor| tensor.elements() as u64).sum();
    assert!(bits as f64 <= 4.6 * weights as f64, "{bits} bits for {weights} weights");
}

/// Continuations of the float model, computed by the training program's own forward pass in f32.
#[test]
fn greedy_tokens_equal_the_training_program() {
    let golden = std::fs::read(repository("tests/data/demo/greedy.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let ids = |v: &serde_json::Value| -> Vec<u32> {
        v.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let mut runner = runner(&GgufFile::open(&repository(FLOAT)).unwrap());
    let argmax =
        |logits: &[f32]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
    let cases = golden.as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let (prompt, expected) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
        assert!(expected.len() >= 24);
        runner.truncate(0);
        let mut input = prompt;
        for expected in expected {
            let next = argmax(runner.feed(&input, &|| false).unwrap());
            assert_eq!(next, expected, "{}", case["prompt"]);
            input = vec![next];
        }
    }
}

/// Guessing ahead changes no token, greedy or drawn, and does guess.
#[test]
fn lookup_changes_no_token() {
    let file = GgufFile::open(&repository(EMBEDDED)).unwrap();
    let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
    let runner = Runner::new(
        model,
        &RunOptions { context: 256, threads: 2, slots: 1, logit_rows: 8, kv: KvType::F16 },
    )
    .unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap());
    let mut session = Session::new(runner, Arc::clone(&tokenizer));
    let text = std::fs::read_to_string(repository("prompts/demo-heldout.jsonl")).unwrap();
    let (mut drafted, mut accepted) = (0, 0);
    for (seed, line) in text.lines().enumerate().step_by(3) {
        let item: serde_json::Value = serde_json::from_str(line).unwrap();
        let prompt = item["prompt"].as_str().unwrap();
        let turn = format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n");
        let mut ids = vec![];
        tokenizer.encode(&turn, EncodeOptions { add_special: false, parse_special: true }, &mut ids).unwrap();
        let drawn = SamplerOptions { temperature: 1.2, seed: seed as u64, ..SamplerOptions::default() };
        for sampler in [SamplerOptions::greedy(), drawn] {
            let mut ask = |lookup| {
                let max_tokens = Some(100);
                let request = Request { sampler: sampler.clone(), max_tokens, lookup, ..Request::new(&ids) };
                session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap()
            };
            let (plain, guessed) = (ask(0), ask(7));
            assert_eq!((guessed.tokens, guessed.finish), (plain.tokens, plain.finish), "{prompt}");
            drafted += guessed.timings.drafted_tokens;
            accepted += guessed.timings.accepted_tokens;
        }
    }
    eprintln!("{accepted} of {drafted} guesses right");
    assert!(accepted > 0 && drafted > accepted);
}

/// Rows of logits and their peaks, also across two tiles of a prompt, for any number of threads.
#[test]
fn rows_of_logits_are_those_of_single_tokens() {
    let file = GgufFile::open(&repository(EMBEDDED)).unwrap();
    let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
    let vocab = model.spec().vocab;
    let tokens: Vec<u32> = (0..70).map(|i| (i * 7919) % vocab as u32).collect();
    let mut single = runner(&file);
    let expected: Vec<Vec<f32>> =
        tokens.iter().map(|token| single.feed(&[*token], &|| false).unwrap().to_vec()).collect();
    for threads in 1..=4 {
        let options = RunOptions { context: 70, threads, slots: 1, logit_rows: 8, kv: KvType::F16 };
        let mut runner = Runner::new(Arc::clone(&model), &options).unwrap();
        for (len, rows) in [(70, 8), (67, 5), (64, 8), (8, 8), (1, 1), (70, 1), (65, 2)] {
            runner.truncate(0);
            let given = runner.feed_rows(&tokens[..len], rows, &|| false).unwrap();
            assert_eq!(given.rows().count(), rows);
            for (row, logits) in given.rows().enumerate() {
                assert!(logits.values == expected[len - rows + row], "{threads} threads, {row} of {rows}");
                assert_eq!(logits.peaks, Logits::scan(logits.values, &mut vec![]).peaks);
            }
        }
        runner.truncate(0);
        for (len, rows) in [(4, 5), (20, 9)] {
            let refused = runner.feed_rows(&tokens[..len], rows, &|| false).unwrap_err();
            assert!(matches!(refused, ModelError::LogitRows { found, .. } if found == rows), "{refused}");
            assert_eq!(runner.position(), 0);
        }
    }
}
