//! The integration tests, one module per surface, in one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocate;
mod calibrate;
mod command;
mod convert;
mod families;
mod faults;
mod fixture;
mod fuzz;
mod lattice;
mod llama_quantize;
mod oracle;
mod plan;
mod report;
