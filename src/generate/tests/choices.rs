//! The probabilities of choices, and which is taken.

use crate::generate::{
    CancelHandle, Draw, FinishReason, GenerateError, GrammarError, MAX_CHOICES, MAX_GRAMMAR_BYTES, Request,
    check_choices,
};

use super::{END, FakeModel, VOCAB, bytes, greedy, session};

fn choices(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Natural logarithm of the softmax of a row, computed plainly.
fn log_softmax(logits: &[f32], id: u32) -> f64 {
    let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    f64::from(logits[id as usize]) - sum.ln()
}

#[test]
fn choices_have_the_probabilities_of_their_tokens_and_an_end() {
    let texts = choices(&["The", "Them", "P!", "é\n"]);
    let prompt = bytes("So");
    let mut session = session(FakeModel::copying(100));
    let (outcome, scored) = session.choose(&greedy(&prompt), &texts, None).unwrap();
    let mut expected = vec![];
    for choice in &scored {
        let mut history = prompt.clone();
        let mut logprob = 0.0;
        for id in choice.tokens.iter().chain([&END]) {
            let mut logits = [0.0; VOCAB];
            (session.model().rule)(&history, &mut logits);
            logprob += log_softmax(&logits, *id);
            history.push(*id);
        }
        assert!((choice.logprob - logprob).abs() < 1e-4, "{choice:?}: {logprob}");
        assert_eq!(session.tokenizer().decode_lossy(&choice.tokens, true), choice.text);
        expected.push(logprob.exp());
    }
    let total: f64 = expected.iter().sum();
    for (choice, expected) in scored.iter().zip(&expected) {
        assert!((choice.probability - expected / total).abs() < 1e-4);
    }
    let best = scored.iter().max_by(|a, b| a.probability.total_cmp(&b.probability)).unwrap();
    assert_eq!((&outcome.text, &outcome.tokens), (&best.text, &best.tokens));
    assert_eq!((outcome.finish, session.cached()), (FinishReason::Complete, prompt.as_slice()));
    assert_eq!((outcome.prompt_tokens, outcome.cached_tokens, outcome.timings.fed_tokens), (2, 0, 2));
}

#[test]
fn drawn_choices_come_as_often_as_their_probabilities_say() {
    let texts = choices(&["The", "b", "ca"]);
    let prompt = bytes("So");
    let mut session = session(FakeModel::copying(100));
    let mut counts = [0.0; 3];
    let mut probabilities = vec![];
    for seed in 0..2000 {
        let draw = Some(Draw { temperature: 1.0, seed });
        let (outcome, scored) = session.choose(&Request::new(&prompt), &texts, draw).unwrap();
        counts[texts.iter().position(|text| *text == outcome.text).unwrap()] += 1.0;
        probabilities = scored.iter().map(|choice| choice.probability).collect();
    }
    for (count, probability) in counts.iter().zip(&probabilities) {
        // Four standard deviations of a share of 2000 draws.
        let tolerance = 4.0 * (probability * (1.0 - probability) / 2000.0f64).sqrt();
        assert!((count / 2000.0 - probability).abs() <= tolerance, "{counts:?} {probabilities:?}");
    }
}

#[test]
fn choices_that_cannot_be_are_refused() {
    let mut session = session(FakeModel::copying(4));
    let prompt = bytes("So");
    let mut error =
        |prompt: &[u32], texts: &[&str]| session.choose(&greedy(prompt), &choices(texts), None).unwrap_err();
    assert!(matches!(error(&[], &["a"]), GenerateError::EmptyPrompt));
    assert_eq!(error(&prompt, &[]).to_string(), "there are 0 choices, allowed are 1 to 1024");
    let (empty, twice) = (error(&prompt, &["a", ""]), error(&prompt, &["a", "b", "a"]));
    assert_eq!(empty.to_string(), "choice 2, \"\", is not possible: it is empty");
    assert_eq!(twice.to_string(), "choice 3, \"a\", is not possible: it is there twice");
    let many: Vec<String> = (0..=MAX_CHOICES).map(|n| n.to_string()).collect();
    assert!(matches!(check_choices(&many), Err(GrammarError::ChoiceCount { found: 1025, .. })));
    let long = check_choices(&["a".repeat(MAX_GRAMMAR_BYTES + 1)]);
    assert!(matches!(long, Err(GrammarError::TooLong { .. })));
    let too_long = error(&prompt, &["abc", "a"]);
    assert!(matches!(too_long, GenerateError::PromptTooLong { tokens: 5, context: 4 }), "{too_long}");
    // The end is ruled out for all.
    let mut endless = super::session(FakeModel::hashed(20));
    let error = endless.choose(&greedy(&prompt), &choices(&["a", "b"]), None).unwrap_err();
    assert!(matches!(error, GenerateError::NoTokenAllowed), "{error}");
}

#[test]
fn choosing_can_be_cancelled() {
    let cancel = CancelHandle::new();
    cancel.cancel();
    let prompt = bytes("So");
    let mut session = session(FakeModel::copying(20));
    let request = Request { cancel: Some(cancel.clone()), ..greedy(&prompt) };
    let (outcome, scored) = session.choose(&request, &choices(&["a", "b"]), None).unwrap();
    assert_eq!((outcome.finish, outcome.text.as_str(), scored.len()), (FinishReason::Cancelled, "", 0));
}

/// Whatever the request's sampler is, which is for text.
#[test]
fn the_likeliest_is_taken_unless_a_draw_is_asked_for() {
    let texts = choices(&["The", "b", "ca"]);
    let prompt = bytes("So");
    let mut session = session(FakeModel::copying(100));
    let likeliest = session.choose(&greedy(&prompt), &texts, None).unwrap().0.text;
    let mut drawn = std::collections::HashSet::new();
    for seed in 0..50 {
        let mut request = Request::new(&prompt);
        request.sampler.temperature = 10.0;
        request.sampler.seed = seed;
        assert_eq!(session.choose(&request, &texts, None).unwrap().0.text, likeliest);
        let cold = Some(Draw { temperature: 0.0, seed });
        assert_eq!(session.choose(&request, &texts, cold).unwrap().0.text, likeliest);
        drawn
            .insert(session.choose(&request, &texts, Some(Draw { temperature: 10.0, seed })).unwrap().0.text);
    }
    assert_eq!(drawn.len(), 3);
    let hot = Some(Draw { temperature: 11.0, seed: 0 });
    let error = session.choose(&greedy(&prompt), &texts, hot).unwrap_err();
    assert_eq!(error.to_string(), "temperature is 11, allowed is 0 to 10");
}

/// A model whose logits depend on all tokens before, and that may end.
fn hashed(context: usize) -> FakeModel {
    FakeModel::new(context, |history, logits| {
        super::hash_logits(history.iter().fold(7, |hash, id| super::mix(hash ^ u64::from(*id))), 4.0, logits);
    })
}

#[test]
fn what_choices_have_in_common_is_read_once() {
    let common = "abcdefghijklmnopqrstuvwxyz";
    let texts: Vec<String> = (0..100).rev().map(|n| format!("{common}{n:02}")).collect();
    let texts = [texts, choices(&["abc", "abcd", "x"])].concat();
    let prompt = bytes("So");
    let mut session = session(hashed(100));
    let scored = session.choose(&greedy(&prompt), &texts, None).unwrap().1;
    // The prompt, the common start, ten tens and a hundred ones; and x.
    assert_eq!(session.model().fed.get(), 2 + common.len() + 10 + 100 + 1);
    for choice in scored {
        let alone =
            super::session(hashed(100)).choose(&greedy(&prompt), std::slice::from_ref(&choice.text), None);
        let alone = alone.unwrap().1[0].logprob;
        assert!((choice.logprob - alone).abs() < 1e-9, "{choice:?}: {alone}");
    }
}

/// Models with states forget more than they are told to.
#[test]
fn choices_of_a_model_that_cannot_go_back_are_as_likely() {
    let texts = choices(&["Thecat", "Thesat", "The", "STOP", "abcdefghijklmnopqrstuvwxyz"]);
    let prompt = bytes("Soitis");
    let free = session(hashed(100)).choose(&greedy(&prompt), &texts, None).unwrap();
    for indivisible in [4, 9, 100] {
        let model = FakeModel { indivisible, ..hashed(100) };
        let bound = session(model).choose(&greedy(&prompt), &texts, None).unwrap();
        assert_eq!(free.1, bound.1, "{indivisible}");
    }
}
