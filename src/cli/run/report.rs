//! What `smolt run` tells about an answer.

use std::time::Duration;

use serde::Serialize;

use super::super::load::{Loaded, Planned};
use super::super::memory::show_bytes;
use super::super::output::{quoted, report};
use crate::eval::probe::peak_rss;
use crate::generate::{Choice, Outcome, Timings, TokenEvent};
use crate::model::LanguageModel;
use crate::text::{Tokenizer, ToolCall};

/// The answer in machine-readable form.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    text: &'a str,
    /// What the model thought before; absent if nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<&'a str>,
    /// The functions that are called; absent if none.
    #[serde(skip_serializing_if = "<[ToolCall]>::is_empty")]
    tool_calls: &'a [ToolCall],
    tokens: usize,
    prompt_tokens: usize,
    /// Those of them that a session had computed before.
    cached_tokens: usize,
    finish_reason: &'static str,
    /// Whether it reached the end of its form; null without one.
    pub(super) complete: Option<bool>,
    seed: u64,
    /// Without `--choices`, null.
    pub(super) choices: Option<&'a [Choice]>,
    /// Without `--logprobs`, null.
    pub(super) logprobs: Option<&'a [TokenReport]>,
    /// Without `--lookup`, null.
    lookup: Option<LookupReport>,
    timings: TimingReport,
    memory: MemoryReport,
    model: ModelReport,
}

/// A token of the answer.
#[derive(Serialize)]
pub(super) struct TokenReport {
    #[serde(flatten)]
    chosen: Scored,
    /// The likeliest tokens.
    top: Vec<Scored>,
}

/// A token with its natural log-probability; null if the model ruled it out.
#[derive(Serialize)]
struct Scored {
    id: u32,
    /// With U+FFFD for bytes that are not UTF-8.
    token: String,
    /// If there are such bytes, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
    logprob: Option<f32>,
}

impl Scored {
    fn new(id: u32, logprob: f32, tokenizer: &Tokenizer) -> Scored {
        let piece = tokenizer.piece(id);
        let bytes = str::from_utf8(piece).err().map(|_| piece.to_vec());
        let token = String::from_utf8_lossy(piece).into_owned();
        Scored { id, token, bytes, logprob: Some(logprob).filter(|logprob| logprob.is_finite()) }
    }

    fn quoted(&self) -> String {
        quoted(self.bytes.as_deref().unwrap_or(self.token.as_bytes()))
    }
}

impl TokenReport {
    /// Of an event that has a token and its log-probability.
    pub(super) fn new(event: &TokenEvent<'_>, tokenizer: &Tokenizer) -> Option<TokenReport> {
        let (id, logprobs) = event.id.zip(event.logprobs)?;
        let top = logprobs.top.iter().map(|token| Scored::new(token.id, token.logprob, tokenizer));
        Some(TokenReport { chosen: Scored::new(id, logprobs.chosen, tokenizer), top: top.collect() })
    }
}

/// Lists the tokens on standard error, one a line, with the alternatives behind each.
pub(super) fn note_tokens(tokens: &[TokenReport]) {
    let show = |scored: &Scored| {
        let logprob = scored.logprob.unwrap_or(f32::NEG_INFINITY);
        format!("{logprob:>9.4} {}", scored.quoted())
    };
    let lines = tokens.iter().map(|token| {
        let parts: Vec<String> = std::iter::once(&token.chosen).chain(&token.top).map(show).collect();
        format!("  {}", parts.join("  "))
    });
    let lines: Vec<String> = lines.collect();
    report(format_args!("log-probability of each token\n{}", lines.join("\n")));
}

#[derive(Serialize)]
struct LookupReport {
    /// Tokens that were guessed ahead.
    drafted_tokens: usize,
    /// Those of them that were right.
    accepted_tokens: usize,
}

#[derive(Serialize)]
struct TimingReport {
    load_ms: f64,
    /// From the start of the request, the model being loaded.
    ttft_ms: Option<f64>,
    prompt_tok_s: Option<f64>,
    decode_tok_s: Option<f64>,
}

#[derive(Serialize)]
struct MemoryReport {
    planned_bytes: u64,
    /// How keys and values are stored.
    kv: &'static str,
    peak_rss_bytes: Option<u64>,
}

#[derive(Serialize)]
struct ModelReport {
    name: String,
}

impl<'a> Report<'a> {
    pub(super) fn new(planned: &Planned, loaded: &Loaded, outcome: &'a Outcome, seed: u64) -> Report<'a> {
        let timings: &Timings = &outcome.timings;
        Report {
            text: &outcome.text,
            reasoning: outcome.reasoning.as_deref(),
            tool_calls: &outcome.tool_calls,
            tokens: outcome.tokens.len(),
            prompt_tokens: outcome.prompt_tokens,
            cached_tokens: outcome.cached_tokens,
            finish_reason: outcome.finish_name(),
            complete: None,
            seed,
            choices: None,
            logprobs: None,
            lookup: (planned.options().logit_rows > 1).then_some(LookupReport {
                drafted_tokens: timings.drafted_tokens,
                accepted_tokens: timings.accepted_tokens,
            }),
            timings: TimingReport {
                load_ms: milliseconds(loaded.time),
                ttft_ms: timings.first_token.map(milliseconds),
                prompt_tok_s: timings.prompt_tokens_per_second(),
                decode_tok_s: timings.decode_tokens_per_second(),
            },
            memory: MemoryReport {
                planned_bytes: planned.plan().total,
                kv: planned.options().kv.name(),
                peak_rss_bytes: peak_rss(),
            },
            model: ModelReport { name: planned.name() },
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The report for people.
pub(super) fn stats(report: &Report<'_>, planned: &Planned, loaded: &Loaded) -> String {
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1} tok/s"));
    let Report { timings, memory, lookup, .. } = report;
    let peak = memory.peak_rss_bytes.map_or("unknown".to_owned(), show_bytes);
    let guessed = lookup.as_ref().map_or(String::new(), |lookup| {
        format!(", {} of {} guessed ahead were right", lookup.accepted_tokens, lookup.drafted_tokens)
    });
    let runner = loaded.session.model();
    [
        format!("  model    {}, loaded in {:.0} ms", report.model.name, timings.load_ms),
        format!("  prompt   {} tokens, {}", report.prompt_tokens, rate(timings.prompt_tok_s)),
        format!(
            "  first    {}",
            timings.ttft_ms.map_or("-".to_owned(), |ms| format!("token after {ms:.0} ms"))
        ),
        format!("  decode   {} tokens, {}{guessed}", report.tokens, rate(timings.decode_tok_s)),
        format!("  context  {} of {} used, {}", runner.position(), runner.context(), planned.options().kv),
        format!("  memory   {} planned, {peak} peak", show_bytes(memory.planned_bytes)),
        format!("  kernels  {}, {} threads", planned.kernels().name, runner.threads()),
        format!("  ended    {}, seed {}", report.finish_reason, report.seed),
    ]
    .join("\n")
}
