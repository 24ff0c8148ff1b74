//! Why a model cannot be loaded.

use super::show_bytes;
use crate::generate::GenerateError;
use crate::gguf::GgufError;
use crate::kernels::KernelError;
use crate::model::ModelError;
use crate::text::{TemplateError, TextError};

/// Errors of opening, planning and loading a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum LoadError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    #[error("{file}: the tokenizer has {tokens} tokens, the embedding {rows} rows; the file is damaged")]
    Vocabulary { file: String, tokens: usize, rows: usize },
    #[error("{what} is {found}, 1 to {most} are accepted")]
    OutOfRange { what: &'static str, found: usize, most: usize },
}

/// A plan above its limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} needs {} with a context of {context}{}{}, more than the {} allowed",
    show_bytes(*.needed), each(*.slots), if *.grammar { " and a grammar" } else { "" }, show_bytes(*.limit)
)]
pub struct DoesNotFit {
    /// The model.
    pub file: String,
    /// Bytes of the plan.
    pub needed: u64,
    /// Bytes allowed.
    pub limit: u64,
    /// Positions of the KV cache in the plan.
    pub context: usize,
    /// Sequences with a context each.
    pub slots: usize,
    /// Whether the plan has memory for grammars.
    pub grammar: bool,
    /// The largest context that fits, if one does.
    pub largest: Option<usize>,
}

/// How many have a context, if it is not one alone.
fn each(slots: usize) -> String {
    if slots > 1 { format!(" for each of {slots} answers") } else { String::new() }
}
