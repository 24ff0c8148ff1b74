//! Stopping a session from elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a request to stop; clones share one state.
///
/// The request stops at the next token, within a prompt at the next tile. A handle stays cancelled until it
/// is reset, so a request that starts later with the same handle stops at once.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<AtomicBool>);

impl CancelHandle {
    /// A handle that is not cancelled.
    pub fn new() -> CancelHandle {
        CancelHandle::default()
    }

    /// Asks to stop. Safe to call from any thread, any number of times.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancelHandle::cancel`] was called since the last reset.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes the handle fit for another request.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
