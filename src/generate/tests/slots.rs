//! Several jobs at once on a tiny model: each ends as if it were alone.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use rand::rngs::ChaCha12Rng;
use rand::{RngExt, SeedableRng};

use crate::generate::{
    CancelHandle, Choice, Done, Draw, Engine, FilterError, FinishReason, GenerateError, Job, LogitFilter,
    OnEvent, Outcome, Predicted, Request, SamplerOptions, Session, Slots, Ticket,
};
use crate::gguf::GgufFile;
use crate::kernels::{Kernels, KvType};
use crate::model::{Model, ModelError, RunOptions, Runner};
use crate::text::{Tokenizer, TokenizerOptions};

const CONTEXT: usize = 120;
const ROWS: usize = 4;

fn options(slots: usize, threads: usize, kv: KvType) -> RunOptions {
    RunOptions { context: CONTEXT, threads, slots, logit_rows: ROWS, kv }
}

fn tiny() -> (Arc<Model>, Arc<Tokenizer>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo.gguf");
    let file = GgufFile::open(path.as_ref()).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap());
    (Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap()), tokenizer)
}

/// What is asked: prompts of which many begin alike, with every kind of option.
#[derive(Clone, Debug)]
enum Ask {
    Generate { prompt: Vec<u32>, sampler: SamplerOptions, lookup: usize, max_tokens: usize },
    Choose { prompt: Vec<u32>, choices: Vec<String>, draw: Option<Draw> },
    Predict(Vec<Predicted>),
}

/// What came of it; of timings nothing.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Text(Vec<u32>, String, FinishReason, Option<u64>),
    Chosen(String, Vec<Choice>),
    Predicted(Vec<u64>),
}

fn tokens(random: &mut ChaCha12Rng, len: usize) -> Vec<u32> {
    let same = random.random_range(0..3);
    (0..len as u32)
        .map(|i| if i < 40 { 5 + (i * 7 + same) % 90 } else { random.random_range(5..400) })
        .collect()
}

fn ask(random: &mut ChaCha12Rng) -> Ask {
    let len = random.random_range(1..90);
    let prompt = tokens(random, len);
    match random.random_range(0..6) {
        0 => {
            let choices = ["yes", "no", "yes and no", "perhaps", "door"].map(str::to_owned).to_vec();
            let draw = (len % 2 == 0).then_some(Draw { temperature: 1.0, seed: len as u64 });
            Ask::Choose { prompt, choices, draw }
        }
        1 => {
            let texts = (0..3).map(|i| {
                let ends = tokens(random, 2 + i * 3);
                Predicted { tokens: [prompt.as_slice(), &ends].concat(), first: prompt.len() }
            });
            Ask::Predict(texts.collect())
        }
        kind => {
            let sampler = SamplerOptions {
                temperature: if kind == 2 { 0.0 } else { 0.9 },
                seed: random.random(),
                ..SamplerOptions::default()
            };
            let (lookup, max_tokens) = (if kind == 3 { ROWS - 1 } else { 0 }, random.random_range(0..25));
            Ask::Generate { prompt, sampler, lookup, max_tokens }
        }
    }
}

/// Where predictions go.
type Sums = Arc<Mutex<Vec<u64>>>;

impl Ask {
    /// The job, and where its predictions go.
    fn job(&self, cancel: &CancelHandle) -> (Job<'static>, Sums) {
        let sums = Arc::new(Mutex::new(vec![]));
        let job = match self.clone() {
            Ask::Generate { prompt, sampler, lookup, max_tokens } => {
                let request = Request {
                    max_tokens: Some(max_tokens),
                    sampler,
                    lookup,
                    logprobs: Some(1),
                    cancel: Some(cancel.clone()),
                    ..Request::new(prompt)
                };
                Job::Generate(request, Box::new(|_| ControlFlow::Continue(())))
            }
            Ask::Choose { prompt, choices, draw } => {
                Job::Choose(Request { cancel: Some(cancel.clone()), ..Request::new(prompt) }, choices, draw)
            }
            Ask::Predict(texts) => {
                let sums = Arc::clone(&sums);
                let visit = move |text: usize, at: usize, logits: &[f32]| {
                    let bits = logits.iter().fold(at as u64, |hash, logit| {
                        hash.wrapping_mul(31).wrapping_add(u64::from(logit.to_bits()))
                    });
                    sums.lock().unwrap().push(bits.wrapping_add(text as u64));
                };
                Job::Predict(texts, Some(cancel.clone()), Box::new(visit))
            }
        };
        (job, sums)
    }

    /// What a session says, alone.
    fn alone(&self, session: &mut Session<Runner>) -> Said {
        let (job, sums) = self.job(&CancelHandle::new());
        match job {
            Job::Generate(request, mut on_token) => {
                said(Done::Generated(session.generate(request, &mut on_token).unwrap()), &sums)
            }
            Job::Choose(request, choices, draw) => {
                let (outcome, choices) = session.choose(&request, &choices, draw).unwrap();
                said(Done::Chosen(outcome, choices), &sums)
            }
            Job::Predict(texts, _, visit) => {
                session.predictions(texts, None, visit).unwrap();
                said(Done::Predicted, &sums)
            }
        }
    }
}

fn said(done: Done, sums: &Mutex<Vec<u64>>) -> Said {
    match done {
        Done::Generated(Outcome { tokens, text, finish, logprob, .. }) => {
            Said::Text(tokens, text, finish, logprob.map(f64::to_bits))
        }
        Done::Chosen(outcome, choices) => Said::Chosen(outcome.text, choices),
        Done::Predicted => Said::Predicted(sums.lock().unwrap().clone()),
    }
}

fn is_cancelled(result: &Result<Done, GenerateError>) -> bool {
    match result {
        Ok(Done::Generated(outcome) | Done::Chosen(outcome, _)) => outcome.finish == FinishReason::Cancelled,
        Ok(Done::Predicted) => false,
        Err(error) => matches!(error, GenerateError::Model(ModelError::Cancelled)),
    }
}

/// Jobs that arrive at random, some of which are cancelled at random.
#[test]
fn every_job_ends_as_if_it_were_alone() {
    let (model, tokenizer) = tiny();
    let mut cancelled = 0;
    for seed in 0..40 {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let kv = if seed % 2 == 0 { KvType::F16 } else { KvType::Q8_0 };
        let (count, threads) = (1 + seed as usize % 6, 1 + seed as usize % 4);
        let runner = Runner::new(Arc::clone(&model), &options(1, 1, kv)).unwrap();
        let mut session = Session::new(runner, Arc::clone(&tokenizer));
        let mut slots = Slots::new(Arc::clone(&model), &tokenizer, &options(count, threads, kv), 3).unwrap();
        let mut left = 12;
        let mut jobs: Vec<(Ticket, Ask, CancelHandle, Sums)> = vec![];
        while left > 0 || !slots.is_empty() {
            while left > 0 && random.random_range(0..3) > 0 {
                let (ask, cancel) = (ask(&mut random), CancelHandle::new());
                let (job, sums) = ask.job(&cancel);
                match slots.submit(job) {
                    Ok(ticket) => jobs.push((ticket, ask, cancel, sums)),
                    Err(error) => {
                        assert!(matches!(error, GenerateError::QueueFull { limit: 3 }), "{error}");
                        break;
                    }
                }
                left -= 1;
            }
            if random.random_range(0..12) == 0 && !jobs.is_empty() {
                let at = random.random_range(0..jobs.len());
                jobs[at].2.cancel();
            }
            slots.step(&mut |ticket, result| {
                let at = jobs.iter().position(|job| job.0 == ticket).unwrap();
                let (_, ask, cancel, sums) = jobs.swap_remove(at);
                if cancel.is_cancelled() && is_cancelled(&result) {
                    cancelled += 1;
                } else {
                    assert_eq!(said(result.unwrap(), &sums), ask.alone(&mut session), "{seed} {ask:?}");
                }
            });
        }
        assert!(jobs.is_empty());
    }
    assert!(cancelled > 10, "{cancelled}");
}

/// A prompt that another slot has, or is reading, is not read again.
#[test]
fn common_beginnings_are_read_once() {
    let (model, tokenizer) = tiny();
    let mut slots = Slots::new(model, &tokenizer, &options(4, 1, KvType::F16), 8).unwrap();
    let prompt: Vec<u32> = (5..105).collect();
    let ask = |last: u32| {
        let request = Request { max_tokens: Some(3), ..Request::new([prompt.as_slice(), &[last]].concat()) };
        Job::Generate(request, Box::new(|_| ControlFlow::Continue(())))
    };
    let mut cached = vec![];
    (0..4).for_each(|last| _ = slots.submit(ask(200 + last)).unwrap());
    while slots.step(&mut |_, done| match done.unwrap() {
        Done::Generated(outcome) => cached.push(outcome.cached_tokens),
        other => panic!("{other:?}"),
    }) {}
    cached.sort_unstable();
    assert_eq!(cached, [0, 100, 100, 100]);
}

/// What many prompts begin with stays, whoever else asks.
#[test]
fn a_beginning_outlives_prompts_that_have_little_of_it() {
    let (model, tokenizer) = tiny();
    let mut slots = Slots::new(model, &tokenizer, &options(3, 1, KvType::F16), 8).unwrap();
    let opening: Vec<u32> = (5..35).collect();
    let ask = |slots: &mut Slots<'static>, prompt: Vec<u32>| {
        let request = Request { max_tokens: Some(2), ..Request::new(prompt) };
        slots.submit(Job::Generate(request, Box::new(|_| ControlFlow::Continue(())))).unwrap();
        let mut cached = 0;
        while slots.step(&mut |_, done| match done.unwrap() {
            Done::Generated(outcome) => cached = outcome.cached_tokens,
            other => panic!("{other:?}"),
        }) {}
        cached
    };
    assert_eq!(ask(&mut slots, [opening.as_slice(), &[300]].concat()), 0);
    // Others, with a beginning of one token.
    ask(&mut slots, [&opening[..1], (100..150).collect::<Vec<u32>>().as_slice()].concat());
    ask(&mut slots, (200..250).collect());
    let talk = [opening.as_slice(), (301..361).collect::<Vec<u32>>().as_slice()].concat();
    assert_eq!(ask(&mut slots, talk.clone()), 30);
    assert_eq!(ask(&mut slots, [opening.as_slice(), &[400]].concat()), 30);
    // The talk goes on where it was.
    assert!(ask(&mut slots, [talk.as_slice(), &[405]].concat()) >= 90);
}

/// Lets no answer end by itself, and fails at a token.
struct Endless {
    ends: Vec<u32>,
    fails_at: usize,
    asked: usize,
}

impl Endless {
    fn filter(tokenizer: &Tokenizer, fails_at: usize) -> Option<Box<dyn LogitFilter>> {
        Some(Box::new(Endless { ends: tokenizer.end_ids().to_vec(), fails_at, asked: 0 }))
    }
}

impl LogitFilter for Endless {
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        self.ends.iter().for_each(|id| logits[*id as usize] = f32::NEG_INFINITY);
        self.asked += 1;
        if self.asked == self.fails_at { Err("planned".into()) } else { Ok(()) }
    }

    fn accept(&mut self, _: u32) -> Result<(), FilterError> {
        Ok(())
    }
}

#[test]
fn what_fails_ends_alone() {
    let (model, tokenizer) = tiny();
    let mut slots = Slots::new(Arc::clone(&model), &tokenizer, &options(3, 2, KvType::F16), 8).unwrap();
    let go_on = || -> OnEvent<'static> { Box::new(|_| ControlFlow::Continue(())) };
    let good = || Request {
        max_tokens: Some(9),
        sampler: SamplerOptions::greedy(),
        filter: Endless::filter(&tokenizer, 0),
        ..Request::new(vec![7u32, 8, 9])
    };
    let cancelled = CancelHandle::new();
    cancelled.cancel();
    let bad = [
        Request::new(vec![]),
        Request::new(vec![7; CONTEXT + 1]),
        Request::new(vec![7, u32::MAX]),
        Request { filter: Endless::filter(&tokenizer, 3), ..good() },
        Request { lookup: ROWS, ..good() },
    ];
    let mut expected =
        vec![("empty", 0), ("121 tokens", 0), ("outside the vocabulary", 0), ("planned", 0), ("lookup", 0)];
    let first = slots.submit(Job::Generate(good(), go_on())).unwrap();
    let tickets: Vec<Ticket> =
        bad.into_iter().map(|request| slots.submit(Job::Generate(request, go_on())).unwrap()).collect();
    let before = slots.submit(Job::Generate(Request { cancel: Some(cancelled), ..good() }, go_on())).unwrap();
    let last = slots.submit(Job::Generate(good(), go_on())).unwrap();
    let (mut texts, mut was_cancelled) = (vec![], false);
    while slots.step(&mut |ticket, done| match done {
        Err(error) if ticket == before => {
            assert!(matches!(error, GenerateError::Model(ModelError::Cancelled)), "{error}");
            was_cancelled = true;
        }
        Ok(Done::Generated(outcome)) => {
            assert!(ticket == first || ticket == last);
            texts.push(outcome.tokens);
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            let at = tickets.iter().position(|other| *other == ticket).unwrap();
            assert!(error.to_string().contains(expected[at].0), "{error}");
            expected[at].1 += 1;
        }
    }) {}
    assert!(was_cancelled && expected.iter().all(|(_, count)| *count == 1), "{expected:?}");
    assert!(texts.len() == 2 && texts[0] == texts[1] && texts[0].len() == 9, "{texts:?}");
}

/// A running answer gets a token in every step, however long the prompts are that arrive.
#[test]
fn an_answer_waits_for_one_tile_at_most() {
    let (model, tokenizer) = tiny();
    let mut slots = Slots::new(model, &tokenizer, &options(4, 1, KvType::F16), 8).unwrap();
    let seen = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&seen);
    let request = Request {
        max_tokens: Some(30),
        sampler: SamplerOptions::greedy(),
        filter: Endless::filter(&tokenizer, 0),
        ..Request::new(vec![7u32])
    };
    let count: OnEvent<'static> = Box::new(move |_| {
        *counted.lock().unwrap() += 1;
        ControlFlow::Continue(())
    });
    slots.submit(Job::Generate(request, count)).unwrap();
    slots.step(&mut |_, _| ());
    for last in 0..3 {
        let prompt: Vec<u32> = (0..CONTEXT as u32 - 5).map(|i| 5 + (i * 11 + last * 29) % 300).collect();
        let request = Request { max_tokens: Some(1), ..Request::new(prompt) };
        slots.submit(Job::Generate(request, Box::new(|_| ControlFlow::Continue(())))).unwrap();
    }
    let mut steps = 0;
    while slots.jobs() > 1 {
        let before = *seen.lock().unwrap();
        slots.step(&mut |_, _| ());
        assert_eq!(*seen.lock().unwrap(), before + 1);
        steps += 1;
    }
    assert!((5..=10).contains(&steps), "{steps} steps for 345 tokens");
}

/// A filter that panics, and a callback that does.
struct Broken;

impl LogitFilter for Broken {
    fn apply(&mut self, _: &mut [f32]) -> Result<(), FilterError> {
        panic!("planned")
    }

    fn accept(&mut self, _: u32) -> Result<(), FilterError> {
        Ok(())
    }
}

type Answer = Result<Done, GenerateError>;

fn ask_engine(
    engine: &Engine,
    job: Job<'static>,
) -> Result<std::sync::mpsc::Receiver<Answer>, GenerateError> {
    let (send, done) = std::sync::mpsc::channel();
    engine.submit(job, Box::new(move |answer| _ = send.send(answer)))?;
    Ok(done)
}

fn endless(tokenizer: &Tokenizer, cancel: &CancelHandle) -> Job<'static> {
    let request = Request {
        cancel: Some(cancel.clone()),
        filter: Endless::filter(tokenizer, 0),
        ..Request::new(vec![7u32, 8])
    };
    Job::Generate(request, Box::new(|_| ControlFlow::Continue(())))
}

#[test]
fn an_engine_answers_many_threads_as_slots_do() {
    let (model, tokenizer) = tiny();
    let slots =
        |count| Slots::new(Arc::clone(&model), &tokenizer, &options(count, 1, KvType::F16), 64).unwrap();
    let job = |seed: u32| {
        let request =
            Request { max_tokens: Some(6), ..Request::new((5..20 + seed % 5).collect::<Vec<u32>>()) };
        Job::Generate(request, Box::new(|_| ControlFlow::Continue(())))
    };
    let mut alone = slots(1);
    let mut expected = vec![];
    for seed in 0..12 {
        alone.submit(job(seed)).unwrap();
        while alone.step(&mut |_, done| expected.push(text(done))) {}
    }
    let engine = Engine::start(slots(3), 64).unwrap();
    std::thread::scope(|scope| {
        for (seed, expected) in (0..).zip(&expected) {
            let engine = &engine;
            scope.spawn(move || {
                let done = ask_engine(engine, job(seed)).unwrap().recv().unwrap();
                assert_eq!(text(done), *expected);
            });
        }
    });
    assert_eq!((engine.load().running, engine.load().waiting), (0, 0));
}

fn text(done: Answer) -> String {
    match done.unwrap() {
        Done::Generated(outcome) => outcome.text,
        other => panic!("{other:?}"),
    }
}

/// Who has an answer may ask for the load at once, and sees no slot busy with it.
#[test]
fn an_engine_counts_no_job_that_it_tells_of() {
    let (model, tokenizer) = tiny();
    let slots = Slots::new(model, &tokenizer, &options(2, 1, KvType::F16), 8).unwrap();
    // It must not end on its own thread, where the last handle could be dropped.
    let engine: &'static Engine = Box::leak(Box::new(Engine::start(slots, 8).unwrap()));
    let request = Request { max_tokens: Some(6), ..Request::new(vec![9u32]) };
    let (tell, told) = std::sync::mpsc::channel();
    let on_done: crate::generate::OnDone = Box::new(move |done| {
        let load = engine.load();
        tell.send((done.is_ok(), load.running, load.waiting)).unwrap();
    });
    engine.submit(Job::Generate(request, Box::new(|_| ControlFlow::Continue(()))), on_done).unwrap();
    assert_eq!(told.recv().unwrap(), (true, 0, 0));
}

#[test]
fn an_engine_survives_panics_and_says_when_it_is_full() {
    let (model, tokenizer) = tiny();
    let slots = Slots::new(model, &tokenizer, &options(2, 1, KvType::F16), 8).unwrap();
    let engine = Engine::start(slots, 1).unwrap();
    let cancel = CancelHandle::new();
    let running = ask_engine(&engine, endless(&tokenizer, &cancel)).unwrap();
    let request = |filter| Request { max_tokens: Some(3), filter, ..Request::new(vec![9u32]) };
    let broken: [Job<'static>; 2] = [
        Job::Generate(request(Some(Box::new(Broken))), Box::new(|_| ControlFlow::Continue(()))),
        Job::Generate(request(None), Box::new(|_| panic!("planned"))),
    ];
    for job in broken {
        let done = ask_engine(&engine, job).unwrap().recv().unwrap();
        assert!(matches!(done, Err(GenerateError::Panicked)), "{done:?}");
    }
    let others: Vec<_> = (0..2).map(|_| ask_engine(&engine, endless(&tokenizer, &cancel)).unwrap()).collect();
    let full = ask_engine(&engine, endless(&tokenizer, &cancel));
    assert!(matches!(full, Err(GenerateError::QueueFull { limit: 1 })));
    cancel.cancel();
    let is_over = |done: Answer| match done {
        Ok(Done::Generated(outcome)) => {
            matches!(outcome.finish, FinishReason::Cancelled | FinishReason::Context)
        }
        Err(error) => matches!(error, GenerateError::Model(ModelError::Cancelled)),
        Ok(_) => false,
    };
    assert!(is_over(running.recv().unwrap()));
    assert!(others.iter().all(|other| is_over(other.recv().unwrap())));
    let again = ask_engine(&engine, Job::Generate(request(None), Box::new(|_| ControlFlow::Continue(()))));
    assert!(again.unwrap().recv().unwrap().is_ok());
    let left = ask_engine(&engine, endless(&tokenizer, &CancelHandle::new())).unwrap();
    drop(engine);
    assert!(left.recv().is_err(), "whoever waits learns that there is no engine");
}
