//! Answers several questions at once: each has a KV cache of its own, and the model reads all of them in one pass.

use smolt::LoadOptions;
use smolt::generate::{Done, Job, Request, SamplerOptions};
use std::ops::ControlFlow;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("src/cli/demo.gguf".to_owned());
    let questions = ["What time do you open?", "Turn on the kitchen lights", "How much is a ticket?"];
    let model = smolt::load(path, &LoadOptions { slots: 2, context: Some(512), ..LoadOptions::default() })?;
    let sampler = SamplerOptions { temperature: 0.0, ..model.sampling().clone() };

    let mut slots = model.slots(questions.len())?;
    for question in questions {
        let request = Request { sampler: sampler.clone(), ..Request::new(model.prompt(question)?) };
        // The third waits for a slot. Its tokens could be shown as they come.
        slots.submit(Job::Generate(request, Box::new(|_| ControlFlow::Continue(()))))?;
    }
    let mut answers = vec![];
    while slots.step(&mut |ticket, done| answers.push((ticket, done))) {}
    answers.sort_by_key(|(ticket, _)| *ticket);
    for (question, (_, done)) in questions.iter().zip(answers) {
        if let Done::Generated(outcome) = done? {
            println!("{question} {}", outcome.text.lines().next().unwrap_or_default());
        }
    }
    Ok(())
}
