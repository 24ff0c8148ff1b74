//! Folders of published models become GGUF files.

mod errors;
mod folder;
mod gptq;
mod hybrid;
mod tokenizers;
mod weights;
