//! The integration tests, one module per surface, in one binary.

mod bench;
mod cli;
mod layering;
mod perplexity;
mod shared;
mod trained;
