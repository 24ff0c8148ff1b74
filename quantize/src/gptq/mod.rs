//! GPTQ into GGUF blocks.
//!
//! # Design
//!
//! A row `w` of a matrix is stored as `q`, and costs `(w - q) H (w - q)'` with `H` the second moments of the
//! matrix's inputs: the squared error of the row's outputs over the calibration text. GPTQ (Frantar et al.
//! 2022, arXiv 2210.17323) quantizes one column after the other and lets the columns that are still free make
//! up for each rounding. With `H^-1 = L L'` (`factor`), the column at place `j` costs
//!
//! ```text
//! e_j = (w_j - q_j) / L_jj        and then     w_k -= e_j * L_kj    for every later place k
//! ```
//!
//! and the cost of the row is the sum of `e_j^2`. Three things differ from the paper, all because a GGUF block
//! has a scale of its own for 16 or 32 columns:
//!
//! * The scale of a block is chosen by its realised cost: for every candidate (`grid`) the columns of the block
//!   are quantized in a trial, and the cheapest candidate is kept (`sweep`). Its levels then give a scale by
//!   least squares, tried likewise.
//! * Blocks are taken in order of falling largest `H_jj`, and columns in a block by falling `H_jj`: what matters
//!   most is rounded while everything can still make up for it. The order of storage is that of the file.
//! * The units of super-blocks (K formats) are chosen before the sweep and stay, so that any order will do.
//!
//! Rows do not depend on each other: they are computed 16 at a time, on all threads, with the same bits for
//! any number of them.

mod factor;
mod grid;
mod sweep;
#[cfg(test)]
mod tests;

pub(crate) use self::factor::{Factor, FactorError, FactorOptions};
pub(crate) use self::grid::{Format, REFITS, Scale};
pub(crate) use self::sweep::{Matrix, quantize};
