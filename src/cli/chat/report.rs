//! What commands tell.

use super::super::memory::show_bytes;
use super::super::output::quoted;
use super::engine::Engine;
use super::load_settings;
use super::reply::Reply;
use super::settings::Settings;
use crate::eval::probe::peak_rss;
use crate::generate::Conversation;
use crate::model::LanguageModel;
use crate::text::Tokenizer;

/// Counts and times of an answer.
pub(super) fn stats(reply: &Reply, engine: &Engine) -> String {
    let Reply { timings, counts, .. } = reply;
    let rate = |rate: Option<f64>| rate.map_or(String::new(), |rate| format!(", {rate:.1} tok/s"));
    let first =
        timings.first_token.map_or("none".to_owned(), |time| format!("{:.0} ms", time.as_secs_f64() * 1e3));
    let guessed = match timings.drafted_tokens {
        0 => String::new(),
        drafted => format!(", {} of {drafted} guessed ahead were right", timings.accepted_tokens),
    };
    let prompt = counts.map(|counts| {
        let rate = rate(timings.prompt_tokens_per_second());
        format!("  prompt   {} tokens, {} of them new{rate}", counts.prompt, timings.fed_tokens)
    });
    let answer = counts.map(|counts| {
        let rate = rate(timings.decode_tokens_per_second());
        format!("  answer   {} tokens{rate}{guessed}", counts.answer)
    });
    let memory = match engine {
        Engine::Here(here) => {
            let peak = peak_rss().map_or("unknown".to_owned(), show_bytes);
            Some(format!("  memory   {} planned, {peak} peak", show_bytes(here.planned.plan().total)))
        }
        #[cfg(feature = "serve")]
        Engine::There(_) => None,
    };
    let lines = [
        prompt,
        Some(format!("  first    token after {first}")),
        answer,
        Some(format!("  ended    {}", reply.finish.name())),
        Some(context_line(engine)),
        memory,
    ];
    lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn context_line(engine: &Engine) -> String {
    match (engine.used(), engine.context()) {
        (Some(used), Some(context)) => format!("  context  {used} of {context} tokens used"),
        (Some(used), None) => format!("  context  {used} tokens used"),
        (None, Some(context)) => format!("  context  of {context} tokens"),
        (None, None) => "  context  unknown".to_owned(),
    }
}

/// How full the context is.
pub(super) fn context(conversation: &Conversation, engine: &Engine) -> String {
    format!("{}\n  turns    {}", context_line(engine), turns(conversation.turns().len()))
}

/// A number of turns.
pub(super) fn turns(count: usize) -> String {
    if count == 1 { "1 turn".to_owned() } else { format!("{count} turns") }
}

/// The model.
pub(super) fn model(engine: &Engine) -> String {
    match engine {
        Engine::Here(here) => {
            let planned = &here.planned;
            format!(
                "  model    {} ({}), {} threads, {}",
                planned.name(),
                planned.file().name(),
                here.loaded.session.model().threads(),
                planned.kernels().name
            )
        }
        #[cfg(feature = "serve")]
        Engine::There(there) => format!("  model    {} at {}", there.server.name(), there.server.address),
    }
}

/// The system prompt.
pub(super) fn system(conversation: &Conversation) -> String {
    format!("  system   {}", conversation.system().unwrap_or("none"))
}

/// Model, settings and system prompt.
pub(super) fn overview(conversation: &Conversation, set: &Settings, engine: &Engine) -> String {
    let (model, system) = (model(engine), system(conversation));
    [model, context(conversation, engine), system, settings(set, engine)].join("\n")
}

/// All settings.
pub(super) fn settings(settings: &Settings, engine: &Engine) -> String {
    let settings = settings.show();
    match engine {
        Engine::Here(here) => {
            let runner = here.loaded.session.model();
            let loaded = load_settings::show(&here.generation, runner.context(), runner.threads());
            format!("{settings}\n{loaded}")
        }
        #[cfg(feature = "serve")]
        Engine::There(_) => settings,
    }
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
