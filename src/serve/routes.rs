//! Which handler answers what.

use std::sync::Arc;

use axum::extract::{self, MatchedPath, Request};
use axum::http::header;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::error::ApiError;
use super::state::State;
use super::{chat, completions, models, openapi, page, tokens};

/// All routes.
pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .route("/ready", get(ready))
        .route("/openapi.json", get(openapi::show))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::show))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/tokenize", post(tokens::encode))
        .route("/detokenize", post(tokens::decode))
        .route("/tokenizer_info", get(tokens::info))
        .route("/v1/tokenize", post(tokens::encode))
        .route("/v1/detokenize", post(tokens::decode))
        .route("/v1/tokenizer_info", get(tokens::info))
        .route("/metrics", get(metrics))
        .merge(page::routes())
        .fallback(async || ApiError::not_found("there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request_error",
                "this address has another method",
            )
        })
        .layer(from_fn(name_route))
        .with_state(state)
}

/// Whether the server lives.
async fn health(extract::State(state): extract::State<Arc<State>>) -> Result<Json<Value>, ApiError> {
    if state.engine.is_dead() {
        return Err(ApiError::unavailable("the engine has stopped"));
    }
    Ok(Json(json!({"status": "ok"})))
}

/// Whether the model can be asked.
async fn ready(extract::State(state): extract::State<Arc<State>>) -> Result<Json<Value>, ApiError> {
    if state.engine.is_dead() || state.is_stopping() {
        return Err(ApiError::unavailable("the model answers no more"));
    }
    Ok(Json(json!({"status": "ready"})))
}

/// What was counted.
async fn metrics(extract::State(state): extract::State<Arc<State>>) -> Response {
    const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, KIND)], state.metrics.text(state.engine.load())).into_response()
}

/// Tells which route a response is of, by which it is counted.
async fn name_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}
