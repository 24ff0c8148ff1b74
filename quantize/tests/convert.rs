//! Folders of published models become GGUF files.

mod errors;
mod folder;
mod gptq;
mod tokenizers;
mod weights;
