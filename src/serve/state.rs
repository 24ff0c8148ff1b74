//! What all requests share.

use crate::generate::Engine;

/// What all requests share.
pub struct State {
    pub(super) engine: Engine,
}

impl State {
    /// Serves what an engine answers.
    pub fn new(engine: Engine) -> State {
        State { engine }
    }
}
