//! Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{CliError, Exit};
use crate::generate::CancelHandle;

/// From now on Ctrl-C stops the answer after the current token; a second one ends the process at once.
///
/// Called only once the model is loaded: until then Ctrl-C ends the process as it does for any program.
///
/// # Errors
/// If the system refuses.
pub(super) fn cancel_on_interrupt() -> Result<CancelHandle, CliError> {
    let handle = CancelHandle::new();
    let shared = handle.clone();
    ctrlc::set_handler(move || {
        if shared.is_cancelled() {
            std::process::exit(Exit::Interrupted as i32);
        }
        shared.cancel();
    })
    .map_err(CliError::Interrupt)?;
    Ok(handle)
}

/// Ctrl-C of a program that gives one answer after the other.
pub(super) struct Interrupts {
    cancel: CancelHandle,
    answering: Arc<AtomicBool>,
}

impl Interrupts {
    /// From now on Ctrl-C stops an answer after the current token. Where a person is there to go on
    /// (`interactive`), that is all it does; else it ends the process between answers, and the second time.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn new(interactive: bool) -> Result<Interrupts, CliError> {
        let interrupts = Interrupts { cancel: CancelHandle::new(), answering: Arc::default() };
        let (cancel, answering) = (interrupts.cancel.clone(), Arc::clone(&interrupts.answering));
        ctrlc::set_handler(move || {
            if !interactive && (!answering.load(Ordering::Relaxed) || cancel.is_cancelled()) {
                std::process::exit(Exit::Interrupted as i32);
            }
            cancel.cancel();
        })
        .map_err(CliError::Interrupt)?;
        Ok(interrupts)
    }

    /// Calls `answer` with the handle that Ctrl-C cancels.
    pub(super) fn during<T>(&self, answer: impl FnOnce(&CancelHandle) -> T) -> T {
        self.cancel.reset();
        self.answering.store(true, Ordering::Relaxed);
        let result = answer(&self.cancel);
        self.answering.store(false, Ordering::Relaxed);
        result
    }
}
