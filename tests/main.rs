//! The integration tests, one module per surface, in one binary.

mod layering;
mod shared;
mod trained;
