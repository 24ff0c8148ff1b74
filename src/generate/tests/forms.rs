//! Forms are kept: answers end where they must, whatever the model likes to say.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::generate::grammar::prepare_value;
use crate::generate::{
    Constraint, FinishReason, GenerateError, Grammar, GrammarCompiler, GrammarError, LogitFilter, Outcome,
    Request, SamplerOptions, Session,
};

use super::{END, FakeModel, VOCAB, byte, bytes, greedy, session, tokenizer, tokenizer_with};

fn schema(text: &str) -> Grammar {
    Grammar::Schema(text.to_owned())
}

fn try_compile(grammar: &Grammar) -> Result<Constraint, GrammarError> {
    GrammarCompiler::new(tokenizer()).unwrap().compile(grammar)
}

#[track_caller]
fn compile(grammar: &Grammar) -> Constraint {
    try_compile(grammar).unwrap()
}

fn try_ask(
    model: FakeModel,
    constraint: &Constraint,
    request: Request<'_>,
) -> Result<Outcome, GenerateError> {
    let mut constraint = constraint.clone();
    let filter: Option<Box<dyn LogitFilter + '_>> = Some(Box::new(&mut constraint));
    session(model).generate(Request { filter, ..request }, &mut |_| ControlFlow::Continue(()))
}

#[track_caller]
fn ask(model: FakeModel, constraint: &Constraint, request: Request<'_>) -> Outcome {
    try_ask(model, constraint, request).unwrap()
}

/// Says anything, but never ends by itself.
fn endless(context: usize, seed: u64) -> FakeModel {
    FakeModel::new(context, move |history, logits| {
        let hash = history.iter().fold(seed, |hash, id| super::mix(hash ^ u64::from(*id)));
        super::hash_logits(hash, 4.0, logits);
        logits[END as usize] = -50.0;
        // Nor does it like to close what is open.
        for closing in [b'"', b'}', b']'] {
            logits[byte(closing) as usize] = -20.0;
        }
    })
}

const OPEN: [&str; 5] = [
    r#"{"properties": {"name": {"type": "string"}, "size": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}}}"#,
    r#"{"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^[a-z]+ing$"}, "b": {"enum": ["red", "green", 3]}}}, "minItems": 1}"#,
    r#"{"anyOf": [{"type": "array", "items": {"type": "integer"}, "minItems": 3}, {"properties": {"x": {"type": "object", "additionalProperties": {"type": "number"}}}}]}"#,
    r##"{"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"text": {"type": "string", "minLength": 2}, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}}"##,
    r#"{"type": "object", "properties": {"when": {"type": "string", "format": "date-time"}, "n": {"type": "integer", "multipleOf": 7, "minimum": 100}, "more": {}}, "required": ["when", "n"]}"#,
];

fn judge(schema: &str, text: &str) -> Result<(), String> {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    validator.validate(&value).map_err(|error| error.to_string())
}

/// At every limit from the least on, of length and of context.
#[test]
fn answers_are_whole_at_every_limit() {
    let prompt = bytes("Hi");
    for text in OPEN {
        let constraint = compile(&schema(text));
        let least = constraint.least_tokens();
        assert!(least > 0 && least < 80, "{least}: {text}");
        for (seed, limit) in (0u64..).zip((least..least + 12).chain([100, 150])) {
            let sampler = SamplerOptions { temperature: 1.5, seed, ..SamplerOptions::default() };
            let request = || Request { sampler: sampler.clone(), ..Request::new(&prompt) };
            // What is chosen last needs no room in the context.
            let full = prompt.len() + limit - 1;
            for (model, max_tokens) in [(endless(400, seed), Some(limit)), (endless(full, seed), None)] {
                let outcome = ask(model, &constraint, Request { max_tokens, ..request() });
                assert!(outcome.whole && outcome.tokens.len() <= limit, "{limit}: {}", outcome.text);
                if let Err(error) = judge(text, &outcome.text) {
                    panic!("{error} at {limit} in {text}: {}", outcome.text);
                }
                assert!(!outcome.text.contains(": ") || outcome.text.contains('"'), "{}", outcome.text);
            }
            let guessed = ask(
                endless(400, seed),
                &constraint,
                Request { max_tokens: Some(limit), lookup: 7, ..request() },
            );
            let plain =
                ask(endless(400, seed), &constraint, Request { max_tokens: Some(limit), ..request() });
            assert_eq!((guessed.tokens, guessed.finish), (plain.tokens, plain.finish), "{limit}: {text}");
        }
    }
}

#[test]
fn what_cannot_fit_is_refused_with_what_it_takes() {
    let prompt = bytes("Hi");
    for text in OPEN {
        let constraint = compile(&schema(text));
        let least = constraint.least_tokens();
        assert!(least > 1);
        let request = Request { max_tokens: Some(least - 1), ..greedy(&prompt) };
        match try_ask(endless(400, 1), &constraint, request) {
            Err(GenerateError::FormTooLong { needed, allowed }) => {
                assert_eq!((needed, allowed), (least, least - 1))
            }
            other => panic!("{other:?}"),
        }
        let nothing = ask(endless(400, 1), &constraint, Request { max_tokens: Some(0), ..greedy(&prompt) });
        assert_eq!((nothing.tokens.len(), nothing.whole), (0, false));
    }
}

/// Other grammars end within the limit too, also where the shortest way is not the one that looks short.
#[test]
fn every_kind_of_grammar_ends_within_the_limit() {
    let prompt = bytes("Hi");
    for (grammar, wanted) in [
        (Grammar::Regex("[a-z]+(ing|ed)!".to_owned()), "!"),
        (Grammar::Regex("(?s)<.*>end".to_owned()), ">end"),
        (Grammar::Lark("start: a\na: \"a\" a | \"b\" \"c\" \"d\"\n".to_owned()), "bcd"),
        (Grammar::Lark("start: \"(\" start \")\" | \"x\"\n".to_owned()), ""),
    ] {
        let constraint = compile(&grammar);
        for limit in [constraint.least_tokens(), 9, 40] {
            let outcome =
                ask(endless(200, 3), &constraint, Request { max_tokens: Some(limit), ..greedy(&prompt) });
            assert!(outcome.whole && outcome.text.ends_with(wanted), "{grammar:?} {limit}: {}", outcome.text);
        }
    }
}

#[test]
fn a_model_without_end_tokens_ends_its_answers_too() {
    let prompt = bytes("Hi");
    let tokenizer = tokenizer_with(false, None);
    let mut constraint =
        GrammarCompiler::new(std::sync::Arc::clone(&tokenizer)).unwrap().compile(&schema(OPEN[0])).unwrap();
    let filter: Option<Box<dyn LogitFilter + '_>> = Some(Box::new(&mut constraint));
    let request = Request { filter, max_tokens: Some(60), ..greedy(&prompt) };
    let mut session = Session::new(endless(200, 5), tokenizer);
    let outcome = session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(outcome.whole && judge(OPEN[0], &outcome.text).is_ok(), "{}", outcome.text);
}

/// A stop string and the caller cut where they want.
#[test]
fn an_answer_that_is_cut_is_not_whole() {
    let prompt = bytes("Hi");
    let constraint = compile(&Grammar::Regex("a{9}b".to_owned()));
    let stop = ["aaa".to_owned()];
    let outcome = ask(endless(200, 5), &constraint, Request { stop: (&stop).into(), ..greedy(&prompt) });
    assert_eq!((outcome.finish, outcome.whole), (FinishReason::StopString(0), false));
    let mut constraint = constraint.clone();
    let filter: Option<Box<dyn LogitFilter + '_>> = Some(Box::new(&mut constraint));
    let request = Request { filter, ..greedy(&prompt) };
    let outcome = session(endless(200, 5)).generate(request, &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!((outcome.finish, outcome.whole), (FinishReason::Cancelled, false));
}

/// Likes one digit above all.
fn counting(context: usize) -> FakeModel {
    FakeModel::new(context, |_, logits| {
        logits.fill(0.0);
        logits[byte(b'1') as usize] = 5.0;
        logits[byte(b'0') as usize] = 6.0;
        logits[byte(b'3') as usize] = 9.0;
        logits[byte(b'.') as usize] = 10.0;
        logits[byte(b'e') as usize] = 4.0;
        logits[END as usize] = -9.0;
    })
}

/// No number goes on to the limit, and every one is of use to a reader.
#[test]
fn numbers_have_an_end() {
    let prompt = bytes("Hi");
    for text in [
        r#"{"type": "number"}"#,
        r#"{"type": "integer"}"#,
        r#"{"type": ["number", "null"], "minimum": 0}"#,
        r#"{"type": "number", "exclusiveMinimum": 0.3, "exclusiveMaximum": 0.4}"#,
        r#"{"type": "number", "exclusiveMinimum": 1, "maximum": 1.000000000001}"#,
        r#"{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}"#,
        r#"{"type": "number", "minimum": -0.25, "exclusiveMaximum": 0}"#,
        r#"{"type": "number", "multipleOf": 0.25}"#,
        r#"{"type": "array", "minItems": 1, "maxItems": 1, "items": {}}"#,
        r#"{"properties": {"price": {"type": "number"}}, "required": ["price"], "additionalProperties": false}"#,
        r#"{"type": "string", "format": "duration"}"#,
        r#"{"type": "string", "format": "date-time"}"#,
    ] {
        let outcome =
            ask(counting(400), &compile(&schema(text)), Request { max_tokens: Some(300), ..greedy(&prompt) });
        assert!(outcome.tokens.len() < 60, "{text}: {}", outcome.text);
        assert!(outcome.whole && !outcome.finish.is_limit(), "{text}: {}", outcome.text);
        judge(text, &outcome.text).unwrap_or_else(|error| panic!("{error}: {}", outcome.text));
        let longest = outcome.text.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
        assert!(longest <= Some(16), "{}", outcome.text);
    }
}

#[test]
fn no_key_is_written_twice() {
    let prompt = bytes("Hi");
    let text = r#"{"type": "object", "patternProperties": {"^[ab]+$": {"enum": [1]}}, "additionalProperties": false}"#;
    let constraint = compile(&schema(text));
    let mut seen = HashSet::new();
    for seed in 0..40 {
        let sampler = SamplerOptions { temperature: 2.0, seed, ..SamplerOptions::default() };
        let model = FakeModel::new(200, move |history, logits| {
            super::hash_logits(
                history.iter().fold(seed, |hash, id| super::mix(hash ^ u64::from(*id))),
                4.0,
                logits,
            );
            logits[byte(b'}') as usize] = -30.0;
        });
        let outcome =
            ask(model, &constraint, Request { max_tokens: Some(100), sampler, ..Request::new(&prompt) });
        let keys: Vec<&str> = outcome.text.split('"').skip(1).step_by(2).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "{}", outcome.text);
        assert!(outcome.whole);
        seen.extend((keys.len() >= 3).then_some(outcome.text));
    }
    assert!(seen.len() > 5, "{seen:?}");
}

#[test]
fn declared_keys_are_written_on_one_line() {
    let prompt = bytes("Hi");
    let constraint = compile(&schema(
        r#"{"properties": {"a": {"enum": [1]}, "b": {"properties": {"c": {"type": "null"}}}}}"#,
    ));
    for seed in 0..20 {
        let outcome = ask(endless(200, seed), &constraint, greedy(&prompt));
        assert_eq!(outcome.text, r#"{"a":1,"b":{"c":null}}"#);
    }
}

/// What would take long is refused at once.
#[test]
fn large_multiples_are_refused_at_once() {
    let start = Instant::now();
    for (text, path) in [
        (r#"{"type": "integer", "multipleOf": 2147483648}"#, "#"),
        (r#"{"items": {"type": "number", "multipleOf": 99991}}"#, "#/items"),
        (r#"{"multipleOf": 1e-9}"#, "#"),
        (r#"{"multipleOf": 0}"#, "#"),
        (r#"{"allOf": [{"multipleOf": 8191}, {"multipleOf": 0.00000007}]}"#, "#/allOf/1"),
        (r#"{"allOf": [{"multipleOf": 8191}, {"multipleOf": 8179}]}"#, "#/allOf/1"),
        (r#"{"anyOf": [{"multipleOf": 101}, {"multipleOf": 103}, {"multipleOf": 107}]}"#, "#/anyOf/2"),
        (
            r#"{"prefixItems": [{"multipleOf": 8191}, {"multipleOf": 8190}, {"multipleOf": 8189}, {"multipleOf": 8188}, {"multipleOf": 8187}]}"#,
            "#/prefixItems/4",
        ),
    ] {
        match try_compile(&schema(text)) {
            Err(GrammarError::Keyword { keyword, path: at, .. }) => {
                assert_eq!((keyword.as_str(), at.as_str()), ("multipleOf", path), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    compile(&schema(r#"{"allOf": [{"multipleOf": 0.25}, {"multipleOf": 6}]}"#));
}

#[test]
fn patterns_that_cannot_be_followed_are_named_with_their_place() {
    for (text, keyword, path, part) in [
        (
            r#"{"properties": {"e": {"type": "string", "pattern": "^(?!x)y"}}}"#,
            "pattern",
            "#/properties/e",
            "look-around",
        ),
        (
            r#"{"patternProperties": {"a(?=b)": {}}}"#,
            "patternProperties",
            "#/patternProperties",
            "look-around",
        ),
        (r#"{"items": [{"pattern": "(a)\\1"}]}"#, "pattern", "#/items/0", "back references"),
        (r#"{"pattern": "a("}"#, "pattern", "#", "unclosed group (at character 2)"),
    ] {
        match try_compile(&schema(text)) {
            Err(error @ GrammarError::Keyword { .. }) => {
                let message = error.to_string();
                let GrammarError::Keyword { keyword: found, path: at, .. } = error else { unreachable!() };
                assert_eq!((found.as_str(), at.as_str()), (keyword, path), "{text}");
                assert!(message.contains(part) && !message.contains("parse error"), "{message}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let error = try_compile(&Grammar::Regex("ab(?<=x)".to_owned())).unwrap_err().to_string();
    assert!(error.contains("look-around ((?<= at character 3) cannot be followed"), "{error}");
}

/// Far from the limit the filter takes what the model says.
#[test]
fn tokens_are_exchanged_only_near_the_limit() {
    let mut constraint = compile(&schema(r#"{"type": "string"}"#));
    let (quote, letter) = (byte(b'"'), byte(b'x'));
    constraint.start(&bytes("Hi"));
    let mut take = |token: u32, room: usize| {
        let mut logits = [0.0; VOCAB];
        constraint.apply(&mut logits).unwrap();
        assert_eq!(logits[token as usize], 0.0);
        let settled = constraint.settle(token, room).unwrap();
        constraint.accept(settled).unwrap();
        settled
    };
    assert_eq!(take(quote, 1000), quote);
    for room in [900, 5, 2, 1] {
        assert_eq!(take(letter, room), letter, "{room}");
    }
    assert_eq!(take(letter, 0), quote);
}

#[test]
fn long_chains_of_references_need_little_stack() {
    let links = 7000;
    let mut definitions =
        String::from(r#""d0": {"type": "object", "properties": {"a": {"type": "integer"}}}"#);
    for link in 1..links {
        definitions += &format!(r##", "d{link}": {{"$ref": "#/$defs/d{}"}}"##, link - 1);
    }
    for parts in [r##"{"$ref": "#/$defs/d6999"}"##, r##"{"allOf": [{"$ref": "#/$defs/d6999"}]}"##] {
        let text = format!(
            r#"{{"$defs": {{{definitions}}}, "type": "object", "properties": {{"b": {parts}, "c": {{}}}}, "allOf": [{parts}]}}"#
        );
        // Tools' schemas are prepared on the caller's thread, whatever stack it has.
        let schema = serde_json::from_str(&text).unwrap();
        let prepared = std::thread::Builder::new().stack_size(512 * 1024);
        let prepared = prepared.spawn(move || prepare_value(schema).is_ok()).unwrap();
        assert!(prepared.join().expect("no panic"));
    }
}
