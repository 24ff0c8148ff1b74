//! Persistent threads that never make a busy machine wait for them.
//!
//! Work is split statically: part `i` of `n` always gets the same rows, so a core re-reads the part of the
//! weights that its cache may still hold, and results do not depend on timing. A part belongs to whoever
//! claims it first. That is nearly always the worker of the same number, which spins for a few microseconds
//! between stages since the next one usually follows at once. A worker that sleeps, or that waits for a
//! processor some other program has, is not waited for: the caller does its part.
//!
//! What remains is a worker that loses its processor in the middle of a part. The caller then has to wait,
//! and sends that worker to rest for a time that doubles as long as this goes on. So a busy neighbour costs
//! the share of the machine that it takes, and an idle pool uses no processor time.
#![allow(unsafe_code, reason = "a job borrowed by `run` is handed to threads that outlive the borrow")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a waiting thread spins before it sleeps.
const SPIN: Duration = Duration::from_micros(40);
/// A worker is late when it ends this much later than twice the time that the caller's own part took.
const LATE: Duration = Duration::from_micros(300);
/// First and longest rest of a late worker.
const REST: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(320)];
/// After this time without being late a worker's rests start from the first again.
const TRUSTED: Duration = Duration::from_millis(100);

/// Most threads of a pool.
const MOST_THREADS: usize = 1024;

/// One thread's share of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number of this part, `0..count`.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Part {
    /// This part's share of `0..items`: contiguous, and the same for the same counts.
    pub fn share(self, items: usize) -> Range<usize> {
        split(items, self)
    }
}

/// The contiguous share of `0..items` that belongs to `part`; shares differ by at most one item.
pub(crate) fn split(items: usize, part: Part) -> Range<usize> {
    items * part.index / part.count..items * (part.index + 1) / part.count
}

type Job<'a> = &'a (dyn Fn(Part) + Sync);

/// Spins, then sleeps until `ready`; `asleep` is set while another thread has to call [`Thread::unpark`].
///
/// Sleeper and waker both write before they read, sequentially consistent: either the sleeper sees that it
/// may go on, or the waker sees it asleep. They write by `swap`: QEMU 7.2 emulating Arm on x86 lets a load pass
/// an earlier `store`, and a caller so overlooked would sleep forever.
fn wait_until(asleep: &AtomicBool, ready: impl Fn() -> bool) {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if ready() {
                return;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            break;
        }
    }
    loop {
        asleep.swap(true, SeqCst);
        if ready() {
            break;
        }
        std::thread::park();
    }
    asleep.store(false, SeqCst);
}

/// What caller and worker know about a part. Epochs count jobs; every part is claimed once in each.
#[derive(Default)]
#[repr(align(64))]
struct Slot {
    claimed: AtomicUsize,
    done: AtomicUsize,
    /// The worker is to leave its part to others.
    resting: AtomicBool,
    asleep: AtomicBool,
}

impl Slot {
    /// Takes the part in this epoch; true for one thread only.
    fn claim(&self, epoch: usize) -> bool {
        self.claimed.compare_exchange(epoch.wrapping_sub(1), epoch, SeqCst, SeqCst).is_ok()
    }
}

struct Shared {
    epoch: AtomicUsize,
    /// The current job. Written only while no part is claimed, read only by a thread that has claimed one.
    job: UnsafeCell<Option<Job<'static>>>,
    /// Of parts 1 and up.
    slots: Vec<Slot>,
    caller: Mutex<Option<Thread>>,
    caller_asleep: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    shutdown: AtomicBool,
}

// SAFETY: `job` is the only field that is not Sync by itself; the protocol of `Pool::run` orders every
// write to it before the epoch change that lets threads claim a part, and every read before the next write.
unsafe impl Sync for Shared {}
// SAFETY: the job is a reference to a `Sync` closure; all other fields are Send.
unsafe impl Send for Shared {}

/// A worker as its pool sees it.
struct Worker {
    thread: JoinHandle<()>,
    rest: Duration,
    rests_until: Option<Instant>,
    back_since: Instant,
}

impl Worker {
    fn new(thread: JoinHandle<()>) -> Self {
        Self { thread, rest: REST[0], rests_until: None, back_since: Instant::now() }
    }

    /// Lets the worker take part in a new epoch, unless it still rests.
    fn start(&mut self, slot: &Slot, now: Instant) {
        if let Some(end) = self.rests_until {
            if now < end {
                return;
            }
            (self.rests_until, self.back_since) = (None, now);
            slot.resting.swap(false, SeqCst);
        }
        if slot.asleep.load(SeqCst) && slot.asleep.swap(false, SeqCst) {
            self.thread.thread().unpark();
        }
    }

    fn send_to_rest(&mut self, slot: &Slot, now: Instant) {
        let trusted = now.duration_since(self.back_since) > TRUSTED;
        self.rest = if trusted { REST[0] } else { (2 * self.rest).min(REST[1]) };
        self.rests_until = Some(now + self.rest);
        slot.resting.store(true, SeqCst);
    }
}

/// A fixed set of threads that run one job at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

impl Pool {
    /// Starts `threads - 1` workers; the caller of [`Self::run`] is the remaining thread. Fewer are started
    /// if the system refuses, and never more than 1024 in all; [`Self::threads`] tells.
    pub fn new(threads: usize) -> Self {
        let threads = threads.min(MOST_THREADS);
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            slots: (1..threads).map(|_| Slot::default()).collect(),
            caller: Mutex::new(None),
            caller_asleep: AtomicBool::new(false),
            panic: Mutex::new(None),
            shutdown: AtomicBool::new(false),
        });
        let (ready, is_ready) = std::sync::mpsc::channel::<()>();
        let mut starts = Vec::new();
        let mut workers = Vec::new();
        for index in 1..threads {
            let (start, count) = std::sync::mpsc::channel();
            let (shared, ready) = (Arc::clone(&shared), ready.clone());
            let body = move || {
                if let Ok(count) = count.recv() {
                    drop(ready);
                    work(&shared, Part { index, count });
                }
            };
            let Ok(worker) = std::thread::Builder::new().name(format!("smolt-{index}")).spawn(body) else {
                break;
            };
            workers.push(Worker::new(worker));
            starts.push(start);
        }
        for start in starts {
            // A worker that is gone would show as a panic in `run`; nothing to do here.
            let _ = start.send(workers.len() + 1);
        }
        // Starting a thread allocates memory; from here on nothing does.
        drop(ready);
        while is_ready.recv().is_ok() {}
        Self { shared, workers }
    }

    /// Number of parts a job is split into.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job` once for every part and returns when all have finished.
    ///
    /// # Panics
    /// If a part panics, after all parts have ended.
    pub fn run(&mut self, job: Job<'_>) {
        let count = self.threads();
        if count == 1 {
            return job(Part { index: 0, count });
        }
        // SAFETY: the lifetime is erased only for the time of this call: every part is claimed and ended
        // before it returns or unwinds, and no thread reads the reference without claiming a part.
        let erased: Job<'static> = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: every part of the last epoch has ended, and none can be claimed before the next.
        unsafe { *self.shared.job.get() = Some(erased) };
        let epoch = self.shared.epoch.fetch_add(1, SeqCst).wrapping_add(1);
        let start = Instant::now();
        for (worker, slot) in self.workers.iter_mut().zip(&self.shared.slots) {
            worker.start(slot, start);
        }
        let run = |index| catch_unwind(AssertUnwindSafe(|| job(Part { index, count }))).err();
        let mut panic = run(0);
        let own = start.elapsed();
        for (index, slot) in (1..count).zip(&self.shared.slots) {
            if slot.claim(epoch) {
                panic = run(index).or(panic);
                slot.done.store(epoch, SeqCst);
            }
        }
        self.await_others(epoch, start + 2 * own + LATE);
        let theirs = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic.or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Waits for the parts that workers have claimed; who ends after `limit` is sent to rest.
    fn await_others(&mut self, epoch: usize, limit: Instant) {
        let Self { shared, workers } = self;
        for (worker, slot) in workers.iter_mut().zip(&shared.slots) {
            let is_done = || slot.done.load(SeqCst) == epoch;
            if is_done() {
                continue;
            }
            *shared.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
            wait_until(&shared.caller_asleep, is_done);
            let now = Instant::now();
            if now > limit {
                worker.send_to_rest(slot, now);
            }
        }
    }

    /// Like [`Self::run`], and gives part `i` exclusive use of `states[i]`.
    ///
    /// # Panics
    /// If there are fewer states than parts, or a part panics.
    pub fn run_with<S: Send>(&mut self, states: &mut [S], job: &(dyn Fn(Part, &mut S) + Sync)) {
        assert!(states.len() >= self.threads(), "one state per thread");
        let states = SharedStates(states.as_mut_ptr());
        self.run(&|part| {
            // SAFETY: `part.index < threads() <= states.len()`, each index is run by exactly one thread
            // per job, and the borrow of `states` lasts until `run` returns.
            let state = unsafe { &mut *states.at(part.index) };
            job(part, state);
        });
    }
}

struct SharedStates<S>(*mut S);

impl<S> SharedStates<S> {
    fn at(&self, index: usize) -> *mut S {
        self.0.wrapping_add(index)
    }
}

// SAFETY: used by `run_with` only, which hands each element to one thread.
unsafe impl<S: Send> Sync for SharedStates<S> {}

fn work(shared: &Shared, part: Part) {
    let slot = &shared.slots[part.index - 1];
    let mut seen = 0;
    loop {
        let is_new = || shared.epoch.load(SeqCst) != seen && !slot.resting.load(SeqCst);
        wait_until(&slot.asleep, || is_new() || shared.shutdown.load(SeqCst));
        if shared.shutdown.load(SeqCst) {
            return;
        }
        seen = shared.epoch.load(SeqCst);
        if !slot.claim(seen) {
            continue;
        }
        // SAFETY: the part is claimed, so the job was written before and stays until it is done.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(part)))
        {
            *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        slot.done.swap(seen, SeqCst);
        if shared.caller_asleep.load(SeqCst) && shared.caller_asleep.swap(false, SeqCst) {
            let caller = shared.caller.lock().unwrap_or_else(PoisonError::into_inner);
            caller.iter().for_each(Thread::unpark);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread.thread().unpark();
            // A worker's panic was already reported by `run`.
            let _ = worker.thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn split_covers_everything_once() {
        for items in 0..40 {
            for count in 1..9 {
                let mut next = 0;
                for index in 0..count {
                    let range = split(items, Part { index, count });
                    assert_eq!(range.start, next);
                    assert!(range.len() <= items.div_ceil(count));
                    next = range.end;
                }
                assert_eq!(next, items);
            }
        }
    }

    #[test]
    fn every_part_runs_once_per_job() {
        for threads in 1..6 {
            let mut pool = Pool::new(threads);
            let hits: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
            for round in 1..=300 {
                pool.run(&|part| {
                    assert_eq!(part.count, threads);
                    hits[part.index].fetch_add(1, SeqCst);
                });
                assert!(hits.iter().all(|h| h.load(SeqCst) == round));
                if round % 100 == 0 {
                    std::thread::sleep(SPIN * 5);
                }
            }
        }
    }

    #[test]
    fn parts_of_workers_that_do_not_come_are_done_by_the_caller() {
        let mut pool = Pool::new(4);
        for slot in &pool.shared.slots {
            slot.resting.store(true, SeqCst);
        }
        let caller = std::thread::current().id();
        let hits = AtomicU64::new(0);
        pool.run(&|_| {
            assert_eq!(std::thread::current().id(), caller);
            hits.fetch_add(1, SeqCst);
        });
        assert_eq!(hits.load(SeqCst), 4);
    }

    /// Runs a job of two parts; whether a worker did the second. The caller waits for it to begin if
    /// `awaited`; a worker takes longer than it may if `late`.
    fn worker_comes(pool: &mut Pool, awaited: bool, late: bool) -> bool {
        let caller = std::thread::current().id();
        let (begun, by_worker) = (AtomicBool::new(false), AtomicBool::new(false));
        let start = Instant::now();
        pool.run(&|part| {
            if part.index == 1 {
                begun.store(true, SeqCst);
                by_worker.store(std::thread::current().id() != caller, SeqCst);
                if late {
                    std::thread::sleep(3 * start.elapsed() + Duration::from_millis(30));
                }
                return;
            }
            while awaited && !begun.load(SeqCst) && start.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
        });
        by_worker.load(SeqCst)
    }

    /// Tries for a minute: a busy machine holds up workers, and the caller, by itself.
    fn comes_at_last(mut is_so: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if is_so() {
                return true;
            }
            std::thread::sleep(REST[0]);
        }
        false
    }

    #[test]
    fn a_late_worker_rests_and_comes_back() {
        let mut pool = Pool::new(2);
        assert!(comes_at_last(|| worker_comes(&mut pool, true, false)), "the worker takes its part");
        let late = || worker_comes(&mut pool, true, true) && pool.workers[0].rests_until.is_some();
        assert!(comes_at_last(late), "a late worker is sent to rest");
        assert!(pool.shared.slots[0].resting.load(SeqCst));
        // Longer than anything holds this test up.
        pool.workers[0].rests_until = Some(Instant::now() + Duration::from_secs(3600));
        assert!(!worker_comes(&mut pool, false, false), "a resting worker is left alone");
        pool.workers[0].rests_until = Some(Instant::now());
        assert!(comes_at_last(|| worker_comes(&mut pool, true, false)), "the worker is back after its rest");
    }

    #[test]
    fn more_threads_than_processors_lose_nothing() {
        let mut pool = Pool::new(24);
        let count = AtomicU64::new(0);
        for _ in 0..2000 {
            pool.run(&|_| {
                count.fetch_add(1, SeqCst);
            });
        }
        assert_eq!(count.load(SeqCst), 2000 * 24);
    }

    #[test]
    fn states_are_exclusive() {
        let mut pool = Pool::new(3);
        let mut states = vec![0u64; 3];
        for _ in 0..100 {
            pool.run_with(&mut states, &|part, state| *state += part.index as u64 + 1);
        }
        assert_eq!(states, [100, 200, 300]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(3);
        for bad in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|part| assert_ne!(part.index, bad, "planned"));
            }));
            assert!(caught.is_err());
        }
        let count = AtomicU64::new(0);
        pool.run(&|_| {
            count.fetch_add(1, SeqCst);
        });
        assert_eq!(count.load(SeqCst), 3);
    }
}
