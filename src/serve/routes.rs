//! Which handler answers what.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::error::ApiError;
use super::state::State;

/// All routes.
pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/health", get(health))
        .fallback(async || ApiError::not_found("there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request_error",
                "this address has another method",
            )
        })
        .with_state(state)
}

/// Whether the server lives.
async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}
