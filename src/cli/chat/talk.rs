//! Asking and answering, saving and going on.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::super::constrain::{self, Form};
use super::super::error::{CliError, Exit};
use super::super::generation::{USUAL_TOKENS, answer_room};
use super::super::interrupt::Interrupts;
use super::super::output::{Answer, note, say, write_calls};
use super::super::session;
use super::super::thoughts::Thoughts;
use super::engine::Engine;
use super::error::ChatError;
use super::report;
use super::settings::Settings;
use crate::generate::{Conversation, FinishReason, LogitFilter, Outcome, Request, SamplerOptions, save};

/// A conversation with all that its next answer depends on but the model.
pub(super) struct Talk {
    pub(super) conversation: Conversation,
    pub(super) settings: Settings,
    pub(super) interrupts: Interrupts,
    /// Whether a person is there to go on after an error or Ctrl-C.
    pub(super) interactive: bool,
    /// Tokens to guess ahead.
    pub(super) lookup: usize,
    /// Answers so far; each has a seed of its own.
    pub(super) answers: u64,
    pub(super) last: Option<Outcome>,
}

impl Talk {
    /// Asks, and prints the answer as it comes. Returns how the process ends if Ctrl-C ends it.
    ///
    /// # Errors
    /// If the message cannot be asked, which it is then as if it was not, or the answer cannot be printed.
    pub(super) fn ask(&mut self, engine: &mut Engine, message: &str) -> Result<Option<Exit>, CliError> {
        self.conversation.ask(message);
        self.respond(engine)
    }

    /// Gives the result of a function that the model called; once all have theirs, it answers.
    ///
    /// # Errors
    /// As [`Self::ask`], and if no call waits for one.
    pub(super) fn result(&mut self, engine: &mut Engine, result: &str) -> Result<Option<Exit>, CliError> {
        if !self.conversation.result(result) {
            return Err(ChatError::NoCall.into());
        }
        if self.conversation.awaits_result() {
            return Ok(None);
        }
        self.respond(engine)
    }

    fn respond(&mut self, engine: &mut Engine) -> Result<Option<Exit>, CliError> {
        let outcome = self.answer(engine);
        if outcome.is_err() {
            self.conversation.undo();
        }
        let outcome = outcome?;
        self.answers += 1;
        let is_stopped = outcome.finish == FinishReason::Cancelled;
        match outcome.finish {
            FinishReason::Loop => {
                note("the answer went in circles and was ended; /set loop_guard off lets it")
            }
            finish if self.settings.length.is_unasked(finish) => note(format_args!(
                "the answer was cut at {USUAL_TOKENS} tokens; /set max_tokens N allows more"
            )),
            FinishReason::Context => {
                note("the context is full and the answer cut off; -c N gives a larger one");
            }
            _ => {}
        }
        constrain::note_unfinished(&outcome, self.settings.form.as_ref());
        if self.settings.stats {
            say(&report::stats(&outcome, engine));
        }
        self.last = Some(outcome);
        Ok((is_stopped && !self.interactive).then_some(Exit::Interrupted))
    }

    /// Asks the last message again, or `message` in its place.
    ///
    /// # Errors
    /// As [`Self::ask`], and if nothing was said yet.
    pub(super) fn retry(
        &mut self,
        engine: &mut Engine,
        message: Option<&str>,
    ) -> Result<Option<Exit>, CliError> {
        let last = self.conversation.undo().ok_or(ChatError::NothingSaid)?;
        self.ask(engine, message.unwrap_or(&last))
    }

    fn answer(&mut self, engine: &mut Engine) -> Result<Outcome, CliError> {
        let mut constraint = engine.constraint(self.settings.form.as_ref())?;
        let session = &mut engine.loaded.session;
        let (tokenizer, context) = (Arc::clone(session.tokenizer()), session.context());
        let max_tokens = self.settings.length.tokens(self.settings.form.is_some());
        let reserve = answer_room(max_tokens, context);
        let next = self.conversation.next(&engine.format, &tokenizer, context, reserve)?;
        session::note_dropped(next.dropped, self.conversation.system().is_some());
        let settings = &self.settings;
        let seed = settings.sampler.seed.wrapping_add(self.answers);
        let (mut printed, mut failure) = (Answer::new(), None);
        let calling = settings.form.as_ref().and_then(Form::calling);
        let (layout, mut thoughts) =
            (engine.format.layout(&tokenizer, calling), Thoughts::new(settings.think));
        let outcome = self.interrupts.during(|cancel| {
            let request = Request {
                max_tokens,
                sampler: SamplerOptions { seed, ..settings.sampler.clone() },
                stop: &settings.stop,
                cancel: Some(cancel),
                lookup: self.lookup,
                loop_guard: settings.loop_guard,
                filter: constraint.as_mut().map(|constraint| constraint as &mut dyn LogitFilter),
                layout: layout.as_ref(),
                ..Request::new(&next.tokens)
            };
            if let Some(Form::Choices(texts)) = &settings.form {
                let draw = constrain::draw(settings.choice_temp, seed);
                let (outcome, choices) = session.choose(&request, texts, draw)?;
                failure = printed.push(&outcome.text).err();
                if settings.stats {
                    constrain::note_choices(&choices);
                }
                return Ok(outcome);
            }
            session.generate(request, &mut |event| {
                thoughts.push(event.reasoning, event.text);
                failure = printed.push(event.text).err();
                if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let outcome = outcome?;
        thoughts.finish();
        if outcome.tool_calls.is_empty() || !outcome.text.is_empty() {
            printed.end_line()?;
        }
        write_calls(&outcome)?;
        self.conversation.answer(&outcome, &tokenizer)?;
        Ok(outcome)
    }

    /// Saves the conversation and what was computed; the system prompt is read first if nothing was.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn save(&mut self, engine: &mut Engine, path: &Path) -> Result<u64, CliError> {
        let identity = engine.identity();
        let session = &mut engine.loaded.session;
        if self.conversation.turns().is_empty() {
            let opening = self.conversation.opening(&engine.format, session.tokenizer())?;
            if opening.is_empty() {
                session.clear();
            } else {
                let request = Request { max_tokens: Some(0), ..Request::new(&opening) };
                session.generate(request, &mut |_| ControlFlow::Continue(()))?;
            }
        }
        Ok(save(path, &identity, &self.conversation, session)?)
    }

    /// Goes on with a saved conversation.
    ///
    /// # Errors
    /// If it cannot be read; the conversation is then as before.
    pub(super) fn load(&mut self, engine: &mut Engine, path: &Path) -> Result<(), CliError> {
        self.conversation = session::resume(path, &engine.identity(), &mut engine.loaded)?;
        self.last = None;
        Ok(())
    }
}
