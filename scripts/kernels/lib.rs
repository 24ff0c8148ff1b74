//! The modules that the matrix kernels need, and their tests.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports, reason = "what uses them is not here")]

#[path = "../../src/blocks/mod.rs"]
pub mod blocks;
#[path = "../../src/kernels/mod.rs"]
pub mod kernels;
#[path = "../../src/runtime/mod.rs"]
pub mod runtime;
