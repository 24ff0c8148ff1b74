//! What commands tell.

use super::super::memory::show_bytes;
use super::super::output::quoted;
use super::engine::Engine;
use super::load_settings;
use super::talk::Talk;
use crate::eval::probe::peak_rss;
use crate::generate::{Conversation, Outcome};
use crate::model::LanguageModel;
use crate::text::Tokenizer;

/// Counts and times of an answer.
pub(super) fn stats(outcome: &Outcome, engine: &Engine) -> String {
    let Outcome { timings, prompt_tokens, tokens, .. } = outcome;
    let rate = |rate: Option<f64>| rate.map_or(String::new(), |rate| format!(", {rate:.1} tok/s"));
    let first =
        timings.first_token.map_or("none".to_owned(), |time| format!("{:.0} ms", time.as_secs_f64() * 1e3));
    let guessed = match timings.drafted_tokens {
        0 => String::new(),
        drafted => format!(", {} of {drafted} guessed ahead were right", timings.accepted_tokens),
    };
    let memory = peak_rss().map_or("unknown".to_owned(), show_bytes);
    [
        format!(
            "  prompt   {prompt_tokens} tokens, {} of them new{}",
            timings.fed_tokens,
            rate(timings.prompt_tokens_per_second())
        ),
        format!("  first    token after {first}"),
        format!("  answer   {} tokens{}{guessed}", tokens.len(), rate(timings.decode_tokens_per_second())),
        format!("  ended    {}", outcome.finish.name()),
        context_line(engine),
        format!("  memory   {} planned, {memory} peak", show_bytes(engine.planned.plan().total)),
    ]
    .join("\n")
}

fn context_line(engine: &Engine) -> String {
    let runner = engine.loaded.session.model();
    format!("  context  {} of {} tokens used", runner.position(), runner.context())
}

/// How full the context is.
pub(super) fn context(talk: &Talk, engine: &Engine) -> String {
    format!("{}\n  turns    {}", context_line(engine), turns(talk.conversation.turns().len()))
}

/// A number of turns.
pub(super) fn turns(count: usize) -> String {
    if count == 1 { "1 turn".to_owned() } else { format!("{count} turns") }
}

/// The model.
pub(super) fn model(engine: &Engine) -> String {
    let planned = &engine.planned;
    format!(
        "  model    {} ({}), {} threads, {}",
        planned.name(),
        planned.file().name(),
        engine.loaded.session.model().threads(),
        planned.kernels().name
    )
}

/// The system prompt.
pub(super) fn system(conversation: &Conversation) -> String {
    format!("  system   {}", conversation.system().unwrap_or("none"))
}

/// Model, settings and system prompt.
pub(super) fn overview(talk: &Talk, engine: &Engine) -> String {
    let (model, system) = (model(engine), system(&talk.conversation));
    [model, context(talk, engine), system, settings(talk, engine)].join("\n")
}

/// All settings.
pub(super) fn settings(talk: &Talk, engine: &Engine) -> String {
    let runner = engine.loaded.session.model();
    let loaded = load_settings::show(&engine.generation, runner.context(), runner.threads());
    format!("{}\n{loaded}", talk.settings.show())
}

/// All turns.
pub(super) fn history(conversation: &Conversation) -> String {
    let mut lines: Vec<String> =
        conversation.system().map(|text| format!("[system] {text}")).into_iter().collect();
    for turn in conversation.turns() {
        lines.push(format!("[user] {}", turn.user));
        lines.extend(turn.answer.as_ref().map(|answer| format!("[assistant] {answer}")));
    }
    if lines.is_empty() { "nothing was said yet".to_owned() } else { lines.join("\n") }
}

/// Tokens, one a line: the id and the text.
pub(super) fn tokens(ids: &[u32], tokenizer: &Tokenizer) -> String {
    let mut text = format!("  {} tokens", ids.len());
    for id in ids {
        text.push_str(&format!("\n  {id:>6} {}", quoted(tokenizer.piece(*id))));
    }
    text
}
