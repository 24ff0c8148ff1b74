//! The session on a model whose answers are known.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::generate::{
    CancelHandle, FilterError, FinishReason, GenerateError, LogitFilter, Outcome, Request, SamplerOptions,
    Session,
};
use crate::model::{LanguageModel, ModelError};

use super::{END, FakeModel, TILE, VOCAB, byte, bytes, greedy, mix, session, word};

/// Runs a request and collects its events as `(id, text)`.
fn run(session: &mut Session<FakeModel>, request: Request<'_>) -> (Outcome, Vec<(Option<u32>, String)>) {
    let mut events = Vec::new();
    let outcome = session.generate(request, &mut |event| {
        events.push((event.id, event.text.to_owned()));
        ControlFlow::Continue(())
    });
    (outcome.unwrap(), events)
}

fn fails(session: &mut Session<FakeModel>, request: Request<'_>) -> GenerateError {
    session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap_err()
}

/// The session scripted to answer the prompt `Hi` with `script`.
fn answering(script: &[u32]) -> Session<FakeModel> {
    session(FakeModel::scripted(64, 2, script.to_vec()))
}

fn ids(events: &[(Option<u32>, String)]) -> Vec<u32> {
    events.iter().filter_map(|(id, _)| *id).collect()
}

fn texts(events: &[(Option<u32>, String)]) -> Vec<&str> {
    events.iter().map(|(_, text)| text.as_str()).collect()
}

#[test]
fn an_answer_streams_and_ends_at_the_end_token() {
    let script = [word("The"), word(" cat"), word(" sat")];
    let prompt = bytes("Hi");
    let (outcome, events) = run(&mut answering(&script), greedy(&prompt));
    assert_eq!(outcome.tokens, script);
    assert_eq!(outcome.text, "The cat sat");
    assert_eq!(outcome.finish, FinishReason::EndToken(END));
    assert_eq!((outcome.prompt_tokens, outcome.cached_tokens), (2, 0));
    assert_eq!(ids(&events), script);
    assert_eq!(texts(&events), ["The", " cat", " sat"]);
    assert_eq!((outcome.timings.fed_tokens, outcome.timings.sampled_tokens), (2, 4));
    assert!(outcome.timings.first_token.unwrap() <= outcome.timings.total);
}

#[test]
fn a_stop_string_across_tokens_is_never_seen() {
    let script = [word("The"), word(" ST"), word("OP"), word(" ST"), word("OP"), word("P!"), word(" cat")];
    let prompt = bytes("Hi");
    let stop = ["zzz".to_owned(), " STOPP".to_owned()];
    let (outcome, events) = run(&mut answering(&script), Request { stop: (&stop).into(), ..greedy(&prompt) });
    assert_eq!(outcome.text, "The STOP");
    assert_eq!(outcome.finish, FinishReason::StopString(1));
    assert_eq!(outcome.tokens, script[..6]);
    assert_eq!(texts(&events), ["The", "", "", " STOP", "", ""]);

    let (outcome, events) = run(
        &mut answering(&[word("The"), word(" STOPPING")]),
        Request { stop: (&stop).into(), ..greedy(&prompt) },
    );
    assert_eq!((outcome.text.as_str(), texts(&events)), ("The", vec!["The", ""]));
}

#[test]
fn text_held_back_comes_at_the_end() {
    let script = [word("The"), word(" ST")];
    let prompt = bytes("Hi");
    let stop = [" STOP".to_owned()];
    let request = || Request { stop: (&stop).into(), ..greedy(&prompt) };

    let (outcome, events) = run(&mut answering(&script), request());
    assert_eq!((outcome.text.as_str(), outcome.finish), ("The ST", FinishReason::EndToken(END)));
    assert_eq!(events[2], (None, " ST".to_owned()));

    let (outcome, events) = run(&mut answering(&script), Request { max_tokens: Some(2), ..request() });
    assert_eq!((outcome.text.as_str(), outcome.finish), ("The ST", FinishReason::Length));
    assert_eq!(texts(&events), ["The", " ST"]);
}

#[test]
fn characters_are_never_split() {
    let script: Vec<u32> = bytes("é\u{1F600}!");
    let prompt = bytes("Hi");
    let (outcome, events) = run(&mut answering(&script), greedy(&prompt));
    assert_eq!(outcome.text, "é\u{1F600}!");
    assert_eq!(texts(&events), ["", "é", "", "", "", "\u{1F600}", "!"]);

    let (outcome, _) = run(&mut answering(&script), Request { max_tokens: Some(4), ..greedy(&prompt) });
    assert_eq!(
        (outcome.text.as_str(), outcome.tokens.len()),
        ("é", 4),
        "cut off: without the broken character"
    );

    let (outcome, events) = run(&mut answering(&script[..4]), greedy(&prompt));
    assert_eq!(outcome.text, "é\u{FFFD}", "the model ended within a character");
    assert_eq!(events[4], (None, "\u{FFFD}".to_owned()));
}

#[test]
fn the_shared_prefix_is_not_fed_again() {
    let mut session = session(FakeModel::hashed(64));
    let mut fed_before = 0;
    let mut ask = |prompt: &[u32], expected_cached: usize, answer: usize| -> Vec<u32> {
        let request = Request { max_tokens: Some(answer), ..greedy(prompt) };
        let (outcome, _) = run(&mut session, request);
        assert_eq!(outcome.cached_tokens, expected_cached);
        let fed = session.model().fed.get();
        // The last token of an answer is not fed.
        assert_eq!(fed - fed_before, prompt.len() - expected_cached + answer.saturating_sub(1));
        assert_eq!(outcome.timings.fed_tokens, prompt.len() - expected_cached);
        fed_before = fed;
        let cached = [prompt, &outcome.tokens[..answer.saturating_sub(1)]].concat();
        assert_eq!(session.cached(), cached);
        assert_eq!(session.model().history, cached);
        // The cache has no influence on the answer.
        let (fresh, _) = run(
            &mut super::session(FakeModel::hashed(64)),
            Request { max_tokens: Some(answer), ..greedy(prompt) },
        );
        assert_eq!(outcome.tokens, fresh.tokens);
        outcome.tokens
    };
    let first = bytes("A first prompt");
    let answer = ask(&first, 0, 5);
    let second = [first.as_slice(), &answer, &bytes("more")].concat();
    ask(&second, first.len() + 4, 3);
    ask(&second, second.len() - 1, 3);
    ask(&first, first.len() - 1, 0);
    ask(&bytes("A first thing"), 8, 2);
    ask(&bytes("Other"), 0, 2);
    ask(&bytes("O"), 0, 1);
}

#[test]
fn a_model_may_forget_more_than_asked() {
    let mut model = FakeModel::hashed(64);
    model.indivisible = 10;
    let mut session = session(model);
    let long = bytes("0123456789abcdef");
    run(&mut session, Request { max_tokens: Some(1), ..greedy(&long) });
    let (outcome, _) = run(&mut session, Request { max_tokens: Some(1), ..greedy(&long[..12]) });
    assert_eq!(outcome.cached_tokens, 11);
    let (outcome, _) = run(&mut session, Request { max_tokens: Some(1), ..greedy(&long[..6]) });
    assert_eq!(outcome.cached_tokens, 0);
    assert_eq!(session.cached(), &long[..6]);
}

#[test]
fn cancelled_within_the_prompt() {
    let cancel = CancelHandle::new();
    let mut model = FakeModel::hashed(64);
    let remote = cancel.clone();
    model.after_tile = Box::new(move |position| {
        if position == 2 * TILE {
            remote.cancel();
        }
    });
    let mut session = session(model);
    let prompt = bytes("twenty tokens of it.");
    let request = || Request { cancel: Some(cancel.clone()), max_tokens: Some(2), ..greedy(&prompt) };
    let (outcome, events) = run(&mut session, request());
    assert_eq!(outcome.finish, FinishReason::Cancelled);
    assert!(outcome.tokens.is_empty() && outcome.text.is_empty() && events.is_empty());
    assert_eq!(outcome.timings.fed_tokens, 2 * TILE);
    assert_eq!(outcome.timings.first_token, None);
    assert_eq!(session.cached(), &prompt[..2 * TILE]);

    let (outcome, _) = run(&mut session, request());
    assert_eq!(outcome.finish, FinishReason::Cancelled, "until it is reset");
    assert_eq!(outcome.cached_tokens, 2 * TILE);
    cancel.reset();
    let (outcome, _) = run(&mut session, request());
    assert_eq!(
        (outcome.finish, outcome.cached_tokens, outcome.tokens.len()),
        (FinishReason::Length, 2 * TILE, 2)
    );
}

#[test]
fn cancelled_by_the_callback() {
    let mut session = session(FakeModel::hashed(64));
    let prompt = bytes("Go");
    let mut seen = 0;
    let outcome = session
        .generate(greedy(&prompt), &mut |_| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!((outcome.finish, outcome.tokens.len(), seen), (FinishReason::Cancelled, 3, 3));
    assert_eq!(session.cached().len(), 2 + 2);
}

#[test]
fn cancelled_from_another_thread() {
    let mut session = session(FakeModel::scripted(64, 2, [word("The"), word(" ST")].repeat(20)));
    let cancel = CancelHandle::new();
    let (ask, asked) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel::<()>();
    let remote = cancel.clone();
    let thread = std::thread::spawn(move || {
        asked.recv().unwrap();
        remote.cancel();
        tell.send(()).unwrap();
    });
    let prompt = bytes("Go");
    let stop = [" STOP".to_owned()];
    let mut events = Vec::new();
    let request = Request { cancel: Some(cancel.clone()), stop: (&stop).into(), ..greedy(&prompt) };
    let outcome = session
        .generate(request, &mut |event| {
            events.push((event.id, event.text.to_owned()));
            if events.len() == 4 {
                ask.send(()).unwrap();
                told.recv().unwrap();
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    thread.join().unwrap();
    assert_eq!((outcome.finish, outcome.tokens.len()), (FinishReason::Cancelled, 4));
    assert_eq!(outcome.text, "The STThe ST");
    assert_eq!(texts(&events), ["The", "", " STThe", "", " ST"]);
    assert_eq!(events[4].0, None);
}

#[test]
fn the_context_fills_up() {
    let prompt = bytes("0123456789");
    for context in [10, 11, 16] {
        let mut session = session(FakeModel::hashed(context));
        let (outcome, _) = run(&mut session, greedy(&prompt));
        assert_eq!(outcome.finish, FinishReason::Context);
        assert_eq!(outcome.tokens.len(), context + 1 - prompt.len());
        assert_eq!(session.model().position(), context);
        let (outcome, _) = run(&mut session, Request { max_tokens: Some(1), ..greedy(&prompt) });
        assert_eq!(outcome.finish, FinishReason::Length);
        let (outcome, _) = run(&mut session, Request { max_tokens: Some(usize::MAX), ..greedy(&prompt) });
        assert_eq!(outcome.finish, FinishReason::Context);
    }
    let error = fails(&mut session(FakeModel::hashed(9)), greedy(&prompt));
    assert!(matches!(error, GenerateError::PromptTooLong { tokens: 10, context: 9 }), "{error:?}");
}

#[test]
fn no_tokens_wanted_fills_the_cache_only() {
    let mut session = session(FakeModel::hashed(64));
    let prompt = bytes("A long system prompt");
    let (outcome, events) = run(&mut session, Request { max_tokens: Some(0), ..greedy(&prompt) });
    assert_eq!((outcome.finish, outcome.tokens.len(), events.len()), (FinishReason::Length, 0, 0));
    assert_eq!(session.cached(), prompt);
    session.clear();
    assert!(session.cached().is_empty());
    assert_eq!(session.model().position(), 0);
}

#[test]
fn seeds_reproduce_whatever_is_cached() {
    let prompt = bytes("Tell me");
    let draw = |session: &mut Session<FakeModel>, seed| {
        let sampler = SamplerOptions { seed, temperature: 0.8, ..SamplerOptions::default() };
        run(session, Request { sampler, max_tokens: Some(20), ..Request::new(&prompt) }).0.tokens
    };
    let mut old = session(FakeModel::hashed(64));
    let first = draw(&mut old, 5);
    assert_ne!(draw(&mut old, 6), first);
    assert_eq!(draw(&mut old, 5), first);
    assert_eq!(draw(&mut session(FakeModel::hashed(64)), 5), first);
}

#[test]
fn log_probabilities_come_with_every_token() {
    let mut session = session(FakeModel::hashed(64));
    let prompt = bytes("Go");
    let sampler = SamplerOptions { temperature: 3.0, repeat_penalty: 1.5, ..SamplerOptions::default() };
    let mut drawn = Vec::new();
    let request =
        Request { sampler, logprobs: Some(VOCAB.min(100)), max_tokens: Some(12), ..Request::new(&prompt) };
    session
        .generate(request, &mut |event| {
            let logprobs = event.logprobs.unwrap();
            assert_eq!(logprobs.top.len(), 100);
            assert!(logprobs.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
            if let Some(found) = logprobs.top.iter().find(|token| Some(token.id) == event.id) {
                assert_eq!(found.logprob, logprobs.chosen);
            }
            drawn.push((event.id.unwrap(), logprobs.chosen));
            ControlFlow::Continue(())
        })
        .unwrap();
    // The same from the model's rule itself, in f64.
    let model = FakeModel::hashed(64);
    let mut history = prompt.clone();
    for (id, logprob) in drawn {
        let mut logits = vec![0.0; VOCAB];
        (model.rule)(&history, &mut logits);
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let exact = f64::from(logits[id as usize]) - sum.ln();
        assert!((f64::from(logprob) - exact).abs() < 1e-5, "{logprob} {exact}");
        history.push(id);
    }
}

#[test]
fn the_prompt_counts_for_the_penalty() {
    let model = || {
        FakeModel::new(64, |_, logits| {
            logits.fill(-3.0);
            logits[byte(b'a') as usize] = 3.0;
            logits[byte(b'b') as usize] = 2.0;
        })
    };
    let prompt = bytes("ca");
    let sampler = SamplerOptions { repeat_penalty: 2.0, repeat_last_n: 2, ..SamplerOptions::greedy() };
    let request = Request { sampler, max_tokens: Some(4), ..Request::new(&prompt) };
    let (outcome, _) = run(&mut session(model()), request);
    // Penalized a has 1.5, penalized b 1. Of the last two, "ca" holds a, "ab" and "ba" both, "aa" a.
    assert_eq!(outcome.text, "baab");
    let (outcome, _) = run(&mut session(model()), Request { max_tokens: Some(4), ..greedy(&prompt) });
    assert_eq!(outcome.text, "aaaa");
}

/// Allows the tokens of `text` one after the other, then only the end token.
struct Dictate {
    text: Vec<u32>,
    accepted: Arc<Mutex<Vec<u32>>>,
}

impl LogitFilter for Dictate {
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        let at = self.accepted.lock().unwrap().len();
        let wanted = *self.text.get(at).unwrap_or(&END) as usize;
        let kept = logits[wanted].max(0.0);
        logits.fill(f32::NEG_INFINITY);
        logits[wanted] = kept;
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), FilterError> {
        if token == byte(b'?') {
            return Err("a question is not allowed".into());
        }
        self.accepted.lock().unwrap().push(token);
        Ok(())
    }
}

#[test]
fn a_filter_dictates_the_answer() {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let mut filter = Dictate { text: bytes("yes\u{e9}"), accepted: Arc::clone(&accepted) };
    let prompt = bytes("Go");
    let mut hashed = session(FakeModel::hashed(64));
    let (outcome, _) =
        run(&mut hashed, Request { filter: Some(Box::new(&mut filter)), ..Request::new(&prompt) });
    assert_eq!((outcome.text.as_str(), outcome.finish), ("yes\u{e9}", FinishReason::EndToken(END)));
    assert_eq!(*accepted.lock().unwrap(), [bytes("yes\u{e9}"), vec![END]].concat());

    let mut filter = Dictate { text: bytes("ye?"), accepted: Arc::default() };
    let error = fails(&mut hashed, Request { filter: Some(Box::new(&mut filter)), ..Request::new(&prompt) });
    assert_eq!(error.to_string(), "the constraint on the output failed: a question is not allowed");
    assert!(hashed.cached().is_empty(), "a failed request empties the cache");
    // Without a filter the session goes on as before.
    run(&mut hashed, Request { max_tokens: Some(3), ..Request::new(&prompt) });
}

#[test]
fn damaged_logits_fail_the_request_only() {
    let prompt = bytes("Go");
    let model = FakeModel::new(64, |history, logits| {
        let bad = history.len() == 4 && history[0] == byte(b'G');
        logits.fill(if bad { f32::NAN } else { 1.0 });
    });
    let mut session = session(model);
    let mut seen = 0;
    let result = session.generate(greedy(&prompt), &mut |_| {
        seen += 1;
        ControlFlow::Continue(())
    });
    let error = result.unwrap_err();
    assert!(error.to_string().contains("the model file may be damaged"), "{error}");
    assert_eq!(seen, 2);
    assert!(session.cached().is_empty());
    let other = bytes("go");
    let (outcome, _) = run(&mut session, Request { max_tokens: Some(5), ..greedy(&other) });
    assert_eq!(outcome.tokens.len(), 5);
}

#[test]
fn requests_are_checked_before_the_model_runs() {
    let mut session = session(FakeModel::hashed(64));
    let prompt = bytes("Go");
    run(&mut session, Request { max_tokens: Some(1), ..greedy(&prompt) });
    let fed = session.model().fed.get();
    let sampler = SamplerOptions { top_p: 2.0, ..SamplerOptions::default() };
    let empty = [String::new()];
    assert!(matches!(fails(&mut session, greedy(&[])), GenerateError::EmptyPrompt));
    let requests = [
        (Request { sampler, ..Request::new(&prompt) }, "top_p"),
        (Request { stop: (&empty).into(), ..Request::new(&prompt) }, "stop"),
        (Request { logprobs: Some(1000), ..Request::new(&prompt) }, "logprobs"),
    ];
    for (request, name) in requests {
        match fails(&mut session, request) {
            GenerateError::Option(error) => assert_eq!(error.option, name),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (session.model().fed.get(), session.cached()),
        (fed, prompt.as_slice()),
        "nothing was touched"
    );
    let error = fails(&mut session, greedy(&[VOCAB as u32]));
    assert!(matches!(error, GenerateError::Model(ModelError::TokenOutOfRange { .. })), "{error:?}");
}

#[test]
fn text_is_the_same_however_it_is_streamed() {
    let mut state = 77;
    for _ in 0..200 {
        let script: Vec<u32> = (0..12)
            .map(|_| {
                state = mix(state);
                3 + (state >> 33) as u32 % (VOCAB as u32 - 3)
            })
            .collect();
        let prompt = bytes("Hi");
        let mut session = answering(&script);
        let (outcome, events) = run(&mut session, greedy(&prompt));
        assert_eq!(outcome.text, session.tokenizer().decode_lossy(&script, true));
        assert_eq!(texts(&events).concat(), outcome.text);
    }
}

#[test]
fn an_answer_that_goes_in_circles_is_ended_if_asked_for() {
    let script: Vec<u32> = (0..80).map(|i| word([" cat", " sat"][i % 2])).collect();
    let (prompt, mut session) = (bytes("Hi"), session(FakeModel::scripted(200, 2, script.clone())));
    let guarded = || Request { loop_guard: true, ..greedy(&prompt) };
    for lookup in [0, 7] {
        let (outcome, events) = run(&mut session, Request { lookup, ..guarded() });
        assert_eq!((outcome.finish, outcome.tokens.as_slice()), (FinishReason::Loop, &script[..60]));
        assert_eq!(texts(&events).concat(), " cat sat".repeat(30));
    }
    // It says nothing of other answers, and the next request begins anew.
    let (outcome, _) = run(&mut session, Request { max_tokens: Some(59), ..guarded() });
    assert_eq!(outcome.finish, FinishReason::Length);
    let (outcome, _) = run(&mut session, greedy(&prompt));
    assert_eq!((outcome.finish, outcome.tokens), (FinishReason::EndToken(END), script));
    // What a stop string holds back is told.
    let stop = [" sat sat".to_owned()];
    let (outcome, events) = run(&mut session, Request { stop: (&stop).into(), ..guarded() });
    assert_eq!((outcome.finish, texts(&events).concat()), (FinishReason::Loop, outcome.text));
}

#[test]
fn a_stop_string_may_name_a_control_token() {
    const START: u32 = 1;
    let script = [word("The"), START, word(" cat")];
    let prompt = bytes("Hi");
    for (stop, index) in [(&["<s>"][..], 0), (&["dog", " <s>\n"], 1)] {
        let stop: Vec<String> = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let (outcome, events) =
            run(&mut answering(&script), Request { stop: (&stop).into(), ..greedy(&prompt) });
        assert_eq!((outcome.text.as_str(), outcome.finish), ("The", FinishReason::StopString(index)));
        assert_eq!(texts(&events).concat(), "The");
    }
    // Held back text comes out, and the next request has no such stop.
    let held = ["The cat".to_owned(), "<s>".to_owned()];
    let mut session = answering(&script);
    let (outcome, events) = run(&mut session, Request { stop: (&held).into(), ..greedy(&prompt) });
    assert_eq!((outcome.finish, texts(&events).concat()), (FinishReason::StopString(1), "The".to_owned()));
    assert_eq!(run(&mut session, greedy(&prompt)).0.text, "The cat");
}

#[test]
fn an_answer_ends_where_the_template_ends_it() {
    let (prompt, mut session) = (bytes("Hi"), answering(&[word("The"), 1, word(" cat")]));
    session.set_turn_end(Some(1));
    let (outcome, _) = run(&mut session, greedy(&prompt));
    assert_eq!((outcome.text.as_str(), outcome.finish), ("The", FinishReason::EndToken(1)));
    session.set_turn_end(None);
    assert_eq!(run(&mut session, greedy(&prompt)).0.text, "The cat");
}

#[test]
fn parts_are_those_that_a_callback_gets() {
    let script = [word("The"), word(" ST"), word("OP"), word(" cat"), word(" sat")];
    let prompt = bytes("Hi");
    let stop = [" STOPP".to_owned()];
    let request = || Request { stop: (&stop).into(), logprobs: Some(0), ..greedy(&prompt) };
    let (outcome, events) = run(&mut answering(&script), request());
    let mut session = answering(&script);
    let mut stream = session.stream(request()).unwrap();
    let parts: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
    let found: Vec<_> = parts.iter().map(|part| (part.id, part.text.clone())).collect();
    assert_eq!(found, events);
    assert!(parts.iter().all(|part| part.logprob.is_some() == part.id.is_some()));
    let whole = stream.finish().unwrap();
    assert_eq!((whole.text, whole.tokens, whole.finish), (outcome.text, outcome.tokens, outcome.finish));
}

#[test]
fn a_stream_may_be_left_and_an_error_is_its_last_item() {
    let script: Vec<u32> = [word("The"), word(" cat")].repeat(8);
    let prompt = bytes("Hi");
    let mut session = answering(&script);
    let first = session.stream(greedy(&prompt)).unwrap().next().unwrap().unwrap();
    assert_eq!(first.text, "The");
    assert!(session.cached().starts_with(&prompt));
    let (again, _) = run(&mut session, Request { max_tokens: Some(2), ..greedy(&prompt) });
    assert_eq!((again.text.as_str(), again.cached_tokens), ("The cat", 1));
    assert!(matches!(session.stream(greedy(&[])).err(), Some(GenerateError::EmptyPrompt)));
    let request = Request { filter: Some(Box::new(Failing)), ..greedy(&prompt) };
    let items: Vec<_> = session.stream(request).unwrap().collect();
    assert!(matches!(items.as_slice(), [Err(GenerateError::Filter(_))]), "{items:?}");
    assert!(session.cached().is_empty());
}

struct Failing;

impl LogitFilter for Failing {
    fn apply(&mut self, _: &mut [f32]) -> Result<(), FilterError> {
        Err("planned".into())
    }

    fn accept(&mut self, _: u32) -> Result<(), FilterError> {
        Ok(())
    }
}
