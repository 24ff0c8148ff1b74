//! Memory and threads.
//!
//! * `Buffer`: a page-aligned, zeroed, fixed-size array. Everything a run needs lives in a few of them,
//!   sized by the memory plan before the first is allocated. Pages are committed when first touched.
//! * [`Pool`]: persistent threads that run one closure at a time. A stage of the forward pass is one
//!   [`Pool::run`]: it starts every part, takes part 0 itself and returns when all are done, so a stage is
//!   one synchronisation point and borrowed data never outlives it.
//! * [`Secrecy`]: what was sealed on disk is kept out of swap and core dumps.
//! * [`EndingAllocator`], [`end_in_order`]: messages and exit codes in place of signals.

mod buffer;
mod ending;
mod pool;
mod secret;

pub use buffer::AllocError;
#[cfg(test)]
pub(crate) use buffer::allocated_bytes;
pub(crate) use buffer::{Buffer, PAGE, page_rounded};
pub use ending::{EndingAllocator, end_in_order};
pub(crate) use pool::split;
pub use pool::{Part, Pool};
pub use secret::{Secrecy, has_unlocked_secrets};
