//! Two models that people run, beside llama.cpp: prompts, tokens and perplexity are compared with what `scripts/real_golden.py`
//! asked llama.cpp for; sessions and suites run by the program. What they are planned to take is in `memory.rs`.
//!
//! Both runners round activations to 8 bits, each in its own way, and llama.cpp reads a text at once otherwise than token by
//! token. That moves the lead of a token over the next by 0.17 to 0.21 logits (standard deviation, of 4,000 tokens a model),
//! between the runners as between llama.cpp and itself; by the same weights in F16, where nothing is rounded, they differ by
//! 0.004. So a token may be another only where the lead is small, and how far smolt is from the exact leads is bounded by how
//! far llama.cpp is.
//!
//! A build without optimisation decodes a few prompts within a minute; `SMOLT_REAL=all` decodes all and reads a long text.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::Value;
use smolt::eval::perplexity::{Corpus, PerplexityOptions, perplexity};
use smolt::model::{LanguageModel, Runner};
use smolt::text::{EncodeOptions, Message, Role};
use smolt::{LoadOptions, Loaded};

use crate::chat::{Folder, chat, pipe};
use crate::shared::{Scratch, file, real_model, repository};

/// Set to `all` to decode all prompts and to read the long text.
const ALL: &str = "SMOLT_REAL";

fn all() -> bool {
    std::env::var(ALL).is_ok_and(|value| value == "all")
}

/// Largest lead of a token over the second, in logits, at which another choice is rounding: as much as llama.cpp's own lead
/// changes, at most, between reading a text token by token and at once.
const ROUNDING_GAP: f64 = 1.25;
/// How much farther from the exact leads than llama.cpp's median smolt's may be, of a few hundred tokens.
const FARTHER: f64 = 1.25;
/// Most that perplexity may be above llama.cpp's.
const PERPLEXITY: f64 = 0.002;
/// As [`PERPLEXITY`], of a text so short (510 tokens count) that rounding alone moves it by 0.9 %.
const SHORT_PERPLEXITY: f64 = 0.012;

/// What llama.cpp says of a model.
#[derive(Deserialize)]
struct Golden {
    sha256: String,
    llama_cpp: String,
    perplexity: Perplexities,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Perplexities {
    /// Of `tests/data/real/text.txt`.
    short: Figures,
    /// Of a text of the shared data.
    long: Figures,
}

#[derive(Deserialize)]
struct Figures {
    ppl: f64,
    /// By the same weights in F16.
    exact: f64,
    tokens: usize,
    scored_tokens: usize,
}

#[derive(Deserialize)]
struct Prompt {
    /// A conversation, of a model with a template.
    messages: Option<Vec<Said>>,
    /// The beginning of a text, of one without.
    text: Option<String>,
    ids: Vec<u32>,
    greedy: Vec<u32>,
    /// By how much each was above the second, and by the weights in F16 above all others, in thousandths.
    gaps: Vec<i32>,
    exact: Vec<i32>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

impl Said {
    fn message(&self) -> Message {
        let role = match self.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => panic!("{other} speaks"),
        };
        Message::new(role, self.content.clone())
    }
}

/// A model, loaded once for all tests.
struct Real {
    path: PathBuf,
    golden: Golden,
    loaded: Loaded,
}

impl Real {
    fn open(name: &str) -> Option<Real> {
        let path = real_model(name)?;
        let golden = std::fs::read_to_string(repository(&format!("tests/data/real/{name}.json"))).unwrap();
        let golden: Golden = serde_json::from_str(&golden).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let sha256 = smolt::files::sha256_of([bytes.as_slice()].into_iter());
        assert_eq!(sha256, golden.sha256, "{name} is another file than llama.cpp was asked about");
        drop(bytes);
        let options =
            LoadOptions { context: Some(512), threads: Some(2), logit_rows: 8, ..Default::default() };
        let loaded = smolt::load(&path, &options).unwrap();
        Some(Real { path, golden, loaded })
    }

    fn name(&self) -> &str {
        self.path.file_stem().unwrap().to_str().unwrap()
    }
}

const SMOLLM2: &str = "smollm2-135m-instruct-q4_1";
const GEMMA3: &str = "gemma-3-270m-q4_k_m";

fn smollm2() -> Option<&'static Real> {
    static MODEL: LazyLock<Option<Real>> = LazyLock::new(|| Real::open(SMOLLM2));
    there(SMOLLM2, &MODEL)
}

fn gemma3() -> Option<&'static Real> {
    static MODEL: LazyLock<Option<Real>> = LazyLock::new(|| Real::open(GEMMA3));
    there(GEMMA3, &MODEL)
}

fn there(name: &str, model: &'static Option<Real>) -> Option<&'static Real> {
    if model.is_none() {
        eprintln!("SKIPPED: {name}: SMOLT_REAL_MODELS names no folder with it");
    }
    model.as_ref()
}

/// The prompts' ids are llama.cpp's, of conversations by the model's template, of texts as they are.
fn prompts_are_equal(model: &Real) {
    let tokenizer = model.loaded.tokenizer();
    let template = model.loaded.template().unwrap();
    for prompt in &model.golden.prompts {
        let mut found = vec![];
        match (&template, &prompt.messages, &prompt.text) {
            (Some(template), Some(messages), None) => {
                let messages: Vec<Message> = messages.iter().map(Said::message).collect();
                template.encode(tokenizer, &messages, &mut found).unwrap();
            }
            (None, None, Some(text)) => {
                let options = EncodeOptions { add_special: true, parse_special: false };
                tokenizer.encode(text, options, &mut found).unwrap();
            }
            _ => panic!("a conversation where there is a template, else a text"),
        }
        assert_eq!(found, prompt.ids, "{:?}", tokenizer.decode_lossy(&found, false));
    }
}

#[test]
fn a_chat_models_prompts_are_those_of_llama_cpp() {
    let Some(model) = smollm2() else { return };
    prompts_are_equal(model);
}

#[test]
fn a_base_models_prompts_are_those_of_llama_cpp() {
    let Some(model) = gemma3() else { return };
    prompts_are_equal(model);
}

/// Decodes prompts greedily, tells where the first token differs from llama.cpp's, and goes on with that: every token is
/// chosen after the same text.
fn tokens_are_equal(model: &Real, few: usize) {
    let prompts = &model.golden.prompts[..if all() { model.golden.prompts.len() } else { few }];
    if !all() {
        let rest = model.golden.prompts.len() - few;
        eprintln!("NOT TESTED: {rest} prompts of {}; {ALL}=all for all", model.name());
    }
    let mut runner = Runner::new(Arc::clone(model.loaded.model()), model.loaded.options()).unwrap();
    let (mut others, mut ours, mut theirs) = (vec![], vec![], vec![]);
    for (number, prompt) in prompts.iter().enumerate() {
        let leads = leads(&mut runner, prompt);
        let gaps = || prompt.gaps.iter().copied().map(logits);
        match leads.iter().zip(gaps()).enumerate().find(|(_, (lead, _))| **lead < 0.0) {
            Some((place, (_, gap))) => {
                eprintln!("prompt {number}: token {place} is another, with a gap of {gap}")
            }
            None => eprintln!("prompt {number}: {} tokens are equal", leads.len()),
        }
        others.extend(leads.iter().zip(gaps()).filter(|(lead, _)| **lead < 0.0).map(|(_, gap)| gap));
        for ((lead, gap), exact) in leads.iter().zip(gaps()).zip(prompt.exact.iter().copied().map(logits)) {
            ours.push((lead - exact).abs());
            theirs.push((gap - exact).abs());
        }
    }
    let largest = others.iter().copied().fold(0.0, f64::max);
    let (tokens, others) = (ours.len(), others.len());
    let (ours, theirs) = (median(ours), median(theirs));
    eprintln!(
        "{}: {others} of {tokens} tokens differ from {}, with gaps of {largest} at most; {ours:.3} beside {theirs:.3} logits \
         from the exact lead",
        model.name(),
        model.golden.llama_cpp
    );
    assert!(largest < ROUNDING_GAP, "a token is another where llama.cpp's is {largest} above the second");
    assert!(ours < theirs * FARTHER, "{ours} logits from the exact lead, llama.cpp {theirs}");
}

fn logits(thousandths: i32) -> f64 {
    f64::from(thousandths) / 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// By how much each token of llama.cpp's is the likeliest; below zero where another is.
fn leads(runner: &mut Runner, prompt: &Prompt) -> Vec<f64> {
    runner.truncate(0);
    let mut logits = runner.feed(&prompt.ids, &|| false).unwrap();
    let mut found = vec![];
    for (place, token) in prompt.greedy.iter().enumerate() {
        let own = *token as usize;
        let others = logits.iter().enumerate().filter(|(id, _)| *id != own).map(|(_, logit)| *logit);
        found.push(f64::from(logits[own]) - f64::from(others.fold(f32::NEG_INFINITY, f32::max)));
        if place + 1 < prompt.greedy.len() {
            logits = runner.feed(&[*token], &|| false).unwrap();
        }
    }
    found
}

#[test]
fn a_chat_model_says_what_llama_cpp_says() {
    let Some(model) = smollm2() else { return };
    tokens_are_equal(model, 2);
}

#[test]
fn a_base_model_says_what_llama_cpp_says() {
    let Some(model) = gemma3() else { return };
    tokens_are_equal(model, 1);
}

/// Perplexity is not above llama.cpp's; of the long text, that with nothing rounded is told too.
fn perplexity_is_equal(model: &Real) {
    let short = std::fs::read_to_string(repository("tests/data/real/text.txt")).unwrap();
    compare(model, "short", &short, &model.golden.perplexity.short, SHORT_PERPLEXITY);
    if !all() {
        eprintln!(
            "NOT TESTED: perplexity of {} to {PERPLEXITY}; {ALL}=all reads the long text",
            model.name()
        );
        return;
    }
    let Some(long) = file("data/text/eval-speeches.txt") else { return };
    let long = std::fs::read_to_string(long).unwrap();
    compare(model, "long", &long[..LONG_TEXT_BYTES], &model.golden.perplexity.long, PERPLEXITY);
}

/// Bytes read of the long text.
const LONG_TEXT_BYTES: usize = 75_000;

fn compare(model: &Real, name: &str, text: &str, expected: &Figures, bound: f64) {
    let corpus = Corpus::new(model.loaded.tokenizer(), text).unwrap();
    let mut session = model.loaded.plain_session().unwrap();
    let found = perplexity(&mut session, &corpus, &PerplexityOptions::default(), &mut |_, _| ()).unwrap();
    assert_eq!((corpus.tokens.len(), found.scored_tokens), (expected.tokens, expected.scored_tokens));
    let percent = |of: f64| (of / expected.exact - 1.0) * 100.0;
    eprintln!(
        "{}, {name} text: perplexity {:.4}, llama.cpp's {:.4}; rounding costs {:+.3} % beside {:+.3} %",
        model.name(),
        found.ppl,
        expected.ppl,
        percent(found.ppl),
        percent(expected.ppl)
    );
    assert!(found.ppl < expected.ppl * (1.0 + bound), "{} above {}", found.ppl, expected.ppl);
    assert!(
        percent(found.ppl).abs() < 100.0 * bound.max(SHORT_PERPLEXITY / 2.0),
        "{} beside {}",
        found.ppl,
        expected.exact
    );
}

#[test]
fn a_chat_models_perplexity_is_that_of_llama_cpp() {
    let Some(model) = smollm2() else { return };
    perplexity_is_equal(model);
}

#[test]
fn a_base_models_perplexity_is_that_of_llama_cpp() {
    let Some(model) = gemma3() else { return };
    perplexity_is_equal(model);
}

/// A conversation that is left and gone on with by another process has the answers of one that was not.
fn a_session_goes_on(model: &Real) {
    let (first, second) = ("The capital of France is Paris.", "And what is the capital of Italy?");
    let args = ["-q", "-n", "12", "-c", "512"];
    let folder = Folder::new();
    let say = |args: &[&str], input: &str| {
        let (code, out, err) = pipe(chat(&folder, &model.path, args), input);
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let whole = say(&args, &format!("{first}\n{second}\n"));
    let file = folder.path("kiosk.session");
    let kept = [&args[..], &["--session", file.to_str().unwrap()]].concat();
    let begun = say(&kept, &format!("{first}\n"));
    let rest = say(&kept, &format!("{second}\n"));
    assert!(!begun.trim().is_empty() && !rest.trim().is_empty(), "{begun}{rest}");
    assert_eq!(format!("{begun}{rest}"), whole);
    assert_ne!(begun, rest);
}

#[test]
fn a_chat_models_session_goes_on() {
    let Some(model) = smollm2() else { return };
    a_session_goes_on(model);
}

#[test]
fn a_base_models_session_goes_on() {
    let Some(model) = gemma3() else { return };
    a_session_goes_on(model);
}

/// The suites of `prompts/` run: both models know all the likeliest ends of sentences, and some of what needs an answer.
fn suites_run(model: &Real) {
    const DOCUMENTS: f64 = 3.0;
    let scratch = Scratch::new("eval", model.name());
    let suites = ["common", "arithmetic", "extraction", "format"]
        .map(|name| repository(&format!("prompts/{name}.yaml")).display().to_string());
    let mut args = vec!["-m", model.path.to_str().unwrap(), "--json", "-c", "512", "--limit", "3"];
    args.extend(suites.iter().map(String::as_str));
    let report: Value = serde_json::from_str(&scratch.out(&args)).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
    let right = |metric: &str| -> Vec<f64> {
        let results = report["results"].as_array().unwrap().iter();
        let of_metric = results
            .filter(|result| result["metric"] == metric && result["documents"].as_f64() == Some(DOCUMENTS));
        of_metric.map(|result| (DOCUMENTS * result["value"].as_f64().unwrap()).round()).collect()
    };
    let (chosen, answered) = (right("acc"), right("exact_match"));
    eprintln!("{}: {chosen:?} choices and {answered:?} answers of {DOCUMENTS} right", model.name());
    assert_eq!(chosen, [DOCUMENTS]);
    assert!(answered.len() == 3 && answered.iter().sum::<f64>() >= 3.0, "{report}");
}

#[test]
fn suites_run_on_a_chat_model() {
    let Some(model) = smollm2() else { return };
    suites_run(model);
}

#[test]
fn suites_run_on_a_base_model() {
    let Some(model) = gemma3() else { return };
    suites_run(model);
}
