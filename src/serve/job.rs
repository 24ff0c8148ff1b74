//! From prepared requests to the engine and back.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::ask::{ItemError, Prepared};
use crate::generate::{
    CancelHandle, Done, GenerateError, Job, LogitFilter, OnDone, OnEvent, Outcome, Predicted, Scorer,
    TokenEvent, TokenLogprobs,
};

use super::error::ApiError;
use super::metrics::{Metrics, TokenTimes};
use super::state::Begun;

/// How long a part of a request waits where others have taken its place in the queue.
const WAIT: Duration = Duration::from_millis(20);

/// What is asked of the engine.
pub(super) enum Ask {
    /// An answer.
    Answer(Box<Prepared>),
    /// How likely each token of a text is after those before it, from the second on, and the likeliest after the last
    /// where that is wanted and the filter lets it, with so many alternatives.
    Score { tokens: Vec<u32>, next: bool, alternatives: usize, filter: Option<Box<dyn LogitFilter>> },
}

/// What happens to an answer.
pub(super) enum Event {
    /// It goes on.
    Token(Token),
    /// It has ended.
    End(Outcome),
    /// What a text's tokens scored.
    Scored(Vec<(u32, Scores)>),
}

/// A token of an answer, or text that was held back until its end.
pub(super) struct Token {
    pub(super) id: Option<u32>,
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) logprobs: Option<Scores>,
}

/// Log-probabilities of a token and of the likeliest.
pub(super) struct Scores {
    pub(super) chosen: f32,
    pub(super) top: Vec<(u32, f32)>,
}

impl Scores {
    fn new(logprobs: TokenLogprobs<'_>) -> Scores {
        let top = logprobs.top.iter().map(|token| (token.id, token.logprob)).collect();
        Scores { chosen: logprobs.chosen, top }
    }
}

impl Token {
    fn new(event: &TokenEvent<'_>) -> Token {
        let logprobs = event.logprobs.map(Scores::new);
        let (text, reasoning) = (event.text.to_owned(), event.reasoning.to_owned());
        Token { id: event.id, text, reasoning, logprobs }
    }
}

type Message = (usize, Result<Event, GenerateError>);

/// The answers of a request, as many at once as the engine takes. Dropping them stops the work on them.
pub(super) struct Answers {
    begun: Begun,
    /// Not submitted yet, the next first.
    waiting: VecDeque<(usize, Ask)>,
    /// Submitted and not ended.
    submitted: usize,
    sender: Option<UnboundedSender<Message>>,
    events: UnboundedReceiver<Message>,
}

impl Answers {
    /// Asks; the place of a request among them is told with each event.
    ///
    /// # Errors
    /// If the engine takes none.
    pub(super) fn start(begun: Begun, requests: Vec<Ask>) -> Result<Answers, ApiError> {
        let (sender, events) = unbounded_channel();
        let waiting = requests.into_iter().enumerate().collect();
        let mut answers = Answers { begun, waiting, submitted: 0, sender: Some(sender), events };
        answers.submit().map_err(|error| ApiError::from(ItemError::new(&error)))?;
        Ok(answers)
    }

    /// Submits what the engine takes.
    fn submit(&mut self) -> Result<(), GenerateError> {
        let engine = &self.begun.state.engine;
        // More would keep others from the queue.
        let most = engine.load().slots;
        while self.submitted < most
            && let Some((place, ask)) = self.waiting.pop_front()
        {
            let Some(sender) = self.sender.clone() else { break };
            if !engine.has_room() {
                self.waiting.push_front((place, ask));
                let limit = engine.load().queue;
                return if self.submitted > 0 { Ok(()) } else { Err(GenerateError::QueueFull { limit }) };
            }
            let (job, on_done) = match ask {
                Ask::Answer(prepared) => answer(place, *prepared, sender, &self.begun.state.metrics),
                Ask::Score { tokens, next, alternatives, filter } => {
                    let vocab = engine.tokenizer().vocab_size();
                    let scorer = Scorer::new(alternatives, vocab)?;
                    let cancel = self.begun.cancel.clone();
                    score((place, tokens, next), (scorer, filter), cancel, sender)
                }
            };
            engine.submit(job, on_done)?;
            self.submitted += 1;
        }
        if self.waiting.is_empty() {
            // From here on the end of all events is the end of the engine.
            self.sender = None;
        }
        Ok(())
    }

    /// What happens next, and to which answer; nothing after the last has ended.
    ///
    /// # Errors
    /// Why an answer cannot go on.
    pub(super) async fn next(&mut self) -> Option<Result<(usize, Event), ApiError>> {
        loop {
            if self.submitted == 0 && self.waiting.is_empty() {
                return None;
            }
            if self.submitted == 0 {
                match self.submit() {
                    Ok(()) => {}
                    Err(GenerateError::QueueFull { .. }) => tokio::time::sleep(WAIT).await,
                    Err(error) => return Some(Err(ItemError::new(&error).into())),
                }
                continue;
            }
            let Some((place, event)) = self.events.recv().await else {
                self.submitted = 0;
                self.waiting.clear();
                return Some(Err(ApiError::unavailable("the engine has stopped")));
            };
            if !matches!(event, Ok(Event::Token(_))) {
                self.submitted -= 1;
                // Its place is free; a full queue is met again when the next ends.
                if let Err(error) = self.submit()
                    && !matches!(error, GenerateError::QueueFull { .. })
                {
                    return Some(Err(ItemError::new(&error).into()));
                }
            }
            return Some(event.map(|event| (place, event)).map_err(|error| ItemError::new(&error).into()));
        }
    }
}

fn on_event(place: usize, sender: UnboundedSender<Message>, mut times: TokenTimes) -> OnEvent<'static> {
    Box::new(move |event| {
        if event.id.is_some() {
            times.token();
        }
        let is_empty = event.id.is_none() && event.text.is_empty() && event.reasoning.is_empty();
        match is_empty || sender.send((place, Ok(Event::Token(Token::new(event))))).is_ok() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })
}

/// An answer as a job.
fn answer(
    place: usize,
    prepared: Prepared,
    sender: UnboundedSender<Message>,
    metrics: &Arc<Metrics>,
) -> (Job<'static>, OnDone) {
    let (ended, counted) = (sender.clone(), Arc::clone(metrics));
    let on_done = move |result: Result<Done, GenerateError>| {
        counted.done(&result);
        let event = match result {
            Ok(Done::Generated(outcome)) => Ok(Event::End(outcome)),
            Ok(Done::Chosen(outcome, _)) => {
                // Nothing of it was told while it was scored.
                let text = outcome.text.clone();
                let token = Token { id: None, text, reasoning: String::new(), logprobs: None };
                _ = ended.send((place, Ok(Event::Token(token))));
                Ok(Event::End(outcome))
            }
            Ok(Done::Predicted) => return,
            Err(error) => Err(error),
        };
        // Who asked may be gone.
        _ = ended.send((place, event));
    };
    let Prepared { request, choices, .. } = prepared;
    let job = match choices {
        Some((texts, draw)) => Job::Choose(request, texts, draw),
        None => Job::Generate(request, on_event(place, sender, metrics.time_tokens())),
    };
    (job, Box::new(on_done))
}

/// Scores of a text as a job.
fn score(
    (place, tokens, next): (usize, Vec<u32>, bool),
    (mut scorer, mut filter): (Scorer, Option<Box<dyn LogitFilter>>),
    cancel: CancelHandle,
    sender: UnboundedSender<Message>,
) -> (Job<'static>, OnDone) {
    let found = Arc::new(Mutex::new(Ok(Vec::with_capacity(tokens.len()))));
    let (text, into) = (tokens.clone(), Arc::clone(&found));
    let visit = move |_: usize, at: usize, logits: &[f32]| {
        let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
        let token = match (text.get(at).copied(), &mut filter) {
            (None, Some(filter)) => allowed(&text, logits, &mut **filter).map(Some),
            (token, _) => Ok(token),
        };
        let scored = token.and_then(|token| scorer.score(logits, token));
        match (&mut *into, scored) {
            (Ok(list), Ok((token, logprobs))) => list.push((token, Scores::new(logprobs))),
            (Ok(_), Err(error)) => *into = Err(error),
            (Err(_), _) => {}
        }
    };
    let on_done = move |result: Result<Done, GenerateError>| {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        let found = std::mem::replace(&mut *found, Ok(vec![]));
        _ = sender.send((place, result.and(found).map(Event::Scored)));
    };
    // The last token is only predicted: what it is has no part in it.
    let tokens = if next { [tokens.as_slice(), &[0]].concat() } else { tokens };
    let text = Predicted { tokens, first: 1 };
    (Job::Predict(vec![text], Some(cancel), Box::new(visit)), Box::new(on_done))
}

/// The likeliest token that a filter lets follow a text.
fn allowed(text: &[u32], logits: &[f32], filter: &mut dyn LogitFilter) -> Result<u32, GenerateError> {
    let mut logits = logits.to_vec();
    filter.start(text);
    filter.apply(&mut logits).map_err(GenerateError::Filter)?;
    let likelier =
        |best: (usize, f32), (id, logit): (usize, &f32)| if *logit > best.1 { (id, *logit) } else { best };
    match logits.iter().enumerate().fold((usize::MAX, f32::NEG_INFINITY), likelier) {
        (usize::MAX, _) => Err(GenerateError::NoTokenAllowed),
        (id, _) => Ok(id as u32),
    }
}
