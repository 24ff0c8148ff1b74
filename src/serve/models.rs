//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use super::state::State;

/// A list of models.
#[derive(Serialize, JsonSchema)]
pub(super) struct ModelList {
    object: &'static str,
    data: Vec<ModelObject>,
}

/// A model.
#[derive(Serialize, JsonSchema)]
pub(super) struct ModelObject {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// Tokens that prompt and answer have together at most.
    max_model_len: usize,
    meta: Meta,
}

/// What else is known of it.
#[derive(Serialize, JsonSchema)]
struct Meta {
    architecture: String,
    n_vocab: usize,
    n_ctx: usize,
    n_ctx_train: usize,
    size: u64,
}

fn model(state: &State) -> ModelObject {
    let card = &state.model;
    let n_ctx = state.engine.context();
    ModelObject {
        id: card.id.clone(),
        object: "model",
        created: state.created,
        owned_by: "smolt",
        max_model_len: n_ctx,
        meta: Meta {
            architecture: card.architecture.clone(),
            n_vocab: state.engine.tokenizer().vocab_size(),
            n_ctx,
            n_ctx_train: card.trained_context,
            size: card.file_bytes,
        },
    }
}

/// Lists the model.
pub(super) async fn list(Shared(state): Shared<Arc<State>>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: vec![model(&state)] })
}

/// Shows it.
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
) -> Result<Json<ModelObject>, ApiError> {
    state.check_model(&name)?;
    Ok(Json(model(&state)))
}
