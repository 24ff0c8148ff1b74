//! What all requests share.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ask::{Defaults, Item, Prepared, Prompts, check_form, prepare};
use crate::generate::{CancelHandle, Engine};

use super::error::ApiError;
use super::kiosk::Kiosk;
use super::metrics::Metrics;

/// What the server says of its model.
#[derive(Clone, Debug, Default)]
pub struct ModelCard {
    /// What it is called.
    pub id: String,
    /// Other names that are understood, such as the file's.
    pub aliases: Vec<String>,
    /// Its family.
    pub architecture: String,
    /// Tokens it was trained for.
    pub trained_context: usize,
    /// Bytes of its file.
    pub file_bytes: u64,
}

/// What all requests share.
pub struct State {
    pub(super) engine: Engine,
    pub(super) prompts: Prompts,
    pub(super) defaults: Defaults,
    pub(super) model: ModelCard,
    pub(super) metrics: Arc<Metrics>,
    pub(super) kiosk: Kiosk,
    /// The operator's system prompt and limit of tokens hold; requests have none of their own.
    pub(super) is_locked: bool,
    /// Tokens of an answer, whatever a request asks for.
    pub(super) most_tokens: Option<usize>,
    /// Seconds since 1970 at which the server was started.
    pub(super) created: u64,
    /// Of requests under way.
    running: Mutex<HashMap<u64, CancelHandle>>,
    numbers: AtomicU64,
    is_stopping: AtomicBool,
}

impl State {
    /// Serves what an engine answers.
    pub fn new(engine: Engine, prompts: Prompts, defaults: Defaults, model: ModelCard) -> State {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        State {
            engine,
            prompts,
            defaults,
            metrics: Arc::new(Metrics::new(&model.id)),
            model,
            kiosk: Kiosk::default(),
            is_locked: false,
            most_tokens: None,
            created: since.map_or(0, |since| since.as_secs()),
            running: Mutex::default(),
            numbers: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Refuses system prompts of requests: the operator's holds.
    #[must_use]
    pub fn with_locked_system(self, is_locked: bool) -> State {
        State { is_locked, ..self }
    }

    /// Ends every answer after so many tokens.
    #[must_use]
    pub fn with_most_tokens(self, most_tokens: Option<usize>) -> State {
        State { most_tokens, ..self }
    }

    /// Shows visitors the page as its operator wants it.
    #[must_use]
    pub fn with_kiosk(self, kiosk: Kiosk) -> State {
        State { kiosk, ..self }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, CancelHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request: dropping what is returned cancels what it asked for.
    pub(super) fn begin(self: &Arc<Self>) -> Begun {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let cancel = CancelHandle::new();
        self.running().insert(number, cancel.clone());
        if self.is_stopping() {
            cancel.cancel();
        }
        Begun { state: Arc::clone(self), number, cancel }
    }

    /// Cuts all answers short.
    pub(super) fn cancel_all(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.running().values().for_each(CancelHandle::cancel);
    }

    /// Whether answers are cut short.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Requests under way.
    #[cfg(test)]
    pub(super) fn requests(&self) -> usize {
        self.running().len()
    }

    /// Makes sure that a request means this model.
    pub(super) fn check_model(&self, name: &str) -> Result<(), ApiError> {
        let ModelCard { id, aliases, .. } = &self.model;
        if name == id || name == "default" || aliases.iter().any(|alias| alias == name) {
            return Ok(());
        }
        let message = format!("there is no model {name:?}; this server has {id:?}");
        Err(ApiError::not_found(message).with_code("model_not_found").with_param("model"))
    }

    /// Prepares an item.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub(super) fn prepare(&self, item: &Item, cancel: &CancelHandle) -> Result<Prepared, ApiError> {
        let of_item = (self.engine.context(), random());
        let mut prepared = prepare(&self.prompts, item, of_item, &self.defaults, cancel)?;
        if let Some(most) = self.most_tokens {
            let asked = prepared.request.max_tokens;
            prepared.request.max_tokens = Some(asked.map_or(most, |asked| asked.min(most)));
            check_form(&prepared.request, self.engine.context())?;
        }
        Ok(prepared)
    }
}

/// A request under way.
pub(super) struct Begun {
    pub(super) state: Arc<State>,
    number: u64,
    pub(super) cancel: CancelHandle,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.state.running().remove(&self.number);
    }
}

/// A random number, for seeds and names.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
