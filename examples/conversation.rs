//! Talks: each answer knows what was said before, and only what is new is computed.

use smolt::LoadOptions;
use smolt::generate::{Conversation, Request, SamplerOptions};
use std::ops::ControlFlow;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("src/cli/demo.gguf".to_owned());
    let model = smolt::load(path, &LoadOptions::default())?;
    let (format, mut session) = (model.format()?, model.session()?);
    let mut conversation = Conversation::new(None);
    for message in ["Turn on the kitchen lights", "And the blinds down", "In the kitchen"] {
        conversation.ask(message);
        let next = conversation.next(&format, model.tokenizer(), session.context(), 64)?;
        let request = Request { sampler: SamplerOptions::greedy(), ..Request::new(&next.tokens) };
        let outcome = session.generate(request, &mut |_| ControlFlow::Continue(()))?;
        println!("> {message}\n{}", outcome.text);
        println!("({} of {} tokens were known)", outcome.cached_tokens, outcome.prompt_tokens);
        conversation.answer(&outcome, model.tokenizer())?;
    }
    Ok(())
}
