//! Weights that were trained on a 4-bit lattice.
//!
//! Training that knows of 4 bits ends with weights `d * q`, `q` from -8 to 7, with one `d` per 32 columns or for more of
//! them, and publishes the products as BF16, F16 or F32. Rounding these anew misses them wherever a block does not hold
//! the level that its format makes the scale from. [`Lattice::of`] finds `d` and `q` again: a value that was rounded to
//! the type it is stored as leaves an interval for `d`, and the intervals of all values of a block have to meet.
//!
//! Few values always fit some lattice. A block is evidence only if at least [`TELLING`] of its weights are not zero, and
//! not all the same; a tensor is taken to be on the lattice if more of its blocks speak for it than against. Then its
//! other blocks that fit count as well.

use half::{bf16, f16};
use serde::Serialize;
use smolt::blocks::BlockType;
use smolt::gguf::{GgufFile, Recipe, TensorInfo};
use smolt::runtime::Pool;
use std::collections::HashMap;

use crate::QuantizeError;
use crate::gptq::{Format, Scale};

/// Columns with a scale.
pub(crate) const COLS: usize = 32;
/// The largest level, with one sign only.
const LARGEST: u8 = 8;
/// Weights of a block that have to differ from zero for it to be evidence.
const TELLING: usize = 8;
/// Weights that a thread looks at before it takes the next share.
const CHUNK: usize = 1 << 16;

/// How many blocks of 32 weights are on a 4-bit lattice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatticeBlocks {
    /// Blocks of which every weight is reproduced as it is stored.
    pub exact: u64,
    /// Blocks on a lattice whose scale is no half: levels are kept, the scale is rounded.
    pub scale_rounded: u64,
    /// All others.
    pub other: u64,
}

impl LatticeBlocks {
    /// All blocks.
    pub fn total(&self) -> u64 {
        self.exact + self.scale_rounded + self.other
    }

    /// The blocks of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            exact: self.exact + other.exact,
            scale_rounded: self.scale_rounded + other.scale_rounded,
            other: self.other + other.other,
        }
    }

    fn count(&mut self, lattice: Option<&Lattice>) {
        match lattice {
            Some(lattice) if lattice.is_exact => self.exact += 1,
            Some(_) => self.scale_rounded += 1,
            None => self.other += 1,
        }
    }
}

/// What the blocks of a tensor are.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    /// Blocks that are evidence.
    telling: LatticeBlocks,
    /// Blocks that would fit some lattice whatever they were.
    silent: LatticeBlocks,
}

impl Evidence {
    fn plus(self, other: Self) -> Self {
        Self { telling: self.telling.plus(other.telling), silent: self.silent.plus(other.silent) }
    }

    fn add(&mut self, block: &[f32], source: BlockType) {
        let lattice = Lattice::of(block, source);
        let part = if is_telling(block) { &mut self.telling } else { &mut self.silent };
        part.count(lattice.as_ref());
    }

    /// The blocks that count, if the tensor is on a lattice.
    fn verdict(self) -> Option<LatticeBlocks> {
        let Self { telling, silent } = self;
        (telling.exact + telling.scale_rounded > telling.other).then(|| telling.plus(silent))
    }
}

fn is_telling(block: &[f32]) -> bool {
    let mut others = block.iter().filter(|weight| **weight != 0.0);
    let Some(first) = others.next() else { return false };
    let (count, differ) = others.fold((1, false), |(n, differ), other| (n + 1, differ || other != first));
    count >= TELLING && differ
}

/// What was found of the tensors of a file.
#[derive(Clone, Debug, Default)]
pub struct Lattices {
    /// By name, tensors on a lattice.
    found: HashMap<String, LatticeBlocks>,
    /// Blocks of all tensors that were looked at.
    blocks: u64,
}

impl Lattices {
    /// Looks at every matrix of `input` that is to be quantized.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of(input: &GgufFile, threads: usize) -> Result<Self, QuantizeError> {
        let mut pool = Pool::new(threads);
        let mut lattices = Self::default();
        let fits = |tensor: &&TensorInfo| {
            Recipe::decides(tensor)
                && precision(tensor.block_type).is_some()
                && tensor.cols().is_multiple_of(COLS)
        };
        for tensor in input.tensors().iter().filter(fits) {
            let data = input.data(tensor).map_err(QuantizeError::Input)?;
            let found = evidence(&mut pool, tensor.block_type, data);
            input.release(tensor, 0..data.len());
            lattices.blocks += (tensor.elements() / COLS) as u64;
            if let Some(blocks) = found.verdict() {
                lattices.found.insert(tensor.name.clone(), blocks);
            }
        }
        Ok(lattices)
    }

    /// The blocks of a tensor that is on a lattice.
    pub fn tensor(&self, name: &str) -> Option<LatticeBlocks> {
        self.found.get(name).copied()
    }

    /// Blocks of 32 weights that were looked at.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }
}

fn evidence(pool: &mut Pool, source: BlockType, data: &[u8]) -> Evidence {
    let mut parts = vec![Evidence::default(); pool.threads()];
    let bytes = CHUNK / source.block_len() * source.block_bytes();
    pool.run_with(&mut parts, &|part, evidence| {
        let mut values = Vec::new();
        let share = part.share(data.len().div_ceil(bytes));
        for chunk in data.chunks(bytes).take(share.end).skip(share.start) {
            values.resize(chunk.len() / source.block_bytes() * source.block_len(), 0.0);
            source.decode(chunk, &mut values);
            values.chunks_exact(COLS).for_each(|block| evidence.add(block, source));
        }
    });
    parts.into_iter().fold(Evidence::default(), Evidence::plus)
}

/// Rounds a value to a float type that weights are published in; `None` for other types.
fn precision(source: BlockType) -> Option<fn(f32) -> f32> {
    Some(match source {
        BlockType::F32 => |x| x,
        BlockType::F16 => |x| f16::from_f32(x).to_f32(),
        BlockType::BF16 => |x| bf16::from_f32(x).to_f32(),
        _ => return None,
    })
}

/// The numbers that round to `size`, positive and finite, in the type of the source: from the first to the second.
fn bounds(size: f32, source: BlockType) -> (f64, f64) {
    let (below, above) = match source {
        BlockType::F16 => {
            let bits = f16::from_f32(size).to_bits();
            (f16::from_bits(bits - 1).to_f32(), f16::from_bits(bits + 1).to_f32())
        }
        BlockType::BF16 => {
            let bits = bf16::from_f32(size).to_bits();
            (bf16::from_bits(bits - 1).to_f32(), bf16::from_bits(bits + 1).to_f32())
        }
        _ => (size.next_down(), size.next_up()),
    };
    let half_way = |other: f32| f64::midpoint(f64::from(size), f64::from(other));
    (half_way(below), half_way(above))
}

/// A block of 32 weights on a 4-bit lattice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lattice {
    d: f16,
    /// From -8 to 7.
    levels: [i8; COLS],
    /// Whether `d * level`, rounded to the type that the weights are stored as, is what is stored.
    is_exact: bool,
}

impl Lattice {
    /// The lattice of 32 weights that are stored in a file as `source`, if they are on one.
    pub(crate) fn of(block: &[f32], source: BlockType) -> Option<Self> {
        let precision = precision(source)?;
        let largest = block.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
        if block.len() != COLS || !block.iter().all(|weight| weight.is_finite()) {
            return None;
        }
        if largest == 0.0 {
            return Some(Self { d: f16::ZERO, levels: [0; COLS], is_exact: true });
        }
        let mut rounded = None;
        for most in (1..=LARGEST).rev() {
            let Some((sizes, scales)) = meet(block, bounds(largest, source), most, source) else { continue };
            let Some(sign) = orientation(block, &sizes) else { continue };
            let levels: [i8; COLS] = std::array::from_fn(|i| {
                let level = if (block[i] < 0.0) == (sign < 0.0) { sizes[i] as i8 } else { -(sizes[i] as i8) };
                if block[i] == 0.0 { 0 } else { level }
            });
            let reproduces = |d: &f16| {
                let product = |level: i8| precision(sign * d.to_f32() * f32::from(level));
                block.iter().zip(levels).all(|(weight, level)| product(level) == *weight)
            };
            let signed = |d: f16| f16::from_f32(sign * d.to_f32());
            // Scales are often rounded to fewer bits than a half has: of those that do, the one of fewest bits.
            if let Some(d) = halves(scales).filter(reproduces).max_by_key(|d| d.to_bits().trailing_zeros()) {
                return Some(Self { d: signed(d), levels, is_exact: true });
            }
            let nearest = f16::from_f64(f64::midpoint(scales.0, scales.1));
            if nearest.is_normal() && rounded.is_none() {
                rounded = Some(Self { d: signed(nearest), levels, is_exact: false });
            }
        }
        rounded
    }

    /// Whether a type holds lattices exactly.
    pub(crate) fn is_held_by(to: BlockType) -> bool {
        use BlockType::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
        matches!(to, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0)
    }

    /// Appends the block in a format that holds lattices; `false` if its minimum cannot be a half.
    pub(crate) fn encode(&self, format: &Format, out: &mut Vec<u8>) -> bool {
        let d = self.d.to_f32();
        let (least, m) = if format.has_min { (LARGEST as i8, f32::from(LARGEST) * -d) } else { (0, 0.0) };
        if !f16::from_f32(m).is_finite() {
            return false;
        }
        let codes = self.levels.map(|level| format.code(f32::from(level + least)));
        format.encode(&[Scale { d, m }], &[], &codes, out);
        true
    }
}

/// The levels' magnitudes and the scales with which they reproduce all of `block`, if the largest weight, which numbers
/// within `outer` round to, has the level `most`.
fn meet(block: &[f32], outer: (f64, f64), most: u8, source: BlockType) -> Option<([u8; COLS], (f64, f64))> {
    let (mut low, mut high) = (outer.0 / f64::from(most), outer.1 / f64::from(most));
    let mut sizes = [0; COLS];
    for (size, weight) in sizes.iter_mut().zip(block).filter(|(_, weight)| **weight != 0.0) {
        // The cast saturates.
        *size = (f64::from(weight.abs()) / f64::midpoint(low, high)).round() as u8;
        if !(1..=LARGEST).contains(size) {
            return None;
        }
        let (lower, upper) = bounds(weight.abs(), source);
        (low, high) = (low.max(lower / f64::from(*size)), high.min(upper / f64::from(*size)));
        if low > high {
            return None;
        }
    }
    Some((sizes, (low, high)))
}

/// The sign of the scale: the largest level occurs with the other sign alone.
fn orientation(block: &[f32], sizes: &[u8; COLS]) -> Option<f32> {
    let largest = || block.iter().zip(sizes).filter(|(_, size)| **size == LARGEST).map(|(weight, _)| *weight);
    match (largest().any(|weight| weight > 0.0), largest().any(|weight| weight < 0.0)) {
        (true, true) => None,
        (true, false) => Some(-1.0),
        _ => Some(1.0),
    }
}

/// The positive halves from the first to the second number.
fn halves((low, high): (f64, f64)) -> impl Iterator<Item = f16> {
    let nearest = f16::from_f64(low);
    let first = nearest.to_bits() + u16::from(nearest.to_f64() < low);
    (first..f16::INFINITY.to_bits()).map(f16::from_bits).take_while(move |d| d.to_f64() <= high)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [BlockType; 3] = [BlockType::F32, BlockType::F16, BlockType::BF16];

    /// Numbers that look random, within -1 and 1.
    fn noise(seed: u32) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        }
    }

    fn on_lattice(d: f32, levels: &[i8; COLS], source: BlockType) -> Vec<f32> {
        let precision = precision(source).unwrap();
        levels.iter().map(|level| precision(d * f32::from(*level))).collect()
    }

    fn decoded(lattice: &Lattice, to: BlockType) -> Vec<f32> {
        let mut bytes = Vec::new();
        assert!(lattice.encode(&Format::of(to).unwrap(), &mut bytes));
        let mut values = vec![0.0; COLS];
        to.decode(&bytes, &mut values);
        values
    }

    #[test]
    fn every_level_is_found_again_in_every_type() {
        let mut next = noise(1);
        for round in 0..400 {
            let most = 1 + round % 8;
            let levels: [i8; COLS] =
                std::array::from_fn(|_| (next() * (most as f32 + 0.49)).round().clamp(-8.0, 7.0) as i8);
            let sign = if round % 3 == 0 { -1.0 } else { 1.0 };
            for (d, kept) in
                [(0.0123, f16::from_f32(0.0123).to_f32()), (3.0, 3.0), (2e-5, f16::from_f32(2e-5).to_f32())]
            {
                for source in SOURCES {
                    let d = sign * if source == BlockType::BF16 { bf16::from_f32(d).to_f32() } else { kept };
                    let d = f16::from_f32(d).to_f32();
                    let block = on_lattice(d, &levels, source);
                    let lattice = Lattice::of(&block, source).unwrap();
                    assert!(lattice.is_exact, "{source} {d} {levels:?}");
                    let precision = precision(source).unwrap();
                    for to in
                        [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q5_1, BlockType::Q8_0]
                    {
                        let found: Vec<f32> = decoded(&lattice, to).into_iter().map(precision).collect();
                        assert_eq!(found, block, "{source} as {to}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_scale_that_is_no_half_keeps_the_levels() {
        let levels: [i8; COLS] = std::array::from_fn(|i| (i % 16) as i8 - 8);
        let d = 0.012_345_678;
        let lattice = Lattice::of(&on_lattice(d, &levels, BlockType::F32), BlockType::F32).unwrap();
        assert_eq!((lattice.levels, lattice.is_exact), (levels, false));
        assert_eq!(lattice.d, f16::from_f32(d));
    }

    #[test]
    fn both_largest_levels_are_beyond_four_bits() {
        let levels: [i8; COLS] = std::array::from_fn(|i| [-8, 8, 3, 1, -5, 7, 2, -1][i % 8]);
        assert_eq!(Lattice::of(&on_lattice(0.5, &levels, BlockType::BF16), BlockType::BF16), None);
        let even = levels.map(|level| level / 2 * 2);
        let found = Lattice::of(&on_lattice(0.5, &even, BlockType::BF16), BlockType::BF16).unwrap();
        assert_eq!((found.d.to_f32(), found.is_exact), (1.0, true), "a coarser lattice is one, too");
    }

    #[test]
    fn plain_weights_are_on_no_lattice() {
        let mut next = noise(2);
        for source in SOURCES {
            let precision = precision(source).unwrap();
            for _ in 0..2000 {
                let block: Vec<f32> =
                    (0..COLS).map(|_| precision(0.1 * (next() + next() + next()))).collect();
                assert_eq!(Lattice::of(&block, source), None, "{source} {block:?}");
            }
            for bad in [f32::NAN, f32::INFINITY] {
                assert_eq!(Lattice::of(&[bad; COLS], source), None);
            }
        }
    }

    #[test]
    fn what_tells_nothing_is_no_evidence() {
        let (zero, one) = ([0.0; COLS], [0.25; COLS]);
        let few: [f32; COLS] = std::array::from_fn(|i| if i < 7 { [0.5, -0.25][i % 2] } else { 0.0 });
        let ternary: [f32; COLS] = std::array::from_fn(|i| [0.5, -0.5, 0.0][i % 3]);
        for (block, tells) in [(zero, false), (one, false), (few, false), (ternary, true)] {
            assert!(Lattice::of(&block, BlockType::BF16).unwrap().is_exact);
            assert_eq!(is_telling(&block), tells, "{block:?}");
        }
        let verdict = |blocks: &[[f32; COLS]]| {
            let mut evidence = Evidence::default();
            blocks.iter().for_each(|block| evidence.add(block, BlockType::BF16));
            evidence.verdict()
        };
        assert_eq!(verdict(&[zero, one, few]), None);
        let kept = LatticeBlocks { exact: 4, ..LatticeBlocks::default() };
        assert_eq!(verdict(&[zero, one, few, ternary]), Some(kept), "beside evidence they count");
        let mut next = noise(3);
        let plain: [f32; COLS] = std::array::from_fn(|_| bf16::from_f32(next()).to_f32());
        assert_eq!(verdict(&[zero, plain, ternary]), None, "as much against as for");
    }
}
