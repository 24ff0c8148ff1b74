//! Constraints in a session, wrong and hostile grammars.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generate::{
    Constraint, FinishReason, Grammar, GrammarCompiler, GrammarError, LogitFilter, MAX_GRAMMAR_BYTES,
    MAX_LARK_BYTES, MAX_REGEX_BYTES, Outcome, Request, SamplerOptions, Session,
};
use crate::gguf::GgufFile;
use crate::text::{Tokenizer, TokenizerOptions};

use super::{END, FakeModel, VOCAB, byte, bytes, greedy, session, tokenizer, tokenizer_with, word};

fn regex(text: &str) -> Grammar {
    Grammar::Regex(text.to_owned())
}

fn schema(text: &str) -> Grammar {
    Grammar::Schema(text.to_owned())
}

fn lark(text: &str) -> Grammar {
    Grammar::Lark(text.to_owned())
}

fn try_compile(grammar: &Grammar) -> Result<Constraint, GrammarError> {
    GrammarCompiler::new(tokenizer()).unwrap().compile(grammar)
}

#[track_caller]
fn compile(grammar: &Grammar) -> Constraint {
    try_compile(grammar).unwrap()
}

fn ask(session: &mut Session<FakeModel>, grammar: &Grammar, request: Request<'_>) -> Outcome {
    let mut constraint = compile(grammar);
    let filter: Option<Box<dyn LogitFilter + '_>> = Some(Box::new(&mut constraint));
    session.generate(Request { filter, ..request }, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Likes tokens in this order, whatever came before; all others less.
fn preferring(order: &[u32]) -> FakeModel {
    let order = order.to_vec();
    FakeModel::new(64, move |_, logits| {
        logits.fill(-9.0);
        order.iter().zip(0u8..).for_each(|(id, rank)| logits[*id as usize] = 9.0 - f32::from(rank));
    })
}

#[test]
fn an_answer_ends_where_the_grammar_may_end_and_not_before() {
    let prompt = bytes("Hi");
    let outcome = ask(&mut session(preferring(&[END, byte(b'b')])), &regex("ab{2,5}"), greedy(&prompt));
    assert_eq!((outcome.text.as_str(), outcome.finish), ("abb", FinishReason::EndToken(END)));
    let outcome = ask(&mut session(preferring(&[byte(b'b'), END])), &regex("ab{2,5}"), greedy(&prompt));
    assert_eq!((outcome.text.as_str(), outcome.finish), ("abbbbb", FinishReason::Complete));
    assert_eq!(outcome.finish.name(), "stop");
}

#[test]
fn a_complete_answer_costs_no_further_step_and_shows_all_text() {
    let prompt = bytes("Hi");
    let mut session = session(preferring(&[word(" ST"), word("The")]));
    let mut constraint = compile(&regex("The ST"));
    let stop = [" STOP".to_owned()];
    let filter: Option<Box<dyn LogitFilter + '_>> = Some(Box::new(&mut constraint));
    let mut seen = String::new();
    let request = Request { filter, stop: (&stop).into(), max_tokens: Some(2), ..greedy(&prompt) };
    let outcome = session
        .generate(request, &mut |event| {
            seen.push_str(event.text);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((outcome.text.as_str(), seen.as_str()), ("The ST", "The ST"));
    // Two tokens were allowed, and the second completes it.
    assert_eq!((outcome.finish, outcome.tokens.len(), session.model().calls), (FinishReason::Complete, 2, 2));
}

#[test]
fn stop_strings_and_limits_still_end_an_answer() {
    let prompt = bytes("Hi");
    let stop = ["bb".to_owned()];
    let model = || session(preferring(&[byte(b'b')]));
    let outcome = ask(&mut model(), &regex("ab{2,5}"), Request { stop: (&stop).into(), ..greedy(&prompt) });
    assert_eq!((outcome.text.as_str(), outcome.finish), ("a", FinishReason::StopString(0)));
    assert!(!outcome.whole);
    let outcome = ask(&mut model(), &regex("ab{2,5}"), Request { max_tokens: Some(4), ..greedy(&prompt) });
    assert_eq!((outcome.text.as_str(), outcome.finish), ("abbb", FinishReason::Length));
    assert!(outcome.finish.is_limit() && outcome.whole);
}

#[test]
fn guessing_ahead_changes_no_constrained_answer() {
    let grammar = lark("start: (WORD \"\\n\"?)+\nWORD: / (cat|sat|STOP)/ | \"The\"");
    let prompt =
        [bytes("x"), vec![word("The"), word(" cat"), word(" sat"), word("The"), word(" cat")]].concat();
    let mut drafted = 0;
    for seed in 0..60 {
        let sampler = SamplerOptions { temperature: 0.5, seed, ..SamplerOptions::default() };
        let run = |lookup| {
            let request =
                Request { lookup, sampler: sampler.clone(), max_tokens: Some(40), ..greedy(&prompt) };
            ask(&mut session(FakeModel::copying(200)), &grammar, request)
        };
        let (plain, guessed) = (run(0), run(7));
        assert_eq!((&guessed.tokens, guessed.finish), (&plain.tokens, plain.finish), "{seed}");
        drafted += guessed.timings.accepted_tokens;
    }
    assert!(drafted > 50, "{drafted} guesses were right");
}

#[test]
fn characters_of_several_bytes_can_be_written() {
    let prompt = bytes("Hi");
    let order = [bytes("\u{1F600}"), bytes("é")].concat();
    let outcome = ask(&mut session(preferring(&order)), &regex("[é\u{1F600}]{3}"), greedy(&prompt));
    assert_eq!(outcome.text.chars().count(), 3);
    assert!(outcome.text.chars().all(|c| "é\u{1F600}".contains(c)), "{}", outcome.text);
}

/// All ids that a fresh constraint allows.
fn allowed(constraint: &mut Constraint, prompt: &[u32]) -> Vec<u32> {
    let mut logits = vec![0.0; VOCAB + 9];
    constraint.start(prompt);
    constraint.apply(&mut logits).unwrap();
    (0u32..).zip(logits).filter(|(_, logit)| *logit == 0.0).map(|(id, _)| id).collect()
}

#[test]
fn only_text_is_allowed() {
    let allowed = allowed(&mut compile(&regex("(?s).+")), &bytes("Hi"));
    // No control token, no byte that starts no character, nothing beyond the vocabulary.
    let starts = (0..=255u8).filter(|byte| byte.is_ascii() || (0xC2..=0xF4).contains(byte)).map(byte);
    let expected: Vec<u32> = starts.chain(super::FIRST_WORD..VOCAB as u32).collect();
    assert_eq!(allowed, expected);
}

fn demo() -> Arc<Tokenizer> {
    let file = GgufFile::open(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo.gguf").as_ref()).unwrap();
    Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap())
}

#[test]
fn every_end_token_ends_an_answer() {
    let tokenizer = demo();
    assert!(tokenizer.end_ids().len() > 1);
    let constraint = GrammarCompiler::new(Arc::clone(&tokenizer)).unwrap().compile(&regex("1?")).unwrap();
    let mask = |constraint: &mut Constraint| {
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        constraint.apply(&mut logits).unwrap();
        tokenizer.end_ids().iter().filter(|id| logits[**id as usize] == 0.0).count()
    };
    assert_eq!(mask(&mut constraint.clone()), tokenizer.end_ids().len());
    for end in tokenizer.end_ids() {
        let mut constraint = constraint.clone();
        constraint.accept(*end).unwrap();
        assert!(constraint.is_done() && constraint.is_accepting());
    }
    let mut one = GrammarCompiler::new(Arc::clone(&tokenizer)).unwrap().compile(&regex("12")).unwrap();
    assert_eq!(mask(&mut one), 0);
}

/// The detokenizer takes the space off a first word after a control token; what is shown must match.
#[test]
fn a_space_that_is_not_shown_does_not_count() {
    let tokenizer = tokenizer_with(true, Some(END));
    let compiler = GrammarCompiler::new(Arc::clone(&tokenizer)).unwrap();
    let shown = |pattern: &str, prompt: &[u32]| {
        let model = preferring(&[word(" cat"), word(" sat"), END, byte(b'a')]);
        let mut constraint = compiler.compile(&regex(pattern)).unwrap();
        let filter: Option<Box<dyn LogitFilter + '_>> = Some(Box::new(&mut constraint));
        let mut session = Session::new(model, Arc::clone(&tokenizer));
        session.generate(Request { filter, ..greedy(prompt) }, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let (text, control) = (vec![byte(b'x')], vec![byte(b'x'), 1]);
    let outcome = shown(" cat sat", &text);
    assert_eq!((outcome.text.as_str(), outcome.tokens.len()), (" cat sat", 2));
    let outcome = shown(" cat sat", &control);
    assert_eq!((outcome.text.as_str(), outcome.tokens[0]), (" cat sat", byte(b' ')));
    let outcome = shown("cat sat", &control);
    assert_eq!((outcome.text.as_str(), outcome.tokens.last()), ("cat sat", Some(&word(" sat"))));
}

#[test]
fn a_model_without_end_tokens_can_be_constrained() {
    let tokenizer = tokenizer_with(false, None);
    assert!(tokenizer.end_ids().is_empty());
    let mut constraint =
        GrammarCompiler::new(Arc::clone(&tokenizer)).unwrap().compile(&regex("(ab)*abb")).unwrap();
    let filter: Option<Box<dyn LogitFilter + '_>> = Some(Box::new(&mut constraint));
    let prompt = bytes("Hi");
    let mut session = Session::new(preferring(&[byte(b'b'), byte(b'a')]), tokenizer);
    let request = Request { filter, ..greedy(&prompt) };
    let outcome = session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((outcome.text.as_str(), outcome.finish), ("abb", FinishReason::Complete));
}

#[test]
fn clones_start_at_the_beginning() {
    let constraint = compile(&regex("ab"));
    for _ in 0..2 {
        let mut clone = constraint.clone();
        assert_eq!(allowed(&mut clone, &bytes("Hi")), [byte(b'a')]);
        clone.accept(byte(b'a')).unwrap();
        assert!(!clone.is_done() && !clone.is_accepting());
        clone.accept(byte(b'b')).unwrap();
        assert!(clone.is_done() && clone.is_accepting());
    }
}

#[test]
fn a_token_against_the_grammar_is_an_error() {
    let mut constraint = compile(&regex("ab"));
    let error = constraint.accept(byte(b'z')).unwrap_err().to_string();
    assert!(error.starts_with("the regular expression cannot be followed any further"), "{error}");
    assert!(!constraint.is_done());
    assert!(constraint.apply(&mut [0.0; VOCAB]).is_err());
}

#[test]
fn schemas_that_would_not_be_enforced_are_refused() {
    for (text, keyword, path) in [
        (r#"{"not": {}}"#, "not", "#"),
        (r#"{"properties": {"a/b": {"uniqueItems": true}}}"#, "uniqueItems", "#/properties/a~1b"),
        (r#"{"anyOf": [{}, {"if": {}}]}"#, "if", "#/anyOf/1"),
        (r#"{"items": {"contains": {}}}"#, "contains", "#/items"),
        (r#"{"$defs": {"x": {"propertyNames": {}}}}"#, "propertyNames", "#/$defs/x"),
        (r#"{"x-guidance": {"lenient": true}}"#, "x-guidance", "#"),
        (r#"{"minlength": 3}"#, "minlength", "#"),
        (r#"{"properties": {"a": {"$id": "b"}}}"#, "$id", "#/properties/a"),
        (r#"{"$schema": "http://json-schema.org/draft-04/schema#"}"#, "$schema", "#"),
        (r#"{"format": "iri"}"#, "format", "#"),
        (r##"{"$ref": "other.json"}"##, "$ref", "#"),
        (r##"{"items": {"$ref": "#/$defs/gone"}}"##, "$ref", "#/items"),
        (r##"{"default": {"not": {}}, "$ref": "#/default"}"##, "$ref", "#"),
        (r#"{"const": [9007199254740993]}"#, "const", "#"),
        (r#"{"minimum": "3"}"#, "minimum", "#"),
        (r#"{"exclusiveMinimum": true, "minimum": 3}"#, "exclusiveMinimum", "#"),
        (r#"{"type": "object", "minProperties": 2}"#, "minProperties", "#"),
        (r#"{"maxLength": -1}"#, "maxLength", "#"),
        (r#"{"type": "strnig"}"#, "type", "#"),
        (r#"{"items": [{}], "prefixItems": [{}]}"#, "prefixItems", "#"),
        (r#"{"allOf": {}}"#, "allOf", "#"),
        (r#"{"additionalProperties": 3}"#, "schema", "#/additionalProperties"),
        ("false", "false", "#"),
    ] {
        match try_compile(&schema(text)) {
            Err(GrammarError::Keyword { keyword: found, path: at, .. }) => {
                assert_eq!((found.as_str(), at.as_str()), (keyword, path), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn keywords_that_mean_nothing_are_taken() {
    for text in [
        "true",
        "{}",
        r#"{"title": "x", "uniqueItems": false, "deprecated": true, "$comment": "", "type": "null"}"#,
        r##"{"$id": "http://x/y", "definitions": {"a": {}}, "anyOf": [{"$ref": "#/definitions/a"}]}"##,
        r#"{"properties": {"not": {"type": "null"}, "title": {}}}"#,
        r#"{"type": "object", "minProperties": 1, "additionalProperties": {"type": "null"}}"#,
    ] {
        compile(&schema(text));
    }
}

#[test]
fn wrong_grammars_are_refused() {
    let cases = [
        (schema("{"), "the schema is not JSON"),
        (schema(r#"{"type": "string", "minLength": 3, "maxLength": 2}"#), "minLength (3)"),
        (schema(r#"{"oneOf": [{"type": "integer"}, {"type": "number"}]}"#), "oneOf"),
        (regex(""), "empty"),
        (regex("a("), "unclosed group"),
        (regex("abc\\"), "incomplete escape"),
        (regex("a\\bc"), "cannot be followed"),
        (regex("[a&&b]"), "cannot be followed"),
        (lark("begin: /a/"), "no start rule"),
        (lark("start: other"), "other"),
        (lark("start: <|im_end|>"), "line 1 of the grammar: control tokens"),
    ];
    for (grammar, part) in cases {
        let error = try_compile(&grammar).expect_err(part).to_string();
        assert!(error.contains(part), "{grammar:?}: {error}");
    }
}

/// Depth, size, ambiguity and repetition without measure: an error or a constraint, soon, and no panic.
#[test]
fn hostile_grammars_cost_an_error_at_most() {
    let rules = |count: usize, body: &dyn Fn(usize) -> String| {
        (0..count).map(|i| format!("r{i}: {}\n", body(i))).collect::<String>()
    };
    let references = |count: usize| {
        let next = |i: usize| format!(r##""d{i}": {{"$ref": "#/$defs/d{}"}}"##, (i + 1) % count);
        let all: Vec<String> = (0..count).map(next).collect();
        format!(r##"{{"$ref": "#/$defs/d0", "$defs": {{{}}}}}"##, all.join(","))
    };
    let options: Vec<String> = (0..40).map(|i| format!(r#"{{"properties": {{"p{i}": {{}}}}}}"#)).collect();
    let product = format!(r#"{{"anyOf": [{}]}}"#, options.join(","));
    let cases = [
        schema(&"[".repeat(100_000)),
        schema(&format!("{}{}", r#"{"items":"#.repeat(60), "{}".to_owned() + &"}".repeat(60))),
        schema(&references(5000)),
        schema(&format!(r#"{{"allOf": [{}]}}"#, [product.as_str(); 5].join(","))),
        schema(r#"{"type": "string", "minLength": 4000000000}"#),
        schema(r#"{"type": "array", "minItems": 4000000000, "maxItems": 4000000001}"#),
        schema(r#"{"type": "string", "pattern": "(a|a)*(b?){900}c{1000}"}"#),
        schema(r#"{"type": "number", "multipleOf": 1e-300}"#),
        schema(r#"{"type": "integer", "minimum": -9e15, "maximum": 9e15, "multipleOf": 7919}"#),
        regex(&"(".repeat(MAX_REGEX_BYTES)),
        regex(&format!("{}a{}", "(".repeat(200), "){2}".repeat(200))),
        regex("((a{1000}){1000}){1000}"),
        regex(&format!("(.*{}){{200}}", "a?".repeat(500))),
        regex(&"a".repeat(MAX_REGEX_BYTES)),
        regex(&"\u{1F600}|".repeat(MAX_REGEX_BYTES / 5)),
        regex(&"\\pL".repeat(2000)),
        lark(&format!("start: {}", "(".repeat(60_000))),
        lark(&format!("start: r0\n{}r4500: \"a\"\n", rules(4500, &|i| format!("r{}", i + 1)))),
        lark("start: a\na: a a | \"x\" | \"x\" \"x\" |"),
        lark("start: start start | /x*/ | /(x|y)*/"),
        lark(&format!("start: r0\n{}r30: \"a\"\n", rules(30, &|i| format!("r{0} r{0}", i + 1)))),
        lark("start: \"a\"~1000000000"),
        lark("start: (\"a\"~1000 \"b\"~1000)~1000"),
        lark("start: /a/ \"\u{0}\""),
        lark(&"%".repeat(MAX_LARK_BYTES)),
        lark(&"\"".repeat(MAX_LARK_BYTES)),
        lark(&"/\\".repeat(MAX_LARK_BYTES / 2)),
    ];
    let compiler = GrammarCompiler::new(tokenizer()).unwrap();
    for grammar in &cases {
        let shown: String = format!("{grammar:?}").chars().take(60).collect();
        let start = Instant::now();
        let result = compiler.compile(grammar);
        let compiled = start.elapsed();
        let steps = match result {
            Ok(constraint) => follow(constraint, 100),
            Err(error) => {
                assert!(error.to_string().len() < 2000, "{error}");
                Err(error.to_string())
            }
        };
        eprintln!("{compiled:?} + {:?}: {shown}: {steps:?}", start.elapsed() - compiled);
        assert!(start.elapsed() < Duration::from_secs(60), "{shown}");
    }
}

/// Takes the first allowed token, at most `steps` times.
fn follow(mut constraint: Constraint, steps: usize) -> Result<usize, String> {
    for step in 0..steps {
        if constraint.is_done() {
            return Ok(step);
        }
        let mut logits = [0.0; VOCAB];
        constraint.apply(&mut logits).map_err(|error| error.to_string())?;
        let Some(id) = logits.iter().position(|logit| *logit == 0.0) else { return Ok(step) };
        constraint.accept(id as u32).map_err(|error| error.to_string())?;
    }
    Ok(steps)
}

#[test]
fn what_is_too_long_or_too_much_is_refused() {
    let long = "a".repeat(MAX_GRAMMAR_BYTES + 1);
    for grammar in [schema(&long), regex(&long), lark(&long)] {
        assert!(matches!(try_compile(&grammar), Err(GrammarError::TooLong { .. })));
    }
}
