//! The page for visitors, of a few files.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::error::ApiError;
use super::state::State;

/// Where its files are.
const PATHS: [&str; 7] =
    ["/", "/kiosk.css", "/kiosk.js", "/kiosk-writing.js", "/kiosk.json", "/kiosk-theme.css", "/kiosk-logo"];

/// Whether this is a part of the page, which is shown without a token.
pub(super) fn is_part(path: &str) -> bool {
    PATHS.contains(&path)
}

/// Shows each file where it is.
pub(super) fn routes() -> Router<Arc<State>> {
    PATHS.iter().fold(Router::new(), |router, path| router.route(path, get(show)))
}

async fn show(Shared(state): Shared<Arc<State>>, uri: Uri) -> Response {
    match state.kiosk.file(uri.path()) {
        Some(asset) => ([(header::CONTENT_TYPE, asset.content_type)], asset.bytes.to_vec()).into_response(),
        None => ApiError::not_found("there is nothing at this address").into_response(),
    }
}
