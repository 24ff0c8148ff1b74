//! Ctrl-C.

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
