//! Stages of the forward pass on a thread pool.
//!
//! An [`Executor`] owns the threads, the chosen kernels and the working memory of each thread. A stage is one
//! call: the input is prepared, every thread computes its fixed, contiguous share of the output rows and finishes
//! them (bias, activation, residual). Of a few tokens every thread prepares the input for itself (norm and rounding
//! of a few hundred values cost less than a barrier), of more each prepares some. A transformer layer is five stages:
//!
//! ```text
//! norm, q k v | rope, KV write, attention | output + residual | norm, gate up, activation | down + residual
//! ```
//!
//! Families that norm heads, branches or sums ([`Norm`]), or mix tokens by a [`Convolution`] or a
//! [`StateSpace`], have a stage more for each.

mod attention;
mod convolution;
mod head;
mod linear;
mod rows;
mod state_space;

pub use attention::{Attention, Past, Rotation};
use attention::{Cuts, Room, Working};
pub use convolution::{Convolution, Ring};
pub use head::{LOGIT_BLOCK, peak};
pub use linear::{FeedForward, Input, Output};
pub use rows::Norm;
pub use state_space::{SpaceState, StateSpace};

use super::layout::BLOCK;
use super::{Acts, Forms, Kernels, KvShape};
use crate::runtime::{AllocError, Buffer, Pool, page_rounded};
use std::ops::Range;

/// What the stages of a model need of each thread's working memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens per call.
    pub tokens: usize,
    /// Columns of the widest linear input.
    pub cols: usize,
    /// Forms of activations the model's matrices need.
    pub forms: Forms,
    /// Attention shape.
    pub kv: KvShape,
    /// Query heads.
    pub heads: usize,
}

impl Limits {
    fn attention(&self) -> Room {
        Room::new(self.kv, self.heads, self.tokens)
    }

    /// Bytes an [`Executor`] of `threads` threads allocates.
    pub fn planned_bytes(&self, threads: usize) -> usize {
        Acts::planned_bytes(self.tokens, self.cols, self.forms)
            + threads * page_rounded(self.row() * size_of::<f32>())
            + threads * Acts::planned_bytes(self.own_tokens(threads), self.cols, self.forms)
            + self.attention().planned_bytes(threads)
    }

    /// Values of a row of whole blocks.
    fn row(&self) -> usize {
        self.cols.next_multiple_of(BLOCK)
    }

    /// Tokens whose activations every thread has room for.
    fn own_tokens(&self, threads: usize) -> usize {
        if threads > 1 { self.tokens.min(OWN_TOKENS) } else { 0 }
    }
}

/// Most tokens whose activations every thread prepares for itself.
const OWN_TOKENS: usize = 8;

/// One thread's working memory.
struct Scratch {
    /// A row of whole blocks.
    row: Buffer<f32>,
    /// Of at most [`OWN_TOKENS`] tokens.
    acts: Acts,
    attention: Working,
}

/// Threads, kernels and working memory.
pub struct Executor {
    kernels: &'static Kernels,
    pool: Pool,
    scratch: Vec<Scratch>,
    /// Of more tokens, or of a single thread.
    acts: Acts,
    cuts: Cuts,
}

impl Executor {
    /// Starts `threads` threads (fewer if the system refuses) and allocates their working memory.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn new(kernels: &'static Kernels, threads: usize, limits: &Limits) -> Result<Self, AllocError> {
        let pool = Pool::new(threads.max(1));
        let room = limits.attention();
        let acts = |tokens| Acts::new(tokens, limits.cols, limits.forms, kernels.widest);
        let scratch = (0..pool.threads())
            .map(|_| {
                Ok(Scratch {
                    row: Buffer::zeroed(limits.row(), "an activation row")?,
                    acts: acts(limits.own_tokens(pool.threads()))?,
                    attention: Working::new(&room)?,
                })
            })
            .collect::<Result<_, AllocError>>()?;
        let cuts = Cuts::new(&room, pool.threads())?;
        Ok(Self { kernels, pool, scratch, acts: acts(limits.tokens)?, cuts })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

/// A slice whose disjoint parts are written by different threads.
struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: access is through unsafe methods whose callers keep the parts disjoint.
unsafe impl<T: Send + Sync> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: std::marker::PhantomData }
    }

    fn start(&self) -> *mut T {
        self.start
    }

    /// # Safety
    /// No thread writes `range` while the result lives.
    unsafe fn read(&self, range: Range<usize>) -> &[T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds; not written by the caller's contract.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// # Safety
    /// No other thread reads or writes `range` while the result lives.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps ranges disjoint")]
    unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds; exclusive by the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
