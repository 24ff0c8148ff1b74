//! A thread that works on what other threads ask for. See [`Engine`].

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::text::Tokenizer;

use super::GenerateError;
use super::slots::{Done, Job, Slots, Ticket};

/// Gets what came of a job, on the engine's thread: it should hand it on and return.
pub type OnDone = Box<dyn FnOnce(Result<Done, GenerateError>) + Send>;

/// [`Slots`] on a thread of their own, for any number of callers.
///
/// A job's events and its end are told by callbacks on the engine's thread, which every other job waits for: they should
/// hand things on, as to a channel, and return. A callback that panics ends its own job. Dropping the engine cancels
/// what is under way.
pub struct Engine {
    jobs: Option<Sender<(Job<'static>, OnDone)>>,
    shared: Arc<Shared>,
    tokenizer: Arc<Tokenizer>,
    thread: Mutex<Option<JoinHandle<()>>>,
    slots: usize,
    queue: usize,
    context: usize,
}

/// What both sides know.
#[derive(Default)]
struct Shared {
    /// Jobs that were taken and have not ended.
    jobs: AtomicUsize,
    running: AtomicUsize,
    /// Tokens in the caches of jobs that run.
    used: AtomicUsize,
    steps: AtomicU64,
    quit: AtomicBool,
    dead: AtomicBool,
}

impl Shared {
    fn forget_job(&self) {
        let less = |jobs: usize| Some(jobs.saturating_sub(1));
        _ = self.jobs.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
}

/// How busy an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Jobs it works on at once at most.
    pub slots: usize,
    /// Jobs it works on.
    pub running: usize,
    /// Jobs that wait.
    pub waiting: usize,
    /// Jobs that may wait at most.
    pub queue: usize,
    /// Tokens in the caches of the jobs it works on.
    pub used_tokens: usize,
}

impl Engine {
    /// Starts the thread; `queue` jobs may wait for a slot.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn start(mut slots: Slots<'static>, queue: usize) -> io::Result<Engine> {
        let (jobs, taken) = channel();
        let shared = Arc::new(Shared::default());
        let (tokenizer, count, context) = (Arc::clone(slots.tokenizer()), slots.len(), slots.context());
        // Its own queue is never the shorter one: whatever was taken gets its turn.
        slots.set_queue(queue + slots.len());
        let mut work =
            Work { slots, taken, shared: Arc::clone(&shared), ends: HashMap::new(), is_open: true };
        let thread = std::thread::Builder::new().name("smolt-engine".to_owned()).spawn(move || {
            let _death = Death(Arc::clone(&work.shared));
            while work.go() {}
        })?;
        let thread = Mutex::new(Some(thread));
        Ok(Engine { jobs: Some(jobs), shared, tokenizer, thread, slots: count, queue, context })
    }

    /// Takes a job; `on_done` gets what comes of it.
    ///
    /// # Errors
    /// If too many wait ([`GenerateError::QueueFull`]), or the engine has stopped. `on_done` is not called then.
    pub fn submit(&self, job: Job<'static>, on_done: OnDone) -> Result<(), GenerateError> {
        let most = self.slots + self.queue;
        let counted = self
            .shared
            .jobs
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |jobs| (jobs < most).then_some(jobs + 1));
        if counted.is_err() {
            return Err(GenerateError::QueueFull { limit: self.queue });
        }
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send((job, on_done)).is_ok());
        if !sent || self.is_dead() {
            self.shared.forget_job();
            return Err(GenerateError::Stopped);
        }
        Ok(())
    }

    /// Whether a job would be taken now.
    pub fn has_room(&self) -> bool {
        self.shared.jobs.load(Ordering::Acquire) < self.slots + self.queue
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let jobs = self.shared.jobs.load(Ordering::Acquire);
        // Slots are counted after a step, a job's end within it: who has its answer sees no slot busy with it.
        let running = self.shared.running.load(Ordering::Relaxed).min(jobs);
        let waiting = jobs - running;
        let used_tokens = self.shared.used.load(Ordering::Relaxed);
        Load { slots: self.slots, running, waiting, queue: self.queue, used_tokens }
    }

    /// Passes of the model so far: one that works and does not count on is stuck.
    pub fn steps(&self) -> u64 {
        self.shared.steps.load(Ordering::Relaxed)
    }

    /// Whether its thread has ended: it takes no more jobs.
    pub fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Acquire)
    }

    /// Positions of each slot.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
        // A thread that waits for jobs notices.
        self.jobs = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // One that panicked has told its callers by dropping their callbacks.
            _ = thread.join();
        }
    }
}

/// Says that the thread has ended, however it did.
struct Death(Arc<Shared>);

impl Drop for Death {
    fn drop(&mut self) {
        self.0.dead.store(true, Ordering::Release);
        self.0.jobs.store(0, Ordering::Release);
        self.0.running.store(0, Ordering::Relaxed);
    }
}

/// The thread's side.
struct Work {
    slots: Slots<'static>,
    taken: Receiver<(Job<'static>, OnDone)>,
    shared: Arc<Shared>,
    /// Who waits for a job's end.
    ends: HashMap<Ticket, OnDone>,
    /// There may come more.
    is_open: bool,
}

impl Work {
    /// Goes one step further; whether there is or may come more to do.
    fn go(&mut self) -> bool {
        self.take_jobs();
        if self.shared.quit.load(Ordering::Acquire) {
            self.slots.abandon();
            return false;
        }
        let Work { slots, ends, shared, .. } = self;
        slots.step(&mut |ticket, result| end(ends.remove(&ticket), result, shared));
        shared.steps.fetch_add(1, Ordering::Relaxed);
        shared.running.store(slots.running(), Ordering::Relaxed);
        shared.used.store(slots.used_tokens(), Ordering::Relaxed);
        self.is_open || !self.slots.is_empty()
    }

    /// Takes what was submitted; waits for it where there is nothing else to do.
    fn take_jobs(&mut self) {
        while self.is_open {
            let next = match self.slots.is_empty() {
                true => self.taken.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.taken.try_recv(),
            };
            match next {
                Ok((job, on_done)) => match self.slots.submit(job) {
                    Ok(ticket) => _ = self.ends.insert(ticket, on_done),
                    Err(error) => end(Some(on_done), Err(error), &self.shared),
                },
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.is_open = false,
            }
        }
    }
}

/// Tells of a job's end, before which it no longer counts: who learns of it may ask again at once.
fn end(on_done: Option<OnDone>, result: Result<Done, GenerateError>, shared: &Shared) {
    shared.forget_job();
    if let Some(on_done) = on_done {
        // It has nothing that others see.
        _ = catch_unwind(AssertUnwindSafe(|| on_done(result)));
    }
}
