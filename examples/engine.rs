//! Answers questions of several threads with one model, which works on a thread of its own.

use smolt::LoadOptions;
use smolt::generate::{Done, Engine, Job, Request};
use std::{ops::ControlFlow, sync::mpsc::channel, thread};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("src/cli/demo.gguf".to_owned());
    let model = smolt::load(path, &LoadOptions { slots: 2, context: Some(512), ..LoadOptions::default() })?;
    let engine = Engine::start(model.slots(8)?, 8)?;
    let ask = |question: &str| -> Result<String, Box<dyn std::error::Error>> {
        let request = Request { max_tokens: Some(40), ..Request::new(model.prompt(question)?) };
        // Callbacks hand things on: every other answer waits for them.
        let (send, receive) = channel();
        let job = Job::Generate(request, Box::new(|_| ControlFlow::Continue(())));
        engine.submit(job, Box::new(move |done| drop(send.send(done))))?;
        match receive.recv()?? {
            Done::Generated(outcome) => Ok(outcome.text.lines().next().unwrap_or_default().to_owned()),
            _ => Err("something else was asked".into()),
        }
    };
    thread::scope(|scope| {
        for question in ["What time do you open?", "How much is a ticket?", "Turn on the kitchen lights"] {
            let ask = &ask;
            scope.spawn(move || println!("{question} {}", ask(question).unwrap_or_else(|e| e.to_string())));
        }
    });
    Ok(())
}
