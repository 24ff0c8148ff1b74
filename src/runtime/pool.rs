//! Persistent threads with a barrier that parks.
//!
//! Work is split statically: part `i` of `n` always gets the same rows, so a core re-reads the part of the
//! weights that its cache may still hold, and results do not depend on timing. Waiting threads spin for a
//! few microseconds, since the next stage usually follows at once, and then sleep on a condition variable:
//! an idle pool uses no processor time and a busy neighbour gets its share.
#![allow(unsafe_code, reason = "a job borrowed by `run` is handed to threads that outlive the borrow")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a waiting thread spins before it sleeps.
const SPIN: Duration = Duration::from_micros(40);

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
pub fn split(items: usize, part: Part) -> Range<usize> {
    items * part.index / part.count..items * (part.index + 1) / part.count
}

type Job<'a> = &'a (dyn Fn(Part) + Sync);

/// A counter threads wait on: spin first, then sleep.
struct Gate {
    value: AtomicUsize,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Gate {
    fn new() -> Self {
        Self {
            value: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Wakes the sleepers after `value` was changed. A sleeper registers before it re-reads the value and
    /// both sides are sequentially consistent, so either it sees the change or we see it registered.
    fn notify(&self) {
        if self.sleepers.load(SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    fn wait_until(&self, ready: impl Fn(usize) -> bool) {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if ready(self.value.load(SeqCst)) {
                    return;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        self.sleepers.fetch_add(1, SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !ready(self.value.load(SeqCst)) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

struct Shared {
    /// Counts jobs; a change starts the workers.
    epoch: Gate,
    /// Workers that have not finished the current job.
    pending: Gate,
    /// The current job. Written only while no worker runs, read only while one is pending.
    job: UnsafeCell<Option<Job<'static>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    shutdown: AtomicBool,
}

// SAFETY: `job` is the only field that is not Sync by itself; the protocol of `Pool::run` orders every
// write to it before the epoch change that lets workers read it, and every read before the next write.
unsafe impl Sync for Shared {}
// SAFETY: the job is a reference to a `Sync` closure; all other fields are Send.
unsafe impl Send for Shared {}

/// A fixed set of threads that run one job at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads - 1` workers; the caller of [`Self::run`] is the remaining thread. Fewer are started
    /// if the system refuses; [`Self::threads`] tells.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: Gate::new(),
            pending: Gate::new(),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            shutdown: AtomicBool::new(false),
        });
        let mut starts = Vec::new();
        let mut workers = Vec::new();
        for index in 1..threads {
            let (start, count) = std::sync::mpsc::channel();
            let shared = Arc::clone(&shared);
            let body = move || {
                if let Ok(count) = count.recv() {
                    work(&shared, Part { index, count });
                }
            };
            let Ok(worker) = std::thread::Builder::new().name(format!("smolt-{index}")).spawn(body) else {
                break;
            };
            workers.push(worker);
            starts.push(start);
        }
        for start in starts {
            // A worker that is gone would show as a panic in `run`; nothing to do here.
            let _ = start.send(workers.len() + 1);
        }
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
        // SAFETY: the lifetime is erased only for the time of this call: no worker holds the reference
        // once `pending` is back to zero, and this function does not return or unwind before that.
        let erased: Job<'static> = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: `&mut self` means no other job is active, so no worker reads the cell now.
        unsafe { *self.shared.job.get() = Some(erased) };
        self.shared.pending.value.store(count - 1, SeqCst);
        self.shared.epoch.value.fetch_add(1, SeqCst);
        self.shared.epoch.notify();
        let own = catch_unwind(AssertUnwindSafe(|| job(Part { index: 0, count })));
        self.shared.pending.wait_until(|pending| pending == 0);
        let theirs = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
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
    let mut seen = 0;
    loop {
        shared.epoch.wait_until(|epoch| epoch != seen);
        seen += 1;
        if shared.shutdown.load(SeqCst) {
            return;
        }
        // SAFETY: the epoch changed, so the job was written before and stays until this part is counted
        // as finished below.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(part)))
        {
            *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        shared.pending.value.fetch_sub(1, SeqCst);
        shared.pending.notify();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, SeqCst);
        self.shared.epoch.value.fetch_add(1, SeqCst);
        self.shared.epoch.notify();
        for worker in self.workers.drain(..) {
            // A worker's panic was already reported by `run`.
            let _ = worker.join();
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
