//! Packing rows: from the blocks of a file to the planes of [`layout`](super::layout).
//!
//! Neighbours of a group lie side by side in every plane, so [`TOGETHER`] rows are packed at once and written in wider
//! pieces than one row has.

use super::layout::{BLOCK, Offsets, Packing};
use crate::blocks::{self, Block, BlockType, Codes, ColumnVisitor, Columnar, Columns, Scales};

/// Rows packed at once, a divisor of every number of lanes.
pub(super) const TOGETHER: usize = 4;

fn is_finite_half(bits: [u8; 2]) -> bool {
    half::f16::from_le_bytes(bits).is_finite()
}

/// Writes `N` rows of a group that are neighbours.
pub(super) struct RowSink<'a, const N: usize> {
    /// The group.
    pub(super) bytes: &'a mut [u8],
    pub(super) offsets: Offsets,
    pub(super) packing: Packing,
    /// The first of the rows.
    pub(super) row: usize,
    /// Of each row: no scale or float written so far is infinite or not a number.
    pub(super) finite: [bool; N],
}

impl<const N: usize> RowSink<'_, N> {
    /// Packs the rows; what was packed is of use only if all are finite.
    pub(super) fn pack(&mut self, block_type: BlockType, native: [&[u8]; N]) {
        match block_type {
            BlockType::F32 => self.floats(native, |bits| f32::from_le_bytes(bits).is_finite()),
            BlockType::F16 => self.floats(native, is_finite_half),
            BlockType::BF16 => self.floats(native, |bits| half::bf16::from_le_bytes(bits).is_finite()),
            BlockType::Q8_0 => self.each(native, |sink, b, rows: [&blocks::BlockQ8_0; N]| {
                sink.bytes8(b, rows.map(|row| bytemuck::cast_ref(&row.qs)));
                sink.scale(b, rows.map(|row| row.d));
            }),
            BlockType::Q4_0 => self.each(native, |sink, b, rows: [&blocks::BlockQ4_0; N]| {
                sink.nibbles(b, rows.map(|row| &row.qs));
                sink.scale(b, rows.map(|row| row.d));
            }),
            BlockType::IQ4NL => self.each(native, |sink, b, rows: [&blocks::BlockIQ4NL; N]| {
                sink.nibbles(b, rows.map(|row| &row.qs));
                sink.scale(b, rows.map(|row| row.d));
            }),
            BlockType::Q4_1 => self.each(native, |sink, b, rows: [&blocks::BlockQ4_1; N]| {
                sink.nibbles(b, rows.map(|row| &row.qs));
                sink.scale(b, rows.map(|row| row.d));
                sink.min(b, rows.map(|row| row.m));
            }),
            BlockType::Q5_0 => self.each(native, |sink, b, rows: [&blocks::BlockQ5_0; N]| {
                sink.nibbles(b, rows.map(|row| &row.qs));
                sink.fifth_bits(b, rows.map(|row| u32::from_le_bytes(row.qh)));
                sink.scale(b, rows.map(|row| row.d));
            }),
            BlockType::Q5_1 => self.each(native, |sink, b, rows: [&blocks::BlockQ5_1; N]| {
                sink.nibbles(b, rows.map(|row| &row.qs));
                sink.fifth_bits(b, rows.map(|row| u32::from_le_bytes(row.qh)));
                sink.scale(b, rows.map(|row| row.d));
                sink.min(b, rows.map(|row| row.m));
            }),
            BlockType::Q4K => self.each(native, |sink, b, rows: [&blocks::BlockQ4K; N]| {
                sink.supers(b, rows.map(|row| row.d), rows.map(|row| row.dmin));
                sink.k_blocks(b, rows.map(|row| &row.qs), rows.map(|row| &row.scales));
            }),
            BlockType::Q5K => self.each(native, |sink, b, rows: [&blocks::BlockQ5K; N]| {
                sink.supers(b, rows.map(|row| row.d), rows.map(|row| row.dmin));
                sink.k_blocks(b, rows.map(|row| &row.qs), rows.map(|row| &row.scales));
                for s in 0..8 {
                    let bits = |row: &blocks::BlockQ5K| {
                        (0..8).fold(0, |all, step| all | (word(&row.qh, step) >> s & 0x0101_0101) << step)
                    };
                    let block = sink.block(8 * b + s);
                    sink.put(block + sink.offsets.high, 0, rows.map(|row| bits(row).to_le_bytes()));
                }
            }),
            BlockType::Q6K => {
                self.each(native, |sink, b, rows: [&blocks::BlockQ6K; N]| sink.q6_k(b, rows));
            }
            read => {
                for (i, native) in native.into_iter().enumerate() {
                    let Self { offsets, packing, row, .. } = *self;
                    let finite = [true];
                    let mut sink =
                        RowSink { bytes: &mut *self.bytes, offsets, packing, row: row + i, finite };
                    _ = read.visit(native, &mut sink);
                    self.finite[i] &= sink.finite[0];
                }
            }
        }
    }

    fn each<B: Block>(&mut self, native: [&[u8]; N], put: impl Fn(&mut Self, usize, [&B; N])) {
        let rows = native.map(bytemuck::cast_slice::<u8, B>);
        for b in 0..rows[0].len() {
            put(self, b, rows.map(|row| &row[b]));
        }
    }

    /// Writes element `index` of these rows' columns of a plane that starts at `plane`.
    fn put<const M: usize>(&mut self, plane: usize, index: usize, values: [[u8; M]; N]) {
        let at = plane + (index * self.packing.lanes + self.row) * M;
        self.bytes[at..at + N * M].copy_from_slice(values.as_flattened());
    }

    fn block(&self, b: usize) -> usize {
        self.offsets.block_start(b)
    }

    /// Notes which values are finite.
    fn check<T: Copy>(&mut self, values: [T; N], is_finite: impl Fn(T) -> bool) {
        for (finite, value) in self.finite.iter_mut().zip(values) {
            *finite &= is_finite(value);
        }
    }

    fn floats<const M: usize>(&mut self, native: [&[u8]; N], is_finite: fn([u8; M]) -> bool) {
        let rows = native.map(|row| row.as_chunks::<M>().0);
        for column in 0..rows[0].len() {
            let values = rows.map(|row| row[column]);
            self.check(values, is_finite);
            self.put(0, column, values);
        }
    }

    /// Writes a half, the only element of each row in its plane.
    fn half(&mut self, plane: usize, values: [[u8; 2]; N]) {
        self.check(values, is_finite_half);
        self.put(plane, 0, values);
    }

    /// Writes these rows' codes of a block: a word for each row and step.
    fn words<const STEPS: usize>(&mut self, b: usize, word: impl Fn(usize, usize) -> u32) {
        let stride = 4 * self.packing.lanes;
        let start = self.block(b) + 4 * self.row;
        let columns = &mut self.bytes[start..start + stride * (STEPS - 1) + 4 * N];
        for step in 0..STEPS {
            let words: [[u8; 4]; N] = std::array::from_fn(|row| word(row, step).to_le_bytes());
            columns[step * stride..][..4 * N].copy_from_slice(words.as_flattened());
        }
    }

    fn nibbles(&mut self, b: usize, rows: [&[u8; 16]; N]) {
        self.words::<4>(b, |row, step| word(rows[row], step));
    }

    fn bytes8(&mut self, b: usize, rows: [&[u8; 32]; N]) {
        let offset = if self.packing.offset_bytes { 0x8080_8080 } else { 0 };
        self.words::<8>(b, |row, step| word(rows[row], step) ^ offset);
    }

    /// Bit `k` of `bits` is the fifth bit of column `k`.
    fn fifth_bits(&mut self, b: usize, rows: [u32; N]) {
        let every_fourth = |bits: u32, j: u32| {
            let bits = bits >> j & 0x1111_1111;
            let bits = (bits | bits >> 3) & 0x0303_0303;
            let bits = (bits | bits >> 6) & 0x000F_000F;
            (bits | bits >> 12) as u8
        };
        let fields = rows.map(|bits| [0, 1, 2, 3].map(|j| every_fourth(bits, j)));
        self.put(self.block(b) + self.offsets.high, 0, fields);
    }

    fn scale(&mut self, b: usize, d: [[u8; 2]; N]) {
        self.half(self.block(b) + self.offsets.scales, d);
    }

    fn min(&mut self, b: usize, m: [[u8; 2]; N]) {
        self.half(self.block(b) + self.offsets.mins, m);
    }

    /// Writes what eight blocks share; `index` counts blocks of 256 columns.
    fn supers(&mut self, index: usize, d: [[u8; 2]; N], dmin: [[u8; 2]; N]) {
        let start = self.offsets.super_start(8 * index);
        self.half(start, d);
        self.half(start + self.offsets.dmin, dmin);
    }

    /// Codes, scales and minima of a Q4_K or Q5_K block: 64 columns per 32 bytes.
    fn k_blocks(&mut self, b: usize, qs: [&[u8; 128]; N], scales: [&[u8; 12]; N]) {
        for s in 0..8 {
            let shift = 4 * (s % 2);
            self.words::<4>(8 * b + s, |row, step| pairs(&qs[row][s / 2 * 32..], shift, step));
            let pairs = scales.map(|scales| blocks::scale_min_k4(s, scales));
            let block = self.block(8 * b + s);
            self.put(block + self.offsets.scales, 0, pairs.map(|(scale, _)| [scale]));
            self.put(block + self.offsets.mins, 0, pairs.map(|(_, min)| [min]));
        }
    }

    fn q6_k(&mut self, b: usize, rows: [&blocks::BlockQ6K; N]) {
        self.half(self.offsets.super_start(8 * b), rows.map(|row| row.d));
        for s in 0..8 {
            // 128 columns share 64 bytes of `ql` and 32 of `qh`; `s % 4` picks the quarter.
            let (half, quarter) = (s / 4, s % 4);
            let low = half * 64 + quarter % 2 * 32;
            let target = 8 * b + s;
            self.words::<4>(target, |row, step| pairs(&rows[row].ql[low..], quarter / 2 * 4, step));
            let start = self.block(target);
            for h in 0..2 {
                let fields = |row: &blocks::BlockQ6K| {
                    let high = &row.qh[half * 32 + 16 * h..];
                    (0..4).fold(0, |all, f| all | (word(high, f) >> (2 * quarter) & 0x0303_0303) << (2 * f))
                };
                self.put(start + self.offsets.high, h, rows.map(|row| fields(row).to_le_bytes()));
                let scales = rows.map(|row| [row.scales[2 * s + h] as u8]);
                self.put(start + self.offsets.scales, h, scales);
            }
        }
    }
}

/// Word `index` of `bytes`; its bytes stay in order.
fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[index])
}

/// Of the nibbles that begin at bit `shift` of each byte, those of word `step` in the lower half of each byte, and those
/// of the word 16 bytes later in the upper half.
fn pairs(bytes: &[u8], shift: usize, step: usize) -> u32 {
    let nibbles = |index| word(bytes, index) >> shift & 0x0F0F_0F0F;
    nibbles(step) | nibbles(step + 4) << 4
}

impl RowSink<'_, 1> {
    /// Codes of two or three bits: a plane of two bits, and one of the third.
    fn few_bits(&mut self, b: usize, codes: &[u8; BLOCK], has_third: bool) {
        let words: [[u8; 4]; 8] = bytemuck::cast(*codes);
        let words = words.map(u32::from_le_bytes);
        let fields =
            |half: usize| (0..4).fold(0, |all, f| all | (words[4 * half + f] & 0x0303_0303) << (2 * f));
        self.words::<2>(b, |_, half| fields(half));
        if has_third {
            let third = (0..8).fold(0, |all, s| all | (words[s] >> 2 & 0x0101_0101) << s);
            self.put(self.block(b) + self.offsets.high, 0, [third.to_le_bytes()]);
        }
    }
}

impl ColumnVisitor for RowSink<'_, 1> {
    fn take<B: Columnar>(&mut self, index: usize, block: &B) {
        const { assert!(matches!(B::FORM.codes, Codes::Two | Codes::Three | Codes::Four)) };
        let (supers, first) = (block.supers(), index * (B::LEN / BLOCK));
        for (i, half) in supers[..B::FORM.supers()].iter().enumerate() {
            self.put(self.offsets.super_start(first) + i * self.offsets.dmin, 0, [*half]);
        }
        for i in 0..B::LEN / BLOCK {
            let Columns { codes, scales } = block.columns(i);
            let b = first + i;
            match B::FORM.codes {
                Codes::Four => self.words::<4>(b, |_, step| pairs(&codes, 0, step)),
                bits => self.few_bits(b, &codes, bits == Codes::Three),
            }
            let plane = self.block(b) + self.offsets.scales;
            match B::FORM.scales {
                Scales::Half => self.put(plane, 0, [scales]),
                _ => {
                    let count = if B::FORM.has_halves() { 2 } else { 1 };
                    (0..count).for_each(|half| self.put(plane, half, [[scales[half]]]));
                }
            }
            self.finite[0] &= B::FORM.is_sound(supers, scales);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::PackedShape;
    use super::super::sample::fill_block;
    use super::*;

    #[test]
    fn rows_are_packed_together_as_each_alone() {
        let mut state = 7u64;
        let mut next = |bytes: &mut [u8]| {
            for byte in bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
        };
        for (lanes, offset_bytes) in [(4, false), (8, true), (16, true)] {
            for block_type in BlockType::ALL.iter().copied() {
                let packing = Packing { lanes, offset_bytes };
                let shape = PackedShape { block_type, rows: 23, cols: 512, packing };
                let row_bytes = block_type.row_bytes(shape.cols).unwrap();
                let mut native = vec![0; shape.rows * row_bytes];
                for block in native.chunks_exact_mut(block_type.block_bytes()) {
                    fill_block(block_type, block, &mut next);
                }
                let (mut together, mut alone) = (vec![0; shape.bytes()], vec![0; shape.bytes()]);
                shape.pack_rows(&native, 0, &mut together).unwrap();
                for (index, row) in native.chunks_exact(row_bytes).enumerate() {
                    shape.pack_rows(row, index, &mut alone).unwrap();
                }
                assert!(together == alone, "{block_type}, {lanes} lanes");
            }
        }
    }
}
