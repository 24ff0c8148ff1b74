//! A model that is loaded here, with the format of its prompts.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::super::answer::lock;
use super::super::args::ModelArgs;
use super::super::constrain;
use super::super::error::{ChatError, CliError};
use super::super::generation::{GenerationArgs, answer_room};
use super::super::load::{Loaded, Planned};
use super::super::output::note;
use super::super::thoughts::Thoughts;
use super::super::{prompt, session};
use super::asking::Asking;
use super::reply::Reply;
use super::settings::Settings;
use crate::ask::Form;
use crate::generate::{
    CancelHandle, Constraint, Conversation, Format, Grammar, LogitFilter, Origin, Request, Resumed,
    SamplerOptions, check_choices,
};
use crate::model::LanguageModel;

/// What the model reads.
struct Prompt {
    tokens: Vec<u32>,
    /// Tokens before the part of the answer that is there; `None` for a new answer.
    answer: Option<usize>,
}

/// A model that is ready to talk.
pub(super) struct Here {
    /// What it was loaded from.
    pub(super) model: ModelArgs,
    pub(super) planned: Planned,
    pub(super) loaded: Loaded,
    pub(super) format: Format,
    /// How it was loaded, and its prompts are made.
    pub(super) generation: GenerationArgs,
    /// What its sessions are of.
    pub(super) origin: Origin,
    /// The last grammar, compiled for this model's tokens.
    compiled: Option<(Grammar, Constraint)>,
}

impl Here {
    /// Loads a model that was planned.
    ///
    /// # Errors
    /// If the file is damaged, memory cannot be had or the chat template cannot be used.
    pub(super) fn load(
        model: ModelArgs,
        mut planned: Planned,
        generation: GenerationArgs,
    ) -> Result<Here, CliError> {
        let mut loaded = planned.load(Instant::now())?;
        let format = loaded.format(&generation.prompting)?;
        planned.foresee_grammar();
        // Everything that is wanted of the file: it may be replaced or cut short while the talk goes on.
        let origin = session::origin_of(&model, &planned, &loaded, &format)?;
        Ok(Here { model, planned, loaded, format, generation, origin, compiled: None })
    }

    /// Renders prompts with the variables of the settings.
    pub(super) fn set_variables(&mut self, settings: &Settings) {
        match &mut self.format {
            Format::Template(template) => {
                let mut variables = settings.variables.clone();
                if let Some(calling) = settings.form.as_ref().and_then(Form::calling) {
                    calling.tell(&mut variables);
                }
                prompt::set_variables(template, variables);
            }
            Format::Raw { .. } if settings.variables.is_empty() => {}
            Format::Raw { .. } => note("there is no chat template to use the variable"),
        }
        self.origin.identity.template = self.format.fingerprint();
    }

    /// The rule that a grammar makes; choices are no rule.
    ///
    /// # Errors
    /// If the form is wrong or cannot be followed, or what it takes is not allowed.
    pub(super) fn constraint(
        &mut self,
        form: Option<&Form>,
        cancel: &CancelHandle,
    ) -> Result<Option<Constraint>, CliError> {
        if let Some(Form::Choices(texts)) = form {
            check_choices(texts)?;
        }
        let tokenizer = self.loaded.session.tokenizer();
        let grammar = form.map(|form| form.grammar(&self.format, tokenizer)).transpose()?.flatten();
        let Some(grammar) = grammar else { return Ok(None) };
        if let Some((_, constraint)) = self.compiled.as_ref().filter(|(known, _)| known == &*grammar) {
            return Ok(Some(constraint.clone()));
        }
        self.planned.allow_foreseen_grammar(self.loaded.session.tokenizer())?;
        let constraint = constrain::compile(&grammar, self.loaded.session.tokenizer(), cancel)?;
        self.compiled = Some((grammar.into_owned(), constraint.clone()));
        Ok(Some(constraint))
    }

    /// Tokens of the context that are used.
    pub(super) fn used(&self) -> usize {
        self.loaded.session.model().position()
    }

    /// What the model reads for the next answer, or for more of the last.
    fn prompt(&self, conversation: &mut Conversation, asking: &Asking<'_>) -> Result<Prompt, CliError> {
        let session = &self.loaded.session;
        let (tokenizer, context) = (session.tokenizer(), session.context());
        let max_tokens = asking.settings.length.tokens(asking.settings.form.is_some());
        let reserve = answer_room(max_tokens, context);
        let has_system = conversation.system().is_some();
        if !asking.goes_on {
            let next = conversation.next(&self.format, tokenizer, context, reserve)?;
            session::note_dropped(next.dropped, has_system);
            return Ok(Prompt { tokens: next.tokens, answer: None });
        }
        let more = conversation.more(&self.format, tokenizer, context, reserve)?;
        let more = more.ok_or(ChatError::NothingSaid)?;
        session::note_dropped(more.dropped, has_system);
        Ok(Prompt { tokens: more.tokens, answer: Some(more.prompt) })
    }

    /// As [`Engine::answer`](super::engine::Engine::answer).
    pub(super) fn answer(
        &mut self,
        conversation: &mut Conversation,
        asking: &Asking<'_>,
    ) -> Result<Reply, CliError> {
        let Asking { settings, interrupts, printed, seed, .. } = *asking;
        let prompt = self.prompt(conversation, asking)?;
        let form = settings.form.as_ref();
        let mut constraint = interrupts.during(|cancel| self.constraint(form, cancel))?;
        let session = &mut self.loaded.session;
        let tokenizer = Arc::clone(session.tokenizer());
        let mut failure = None;
        // Of a new answer the whole prompt is before it.
        let before = prompt.answer.unwrap_or(prompt.tokens.len());
        let mut rule = constraint.as_mut().map(|constraint| Resumed::new(constraint, before));
        let layout = self.format.layout(&tokenizer, form.and_then(Form::calling));
        let mut thoughts = Thoughts::new(settings.think);
        let outcome = interrupts.during(|cancel| {
            let request = Request {
                max_tokens: settings.length.tokens(form.is_some()),
                sampler: SamplerOptions { seed, ..settings.sampler.clone() },
                stop: Cow::Borrowed(&settings.stop),
                cancel: Some(cancel.clone()),
                lookup: asking.lookup,
                loop_guard: settings.loop_guard,
                progress: Some(Box::new(|read, of| lock(printed).read(read, of))),
                filter: rule.as_mut().map(|rule| Box::new(rule) as Box<dyn LogitFilter + '_>),
                layout: layout.as_ref().map(Cow::Borrowed),
                ..Request::new(&prompt.tokens)
            };
            if let Some(Form::Choices(texts)) = form {
                let draw = constrain::draw(settings.choice_temp, seed);
                let (outcome, choices) = session.choose(&request, texts, draw)?;
                failure = lock(printed).push(&outcome.text).err();
                if settings.stats {
                    constrain::note_choices(&choices);
                }
                return Ok(outcome);
            }
            session.generate(request, &mut |event| {
                if !event.reasoning.is_empty() {
                    lock(printed).end_reading();
                }
                thoughts.push(event.reasoning, event.text);
                failure = lock(printed).push(event.text).err();
                if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let outcome = outcome?;
        thoughts.finish();
        match prompt.answer {
            None => conversation.answer(&outcome, &tokenizer)?,
            Some(_) => conversation.answer_more(&outcome, &tokenizer)?,
        }
        Ok(outcome.into())
    }

    /// Lets the model read the system prompt alone.
    ///
    /// # Errors
    /// If it does not fit.
    pub(super) fn read_opening(&mut self, conversation: &Conversation) -> Result<(), CliError> {
        let session = &mut self.loaded.session;
        let opening = conversation.opening(&self.format, session.tokenizer(), session.context())?;
        if opening.is_empty() {
            session.clear();
        } else {
            let request = Request { max_tokens: Some(0), ..Request::new(&opening) };
            session.generate(request, &mut |_| ControlFlow::Continue(()))?;
        }
        Ok(())
    }
}
