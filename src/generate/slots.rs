//! Several sequences with one model. See [`Slots`].

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::model::{Cache, LogitRows, MAX_SLOTS, Model, ModelError, Piece, RunOptions, Runner, Worker};
use crate::text::Tokenizer;

use super::choices::Choosing;
use super::generation::Generation;
use super::likelihood::Predicting;
use super::request::{Outcome, Request, TokenEvent};
use super::sequence::Sequence;
use super::task::{Limits, Read, Rewind, Room, Task};
use super::{CancelHandle, Choice, Draw, GenerateError, OnPrediction, Predicted, Session};

/// Tokens that a slot must have in common with a prompt beyond what the prompt's own slot has, to be copied from.
const LEAST_COPY: usize = 16;
/// Tokens of a prompt that another slot is about to read, for which it is worth to wait.
const LEAST_WAIT: usize = 32;
/// Rows and tokens that drafts leave to prompts while one is being read.
const PROMPT_SHARE: usize = 32;

/// Of a piece that wants none.
const NO_LOGITS: LogitRows<'_> = LogitRows { vocab: 1, values: &[], peaks: &[] };

/// Gets every token of an answer as it comes, and says whether to go on.
pub type OnEvent<'a> = Box<dyn FnMut(&TokenEvent<'_>) -> ControlFlow<()> + Send + 'a>;

/// What is to be done with a sequence.
pub enum Job<'a> {
    /// As [`Session::generate`](super::Session::generate).
    Generate(Request<'a>, OnEvent<'a>),
    /// As [`Session::choose`](super::Session::choose).
    Choose(Request<'a>, Vec<String>, Option<Draw>),
    /// As [`Session::predictions`](super::Session::predictions).
    Predict(Vec<Predicted>, Option<CancelHandle>, OnPrediction<'a>),
}

/// What came of a job.
#[derive(Debug)]
pub enum Done {
    /// An answer.
    Generated(Outcome),
    /// An answer, and the choices with their probabilities.
    Chosen(Outcome, Vec<Choice>),
    /// All predictions were given.
    Predicted,
}

/// Tells jobs apart: a number that grows with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A model that works on several jobs at once.
///
/// Every job has a slot: a KV cache of its own. A [`step`](Self::step) is one pass of the model, in which every answer
/// that is under way gets its next token, and the rest of the tile goes to the prompts, the oldest first. So an answer
/// waits for one tile at most while prompts are read. Jobs that find no free slot wait in a queue.
///
/// A job takes the slot that has most of its prompt, or the one that was used the longest ago where that would lose more
/// than it gives; what another slot has more of the prompt is copied from there. Where a slot is about to read the same prompt, a job waits for it. Nothing of that changes an answer: it is the same to the
/// bit alone and in any company.
pub struct Slots<'a> {
    worker: Worker,
    slots: Vec<Slot<'a>>,
    queue: VecDeque<(Ticket, Job<'a>)>,
    queue_limit: usize,
    /// Most rows of logits for one slot.
    rows: usize,
    tickets: u64,
}

/// A sequence with its cache, and the job it serves.
struct Slot<'a> {
    cache: Cache,
    sequence: Sequence,
    running: Option<(Ticket, Running<'a>)>,
    /// What the step at hand reads.
    read: Option<Read>,
    /// When it was taken last: the ticket of its job.
    used: u64,
}

enum Running<'a> {
    Generate(Box<Generation<'a>>, OnEvent<'a>),
    Choose(Choosing),
    Predict(Predicting<'a>),
}

/// Called with every job that has ended.
type OnDone<'d> = &'d mut dyn FnMut(Ticket, Result<Done, GenerateError>);

impl<'a> Slots<'a> {
    /// Allocates [`RunOptions::slots`] caches and what serves them; `queue` jobs may wait for a slot.
    ///
    /// # Errors
    /// If the context or the number of slots is out of range, or memory cannot be had.
    pub fn new(
        model: Arc<Model>,
        tokenizer: &Arc<Tokenizer>,
        options: &RunOptions,
        queue: usize,
    ) -> Result<Self, ModelError> {
        let worker = Worker::new(Arc::clone(&model), options)?;
        let vocab = model.spec().vocab;
        let slots = (0..options.slots).map(|_| {
            let cache = Cache::new(Arc::clone(&model), options)?;
            let sequence = Sequence::new(Arc::clone(tokenizer), options.context, vocab);
            Ok(Slot { cache, sequence, running: None, read: None, used: 0 })
        });
        let slots = slots.collect::<Result<_, ModelError>>()?;
        let (queue, queue_limit, rows) = (VecDeque::with_capacity(queue), queue, options.logit_rows.max(1));
        Ok(Self { worker, slots, queue, queue_limit, rows, tickets: 0 })
    }

    /// Lets `work` use the first slot alone, as to restore a state. Jobs begin with what it leaves there.
    #[must_use]
    pub fn with_first<T>(self, work: impl FnOnce(&mut Session<Runner>) -> T) -> (Self, T) {
        let Self { worker, mut slots, queue, queue_limit, rows, tickets } = self;
        let Slot { cache, sequence, running, read, used } = slots.remove(0);
        let mut session = Session { model: Runner::from_parts(worker, cache), sequence };
        let done = work(&mut session);
        let Session { model, sequence } = session;
        let (worker, cache) = model.into_parts();
        slots.insert(0, Slot { cache, sequence, running, read, used });
        (Self { worker, slots, queue, queue_limit, rows, tickets }, done)
    }

    /// Takes all memory that was allocated: systems give it at the first write.
    pub fn prefault(&mut self) {
        self.worker.prefault();
        self.slots.iter_mut().for_each(|slot| slot.cache.prefault());
    }

    /// Positions of each slot.
    pub fn context(&self) -> usize {
        self.slots[0].cache.context()
    }

    /// Sequences that are worked on at once.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.slots.iter().all(|slot| slot.running.is_none())
    }

    /// Jobs that run.
    pub fn running(&self) -> usize {
        self.slots.iter().filter(|slot| slot.running.is_some()).count()
    }

    /// Tokens in the caches of jobs that run.
    pub fn used_tokens(&self) -> usize {
        self.slots.iter().filter(|slot| slot.running.is_some()).map(|slot| slot.cache.position()).sum()
    }

    /// Jobs that wait or run.
    pub fn jobs(&self) -> usize {
        self.queue.len() + self.running()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.slots[0].sequence.tokenizer()
    }

    /// The worker.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Ends answers at this token too, as [`Session::set_turn_end`](super::Session::set_turn_end).
    pub fn set_turn_end(&mut self, id: Option<u32>) {
        self.slots.iter_mut().for_each(|slot| slot.sequence.set_turn_end(id));
    }

    /// Takes a job. It begins when a slot is free.
    ///
    /// # Errors
    /// If the queue is full: [`GenerateError::QueueFull`]. What else is wrong with it is its result.
    pub fn submit(&mut self, job: Job<'a>) -> Result<Ticket, GenerateError> {
        let free = self.slots.iter().filter(|slot| slot.running.is_none()).count();
        if self.queue.len() >= self.queue_limit + free {
            return Err(GenerateError::QueueFull { limit: self.queue_limit });
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.queue.push_back((ticket, job));
        Ok(ticket)
    }

    /// Lets so many jobs wait.
    pub(super) fn set_queue(&mut self, limit: usize) {
        self.queue_limit = limit;
    }

    /// Drops all jobs.
    pub fn abandon(&mut self) {
        self.queue.clear();
        for slot in self.slots.iter_mut().filter(|slot| slot.running.is_some()) {
            slot.fail(ModelError::Cancelled.into(), &mut |_, _| ());
        }
    }

    /// As [`Resume::state_key`](crate::model::Resume::state_key).
    pub fn state_key(&self) -> u64 {
        self.slots[0].cache.state_key()
    }

    /// Goes one pass of the model further, and tells of the jobs that have ended. A job that fails, panics or is cancelled
    /// ends alone. Returns whether there is more to do.
    pub fn step(&mut self, on_done: OnDone<'_>) -> bool {
        self.begin(on_done);
        self.plan(on_done);
        self.compute(on_done);
        !self.is_empty()
    }

    /// Gives free slots to jobs that wait; those that were cancelled while they did get none.
    fn begin(&mut self, on_done: OnDone<'_>) {
        let is_cancelled =
            |(_, job): &(Ticket, Job<'_>)| job.cancel().is_some_and(CancelHandle::is_cancelled);
        while let Some(at) = self.queue.iter().position(is_cancelled) {
            if let Some((ticket, _)) = self.queue.remove(at) {
                on_done(ticket, Err(ModelError::Cancelled.into()));
            }
        }
        let mut next = 0;
        // Without a free slot nothing need be compared, token after token.
        while next < self.queue.len() && self.slots.iter().any(|slot| slot.running.is_none()) {
            let Some(slot) = self.choose_slot(next) else {
                next += 1;
                continue;
            };
            let Some((ticket, job)) = self.queue.remove(next) else { return };
            let limits = self.limits();
            let slot = &mut self.slots[slot];
            slot.used = ticket.0;
            let Slot { sequence, cache, running, .. } = slot;
            match guarded(|| Running::start(job, sequence, cache, limits)) {
                Ok(Ok(new)) => *running = Some((ticket, new)),
                Ok(Err(error)) => on_done(ticket, Err(error)),
                Err(panicked) => {
                    slot.forget();
                    on_done(ticket, Err(panicked));
                }
            }
        }
    }

    fn limits(&self) -> Limits {
        Limits { context: self.context(), vocab: self.worker.model().spec().vocab, rows: self.rows }
    }

    /// The free slot for a job of the queue, with all of its prompt that some slot has; none if there is no slot, or
    /// another is about to read the same.
    fn choose_slot(&mut self, index: usize) -> Option<usize> {
        let prompt = self.queue[index].1.prompt();
        let (mut own, mut most, mut coming) = (None::<(usize, usize)>, (0, 0), 0);
        for (i, slot) in self.slots.iter().enumerate() {
            let has = slot.sequence.shared(prompt, slot.cache.position());
            if has > most.1 {
                most = (i, has);
            }
            if slot.running.is_some() {
                coming = coming.max(slot.sequence.shared(prompt, usize::MAX));
            } else if own
                .is_none_or(|(other, other_has)| (has, self.slots[other].used) > (other_has, slot.used))
            {
                own = Some((i, has));
            }
        }
        let (slot, has) = own?;
        if coming >= most.1.max(has) + LEAST_WAIT {
            return None;
        }
        // A slot that would lose more than it gives is left to those who go on there, if an older one is free.
        let loses = self.slots[slot].cache.position() - has > has;
        if most.1 >= has + LEAST_COPY || loses {
            let slot = self.oldest_free()?;
            if most.1 >= LEAST_COPY {
                self.copy(most.0, slot, most.1);
            }
            return Some(slot);
        }
        Some(slot)
    }

    fn oldest_free(&self) -> Option<usize> {
        let free = self.slots.iter().enumerate().filter(|(_, slot)| slot.running.is_none());
        free.min_by_key(|(_, slot)| (slot.used, slot.cache.position())).map(|(i, _)| i)
    }

    /// Gives slot `to` the first `tokens` tokens of slot `from`, if it is another.
    fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        let Ok([from, to]) = self.slots.get_disjoint_mut([from, to]) else { return };
        to.cache.copy_prefix(&from.cache, tokens);
        to.sequence.set_prompt(&from.sequence.tokens()[..tokens]);
    }

    /// Asks every job what it wants read: first the answers, then the prompts, the oldest first.
    fn plan(&mut self, on_done: OnDone<'_>) {
        let running = (0..self.slots.len()).filter(|i| self.slots[*i].running.is_some());
        let mut order: ArrayVec<usize, MAX_SLOTS> = running.collect();
        order.sort_unstable_by_key(|i| (self.slots[*i].missing() > 1, self.slots[*i].used));
        let answers = order.iter().filter(|i| self.slots[**i].missing() == 1).count();
        let mut left = self.worker.most_tokens();
        let share = if answers < order.len() { PROMPT_SHARE } else { 0 };
        for (place, i) in order.into_iter().enumerate() {
            let slot = &mut self.slots[i];
            let Some((_, running)) = &mut slot.running else { continue };
            // A token for every answer that comes after this one.
            let tokens = match answers.saturating_sub(place) {
                0 => left,
                others => left.saturating_sub(others - 1 + share).max(1),
            };
            let offer = Room { tokens: tokens.min(left), rows: self.rows };
            if offer.tokens == 0 {
                continue;
            }
            let (sequence, cache) = (&mut slot.sequence, &mut slot.cache);
            match guarded(|| running.task().next(sequence, cache, offer)) {
                Ok(Some(read)) => {
                    left -= read.range.len();
                    slot.read = Some(read);
                }
                Ok(None) => slot.end(on_done),
                Err(panicked) => slot.fail(panicked, on_done),
            }
        }
    }

    /// Lets the model read, and gives every job its logits.
    fn compute(&mut self, on_done: OnDone<'_>) {
        let Self { worker, slots, .. } = self;
        let mut pieces: ArrayVec<Piece<'_>, MAX_SLOTS> = ArrayVec::new();
        for Slot { cache, sequence, read, .. } in slots.iter_mut() {
            if let Some(Read { range, rows }) = read {
                pieces.push(Piece { cache, tokens: &sequence.all()[range.clone()], rows: *rows });
            }
        }
        if pieces.is_empty() {
            return;
        }
        let stepped = worker.step(&mut pieces);
        drop(pieces);
        let mut rows = match stepped {
            Ok(rows) => rows,
            Err(error) => {
                let message = error.to_string();
                for slot in slots.iter_mut().filter(|slot| slot.read.is_some()) {
                    slot.fail(GenerateError::Step(message.clone()), on_done);
                }
                return;
            }
        };
        let reading: ArrayVec<usize, MAX_SLOTS> =
            (0..slots.len()).filter(|slot| slots[*slot].read.is_some()).collect();
        while let Some((piece, logits)) = rows.next_rows() {
            slots[reading[piece]].take(logits, on_done);
        }
        for slot in reading {
            // A piece without logits tells its job that it was read.
            if slots[slot].read.take().is_some_and(|read| read.rows == 0) {
                slots[slot].take(NO_LOGITS, on_done);
            }
        }
    }
}

impl Slot<'_> {
    /// Tokens that are not read yet; 0 without a job.
    fn missing(&self) -> usize {
        match self.running {
            Some(_) => self.sequence.all().len().saturating_sub(self.cache.position()).max(1),
            None => 0,
        }
    }

    fn take(&mut self, logits: LogitRows<'_>, on_done: OnDone<'_>) {
        let Slot { running, sequence, .. } = self;
        let taken = guarded(|| match running {
            Some((_, Running::Generate(task, on_token))) => task.take(sequence, logits, on_token),
            Some((_, running)) => running.task().take(sequence, logits, &mut |_| ControlFlow::Break(())),
            None => Ok(()),
        });
        match taken.flatten() {
            Err(error) => self.fail(error, on_done),
            Ok(()) if self.running.as_mut().is_some_and(|(_, running)| running.task().is_over()) => {
                self.end(on_done);
            }
            Ok(()) => {}
        }
    }

    /// Ends the job where it is.
    fn end(&mut self, on_done: OnDone<'_>) {
        let Some((ticket, running)) = self.running.take() else { return };
        let (sequence, cache) = (&mut self.sequence, &mut self.cache);
        let done = guarded(|| match running {
            Running::Generate(task, mut on_token) => {
                Ok(Done::Generated(task.end(sequence, cache, &mut on_token)))
            }
            Running::Choose(task) => {
                task.end(sequence, cache).map(|(outcome, choices)| Done::Chosen(outcome, choices))
            }
            Running::Predict(task) => task.end(sequence).map(|()| Done::Predicted),
        });
        if done.is_err() {
            self.forget();
        }
        on_done(ticket, done.flatten());
    }

    /// Ends the job; what the cache holds is in doubt.
    fn fail(&mut self, error: GenerateError, on_done: OnDone<'_>) {
        let Some((ticket, _)) = self.running.take() else { return };
        self.forget();
        on_done(ticket, Err(error));
    }

    /// Empties the cache.
    fn forget(&mut self) {
        self.read = None;
        self.cache.truncate(0);
        self.sequence.set_prompt(&[]);
    }
}

/// Keeps a panic of a job from the others. What it left behind must be forgotten.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, GenerateError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| GenerateError::Panicked)
}

impl Job<'_> {
    fn cancel(&self) -> Option<&CancelHandle> {
        match self {
            Job::Generate(request, _) | Job::Choose(request, ..) => request.cancel.as_ref(),
            Job::Predict(_, cancel, _) => cancel.as_ref(),
        }
    }

    /// The tokens that are read first.
    fn prompt(&self) -> &[u32] {
        match self {
            Job::Generate(request, _) | Job::Choose(request, ..) => &request.prompt,
            Job::Predict(texts, ..) => texts.first().map_or(&[], Predicted::prompt),
        }
    }
}

impl<'a> Running<'a> {
    fn start(
        job: Job<'a>,
        sequence: &mut Sequence,
        cache: &mut dyn Rewind,
        limits: Limits,
    ) -> Result<Self, GenerateError> {
        Ok(match job {
            Job::Generate(request, on_token) => {
                let task = Generation::start(request, sequence, cache, limits)?;
                Running::Generate(Box::new(task), on_token)
            }
            Job::Choose(request, choices, draw) => {
                Running::Choose(Choosing::start(&request, &choices, draw, sequence, cache, limits)?)
            }
            Job::Predict(texts, cancel, visit) => {
                Running::Predict(Predicting::start(texts, cancel, visit, sequence, cache, limits)?)
            }
        })
    }

    fn task(&mut self) -> &mut dyn Task {
        match self {
            Running::Generate(task, _) => &mut **task,
            Running::Choose(task) => task,
            Running::Predict(task) => task,
        }
    }
}
