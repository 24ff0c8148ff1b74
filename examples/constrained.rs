//! Holds an answer to a JSON Schema.

use smolt::LoadOptions;
use smolt::generate::{Grammar, GrammarCompiler, Request, SamplerOptions};
use std::ops::ControlFlow;
use std::sync::Arc;

const SCHEMA: &str = r#"{"type": "object", "properties":
    {"room": {"enum": ["kitchen", "hall"]}, "state": {"enum": ["on", "off"]}}}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("src/cli/demo.gguf".to_owned());
    let model = smolt::load(path, &LoadOptions { grammar: true, ..LoadOptions::default() })?;
    let compiler = GrammarCompiler::new(Arc::clone(model.tokenizer()))?;
    let rule = compiler.compile(&Grammar::Schema(SCHEMA.to_owned()))?;
    for message in ["Turn on the kitchen lights", "Turn off the kitchen lights"] {
        let (prompt, mut rule) = (model.prompt(message)?, rule.clone());
        let sampler = SamplerOptions::greedy();
        let request = Request { filter: Some(Box::new(&mut rule)), sampler, ..Request::new(&prompt) };
        let outcome = model.session()?.generate(request, &mut |_| ControlFlow::Continue(()))?;
        println!("{} {}", outcome.text, outcome.whole);
    }
    Ok(())
}
