//! An answer that its reader takes part by part. See [`Stream`].

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::model::LanguageModel;

use super::generation::Generation;
use super::request::{Outcome, Request, TokenEvent};
use super::task::Task;
use super::{GenerateError, Session};

/// A part of an answer: a [`TokenEvent`] that can be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The token; `None` when only text is released, at the end.
    pub id: Option<u32>,
    /// Text that is now certain.
    pub text: String,
    /// Reasoning that is now certain.
    pub reasoning: String,
    /// The token's log-probability, if log-probabilities were asked for.
    pub logprob: Option<f32>,
}

impl Part {
    fn new(event: &TokenEvent<'_>) -> Part {
        let logprob = event.logprobs.map(|logprobs| logprobs.chosen);
        Part { id: event.id, text: event.text.to_owned(), reasoning: event.reasoning.to_owned(), logprob }
    }
}

/// An answer under way, which goes on when the next part is asked for.
///
/// One that is dropped before its end leaves the session usable: its tokens are in the cache as far as they were taken.
pub struct Stream<'s, 'r, M: LanguageModel> {
    session: &'s mut Session<M>,
    /// Nothing once the answer has ended.
    generation: Option<Generation<'r>>,
    parts: VecDeque<Part>,
    outcome: Option<Result<Outcome, GenerateError>>,
}

impl<M: LanguageModel> Session<M> {
    /// Answers a request part by part, as [`Session::generate`] does as a whole.
    ///
    /// # Errors
    /// If an option is outside its range, or the prompt is empty or longer than the context.
    pub fn stream<'r>(&mut self, request: Request<'r>) -> Result<Stream<'_, 'r, M>, GenerateError> {
        let limits = self.limits();
        let generation = Generation::start(request, &mut self.sequence, &mut self.model, limits)?;
        Ok(Stream { session: self, generation: Some(generation), parts: VecDeque::new(), outcome: None })
    }
}

impl<M: LanguageModel> Stream<'_, '_, M> {
    /// Takes the answer to its end, and returns it as a whole.
    ///
    /// # Errors
    /// As [`Session::generate`].
    pub fn finish(mut self) -> Result<Outcome, GenerateError> {
        while self.generation.is_some() {
            self.step();
        }
        self.outcome.take().unwrap_or(Err(GenerateError::Stopped))
    }

    /// Lets the model go one step further.
    fn step(&mut self) {
        let Stream { session, generation, parts, outcome } = self;
        let Some(task) = generation else { return };
        let on_token = &mut |event: &TokenEvent<'_>| {
            parts.push_back(Part::new(event));
            ControlFlow::Continue(())
        };
        match session.step(task, on_token) {
            Ok(true) => {}
            Ok(false) => {
                let (sequence, model) = (&mut session.sequence, &mut session.model);
                *outcome = generation.take().map(|task| Ok(task.end(sequence, model, on_token)));
            }
            Err(error) => {
                session.clear();
                (*generation, *outcome) = (None, Some(Err(error)));
            }
        }
    }
}

/// The last item may be the error that ended the answer.
impl<M: LanguageModel> Iterator for Stream<'_, '_, M> {
    type Item = Result<Part, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.parts.is_empty() && self.generation.is_some() {
            self.step();
        }
        match self.parts.pop_front() {
            Some(part) => Some(Ok(part)),
            None if matches!(self.outcome, Some(Err(_))) => {
                self.outcome.take().and_then(Result::err).map(Err)
            }
            None => None,
        }
    }
}

impl<M: LanguageModel> Drop for Stream<'_, '_, M> {
    fn drop(&mut self) {
        if let Some(mut generation) = self.generation.take() {
            generation.interrupt();
            let Session { model, sequence } = &mut *self.session;
            generation.end(sequence, model, &mut |_| ControlFlow::Continue(()));
        }
    }
}
