//! The page for visitors: a few files that the program has in itself.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::state::State;

/// A file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 3] = [
    Asset { path: "/", kind: "text/html; charset=utf-8", bytes: include_bytes!("page/index.html") },
    Asset { path: "/kiosk.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("page/kiosk.css") },
    Asset {
        path: "/kiosk.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("page/kiosk.js"),
    },
];

/// What the page has of the operator.
const OPERATORS: [&str; 3] = ["/kiosk.json", "/kiosk-theme.css", "/kiosk-logo"];

/// Whether this is a part of the page, which is shown without a token.
pub(super) fn is_part(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path) || OPERATORS.contains(&path)
}

/// Where its files are.
pub(super) fn routes() -> Router<Arc<State>> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let answer = async || ([(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response();
        router.route(asset.path, get(answer))
    })
}
