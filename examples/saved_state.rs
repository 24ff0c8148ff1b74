//! Saves a conversation with all that was computed for it, and goes on with it in another session.

use smolt::generate::{Conversation, Origin, Request, SamplerOptions, open, save};
use smolt::{LoadOptions, Prepared};
use std::ops::ControlFlow::Continue;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("src/cli/demo.gguf".to_owned());
    let prepared = Prepared::open(&path, &LoadOptions::default())?;
    let file = std::env::temp_dir().join(format!("{}.session", std::process::id()));
    let model = prepared.load()?;
    let format = model.format()?;
    let mut talk = Conversation::new(None);
    for (message, is_last) in [("Turn on the kitchen lights", false), ("And the blinds down", true)] {
        let mut session = model.session()?;
        let identity = prepared.identity(&session, &format)?;
        let origin = Origin { identity, model: "demo".to_owned(), source: path.clone() };
        if is_last {
            talk = open(&file, &origin.identity, &mut session)?.conversation;
        }
        talk.ask(message);
        let prompt = talk.next(&format, model.tokenizer(), session.context(), 64)?.tokens;
        let request = Request { sampler: SamplerOptions::greedy(), ..Request::new(&prompt) };
        let outcome = session.generate(request, &mut |_| Continue(()))?;
        println!("{}\n({} of {} tokens were known)", outcome.text, outcome.cached_tokens, prompt.len());
        talk.answer(&outcome, model.tokenizer())?;
        save(&file, &origin, &talk, Some(&mut session))?;
    }
    Ok(std::fs::remove_file(file)?)
}
