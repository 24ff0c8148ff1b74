//! Writes an answer as it comes.

use smolt::LoadOptions;
use smolt::generate::{Request, SamplerOptions};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("src/cli/demo.gguf".to_owned());
    let options = LoadOptions { context: Some(512), max_memory: Some(200 << 20), ..LoadOptions::default() };
    let prepared = smolt::Prepared::open(path, &options)?;
    println!("{} bytes are planned, at most {} MiB", prepared.plan().total, 200);
    let model = prepared.load()?;

    let prompt = model.prompt("What time do you open?")?;
    let sampler = SamplerOptions { temperature: 0.0, ..model.sampling().clone() };
    let mut session = model.session()?;
    let mut answer = session.stream(Request { sampler, ..Request::new(&prompt) })?;
    for part in answer.by_ref() {
        print!("{}", part?.text);
        std::io::stdout().flush()?;
    }
    let outcome = answer.finish()?;
    println!("\n{} tokens, {}", outcome.tokens.len(), outcome.finish_name());
    Ok(())
}
