//! The token loop allocates nothing.
//!
//! One test in its own program: the counters see every thread.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counting;

use counting::CALLS;
use smolt::generate::{CallFormat, Job, Layout, Request, SamplerOptions, Session, Slots, Timings};
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{Model, RunOptions, Runner};
use smolt::text::{EncodeOptions, ReasoningMarks, Tokenizer, TokenizerOptions};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const TOKENS: usize = 60;
const MARKS: ReasoningMarks = ReasoningMarks { open: "T", close: "the", answer: ("", "") };

/// Allocations between the first token and the last of an answer.
fn allocations(
    session: &mut Session<Runner>,
    prompt: &[u32],
    sampler: SamplerOptions,
    lookup: usize,
    layout: Option<&Layout>,
) -> (usize, Timings) {
    let stop = ["never said".to_owned()];
    let request = Request {
        max_tokens: Some(TOKENS),
        sampler,
        stop: (&stop).into(),
        logprobs: Some(3),
        lookup,
        loop_guard: true,
        layout: layout.map(std::borrow::Cow::Borrowed),
        ..Request::new(prompt)
    };
    let (mut seen, mut first, mut last) = (0, 0, 0);
    let outcome = session
        .generate(request, &mut |_| {
            seen += 1;
            last = CALLS.load(Relaxed);
            if seen == 1 {
                first = last;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(seen > 5, "too short an answer to judge: {seen} tokens");
    (last - first, outcome.timings)
}

#[test]
fn no_allocation_per_token() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo/demo-f16.gguf");
    let file = GgufFile::open(path.as_ref()).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap());
    let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
    let mut prompt = vec![];
    let options = EncodeOptions { add_special: false, parse_special: true };
    let request = "<|im_start|>user\nTurn on the kitchen lights<|im_end|>\n<|im_start|>assistant\n";
    tokenizer.encode(request, options, &mut prompt).unwrap();
    let mut drafted = 0;
    for threads in 1..=3 {
        let options = RunOptions { context: 128, threads, slots: 1, logit_rows: 8, kv: KvType::F16 };
        let runner = Runner::new(Arc::clone(&model), &options).unwrap();
        let mut session = Session::new(runner, Arc::clone(&tokenizer));
        let layout = Layout::new(&tokenizer, Some(&MARKS), CallFormat::named("json"));
        for (temperature, lookup, parts) in [
            (0.0, 0, false),
            (1.5, 0, false),
            (0.0, 7, false),
            (1.5, 7, false),
            (0.0, 0, true),
            (1.5, 0, true),
        ] {
            let layout = Some(&layout).filter(|_| parts);
            let sampler = SamplerOptions { temperature, ..SamplerOptions::default() };
            let (count, timings) = allocations(&mut session, &prompt, sampler, lookup, layout);
            assert_eq!(count, 0, "{threads} threads, temperature {temperature}, lookup {lookup}");
            drafted += timings.drafted_tokens;
        }
    }
    assert!(drafted > 0, "nothing was guessed ahead");
    for threads in 1..=2 {
        let options = RunOptions { context: 128, threads, slots: 3, logit_rows: 8, kv: KvType::F16 };
        let mut slots = Slots::new(Arc::clone(&model), &tokenizer, &options, 3).unwrap();
        for lookup in [0, 7] {
            assert_eq!(
                slot_allocations(&mut slots, &prompt, lookup),
                0,
                "{threads} threads, lookup {lookup}"
            );
        }
    }
}

/// Allocations of steps in which every slot has an answer under way.
fn slot_allocations(slots: &mut Slots<'static>, prompt: &[u32], lookup: usize) -> usize {
    for seed in 0..slots.len() as u64 {
        let request = Request {
            max_tokens: Some(TOKENS),
            sampler: SamplerOptions { temperature: 1.5, seed, ..SamplerOptions::default() },
            logprobs: Some(3),
            lookup,
            ..Request::new([prompt, &[7 + seed as u32]].concat())
        };
        slots.submit(Job::Generate(request, Box::new(|_| ControlFlow::Continue(())))).unwrap();
    }
    // Prompts are read, and every answer begun.
    (0..4).for_each(|_| _ = slots.step(&mut |_, _| ()));
    let (jobs, mut steps, before) = (slots.jobs(), 0, CALLS.load(Relaxed));
    assert_eq!(jobs, slots.len());
    let mut ended = 0;
    let mut after = before;
    while ended == 0 {
        after = CALLS.load(Relaxed);
        steps += 1;
        slots.step(&mut |_, _| ended += 1);
    }
    assert!(steps > 5, "too few steps to judge: {steps}");
    while slots.step(&mut |_, _| ()) {}
    after - before
}
