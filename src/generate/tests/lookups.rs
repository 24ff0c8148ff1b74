//! Guessing ahead changes nothing but the number of steps.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use crate::generate::{
    CancelHandle, FilterError, FinishReason, GenerateError, LogitFilter, Outcome, Request, SamplerOptions,
    Session,
};

use super::{END, FIRST_WORD, FakeModel, ROWS, byte, bytes, greedy, mix, session, word};

#[derive(Debug, PartialEq)]
struct Event {
    id: Option<u32>,
    text: String,
    /// Of the most likely tokens, then of the one chosen.
    logprobs: Vec<(u32, f32)>,
}

/// Everything a caller sees of a request, times left out.
#[derive(Debug, PartialEq)]
struct Seen {
    events: Vec<Event>,
    tokens: Vec<u32>,
    text: String,
    finish: FinishReason,
    cached: Vec<u32>,
}

/// Runs a request; `then` is asked after every event whether to go on.
fn watch(
    session: &mut Session<FakeModel>,
    request: Request<'_>,
    mut then: impl FnMut(usize) -> ControlFlow<()>,
) -> (Seen, Outcome) {
    let mut events = vec![];
    let outcome = session
        .generate(request, &mut |event| {
            let logprobs = event.logprobs.map_or(vec![], |logprobs| {
                let top = logprobs.top.iter().map(|token| (token.id, token.logprob));
                top.chain([(u32::MAX, logprobs.chosen)]).collect()
            });
            events.push(Event { id: event.id, text: event.text.to_owned(), logprobs });
            then(events.len())
        })
        .unwrap();
    let Outcome { tokens, text, finish, .. } = outcome.clone();
    (Seen { events, tokens, text, finish, cached: session.cached().to_vec() }, outcome)
}

fn go_on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Forbids every token after it was chosen three times, and keeps a record.
#[derive(Default)]
struct NeverFour {
    record: Arc<Mutex<Vec<u32>>>,
}

impl LogitFilter for NeverFour {
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        let record = self.record.lock().unwrap();
        for id in record.iter() {
            if record.iter().filter(|other| *other == id).count() > 2 {
                logits[*id as usize] = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), FilterError> {
        self.record.lock().unwrap().push(token);
        Ok(())
    }
}

fn prompt(seed: u64) -> Vec<u32> {
    let mut state = seed;
    let mut next = |count: u64| {
        state = mix(state);
        (state >> 33) % count
    };
    let words: Vec<u32> = (0..4).map(|_| FIRST_WORD + next(8) as u32).collect();
    (0..8 + next(9)).map(|_| if next(4) > 0 { words[next(4) as usize] } else { next(259) as u32 }).collect()
}

/// Requests of all kinds, by number.
fn request<'a>(kind: u64, prompt: &'a [u32], stop: &'a [String]) -> Request<'a> {
    let sampled = SamplerOptions { seed: kind, temperature: 0.8, ..SamplerOptions::default() };
    let wide = SamplerOptions { temperature: 1.3, top_k: 0, top_p: 1.0, min_p: 0.0, ..sampled.clone() };
    let penalty = SamplerOptions { repeat_penalty: 1.4, repeat_last_n: 5, ..sampled.clone() };
    let cut = SamplerOptions { top_k: 0, top_p: 0.8, ..sampled.clone() };
    let sampler = [SamplerOptions::greedy(), sampled, wide, penalty, cut][(kind % 5) as usize].clone();
    let logprobs = kind.is_multiple_of(3).then_some(4);
    let max_tokens = kind.is_multiple_of(4).then_some((kind % 30) as usize);
    let stop = if kind.is_multiple_of(7) { stop } else { &[] };
    Request { sampler, logprobs, max_tokens, stop: stop.into(), ..Request::new(prompt) }
}

#[test]
fn answers_are_the_same_for_all_kinds_of_requests() {
    let stop = [" cat".to_owned(), "\n".to_owned()];
    let (mut drafted, mut accepted, mut sampled) = (0, 0, 0);
    let mut ends = [0; 5];
    for kind in 0..400 {
        let prompt = prompt(kind);
        let context = if kind.is_multiple_of(3) { 40 } else { 150 };
        let ask = |lookup: usize| {
            let record = Arc::new(Mutex::new(vec![]));
            let mut filter = NeverFour { record: Arc::clone(&record) };
            let mut request = Request { lookup, ..request(kind, &prompt, &stop) };
            if kind.is_multiple_of(8) {
                request.filter = Some(Box::new(&mut filter));
            }
            let (seen, outcome) = watch(&mut session(FakeModel::copying(context)), request, go_on);
            (seen, std::mem::take(&mut *record.lock().unwrap()), outcome)
        };
        let (expected, expected_record, plain) = ask(0);
        assert_eq!((plain.timings.drafted_tokens, plain.timings.accepted_tokens), (0, 0));
        for lookup in [1, 3, 7, ROWS - 1] {
            let (seen, record, outcome) = ask(lookup);
            assert_eq!((&seen, &record), (&expected, &expected_record), "{kind}, {lookup}");
            let timings = outcome.timings;
            assert_eq!(timings.sampled_tokens, plain.timings.sampled_tokens);
            assert_eq!(timings.fed_tokens, prompt.len());
            drafted += timings.drafted_tokens;
            accepted += timings.accepted_tokens;
            sampled += timings.sampled_tokens;
        }
        ends[match expected.finish {
            FinishReason::EndToken(_) => 0,
            FinishReason::StopString(_) => 1,
            FinishReason::Length => 2,
            FinishReason::Context => 3,
            FinishReason::Cancelled | FinishReason::Complete | FinishReason::Loop => 4,
        }] += 1;
    }
    assert!(ends[..4].iter().all(|count| *count > 4) && ends[4] == 0, "{ends:?}");
    assert!(accepted * 8 > sampled && drafted > accepted + sampled / 20, "{drafted} {accepted} {sampled}");
}

#[test]
fn answers_are_the_same_wherever_they_are_cancelled() {
    let prompt = bytes("abcabcab");
    for at in 1..25 {
        let ask = |lookup: usize, by_handle: bool| {
            let cancel = CancelHandle::new();
            let request = Request { lookup, cancel: Some(cancel.clone()), ..greedy(&prompt) };
            let mut session = session(FakeModel::copying(100));
            watch(&mut session, request, |events| {
                if events == at && by_handle {
                    cancel.cancel();
                }
                if events == at && !by_handle { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .0
        };
        for by_handle in [true, false] {
            let expected = ask(0, by_handle);
            assert_eq!(expected.tokens.len(), at.min(expected.tokens.len()));
            for lookup in [1, 2, 7] {
                assert_eq!(ask(lookup, by_handle), expected, "{at} {lookup}");
            }
        }
    }
}

/// The tokens of `script` over and over, whatever the prompt.
fn reciting(context: usize, prompt: usize, script: Vec<u32>) -> FakeModel {
    FakeModel::new(context, move |history, logits| {
        logits.fill(-5.0);
        logits[script[(history.len() - prompt) % script.len()] as usize] = 5.0;
    })
}

#[test]
fn copied_text_takes_few_steps() {
    let text = bytes("The quick brown fox jumps over the lazy dog, but the dog sleeps on; ");
    let answer = text.len() * 2;
    let mut session = session(reciting(512, text.len(), text.clone()));
    let request = Request { lookup: 7, max_tokens: Some(answer), ..greedy(&text) };
    let (seen, outcome) = watch(&mut session, request, go_on);
    assert_eq!(seen.tokens, [text.as_slice(), &text].concat());
    // The prompt, two tokens to be known again, then at most eight tokens a step.
    let calls = session.model().calls + 1 - text.len().div_ceil(crate::model::TILE);
    assert!((answer / 8..=4 + answer / 6).contains(&calls), "{calls} calls for {answer} tokens");
    let timings = outcome.timings;
    assert_eq!(timings.accepted_tokens + calls, answer);
    assert!(timings.accepted_tokens * 4 > timings.drafted_tokens * 3, "{timings:?}");
}

#[test]
fn a_step_never_reads_past_what_is_wanted() {
    let text = bytes("ababababab");
    for wanted in 1..30 {
        let mut session = session(reciting(64, text.len(), bytes("ab")));
        let request = Request { lookup: 7, max_tokens: Some(wanted), ..greedy(&text) };
        let (_, outcome) = watch(&mut session, request, go_on);
        assert_eq!(outcome.finish, FinishReason::Length);
        // All drafts are right; the last token is not read.
        assert_eq!(session.model().fed.get(), text.len() + wanted - 1);
    }
}

/// Logits after a wrong guess are not finite; nobody may look at them.
#[test]
fn what_follows_a_wrong_guess_is_not_looked_at() {
    let script = [bytes("abcd-abcx-abcd"), vec![END]].concat();
    let prompt = bytes("abcd-");
    let text = [prompt.clone(), script.clone()].concat();
    let rule = move |history: &[u32], logits: &mut [f32]| {
        let is_true = text.starts_with(history);
        logits.fill(if is_true { -5.0 } else { f32::NAN });
        if is_true {
            logits[text[history.len()] as usize] = 5.0;
        }
    };
    let mut session = session(FakeModel::new(64, rule));
    let (seen, outcome) = watch(&mut session, Request { lookup: 7, ..greedy(&prompt) }, go_on);
    assert_eq!((seen.text.as_str(), seen.finish), ("abcd-abcx-abcd", FinishReason::EndToken(END)));
    assert!(outcome.timings.drafted_tokens > outcome.timings.accepted_tokens);
    assert_eq!(seen.cached.len(), prompt.len() + script.len() - 1);
}

#[test]
fn a_model_may_forget_more_than_a_wrong_guess() {
    let ask = |prompt: &[u32], lookup: usize, indivisible: usize| {
        let mut model = FakeModel::copying(100);
        model.indivisible = indivisible;
        let (seen, outcome) =
            watch(&mut session(model), Request { lookup, max_tokens: Some(60), ..greedy(prompt) }, go_on);
        (seen.tokens, outcome.timings.drafted_tokens - outcome.timings.accepted_tokens)
    };
    let mut wrong = 0;
    for seed in 0..20 {
        let prompt = prompt(seed);
        let (expected, _) = ask(&prompt, 0, 0);
        let (tokens, count) = ask(&prompt, 7, usize::MAX);
        assert_eq!(tokens, expected);
        wrong += count;
    }
    assert!(wrong > 20, "{wrong} guesses were wrong");
}

#[test]
fn guesses_beyond_the_rows_of_the_model_are_refused() {
    let prompt = [byte(b'a'), word("The")];
    let request = Request { lookup: ROWS, ..greedy(&prompt) };
    let error = session(FakeModel::copying(9)).generate(request, &mut |_| go_on(0)).unwrap_err();
    assert!(matches!(&error, GenerateError::Option(error) if error.option == "lookup"), "{error}");
}
