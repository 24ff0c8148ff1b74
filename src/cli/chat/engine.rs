//! A loaded model with the format of its prompts.

use std::time::Instant;

use super::super::args::ModelArgs;
use super::super::constrain;
use super::super::error::CliError;
use super::super::generation::GenerationArgs;
use super::super::load::{Loaded, Planned};
use super::super::output::note;
use super::super::{prompt, session};
use super::settings::Settings;
use crate::ask::Form;
use crate::generate::{CancelHandle, Constraint, Format, Grammar, Origin, check_choices};

/// A model that is ready to talk.
pub(super) struct Engine {
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

impl Engine {
    /// Loads a model that was planned.
    ///
    /// # Errors
    /// If the file is damaged, memory cannot be had or the chat template cannot be used.
    pub(super) fn load(
        model: ModelArgs,
        mut planned: Planned,
        generation: GenerationArgs,
    ) -> Result<Engine, CliError> {
        let mut loaded = planned.load(Instant::now())?;
        let format = loaded.format(&generation.prompting)?;
        planned.foresee_grammar();
        // Everything that is wanted of the file: it may be replaced or cut short while the talk goes on.
        let origin = session::origin_of(&model, &planned, &loaded, &format);
        Ok(Engine { model, planned, loaded, format, generation, origin, compiled: None })
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
}
