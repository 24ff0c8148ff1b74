//! Every kernel of every instruction set against the specification, bit for bit.
//!
//! The suite walks [`ALL`], so a set that is declared is tested. Sets the processor lacks are printed, and
//! `SMOLT_REQUIRE_ISA=avx2,avx512vnni` makes their absence a failure. `SMOLT_SKIP_ISA` names sets that are tested elsewhere.

use super::acts::{Acts, Forms, QuantSink};
use super::generic::MatmulJob;
use super::ops::{Executor, FeedForward, Input, Limits, Norm, Output};
use super::*;
use attention::executor;
use rand::{RngExt, SeedableRng};

mod attention;

type Rng = rand::rngs::ChaCha8Rng;

fn rng(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

fn normal(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| (0..6).map(|_| rng.random_range(-1.0f32..1.0)).sum()).collect()
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Sets that only this suite uses: the kernels of another set by instructions that more processors have.
const STAND_INS: &[&Kernels] = &[
    #[cfg(target_arch = "x86_64")]
    &x86::avxvnni::stand_in::KERNELS,
];

/// The sets to test.
fn sets() -> Vec<&'static Kernels> {
    let missing: Vec<_> = ALL.iter().filter(|k| !(k.is_available)()).map(|k| k.name).collect();
    if !missing.is_empty() {
        eprintln!("NOT TESTED, this processor lacks: {}", missing.join(", "));
    }
    let listed = |variable: &str| -> Vec<&Kernels> {
        let names = std::env::var(variable).unwrap_or_default();
        let found =
            |name| Kernels::named(name).unwrap_or_else(|error| panic!("{variable} names {name}: {error}"));
        names.split(',').filter(|name| !name.is_empty()).map(found).collect()
    };
    listed("SMOLT_REQUIRE_ISA");
    let skipped: Vec<_> = listed("SMOLT_SKIP_ISA").iter().map(|k| k.name).collect();
    if !skipped.is_empty() {
        eprintln!("NOT TESTED, by SMOLT_SKIP_ISA: {}", skipped.join(", "));
    }
    let stand_ins = STAND_INS.iter().copied().filter(|k| (k.is_available)());
    let tested = Kernels::available().filter(|k| !skipped.contains(&k.name)).chain(stand_ins);
    let tested: Vec<_> = tested.collect();
    assert!(!tested.is_empty(), "SMOLT_SKIP_ISA leaves nothing to test");
    tested
}

/// Random rows in native form: any codes, scales of either sign between 2^-14 and 1.
fn random_rows(rng: &mut Rng, block_type: BlockType, rows: usize, cols: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; block_type.row_bytes(cols).unwrap() * rows];
    if !block_type.is_written() {
        for block in bytes.chunks_exact_mut(block_type.block_bytes()) {
            sample::fill_block(block_type, block, &mut |block| rng.fill(block));
        }
        return bytes;
    }
    rng.fill(&mut bytes[..]);
    let mut half = |at: &mut [u8]| {
        let value: f32 = rng.random_range(-1.0..1.0) * 2.0f32.powi(rng.random_range(-13..=0));
        at.copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
    };
    for block in bytes.chunks_exact_mut(block_type.block_bytes()) {
        match block_type {
            BlockType::F32 => {
                let mut value = [0; 2];
                half(&mut value);
                block.copy_from_slice(&half::f16::from_le_bytes(value).to_f32().to_le_bytes());
            }
            BlockType::BF16 => {
                let mut value = [0; 2];
                half(&mut value);
                let value = half::f16::from_le_bytes(value).to_f32();
                block.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes());
            }
            BlockType::Q6K => half(&mut block[208..]),
            BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => {
                half(&mut block[..2]);
                half(&mut block[2..4]);
            }
            _ => half(&mut block[..2]),
        }
    }
    bytes
}

/// The bytes of a block by which all its weights are numbers or are not.
fn scale_bytes(block_type: BlockType) -> Vec<usize> {
    let bytes = match block_type {
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K | BlockType::NVFP4 => 0..4,
        BlockType::Q6K => 208..210,
        BlockType::Q2K => 80..84,
        BlockType::Q3K => 108..110,
        BlockType::TQ1_0 => 52..54,
        BlockType::TQ2_0 => 64..66,
        BlockType::MXFP4 => 0..1,
        BlockType::IQ1M => return vec![49, 51, 53, 55],
        _ => 0..2,
    };
    bytes.collect()
}

pub(super) struct Case {
    shape: PackedShape,
    packed: Vec<u8>,
    native: Vec<u8>,
    x: Vec<f32>,
    pub(super) tokens: usize,
}

impl Case {
    pub(super) fn new(
        seed: u64,
        block_type: BlockType,
        packing: Packing,
        (rows, cols, tokens): (usize, usize, usize),
    ) -> Self {
        let mut rng = rng(seed);
        let shape = PackedShape { block_type, rows, cols, packing };
        let native = random_rows(&mut rng, block_type, rows, cols);
        let mut packed = vec![0; shape.bytes()];
        shape.pack_rows(&native, 0, &mut packed).unwrap();
        let x = normal(&mut rng, tokens * cols);
        Self { shape, packed, native, x, tokens }
    }

    fn matrix(&self) -> PackedMatrix<'_> {
        PackedMatrix::new(self.shape, &self.packed)
    }

    pub(super) fn acts(&self, kernels: &Kernels) -> Acts {
        let forms = Forms::default().with(&self.shape);
        let mut acts = Acts::new(self.tokens, self.shape.cols, forms, kernels.widest).unwrap();
        let cols = self.shape.cols;
        // SAFETY: only available sets are tested.
        let quantize = |row: &[f32], sink: &mut QuantSink<'_>| unsafe { (kernels.quantize)(row, sink) };
        let mut row = vec![0.0; cols.next_multiple_of(BLOCK)];
        acts.filling(self.tokens, cols, forms).fill(&mut row, &quantize, &|token, row| {
            row.copy_from_slice(&self.x[token * cols..][..cols]);
        });
        acts
    }

    /// `[token][row]`, with a guard value after the end.
    fn run(&self, kernels: &Kernels, accumulate: bool) -> Vec<f32> {
        const GUARD: f32 = 12345.0;
        let mut out = vec![0.5; self.tokens * self.shape.rows];
        out.push(GUARD);
        self.multiply(kernels, &self.acts(kernels), &mut out, accumulate);
        assert_eq!(out.pop(), Some(GUARD));
        out
    }

    pub(super) fn multiply(&self, kernels: &Kernels, acts: &Acts, out: &mut [f32], accumulate: bool) {
        assert!(out.len() >= self.tokens * self.shape.rows);
        let job = MatmulJob {
            weights: self.matrix(),
            groups: 0..self.shape.groups(),
            acts,
            out: out.as_mut_ptr(),
            out_stride: self.shape.rows,
            accumulate,
        };
        // SAFETY: the set is available, and `out` has `tokens * rows` values.
        unsafe { (kernels.matmul)(self.shape.block_type)(&job) };
    }

    pub(super) fn specified(&self, kernels: &Kernels, accumulate: bool) -> Vec<f32> {
        let acts = self.acts(kernels);
        let start = if accumulate { 0.5 } else { 0.0 };
        (0..self.tokens)
            .flat_map(|token| (0..self.shape.rows).map(move |row| (token, row)))
            .map(|(token, row)| start + scalar::dot(&self.matrix().row(row), &acts, token))
            .collect()
    }
}

fn shapes(block_type: BlockType) -> Vec<(usize, usize, usize)> {
    let unit = block_type.block_len();
    let mut shapes = vec![];
    for rows in [1, 3, 4, 8, 15, 16, 17, 33] {
        for blocks in [1, 2, 3] {
            shapes.push((rows, unit.max(32) * blocks, 1));
        }
    }
    for tokens in 2..=17 {
        shapes.push((19, unit.max(32) * 2, tokens));
    }
    // So many that weights are unpacked once for all of them, and rows of several chunks.
    shapes.extend([(19, unit.max(32), 64), (5, 768, 67), (5, 3072, 17)]);
    if unit == 1 {
        shapes.extend([(5, 1, 1), (7, 31, 3), (16, 40, 9), (20, 77, 8)]);
    }
    shapes
}

#[test]
fn matrix_products_equal_the_specification() {
    for kernels in sets() {
        for &block_type in BlockType::ALL {
            for (i, shape) in shapes(block_type).into_iter().enumerate() {
                let case = Case::new(i as u64, block_type, kernels.packing, shape);
                for accumulate in [false, true] {
                    let found = case.run(kernels, accumulate);
                    let expected = case.specified(kernels, accumulate);
                    let name = kernels.name;
                    assert_eq!(bits(&found), bits(&expected), "{name} {block_type} {shape:?} {accumulate}");
                }
            }
        }
    }
}

/// Sets may have shorter ways where no sum can overflow or vanish.
#[test]
fn products_of_very_large_and_small_activations_equal_the_specification() {
    for kernels in sets() {
        for &block_type in BlockType::ALL {
            for scale in [1e28, 1e-30, 1e-33, 1e-36] {
                let shape = (9, 96usize.next_multiple_of(block_type.block_len()), 3);
                let mut case = Case::new(12, block_type, kernels.packing, shape);
                case.x.iter_mut().for_each(|x| *x *= scale);
                let (found, expected) = (case.run(kernels, false), case.specified(kernels, false));
                assert_eq!(bits(&found), bits(&expected), "{} {block_type} {scale:e}", kernels.name);
            }
        }
    }
}

/// Codes and the scale of block `b` of a single token, as a test wants them.
type Block = ([i8; BLOCK], f32);

/// A product with a single token whose activations are given in their rounded form.
fn product_of_rounded(kernels: &Kernels, case: &Case, blocks: &[Block]) -> (Vec<u32>, Vec<u32>) {
    let forms = Forms::default().with(&case.shape);
    let mut acts = Acts::new(1, case.shape.cols, forms, kernels.widest).unwrap();
    let put = |_: &[f32], sink: &mut QuantSink<'_>| {
        for (b, (codes, d)) in blocks.iter().enumerate() {
            *sink.codes(b) = *codes;
            sink.put(b, *d, [0, 16].map(|at| codes[at..at + 16].iter().map(|&code| i32::from(code)).sum()));
        }
    };
    let mut row = vec![0.0; case.shape.cols.next_multiple_of(BLOCK)];
    acts.filling(1, case.shape.cols, forms).fill(&mut row, &put, &|_, row| row.fill(0.0));
    let mut found = vec![0.0; case.shape.rows];
    case.multiply(kernels, &acts, &mut found, false);
    let row = |row| scalar::dot(&case.matrix().row(row), &acts, 0);
    (bits(&found), (0..case.shape.rows).map(|r| row(r).to_bits()).collect())
}

/// The exact sum is beside the middle of two f32 by less than f64 can tell: rounding it twice goes to the wrong side.
#[test]
fn sums_beside_a_tie_are_rounded_once() {
    // s * m is this much more than 2^38, an ulp of which, at the height of the tie, f64 lacks.
    let beside = |s: u64| (s * (1u64 << 38).div_ceil(s)) - (1 << 38);
    let mut tried = 0;
    for s in (16_500..31_000u64).filter(|&s| (1..500).contains(&beside(s))) {
        tried += 1;
        // Weights are -8, the last of the second block is 1.
        let (mut first, mut second) = ([0i8; BLOCK], [0i8; BLOCK]);
        first[0] = -64;
        second[31] = (s % 8) as i8;
        let mut left = s / 8;
        for code in &mut second[..31] {
            let part = left.min(127);
            *code = -(part as i8);
            left -= part;
        }
        assert_eq!(left, 0);
        let scale = (1u64 << 38).div_ceil(s) as f32 * 2f32.powi(-38);
        for kernels in sets() {
            let mut case = Case::new(1, BlockType::Q4_0, kernels.packing, (9, 64, 1));
            for (i, block) in case.native.chunks_exact_mut(18).enumerate() {
                // 512 * 2^-9 = 1, and s * m * 2^-62, a little more than 2^-24.
                let (d, last) = [(0x1800u16, 0x00), (0x0001, 0x90)][i % 2];
                block[..2].copy_from_slice(&d.to_le_bytes());
                block[2..].fill(0x00);
                block[17] = last;
            }
            case.shape.pack_rows(&case.native.clone(), 0, &mut case.packed).unwrap();
            let (found, expected) = product_of_rounded(kernels, &case, &[(first, 1.0), (second, scale)]);
            assert_eq!(expected, [(1.0 + f32::EPSILON).to_bits(); 9], "the case is none: {s}");
            assert_eq!(found, expected, "{} {s}", kernels.name);
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn all_sets_agree_bit_for_bit() {
    for &block_type in BlockType::ALL {
        let shape = (37, block_type.block_len().max(32) * 3, 11);
        let reference = Case::new(7, block_type, scalar::KERNELS.packing, shape).run(&scalar::KERNELS, false);
        for kernels in sets() {
            let found = Case::new(7, block_type, kernels.packing, shape).run(kernels, false);
            assert_eq!(bits(&found), bits(&reference), "{} {block_type}", kernels.name);
        }
    }
}

#[test]
fn extreme_codes_do_not_overflow() {
    for kernels in sets() {
        for &block_type in BlockType::ALL.iter().filter(|t| t.block_len() > 1) {
            for fill in [0x00, 0x7F, 0x80, 0x88, 0xFF] {
                for sign in [1.0, -1.0] {
                    let mut case = Case::new(1, block_type, kernels.packing, (16, 256, 1));
                    let scales = scale_bytes(block_type);
                    for block in case.native.chunks_exact_mut(block_type.block_bytes()) {
                        let keep: Vec<u8> = block.to_vec();
                        block.fill(fill);
                        // The scales stay finite.
                        for at in scales.clone() {
                            block[at] = keep[at];
                        }
                    }
                    case.shape.pack_rows(&case.native.clone(), 0, &mut case.packed).unwrap();
                    case.x.fill(sign * 3.0);
                    let found = case.run(kernels, false);
                    let expected = case.specified(kernels, false);
                    assert_eq!(bits(&found), bits(&expected), "{} {block_type} {fill:#x}", kernels.name);
                }
            }
        }
    }
}

/// The specification itself against double precision on decoded weights and rounded activations.
#[test]
fn the_specification_is_the_dot_product() {
    for &block_type in BlockType::ALL {
        let case = Case::new(3, block_type, scalar::KERNELS.packing, (9, 512, 2));
        let (rows, cols) = (case.shape.rows, case.shape.cols);
        let mut weights = vec![0.0f32; rows * cols];
        block_type.decode(&case.native, &mut weights);
        let mut x = case.x.clone();
        if block_type.block_len() > 1 {
            for block in x.chunks_exact_mut(32) {
                let max = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                block.iter_mut().for_each(|v| *v = (*v * (127.0 / max)).round_ties_even() * (max / 127.0));
            }
        }
        let found = case.run(&scalar::KERNELS, false);
        for token in 0..case.tokens {
            for row in 0..rows {
                let terms =
                    (0..cols).map(|k| f64::from(weights[row * cols + k]) * f64::from(x[token * cols + k]));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                let error = (f64::from(found[token * rows + row]) - sum).abs();
                // A rounding per block or column, each at most half an ulp of the partial sum.
                assert!(error <= 3e-6 * size + 1e-12, "{block_type}: error {error} of {size}");
            }
        }
    }
}

#[test]
fn packing_keeps_every_weight() {
    for kernels in sets() {
        for &block_type in BlockType::ALL {
            let cols = block_type.block_len().max(40);
            let case =
                Case::new(5, block_type, kernels.packing, (21, cols - cols % block_type.block_len(), 1));
            let cols = case.shape.cols;
            let mut expected = vec![0.0f32; 21 * cols];
            block_type.decode(&case.native, &mut expected);
            for row in 0..21 {
                let mut found = vec![0.0; cols];
                case.matrix().decode_row(row, &mut found);
                assert_eq!(found, expected[row * cols..][..cols], "{} {block_type} row {row}", kernels.name);
            }
        }
    }
}

#[test]
fn packing_refuses_wrong_sizes() {
    let shape =
        PackedShape { block_type: BlockType::Q4_0, rows: 4, cols: 64, packing: scalar::KERNELS.packing };
    let mut packed = vec![0; shape.bytes()];
    assert!(shape.pack_rows(&[0; 36 * 4], 0, &mut packed).is_ok());
    assert!(shape.pack_rows(&[0; 36 * 4], 1, &mut packed).is_err());
    assert!(shape.pack_rows(&[0; 35], 0, &mut packed).is_err());
    assert!(shape.pack_rows(&[0; 36], 0, &mut packed[1..]).is_err());
    let odd = PackedShape { cols: 33, ..shape };
    assert!(odd.pack_rows(&[0; 36], 0, &mut packed).is_err());
}

#[test]
fn packing_refuses_what_is_not_finite() {
    for &block_type in BlockType::ALL {
        let mut case = Case::new(6, block_type, scalar::KERNELS.packing, (3, 256, 1));
        let row = block_type.row_bytes(256).unwrap();
        // An infinity, or whatever is no number of a byte.
        let bad: &[u8] = match block_type {
            BlockType::F32 => &[0, 0, 0x80, 0x7F],
            BlockType::MXFP4 | BlockType::NVFP4 => &[0xFF],
            BlockType::IQ1M => &[0x00, 0x00, 0xC0, 0x70],
            _ => &[0x80, 0x7F],
        };
        for (at, bad) in scale_bytes(block_type).into_iter().chain(2..4).zip(bad) {
            case.native[2 * row + at] = *bad;
        }
        let error = case.shape.pack_rows(&case.native, 0, &mut case.packed).unwrap_err();
        assert!(matches!(error, KernelError::NotFinite { row: 2 }), "{block_type}: {error}");
    }
}

#[test]
fn vector_operations_equal_the_specification() {
    let spec = &scalar::KERNELS;
    for kernels in sets() {
        for len in (0..70).chain([576, 1000]) {
            let mut rng = rng(len as u64);
            let (x, w) = (normal(&mut rng, len), normal(&mut rng, len));
            let scores: Vec<f32> = x.iter().map(|v| v * 20.0).collect();
            // SAFETY: only available sets are tested; slices have equal lengths.
            let run = |k: &Kernels| unsafe {
                let mut scaled = vec![0.0; len];
                (k.scale_by)(&x, 0.37, &w, &mut scaled);
                let mut found = vec![bits(&[(k.sum_squares)(&x)]), bits(&scaled)];
                for kind in Activation::ALL {
                    for factors in [None, Some(&w[..])] {
                        let mut out = scores.clone();
                        (k.activate)(kind, &mut out, factors);
                        found.push(bits(&out));
                    }
                }
                for temperature in [1.0, 0.3] {
                    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let sum = (k.weight_sum)(&scores, max, temperature).to_bits();
                    found.push(vec![sum as u32, (sum >> 32) as u32]);
                }
                for parameters in [[None, None], [Some(&w[..]), None], [Some(&w[..]), Some(&scores[..])]] {
                    let mut out = vec![0.0; len];
                    (k.layer_norm)(&x, 1e-5, parameters, &mut out);
                    found.push(bits(&out));
                }
                found
            };
            assert_eq!(run(kernels), run(spec), "{} length {len}", kernels.name);
        }
    }
}

#[test]
fn rounding_to_8_bits_equals_the_specification() {
    for kernels in sets() {
        for scale in [1.0, 1e-20, 1e-39, 0.0, 1e30] {
            let x: Vec<f32> = normal(&mut rng(9), 320).iter().map(|v| v * scale).collect();
            let acts = |k: &'static Kernels| {
                let case = Case {
                    shape: PackedShape {
                        block_type: BlockType::Q8_0,
                        rows: 1,
                        cols: 160,
                        packing: k.packing,
                    },
                    packed: vec![],
                    native: vec![],
                    x: x.clone(),
                    tokens: 2,
                };
                let acts = case.acts(k);
                let mut tokens = vec![];
                for tile in acts.tiles() {
                    let (codes, scales) = acts.quantized(tile);
                    for t in 0..tile.width {
                        for b in 0..5 {
                            let at = b * tile.width + t;
                            tokens.push((codes[at * 32..][..32].to_vec(), scales[at]));
                        }
                    }
                }
                tokens
            };
            assert_eq!(acts(kernels), acts(&scalar::KERNELS), "{} scale {scale}", kernels.name);
        }
    }
}

#[test]
fn exp_is_within_two_ulp() {
    let mut worst = 0.0f64;
    for i in -870_000..880_000 {
        let x = i as f32 * 1e-4;
        let (found, exact) = (scalar::exp(x), f64::from(x).exp());
        let ulp = f64::from(f32::from_bits(found.to_bits() + 1) - found);
        worst = worst.max((f64::from(found) - exact).abs() / ulp);
    }
    assert!(worst <= 2.0, "{worst} ulp");
    assert!(scalar::exp(-1e9) > 0.0 && scalar::exp(1e9).is_finite());
}

#[test]
fn activations_are_their_functions() {
    let erf = |z: f64| {
        // The Taylor series, in double precision good for |z| below 4.
        let mut term = z;
        let mut sum = z;
        for n in 1..200 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    };
    for i in -5000..=5000 {
        let x = f64::from(i) * 1e-3;
        for kind in Activation::ALL {
            let expected = match kind {
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::Gelu => x * 0.5 * (1.0 + erf(x / 2.0f64.sqrt())),
                Activation::GeluTanh => {
                    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                    0.5 * x * (1.0 + u.tanh())
                }
                Activation::Relu => x.max(0.0),
                Activation::ReluSquared => x.max(0.0).powi(2),
            };
            let mut found = [x as f32];
            scalar::activate(kind, &mut found, None);
            let error = (f64::from(found[0]) - expected).abs();
            // What is given to exp is rounded; the series is exact to 1e-11.
            let bound = expected.abs() * (1e-6 + x * x * 1e-7) + 1e-10;
            assert!(error < bound, "{kind:?} of {x}: {} {expected}", found[0]);
        }
    }
    for kernels in sets() {
        for kind in Activation::ALL {
            let mut found = [f32::NAN; 40];
            // SAFETY: only available sets are tested.
            unsafe { (kernels.activate)(kind, &mut found, None) };
            assert!(found.iter().all(|v| v.is_nan()), "{} {kind:?}", kernels.name);
        }
    }
}

/// Stages: a normed input times three matrices, and a gated stage, for any thread count and split.
#[test]
fn linear_stages_do_not_depend_on_set_threads_or_split() {
    let run = |kernels: &'static Kernels, threads: usize, chunk: usize| {
        let mut executor = executor(kernels, threads, chunk, KvType::F16);
        let cases = [BlockType::Q4_0, BlockType::Q8_0, BlockType::F16]
            .map(|t| Case::new(2, t, kernels.packing, (if t == BlockType::F16 { 9 } else { 70 }, 64, 12)));
        let weight = normal(&mut rng(4), 64);
        let x = &cases[0].x;
        let mut results = vec![vec![]; 5];
        for rows in x.chunks(chunk * 64) {
            let tokens = rows.len() / 64;
            let input = Input { rows, dim: 64, norm: Some(Norm::Rms { weight: &weight, eps: 1e-5 }) };
            let mut out = cases.each_ref().map(|case| vec![0.25; tokens * case.shape.rows]);
            let bias = normal(&mut rng(8), 70);
            let [a, b, c] = &mut out;
            let output = |i: usize, out| Output {
                weights: cases[i].matrix(),
                bias: (i == 1).then_some(&bias[..]),
                out,
                accumulate: i == 0,
            };
            executor.linear(&input, &mut [output(0, a), output(1, b), output(2, c)]);
            let (mut hidden, mut up_out) = (vec![0.0; tokens * 70], vec![0.0; tokens * 70]);
            let (weights, out_up) = (cases[1].matrix(), &mut up_out[..]);
            let factor = Output { weights, bias: Some(&bias), out: out_up, accumulate: false };
            let weights = cases[0].matrix();
            executor.feed_forward(
                &input,
                &mut FeedForward {
                    wide: Output { weights, bias: None, out: &mut hidden, accumulate: false },
                    factor: Some(factor),
                    activation: Activation::Silu,
                },
            );
            let mut plain = vec![0.0; tokens * 70];
            let layer = Norm::Layer { weight: Some(&weight), bias: None, eps: 1e-5 };
            let wide = Output { weights, bias: Some(&bias), out: &mut plain, accumulate: false };
            executor.feed_forward(
                &Input { norm: Some(layer), ..input },
                &mut FeedForward { wide, factor: None, activation: Activation::Gelu },
            );
            let mut branch = plain.clone();
            executor.norm_rows(&Norm::Layer { weight: Some(&bias), bias: None, eps: 1e-5 }, 35, &mut branch);
            executor.add_rows(&mut plain, &branch, 70, Some(&Norm::Rms { weight: &bias, eps: 1e-5 }), 0.5);
            for (result, part) in results.iter_mut().zip(out.into_iter().chain([hidden, plain])) {
                result.extend(bits(&part));
            }
        }
        results
    };
    let reference = run(&scalar::KERNELS, 1, 12);
    for kernels in sets() {
        for threads in 1..=4 {
            for chunk in [12, 1, 5] {
                assert!(run(kernels, threads, chunk) == reference, "{} {threads} {chunk}", kernels.name);
            }
        }
    }
}

#[test]
fn forcing_a_set_by_name() {
    assert_eq!(Kernels::named("scalar").unwrap().name, "scalar");
    let error = Kernels::named("altivec").unwrap_err().to_string();
    assert!(error.contains("altivec") && error.contains("scalar"), "{error}");
}

#[test]
fn what_is_not_finite_stays_visible() {
    for kernels in sets() {
        for (value, at) in [(f32::NAN, 0), (f32::INFINITY, 17), (f32::NEG_INFINITY, 63), (-f32::NAN, 200)] {
            for block_type in [BlockType::Q4_0, BlockType::Q8_0, BlockType::Q5K, BlockType::Q6K] {
                let mut case = Case::new(8, block_type, kernels.packing, (20, 256, 3));
                case.x[256 + at] = value;
                let out = case.run(kernels, false);
                let is_poisoned = |token: usize| out[20 * token..][..20].iter().map(|v| v.is_nan());
                assert!(is_poisoned(1).all(|p| p), "{} {block_type:?} {value} at {at}", kernels.name);
                assert!(![0, 2].into_iter().flat_map(is_poisoned).any(|p| p), "{}", kernels.name);
            }
        }
    }
}
