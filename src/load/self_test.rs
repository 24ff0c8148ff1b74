//! What a model says where it works: how a release proves itself.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{LoadError, Loaded};
use crate::generate::{Request, SamplerOptions, Session};
use crate::model::{RunOptions, Runner};
use crate::text::EncodeOptions;

/// Fewest positions of a context.
const LEAST_CONTEXT: usize = 16;

/// A token that a model chose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Continued {
    /// The token.
    pub id: u32,
    /// How much larger its log-probability is than that of the next likeliest. Where it is small, another processor may
    /// choose the other.
    pub margin: f32,
}

impl Loaded {
    /// Continues a text without any template, with the likeliest token each time, until there are `most` of them or the
    /// model ends. It does so in a session of its own, with no more context than that takes.
    ///
    /// # Errors
    /// If the text is empty, memory cannot be had, or the weights are damaged.
    pub fn continued(&self, text: &str, most: usize) -> Result<Vec<Continued>, LoadError> {
        let mut prompt = vec![];
        let options = EncodeOptions { add_special: true, parse_special: false };
        self.tokenizer.encode(text, options, &mut prompt)?;
        let context = (prompt.len() + most).max(LEAST_CONTEXT);
        let options = RunOptions { context, slots: 1, logit_rows: 1, ..self.options };
        let runner = Runner::new(Arc::clone(&self.model), &options)?;
        let mut session = Session::new(runner, Arc::clone(&self.tokenizer));
        let request = Request {
            sampler: SamplerOptions::greedy(),
            max_tokens: Some(most),
            logprobs: Some(2),
            ..Request::new(prompt)
        };
        let mut continued = vec![];
        session.generate(request, &mut |event| {
            let margin = event.logprobs.map_or(f32::INFINITY, |logprobs| match logprobs.top {
                [first, second, ..] => first.logprob - second.logprob,
                _ => f32::INFINITY,
            });
            continued.extend(event.id.map(|id| Continued { id, margin }));
            ControlFlow::Continue(())
        })?;
        Ok(continued)
    }
}
