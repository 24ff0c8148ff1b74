//! From an item to a request.

use std::borrow::Cow;

use crate::files::Fnv;
use crate::generate::{CancelHandle, Draw, GenerateError, Layout, LogitFilter, Request, SamplerOptions};

use super::bias::Biased;
use super::{Item, ItemError};

/// What items that do not say otherwise are answered with.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// How tokens are chosen. The seed of an item without one is made of this seed and the item's hash.
    pub sampler: SamplerOptions,
    /// At which choices are drawn; without it, and without one of the item's own, the likeliest is taken.
    pub choice_temperature: Option<f32>,
    /// Tokens of an answer at most; `None` for as many as the context holds.
    pub max_tokens: Option<usize>,
    /// The same for answers that are not held to a form, where neither the item nor `max_tokens` says it.
    pub usual_tokens: Option<usize>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Tokens to guess ahead.
    pub lookup: usize,
    /// End answers that go in circles, but those to raw prompts.
    pub loop_guard: bool,
}

impl Defaults {
    /// Adds what changes answers to a hash.
    pub(crate) fn add_to(&self, hash: &mut Fnv) {
        // Guessing ahead changes none.
        let Defaults { sampler, choice_temperature, max_tokens, usual_tokens, stop, lookup: _, loop_guard } =
            self;
        sampler.add_to(hash);
        hash.add_option(choice_temperature.map(|number| u64::from(number.to_bits())));
        hash.add_option(max_tokens.map(|count| count as u64));
        hash.add_option(usual_tokens.map(|count| count as u64));
        hash.add_number(stop.len() as u64);
        stop.iter().for_each(|text| hash.add_text(text));
        hash.add_number(u64::from(*loop_guard));
    }
}

/// What an answer may be.
pub enum Rule {
    /// Anything.
    Free,
    /// What this lets pass.
    Filter(Box<dyn LogitFilter>),
    /// One of these.
    Choices(Vec<String>),
}

/// From an item to what the model needs.
pub trait Prepare {
    /// The tokens of the item's prompt, if it may fit into `context`.
    ///
    /// # Errors
    /// Why it has none, for the item's line.
    fn encode(&self, item: &Item, context: usize, tokens: &mut Vec<u32>) -> Result<(), ItemError>;

    /// The rule that the item's answer follows; `cancel` gives up what takes long.
    ///
    /// # Errors
    /// Why it cannot be had, for the item's line.
    fn rule(&self, item: &Item, cancel: &CancelHandle) -> Result<Rule, ItemError>;

    /// The parts of the item's answer.
    ///
    /// # Errors
    /// Why they cannot be had, for the item's line.
    fn layout(&self, _item: &Item) -> Result<Option<Layout>, ItemError> {
        Ok(None)
    }

    /// Tokens of the vocabulary.
    fn vocab_size(&self) -> usize {
        usize::MAX
    }

    /// Whether the reasoning of the item's answer is not told.
    fn hides_reasoning(&self, _item: &Item) -> bool {
        false
    }
}

/// An item as a request.
pub struct Prepared {
    /// Without a filter for choices, which are scored.
    pub request: Request<'static>,
    /// The choices and how one is drawn, if the answer is one of some.
    pub choices: Option<(Vec<String>, Option<Draw>)>,
    /// Whether the answer has a form.
    pub is_formed: bool,
}

/// Prepares an item for a model with this context; `input` is the item's hash.
///
/// # Errors
/// Why it cannot be asked.
pub fn prepare(
    prepare: &dyn Prepare,
    item: &Item,
    (context, input): (usize, u64),
    defaults: &Defaults,
    cancel: &CancelHandle,
) -> Result<Prepared, ItemError> {
    let mut tokens = vec![];
    let key = item.prompt_key();
    prepare.encode(item, context, &mut tokens).map_err(|error| error.with_param(key))?;
    let found = tokens.len();
    if found > context {
        let error = GenerateError::PromptTooLong { tokens: found, context };
        return Err(ItemError::new(&error).with_param(key));
    }
    let rule = prepare.rule(item, cancel).map_err(|error| error.with_param(item.form_key()))?;
    let layout = prepare.layout(item)?;
    let is_formed = !matches!(rule, Rule::Free);
    let usual_tokens = defaults.usual_tokens.filter(|_| !is_formed);
    let sampler = item.sampler(&defaults.sampler, input);
    sampler.validate().map_err(|error| ItemError::new(&error))?;
    let seed = sampler.seed;
    let mut request = Request {
        max_tokens: item.max_tokens.or(defaults.max_tokens).or(usual_tokens),
        sampler,
        stop: item.stop.clone().unwrap_or_else(|| defaults.stop.clone()).into(),
        logprobs: Some(0),
        cancel: Some(cancel.clone()),
        lookup: defaults.lookup,
        layout: layout.map(Cow::Owned),
        loop_guard: item.loop_guard.unwrap_or(defaults.loop_guard && !item.raw),
        ..Request::new(tokens)
    };
    let choices = match rule {
        Rule::Choices(texts) => {
            let temperature = item.temperature.or(defaults.choice_temperature);
            Some((texts, temperature.map(|temperature| Draw { temperature, seed })))
        }
        Rule::Free => None,
        Rule::Filter(filter) => {
            request.filter = Some(filter);
            None
        }
    };
    bias(prepare, item, choices.is_some(), &mut request)?;
    check_form(&request, context)?;
    Ok(Prepared { request, choices, is_formed })
}

/// Makes sure that a whole answer fits, before anything is told of it.
///
/// # Errors
/// If it does not.
pub fn check_form(request: &Request<'_>, context: usize) -> Result<(), ItemError> {
    // The last token need not be in the context.
    let left = (context + 1).saturating_sub(request.prompt.len());
    let allowed = request.max_tokens.map_or(left, |most| most.min(left));
    let needed = request.filter.as_ref().map_or(0, |filter| filter.least_tokens());
    if allowed > 0 && needed > allowed {
        return Err(ItemError::new(&GenerateError::FormTooLong { needed, allowed }).with_param("max_tokens"));
    }
    Ok(())
}

/// Adds the item's biases and penalties to a request.
fn bias(
    prepare: &dyn Prepare,
    item: &Item,
    is_choice: bool,
    request: &mut Request<'static>,
) -> Result<(), ItemError> {
    let (frequency, presence) = (item.frequency_penalty.unwrap_or(0.0), item.presence_penalty.unwrap_or(0.0));
    if item.logit_bias.is_empty() && frequency == 0.0 && presence == 0.0 {
        return Ok(());
    }
    if is_choice {
        return Err("choices are scored as the model has them; leave penalties and logit_bias out".into());
    }
    let size = prepare.vocab_size();
    if let Some((id, _)) = item.logit_bias.iter().find(|(id, _)| *id as usize >= size) {
        return Err(format!("logit_bias names token {id}; the vocabulary has {size}").into());
    }
    request.filter =
        Some(Box::new(Biased::new(request.filter.take(), &item.logit_bias, frequency, presence)));
    Ok(())
}
