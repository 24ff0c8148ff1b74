//! The integration tests, one module per surface, in one binary.

mod command;
mod fixture;
mod llama_quantize;
mod plan;
