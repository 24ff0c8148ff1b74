//! The integration tests, one module per surface, in one binary.

mod layering;
mod perplexity;
mod shared;
mod trained;
