//! Conversion and quantization of small language models to GGUF.
//!
//! # Design
//!
//! ```text
//! cli      arguments, what is printed where, exit codes
//! convert  the folder of a published model -> GGUF
//! report   what became of every tensor, as a table and as JSON
//! plan     input file + recipe -> type, order and size of every tensor of the output
//! allocate the types of tensors for a given size
//! calibrate  what the matrices read on a text, layer by layer
//! gptq     rounding that makes up for itself, into GGUF blocks
//! lattice  weights that were trained on 4 bits, found and kept
//! compare  what quantization did to a model, on a text
//! encode   decode, check and encode one tensor, in tiles, on all threads
//! files    texts and paths
//! error    everything that can be wrong
//! ```
//!
//! The output is planned completely before a byte is written: [`Plan`] is what `--dry-run` prints and what
//! [`Plan::write`] carries out. Tensors pass through a fixed amount of memory, whatever their size. The bytes
//! do not depend on the number of threads.
//!
//! Types are chosen by [`smolt::gguf::Recipe`], also used for synthetic models.

mod allocate;
pub mod calibrate;
pub mod cli;
pub mod compare;
pub mod convert;
mod encode;
mod error;
mod files;
mod gptq;
mod lattice;
mod plan;
mod report;

pub use self::error::QuantizeError;
pub use self::lattice::{LatticeBlocks, Lattices};
pub use self::plan::{Plan, PlannedTensor, QuantizeOptions, TypeRule};
pub use self::report::Report;
