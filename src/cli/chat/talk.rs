//! Asking and answering, saving and going on.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::super::answer::Answer;
use super::super::constrain;
use super::super::error::{ChatError, CliError, Exit};
use super::super::interrupt::Interrupts;
use super::super::output::{self, Event, complain, note, say, write_calls};
use super::super::session::{self, SessionFile};
use super::asking::Asking;
use super::engine::Engine;
use super::here::Here;
use super::reply::Reply;
use super::report;
use super::settings::Settings;
use crate::generate::{Conversation, FinishReason};

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
    pub(super) last: Option<Reply>,
    /// Where it is kept.
    pub(super) file: Option<SessionFile>,
    /// Files that this conversation was saved in.
    pub(super) copies: Vec<PathBuf>,
    /// What went wrong that did not end it.
    pub(super) failed: Option<Exit>,
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
        let reply = self.answer(engine, false);
        if reply.is_err() && self.conversation.turns().last().is_some_and(|turn| turn.answer.is_none()) {
            self.conversation.undo();
        }
        self.end(reply?, engine)
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
        engine.here("continue")?;
        let is_whole = |finish: FinishReason| {
            matches!(finish, FinishReason::EndToken(_) | FinishReason::Complete | FinishReason::StopString(_))
        };
        if self.last.as_ref().is_some_and(|last| is_whole(last.finish)) {
            return Err(ChatError::NotCut.into());
        }
        let reply = self.answer(engine, true)?;
        self.end(reply, engine)
    }

    /// Says how an answer ended; how the process ends if Ctrl-C ends it.
    fn end(&mut self, reply: Reply, engine: &Engine) -> Result<Option<Exit>, CliError> {
        self.answers += 1;
        if output::has_events() {
            output::event(&Event::Answer {
                text: &reply.text,
                reasoning: reply.reasoning.as_deref(),
                tool_calls: output::calls(&reply.tool_calls),
                finish_reason: reply.finish.name(),
                tokens: reply.counts.map(|counts| counts.answer),
                prompt_tokens: reply.counts.map(|counts| counts.prompt),
                cached_tokens: reply.counts.map(|counts| counts.cached),
            })?;
        }
        self.note_end(&reply, engine);
        constrain::note_unfinished(reply.whole, self.settings.form.as_ref());
        if self.settings.stats {
            say(&report::stats(&reply, engine));
        }
        let is_stopped = reply.finish == FinishReason::Cancelled;
        self.last = Some(reply);
        Ok((is_stopped && !self.interactive).then_some(Exit::Interrupted))
    }

    /// Says why an answer ended where it did not end by itself.
    fn note_end(&self, reply: &Reply, engine: &Engine) {
        let more = if self.interactive && engine.is_here() { "; /continue goes on with it" } else { "" };
        let after = |word: &str| {
            reply.counts.map_or(String::new(), |counts| format!(" {word} {} tokens", counts.answer))
        };
        match reply.finish {
            FinishReason::Loop => {
                note("the answer went in circles and was ended; /set loop_guard off lets it");
            }
            finish if self.settings.length.is_unasked(finish) => {
                note(format_args!("the answer was cut{}; /set max_tokens N allows more{more}", after("at")))
            }
            FinishReason::Context if engine.is_here() => {
                note("the context is full and the answer cut off; -c N gives a larger one");
            }
            FinishReason::Context => {
                note("the context is full and the answer cut off; smolt serve -c N gives a larger one");
            }
            FinishReason::Length if self.interactive => {
                note(format_args!("the answer was cut off{}{more}", after("after")));
            }
            FinishReason::Cancelled if self.interactive => note(format_args!("stopped{more}")),
            _ => {}
        }
    }

    /// Answers the last message, or with `goes_on` goes on with the last answer.
    fn answer(&mut self, engine: &mut Engine, goes_on: bool) -> Result<Reply, CliError> {
        let settings = &self.settings;
        let printed = Mutex::new(Answer::new(settings.wrap));
        let seed = settings.sampler.seed.wrapping_add(self.answers);
        let (interrupts, lookup) = (&self.interrupts, self.lookup);
        let asking = Asking { settings, interrupts, seed, lookup, printed: &printed, goes_on };
        let reply = engine.answer(&mut self.conversation, &asking)?;
        // Before the line ends: an answer that was seen whole is on the disk.
        self.record();
        if reply.tool_calls.is_empty() || !reply.text.is_empty() {
            printed.into_inner().unwrap_or_else(PoisonError::into_inner).end_line()?;
        }
        if !output::has_events() {
            write_calls(&reply.tool_calls)?;
        }
        Ok(reply)
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
    pub(super) fn finish(&mut self, here: &mut Here) -> Result<Option<PathBuf>, CliError> {
        let Some(mut file) = self.file.take() else { return Ok(None) };
        if self.conversation.turns().is_empty() {
            if file.named().is_none() && !file.is_begun() {
                return Ok(None);
            }
            if file.named().is_some() {
                here.read_opening(&self.conversation)?;
            }
        }
        file.finish(&here.origin, &self.conversation, &mut here.loaded.session)?;
        Ok(file.named().map(Path::to_owned))
    }

    /// Saves the conversation with what was computed in another file.
    ///
    /// # Errors
    /// If that is not a session, or cannot be written.
    pub(super) fn save_copy(&mut self, here: &mut Here, path: &Path) -> Result<u64, CliError> {
        if self.conversation.turns().is_empty() {
            here.read_opening(&self.conversation)?;
        }
        let session = &mut here.loaded.session;
        if let Some(file) = self.file.as_mut().filter(|file| file.is_at(path)) {
            file.finish(&here.origin, &self.conversation, session)?;
            return Ok(std::fs::metadata(path).map_or(0, |data| data.len()));
        }
        let is_own = self.copies.iter().any(|known| known == path);
        let bytes = session::save_copy(path, &here.origin, &self.conversation, session, is_own)?;
        self.copies.push(path.to_owned());
        Ok(bytes)
    }

    /// Goes on with a saved conversation.
    ///
    /// # Errors
    /// If it cannot be read; the conversation is then as before.
    pub(super) fn load(&mut self, here: &mut Here, path: &Path) -> Result<(), CliError> {
        let loaded = session::read(path, &here.origin.identity, &mut here.loaded.session)?;
        if let Some(file) = self.file.as_mut().filter(|file| !file.is_at(path)) {
            file.replace()?;
        }
        self.conversation = loaded;
        self.last = None;
        self.record();
        Ok(())
    }
}
