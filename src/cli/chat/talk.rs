//! Asking and answering, saving and going on.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::constrain;
use super::super::error::{CliError, Exit};
use super::super::generation::{USUAL_TOKENS, answer_room};
use super::super::interrupt::Interrupts;
use super::super::output::{self, Answer, Event, complain, lock, note, say, write_calls};
use super::super::session::{self, SessionFile};
use super::super::thoughts::Thoughts;
use super::engine::Engine;
use super::error::ChatError;
use super::report;
use super::settings::Settings;
use crate::ask::Form;
use crate::generate::{Conversation, FinishReason, LogitFilter, Outcome, Request, Resumed, SamplerOptions};

/// A conversation with all that its next answer depends on but the model.
pub(super) struct Talk {
    pub(super) conversation: Conversation,
    pub(super) settings: Settings,
    /// The settings at the start.
    pub(super) start: Settings,
    pub(super) interrupts: Interrupts,
    /// Whether a person is there to go on after an error or Ctrl-C.
    pub(super) interactive: bool,
    /// Tokens to guess ahead.
    pub(super) lookup: usize,
    /// Answers so far; each has a seed of its own.
    pub(super) answers: u64,
    pub(super) last: Option<Outcome>,
    /// Where it is kept.
    pub(super) file: Option<SessionFile>,
    /// Files that this conversation was saved in.
    pub(super) copies: Vec<PathBuf>,
    /// What went wrong that did not end it.
    pub(super) failed: Option<Exit>,
}

/// What the model reads.
struct Prompt {
    tokens: Vec<u32>,
    /// Tokens before the part of the answer that is there; `None` for a new answer.
    answer: Option<usize>,
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
        let outcome = self.prompt(engine).and_then(|prompt| self.answer(engine, &prompt));
        if outcome.is_err() && self.conversation.turns().last().is_some_and(|turn| turn.answer.is_none()) {
            self.conversation.undo();
        }
        self.end(outcome?, engine)
    }

    /// Asks the last message again, or `message` in its place.
    ///
    /// # Errors
    /// As [`Self::ask`], and if nothing was said yet; the last turn is then as it was.
    pub(super) fn retry(
        &mut self,
        engine: &mut Engine,
        message: Option<&str>,
    ) -> Result<Option<Exit>, CliError> {
        let last = self.conversation.undo().ok_or(ChatError::NothingSaid)?;
        let turns = self.conversation.turns().len();
        let asked = self.ask(engine, message.unwrap_or(&last.user));
        if asked.is_err() && self.conversation.turns().len() == turns {
            self.conversation.redo(last);
        }
        asked
    }

    /// Goes on with an answer that was cut off.
    ///
    /// # Errors
    /// If there is none, or it cannot be gone on with.
    pub(super) fn more(&mut self, engine: &mut Engine) -> Result<Option<Exit>, CliError> {
        let is_whole = |finish: FinishReason| {
            matches!(finish, FinishReason::EndToken(_) | FinishReason::Complete | FinishReason::StopString(_))
        };
        if self.last.as_ref().is_some_and(|last| is_whole(last.finish)) {
            return Err(ChatError::NotCut.into());
        }
        let session = &engine.loaded.session;
        let (tokenizer, context) = (Arc::clone(session.tokenizer()), session.context());
        let max_tokens = self.settings.length.tokens(self.settings.form.is_some());
        let reserve = answer_room(max_tokens, context);
        let more = self.conversation.more(&engine.format, &tokenizer, context, reserve)?;
        let more = more.ok_or(ChatError::NothingSaid)?;
        session::note_dropped(more.dropped, self.conversation.system().is_some());
        let outcome = self.answer(engine, &Prompt { tokens: more.tokens, answer: Some(more.prompt) })?;
        self.end(outcome, engine)
    }

    fn prompt(&mut self, engine: &Engine) -> Result<Prompt, CliError> {
        let session = &engine.loaded.session;
        let (tokenizer, context) = (session.tokenizer(), session.context());
        let max_tokens = self.settings.length.tokens(self.settings.form.is_some());
        let reserve = answer_room(max_tokens, context);
        let next = self.conversation.next(&engine.format, tokenizer, context, reserve)?;
        session::note_dropped(next.dropped, self.conversation.system().is_some());
        Ok(Prompt { tokens: next.tokens, answer: None })
    }

    /// Says how an answer ended; how the process ends if Ctrl-C ends it.
    fn end(&mut self, outcome: Outcome, engine: &Engine) -> Result<Option<Exit>, CliError> {
        self.answers += 1;
        if output::has_events() {
            output::event(&Event::Answer {
                text: &outcome.text,
                reasoning: outcome.reasoning.as_deref(),
                tool_calls: output::calls(&outcome),
                finish_reason: outcome.finish.name(),
                tokens: outcome.tokens.len(),
                prompt_tokens: outcome.prompt_tokens,
                cached_tokens: outcome.cached_tokens,
            })?;
        }
        let more = if self.interactive { "; /continue goes on with it" } else { "" };
        match outcome.finish {
            FinishReason::Loop => {
                note("the answer went in circles and was ended; /set loop_guard off lets it");
            }
            finish if self.settings.length.is_unasked(finish) => note(format_args!(
                "the answer was cut at {USUAL_TOKENS} tokens; /set max_tokens N allows more{more}"
            )),
            FinishReason::Context => {
                note("the context is full and the answer cut off; -c N gives a larger one");
            }
            FinishReason::Length if self.interactive => {
                note(format_args!("the answer was cut off after {} tokens{more}", outcome.tokens.len()));
            }
            FinishReason::Cancelled if self.interactive => note(format_args!("stopped{more}")),
            _ => {}
        }
        constrain::note_unfinished(&outcome, self.settings.form.as_ref());
        if self.settings.stats {
            say(&report::stats(&outcome, engine));
        }
        let is_stopped = outcome.finish == FinishReason::Cancelled;
        self.last = Some(outcome);
        Ok((is_stopped && !self.interactive).then_some(Exit::Interrupted))
    }

    fn answer(&mut self, engine: &mut Engine, prompt: &Prompt) -> Result<Outcome, CliError> {
        let form = self.settings.form.as_ref();
        let mut constraint = self.interrupts.during(|cancel| engine.constraint(form, cancel))?;
        let session = &mut engine.loaded.session;
        let tokenizer = Arc::clone(session.tokenizer());
        let settings = &self.settings;
        let seed = settings.sampler.seed.wrapping_add(self.answers);
        let max_tokens = settings.length.tokens(settings.form.is_some());
        let (printed, mut failure) = (Mutex::new(Answer::new(settings.wrap)), None);
        // Of a new answer the whole prompt is before it.
        let before = prompt.answer.unwrap_or(prompt.tokens.len());
        let mut rule = constraint.as_mut().map(|constraint| Resumed::new(constraint, before));
        let layout = engine.format.layout(&tokenizer, form.and_then(Form::calling));
        let mut thoughts = Thoughts::new(settings.think);
        let outcome = self.interrupts.during(|cancel| {
            let request = Request {
                max_tokens,
                sampler: SamplerOptions { seed, ..settings.sampler.clone() },
                stop: Cow::Borrowed(&settings.stop),
                cancel: Some(cancel.clone()),
                lookup: self.lookup,
                loop_guard: settings.loop_guard,
                progress: Some(Box::new(|read, of| lock(&printed).read(read, of))),
                filter: rule.as_mut().map(|rule| Box::new(rule) as Box<dyn LogitFilter + '_>),
                layout: layout.as_ref().map(Cow::Borrowed),
                ..Request::new(&prompt.tokens)
            };
            if let Some(Form::Choices(texts)) = &settings.form {
                let draw = constrain::draw(settings.choice_temp, seed);
                let (outcome, choices) = session.choose(&request, texts, draw)?;
                failure = lock(&printed).push(&outcome.text).err();
                if settings.stats {
                    constrain::note_choices(&choices);
                }
                return Ok(outcome);
            }
            session.generate(request, &mut |event| {
                if !event.reasoning.is_empty() {
                    lock(&printed).end_reading();
                }
                thoughts.push(event.reasoning, event.text);
                failure = lock(&printed).push(event.text).err();
                if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let outcome = outcome?;
        thoughts.finish();
        match prompt.answer {
            None => self.conversation.answer(&outcome, &tokenizer)?,
            Some(_) => self.conversation.answer_more(&outcome, &tokenizer)?,
        }
        // Before the line ends: an answer that was seen whole is on the disk.
        self.record();
        if outcome.tool_calls.is_empty() || !outcome.text.is_empty() {
            printed.into_inner().unwrap_or_else(PoisonError::into_inner).end_line()?;
        }
        if !output::has_events() {
            write_calls(&outcome)?;
        }
        Ok(outcome)
    }

    /// Keeps what was said. The talk goes on where that fails.
    pub(super) fn record(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.record(&self.conversation)
        {
            complain(&error);
            self.failed = self.failed.or(Some(error.exit()));
        }
    }

    /// Saves the conversation, with what was computed where that is wanted; the system prompt is read first if nothing
    /// was. Returns the file if a person named it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn finish(&mut self, engine: &mut Engine) -> Result<Option<PathBuf>, CliError> {
        let Some(mut file) = self.file.take() else { return Ok(None) };
        if self.conversation.turns().is_empty() {
            if file.named().is_none() && !file.is_begun() {
                return Ok(None);
            }
            if file.named().is_some() {
                self.read_opening(engine)?;
            }
        }
        file.finish(&engine.origin, &self.conversation, &mut engine.loaded.session)?;
        Ok(file.named().map(Path::to_owned))
    }

    /// Saves the conversation with what was computed in another file.
    ///
    /// # Errors
    /// If that is not a session, or cannot be written.
    pub(super) fn save_copy(&mut self, engine: &mut Engine, path: &Path) -> Result<u64, CliError> {
        if self.conversation.turns().is_empty() {
            self.read_opening(engine)?;
        }
        let session = &mut engine.loaded.session;
        if let Some(file) = self.file.as_mut().filter(|file| file.is_at(path)) {
            file.finish(&engine.origin, &self.conversation, session)?;
            return Ok(std::fs::metadata(path).map_or(0, |data| data.len()));
        }
        let is_own = self.copies.iter().any(|known| known == path);
        let bytes = session::save_copy(path, &engine.origin, &self.conversation, session, is_own)?;
        self.copies.push(path.to_owned());
        Ok(bytes)
    }

    /// Lets the model read the system prompt alone.
    fn read_opening(&self, engine: &mut Engine) -> Result<(), CliError> {
        let session = &mut engine.loaded.session;
        let opening = self.conversation.opening(&engine.format, session.tokenizer(), session.context())?;
        if opening.is_empty() {
            session.clear();
        } else {
            let request = Request { max_tokens: Some(0), ..Request::new(&opening) };
            session.generate(request, &mut |_| ControlFlow::Continue(()))?;
        }
        Ok(())
    }

    /// Goes on with a saved conversation.
    ///
    /// # Errors
    /// If it cannot be read; the conversation is then as before.
    pub(super) fn load(&mut self, engine: &mut Engine, path: &Path) -> Result<(), CliError> {
        let loaded = session::read(path, &engine.origin.identity, &mut engine.loaded.session)?;
        if let Some(file) = self.file.as_mut().filter(|file| !file.is_at(path)) {
            file.replace()?;
        }
        self.conversation = loaded;
        self.last = None;
        self.record();
        Ok(())
    }
}
