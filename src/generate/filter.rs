//! A rule of the caller's on what may come next.

use std::error::Error;

/// Why a [`LogitFilter`] cannot go on.
pub type FilterError = Box<dyn Error + Send + Sync>;

/// Changes the logits of every step, for constrained output or biases.
///
/// A session calls [`apply`](Self::apply) once for every token it is about to choose, after the repetition
/// penalty and before all other filters, and [`accept`](Self::accept) once with every token it chose, end
/// tokens included. An object serves one request.
pub trait LogitFilter {
    /// Learns the prompt, before anything else.
    fn start(&mut self, prompt: &[u32]) {
        let _ = prompt;
    }

    /// Changes `logits`, `[vocab]`. A token set to negative infinity is never chosen.
    ///
    /// # Errors
    /// The request fails with [`GenerateError::Filter`](super::GenerateError::Filter).
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError>;

    /// Learns which token was chosen.
    ///
    /// # Errors
    /// As for [`apply`](Self::apply).
    fn accept(&mut self, token: u32) -> Result<(), FilterError>;

    /// Whether the answer is complete and nothing may follow it. The session then ends it with
    /// [`FinishReason::Complete`](super::FinishReason::Complete).
    fn is_done(&self) -> bool {
        false
    }
}
