//! Products of every storage type on every instruction set of this machine, one thread.
//!
//! ```text
//! cargo bench --bench kernels                       everything (some minutes)
//! cargo bench --bench kernels -- matvec/q4_0        by name: product/type/set/rows x columns
//! ```
//!
//! `matvec` is one token, in bytes of weights per second; compare it with `read`, a plain sum of as many bytes.
//! `matmul` is a tile of 64 tokens and `step` one of 1, 2, 4 or 8, in multiply-accumulates per second.

#![allow(missing_docs, reason = "criterion's macros generate functions")]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use smolt::blocks::BlockType;
use smolt::kernels::Kernels;
use smolt::kernels::trial;
use std::hint::black_box;
use std::time::Duration;

/// Rows and columns: a feed-forward matrix of SmolLM2-135M, which fits a second-level cache, and its output
/// head, which does not.
const SHAPES: [(usize, usize); 2] = [(1536, 512), (49152, 512)];
/// Most tokens at once.
const TOKENS: usize = 64;

/// A packed matrix of random weights with an input and an output.
struct Product {
    trial: trial::Product,
    weights: u64,
}

impl Product {
    fn new(kernels: &'static Kernels, block_type: BlockType, (rows, cols): (usize, usize)) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut uniform = || random.next_u32() as f32 / u32::MAX as f32 - 0.5;
        let trial = trial::Product::new(kernels, block_type, [rows, cols, TOKENS], &mut uniform);
        Self { trial: trial.expect("whole blocks and memory"), weights: (rows * cols) as u64 }
    }

    fn run(&mut self, tokens: usize) {
        black_box(self.trial.run(tokens));
    }

    fn macs(&self, tokens: usize) -> u64 {
        tokens as u64 * self.weights
    }
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(300));
    group
}

fn label(kernels: &Kernels, (rows, cols): (usize, usize)) -> String {
    format!("{}/{rows}x{cols}", kernels.name)
}

/// Every type and set with every shape; the specification only with the small one.
fn each(mut visit: impl FnMut(BlockType, &'static Kernels, (usize, usize))) {
    for block_type in BlockType::ALL {
        for kernels in Kernels::available() {
            let shapes = if kernels.name == "scalar" { &SHAPES[..1] } else { &SHAPES };
            for shape in shapes {
                visit(*block_type, kernels, *shape);
            }
        }
    }
}

fn read(criterion: &mut Criterion) {
    let mut group = group(criterion, "read");
    for (rows, cols) in SHAPES {
        let words = vec![1u64; rows * cols * 9 / 16 / 8];
        group.throughput(Throughput::Bytes(8 * words.len() as u64));
        let sum = |words: &[u64]| words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
        group.bench_function(format!("q4_0/{rows}x{cols}"), |b| b.iter(|| sum(black_box(&words))));
    }
}

fn matvec(criterion: &mut Criterion) {
    let mut group = group(criterion, "matvec");
    each(|block_type, kernels, shape| {
        let mut product = Product::new(kernels, block_type, shape);
        group.throughput(Throughput::Bytes(product.trial.packed_bytes() as u64));
        let id = BenchmarkId::new(block_type.name().to_lowercase(), label(kernels, shape));
        group.bench_function(id, |b| b.iter(|| product.run(1)));
    });
}

fn matmul(criterion: &mut Criterion) {
    let mut group = group(criterion, "matmul");
    each(|block_type, kernels, shape| {
        if shape != SHAPES[0] {
            return;
        }
        let mut product = Product::new(kernels, block_type, shape);
        group.throughput(Throughput::Elements(product.macs(TOKENS)));
        let id = BenchmarkId::new(block_type.name().to_lowercase(), label(kernels, shape));
        group.bench_function(id, |b| b.iter(|| product.run(TOKENS)));
    });
}

fn step(criterion: &mut Criterion) {
    let mut group = group(criterion, "step");
    let Some(kernels) = Kernels::available().next() else { return };
    for block_type in [BlockType::Q4_0, BlockType::Q8_0] {
        for shape in SHAPES {
            let mut product = Product::new(kernels, block_type, shape);
            for tokens in [1, 2, 4, 8] {
                group.throughput(Throughput::Elements(product.macs(tokens)));
                let id = format!("{}/{}/{tokens}", block_type.name().to_lowercase(), label(kernels, shape));
                group.bench_function(id, |b| b.iter(|| product.run(tokens)));
            }
        }
    }
}

criterion_group!(kernels, read, matvec, matmul, step);
criterion_main!(kernels);
