//! Perplexity and benchmarks.

pub mod synthetic;
