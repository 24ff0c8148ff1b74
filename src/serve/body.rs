//! What requests and responses have in common.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::ask::keys::{Field, Keys, parse};
use crate::generate::Outcome;

use super::error::ApiError;
use super::state::State;

/// Reads a body that is an object.
pub(super) fn keys(body: &[u8]) -> Result<Keys, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::invalid("the body is not UTF-8"))?;
    match parse(text)? {
        Value::Object(map) => Ok(Keys::new(map)),
        _ => Err(ApiError::invalid("the body is no JSON object")),
    }
}

/// What requests for answers begin with.
pub(super) struct Opening {
    /// The other keys.
    pub(super) keys: Keys,
    /// Whether the answer is sent as it comes.
    pub(super) stream: bool,
    /// Whether the last part of a stream has the usage.
    pub(super) has_usage: bool,
}

impl Opening {
    /// Reads a body whose model this server has.
    pub(super) fn read(state: &State, body: &[u8]) -> Result<Opening, ApiError> {
        let mut keys = keys(body)?;
        if let Some(model) = keys.take("model") {
            state.check_model(&model.text()?)?;
        }
        let stream = flag(&mut keys, "stream")?;
        let has_usage = stream_options(&mut keys, stream)?;
        Ok(Opening { keys, stream, has_usage })
    }
}

/// Whether the last part of a stream has the usage.
fn stream_options(keys: &mut Keys, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = keys.take("stream_options") else { return Ok(false) };
    if !stream {
        return Err(ApiError::invalid("stream_options needs stream: true").with_param("stream_options"));
    }
    let mut options = options.object("an object such as {\"include_usage\": true}")?;
    let has_usage = options.take("include_usage").map(Field::flag).transpose()?.unwrap_or(false);
    // It would hide lengths on the wire; there is no stranger on it.
    drop(options.take("include_obfuscation"));
    options.finish(&[])?;
    Ok(has_usage)
}

/// Reads a flag that is false unless it is there.
pub(super) fn flag(keys: &mut Keys, key: &'static str) -> Result<bool, ApiError> {
    Ok(keys.take(key).map(Field::flag).transpose()?.unwrap_or(false))
}

/// Reads a number within a range.
pub(super) fn count(
    keys: &mut Keys,
    key: &'static str,
    least: usize,
    most: usize,
) -> Result<Option<usize>, ApiError> {
    let Some(field) = keys.take(key) else { return Ok(None) };
    let error = field.expected(format!("a whole number from {least} to {most}"));
    match field.count() {
        Ok(count) if (least..=most).contains(&count) => Ok(Some(count)),
        _ => Err(error.into()),
    }
}

/// Does work that takes longer than the thread of the sockets may wait. A panic there costs this request only.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::internal("the program failed at this request")))
}

/// Says which keys of the request change nothing.
pub(super) fn with_ignored(mut response: Response, ignored: &[&'static str]) -> Response {
    if let Ok(value) = HeaderValue::from_str(&ignored.join(", "))
        && !ignored.is_empty()
    {
        response.headers_mut().insert("x-smolt-ignored", value);
    }
    response
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Tokens that a request took.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct Usage {
    pub(super) prompt_tokens: usize,
    pub(super) completion_tokens: usize,
    pub(super) total_tokens: usize,
    pub(super) prompt_tokens_details: PromptTokens,
}

/// What of the prompt was not computed.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct PromptTokens {
    /// Read before, by this or another request.
    pub(super) cached_tokens: usize,
}

impl Usage {
    /// Adds what another took.
    pub(super) fn merge(&mut self, other: &Usage) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.total_tokens += other.total_tokens;
        self.prompt_tokens_details.cached_tokens += other.prompt_tokens_details.cached_tokens;
    }

    /// Adds an answer, with its prompt if that is not counted yet.
    pub(super) fn add(&mut self, outcome: &Outcome, with_prompt: bool) {
        self.completion_tokens += outcome.tokens.len();
        if with_prompt {
            self.prompt_tokens += outcome.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += outcome.cached_tokens;
        }
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}
