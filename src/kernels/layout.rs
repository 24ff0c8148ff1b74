//! The packed weight layout.
//!
//! Rows are packed in groups of `R` (the lanes of the instruction set: 16, 8 or 4) so that one vector holds
//! the same columns of `R` rows, and every lane accumulates its own row. Columns are cut into blocks of 32.
//! A group is a sequence of blocks, so that a matrix-vector product reads memory as one stream; in the K
//! formats the halves shared by 256 columns stand before every eighth block:
//!
//! ```text
//! group   [block / 8] of d, dmin [row] f16 (scales in bytes only) and 8 blocks
//! block   codes   [step][row][4]  bytes   4-bit: 4 steps, low nibble = column 4*step + j, high = that + 16
//!                                         8-bit: 8 steps, column 4*step + j
//!                 [half][row][4]          2-bit: field f of byte j belongs to column 16*half + 4*f + j
//!                 [column][row]   floats  F32, F16, BF16
//!         high    [row][4]                1 bit:  bit s of byte j is the upper bit of column 4*s + j
//!                 [half][row][4]          2 bits: as 2-bit codes
//!         scales  [row]           f16, or a byte
//!                 [half][row]     bytes   one per 16 columns
//!         mins    [row]           f16, or a byte
//! ```
//!
//! Codes of 3 and 5 bits are those of 2 and 4 with a plane of 1 bit, codes of 6 bits those of 4 with one of 2 bits. Which
//! planes a storage type has, and what they mean, says its [`Form`]: types that are alike share the kernels. Types with
//! code books of whole groups of columns are packed as the places of single values in a table of up to 16.
//!
//! A native 4-bit block already pairs column `k` with `k + 16` in a byte, so packing is a transpose of
//! 32-bit words. The packed form is as large as the file's (Q4_K and Q5_K: 4 bytes more per 256 weights,
//! because their 6-bit scales are stored as bytes), plus rows of zeros that fill the last group.

use super::error::KernelError;
use super::packed_row::PackedRow;
use crate::blocks::{self, Block, BlockType, Codes, ColumnVisitor, Columnar, Columns, Form, Minima, Scales};

/// Columns per block of the packed layout.
pub(crate) const BLOCK: usize = blocks::COLUMNS;

/// How an instruction set wants its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Rows per group.
    pub(crate) lanes: usize,
    /// 8-bit codes are stored with 128 added, for instructions that multiply unsigned by signed bytes.
    pub(crate) offset_bytes: bool,
}

/// Bytes per row and block of 32 columns in each plane; `supers` counts the halves per 256 columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planes {
    pub(crate) codes: usize,
    pub(crate) high: usize,
    pub(crate) scales: usize,
    pub(crate) mins: usize,
    pub(crate) supers: usize,
}

impl Planes {
    pub(crate) const fn of(form: &Form) -> Self {
        let (codes, high) = match form.codes {
            Codes::Floats(bytes) => (BLOCK * bytes, 0),
            Codes::Two => (8, 0),
            Codes::Three => (8, 4),
            Codes::Four => (16, 0),
            Codes::Five => (16, 4),
            Codes::Six => (16, 8),
            Codes::Bytes => (32, 0),
        };
        let scales = match form.scales {
            Scales::None => 0,
            Scales::Byte | Scales::Signed | Scales::Power => 1,
            Scales::Half | Scales::SignedPair | Scales::NibblePair | Scales::MiniPair => 2,
        };
        let mins = match form.minima {
            Minima::None | Minima::Nibbles => 0,
            Minima::Byte => 1,
            Minima::Half => 2,
        };
        Self { codes, high, scales, mins, supers: form.supers() }
    }
}

/// Byte offsets in a group of `lanes` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// Planes, from the start of a block.
    pub(crate) high: usize,
    pub(crate) scales: usize,
    pub(crate) mins: usize,
    /// Bytes of a block.
    pub(crate) block: usize,
    /// `dmin`, from the start of the values shared by eight blocks.
    pub(crate) dmin: usize,
    /// Bytes of the values shared by eight blocks.
    pub(crate) supers: usize,
}

impl Offsets {
    pub(crate) const fn new(planes: Planes, lanes: usize) -> Self {
        let high = planes.codes * lanes;
        let scales = high + planes.high * lanes;
        let mins = scales + planes.scales * lanes;
        let block = mins + planes.mins * lanes;
        Self { high, scales, mins, block, dmin: 2 * lanes, supers: planes.supers * 2 * lanes }
    }

    /// Start of block `b` in the group.
    pub(crate) const fn block_start(&self, b: usize) -> usize {
        b * self.block + (b / 8 + 1) * self.supers
    }

    /// Start of the values shared by the eight blocks of which `b` is one.
    pub(crate) const fn super_start(&self, b: usize) -> usize {
        b / 8 * (8 * self.block + self.supers)
    }
}

/// The shape of a packed matrix and where its parts lie: computed from the header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedShape {
    /// Storage type of the weights.
    pub(crate) block_type: BlockType,
    /// Output features.
    pub(crate) rows: usize,
    /// Input features.
    pub(crate) cols: usize,
    /// Row grouping.
    pub(crate) packing: Packing,
}

impl PackedShape {
    /// Blocks of 32 columns per row; the last one is filled with zeros.
    pub(crate) fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// Groups of rows.
    pub(crate) fn groups(&self) -> usize {
        self.rows.div_ceil(self.packing.lanes)
    }

    pub(crate) fn offsets(&self) -> Offsets {
        Offsets::new(Planes::of(&self.block_type.form()), self.packing.lanes)
    }

    /// Bytes of one group, a multiple of 64.
    pub(crate) fn group_bytes(&self) -> usize {
        let offsets = self.offsets();
        let supers = if offsets.supers == 0 { 0 } else { self.blocks().div_ceil(8) * offsets.supers };
        (self.blocks() * offsets.block + supers).next_multiple_of(64)
    }

    /// Bytes of the packed matrix, a multiple of 64.
    pub(crate) fn bytes(&self) -> usize {
        self.groups() * self.group_bytes()
    }

    /// Packs rows `first_row ..` from their native bytes into `packed`, the whole matrix's bytes.
    ///
    /// # Errors
    /// If a length does not fit the shape, or a scale or float weight is not finite.
    pub(crate) fn pack_rows(
        &self,
        native: &[u8],
        first_row: usize,
        packed: &mut [u8],
    ) -> Result<(), KernelError> {
        let row_bytes = self.block_type.row_bytes(self.cols).filter(|&bytes| bytes > 0);
        let row_bytes =
            row_bytes.ok_or(KernelError::Columns { block_type: self.block_type, cols: self.cols })?;
        let rows = native.len() / row_bytes;
        if !native.len().is_multiple_of(row_bytes)
            || first_row + rows > self.rows
            || packed.len() != self.bytes()
        {
            return Err(KernelError::Length { expected: row_bytes * self.rows, found: native.len() });
        }
        match self.packing.lanes {
            4 => self.pack_lanes::<4>(native, row_bytes, first_row, packed),
            8 => self.pack_lanes::<8>(native, row_bytes, first_row, packed),
            16 => self.pack_lanes::<16>(native, row_bytes, first_row, packed),
            lanes => unreachable!("groups of {lanes} rows"),
        }
    }

    /// [`Self::pack_rows`] for groups of `LANES` rows: it pays that distances in a group are constants.
    fn pack_lanes<const LANES: usize>(
        &self,
        native: &[u8],
        row_bytes: usize,
        first_row: usize,
        packed: &mut [u8],
    ) -> Result<(), KernelError> {
        let (offsets, offset_bytes, group_bytes) =
            (self.offsets(), self.packing.offset_bytes, self.group_bytes());
        for (i, row) in native.chunks_exact(row_bytes).enumerate() {
            let index = first_row + i;
            let bytes = &mut packed[index / LANES * group_bytes..][..group_bytes];
            let mut sink =
                RowSink::<LANES> { bytes, offsets, offset_bytes, row: index % LANES, finite: true };
            sink.pack(self.block_type, row);
            if !sink.finite {
                return Err(KernelError::NotFinite { row: index });
            }
        }
        Ok(())
    }
}

fn is_finite_half(bits: [u8; 2]) -> bool {
    half::f16::from_le_bytes(bits).is_finite()
}

/// Writes one row of a group.
struct RowSink<'a, const LANES: usize> {
    bytes: &'a mut [u8],
    offsets: Offsets,
    offset_bytes: bool,
    row: usize,
    /// No scale or float written so far is infinite or not a number.
    finite: bool,
}

impl<const LANES: usize> RowSink<'_, LANES> {
    fn pack(&mut self, block_type: BlockType, native: &[u8]) {
        match block_type {
            BlockType::F32 => self.floats(native, |bits| f32::from_le_bytes(bits).is_finite()),
            BlockType::F16 => self.floats(native, is_finite_half),
            BlockType::BF16 => self.floats(native, |bits| half::bf16::from_le_bytes(bits).is_finite()),
            BlockType::Q8_0 => self.each(native, |sink, b, block: &blocks::BlockQ8_0| {
                sink.bytes8(b, &block.qs);
                sink.scale(b, block.d);
            }),
            BlockType::Q4_0 => self.each(native, |sink, b, block: &blocks::BlockQ4_0| {
                sink.nibbles(b, &block.qs);
                sink.scale(b, block.d);
            }),
            BlockType::IQ4NL => self.each(native, |sink, b, block: &blocks::BlockIQ4NL| {
                sink.nibbles(b, &block.qs);
                sink.scale(b, block.d);
            }),
            BlockType::Q4_1 => self.each(native, |sink, b, block: &blocks::BlockQ4_1| {
                sink.nibbles(b, &block.qs);
                sink.scale(b, block.d);
                sink.min(b, block.m);
            }),
            BlockType::Q5_0 => self.each(native, |sink, b, block: &blocks::BlockQ5_0| {
                sink.nibbles(b, &block.qs);
                sink.fifth_bits(b, u32::from_le_bytes(block.qh));
                sink.scale(b, block.d);
            }),
            BlockType::Q5_1 => self.each(native, |sink, b, block: &blocks::BlockQ5_1| {
                sink.nibbles(b, &block.qs);
                sink.fifth_bits(b, u32::from_le_bytes(block.qh));
                sink.scale(b, block.d);
                sink.min(b, block.m);
            }),
            BlockType::Q4K => self.each(native, |sink, b, block: &blocks::BlockQ4K| {
                sink.supers(b, block.d, block.dmin);
                sink.k_blocks(b, &block.qs, &block.scales);
            }),
            BlockType::Q5K => self.each(native, |sink, b, block: &blocks::BlockQ5K| {
                sink.supers(b, block.d, block.dmin);
                sink.k_blocks(b, &block.qs, &block.scales);
                let qh: [u32; 8] = bytemuck::cast(block.qh);
                for s in 0..8 {
                    sink.upper_bits(8 * b + s, qh.map(|word| u32::from_le(word) >> s));
                }
            }),
            BlockType::Q6K => self.each(native, |sink, b, block: &blocks::BlockQ6K| sink.q6_k(b, block)),
            read => _ = read.visit(native, self),
        }
    }

    fn each<B: Block>(&mut self, native: &[u8], put: impl Fn(&mut Self, usize, &B)) {
        for (b, block) in bytemuck::cast_slice::<u8, B>(native).iter().enumerate() {
            put(self, b, block);
        }
    }

    /// Writes element `index` of this row's column of a plane that starts at `plane`.
    fn put<const N: usize>(&mut self, plane: usize, index: usize, value: [u8; N]) {
        let at = plane + (index * LANES + self.row) * N;
        self.bytes[at..at + N].copy_from_slice(&value);
    }

    fn block(&self, b: usize) -> usize {
        self.offsets.block_start(b)
    }

    fn floats<const N: usize>(&mut self, native: &[u8], is_finite: fn([u8; N]) -> bool) {
        for (column, value) in native.as_chunks::<N>().0.iter().enumerate() {
            self.finite &= is_finite(*value);
            self.put(0, column, *value);
        }
    }

    /// Writes a half, the only element of this row in its plane.
    fn half(&mut self, plane: usize, value: [u8; 2]) {
        self.finite &= is_finite_half(value);
        self.put(plane, 0, value);
    }

    /// Writes this row's codes of a block: a word per step.
    fn words<const STEPS: usize>(&mut self, b: usize, words: [[u8; 4]; STEPS]) {
        let stride = 4 * LANES;
        let start = self.block(b) + 4 * self.row;
        let columns = &mut self.bytes[start..start + stride * (STEPS - 1) + 4];
        for (step, word) in words.iter().enumerate() {
            columns[stride * step..][..4].copy_from_slice(word);
        }
    }

    fn nibbles(&mut self, b: usize, qs: &[u8; 16]) {
        self.words::<4>(b, bytemuck::cast(*qs));
    }

    /// Four bits of each of 32 bytes, from bit `shift` on.
    fn half_bytes(&mut self, b: usize, bytes: &[u8], shift: usize) {
        let [low, high] = [0, 16].map(|at| fields(&bytes[at..], shift, 0x0F));
        self.nibbles(b, &(low | high << 4).to_le_bytes());
    }

    fn bytes8(&mut self, b: usize, qs: &[i8; 32]) {
        let offset = if self.offset_bytes { 0x8080_8080 } else { 0 };
        let words: [[u8; 4]; 8] = bytemuck::cast(*qs);
        self.words(b, words.map(|word| (u32::from_ne_bytes(word) ^ offset).to_ne_bytes()));
    }

    /// `bits`: bit `k` is the fifth bit of column `k`.
    fn fifth_bits(&mut self, b: usize, bits: u32) {
        let every_fourth = |j: u32| {
            let bits = bits >> j & 0x1111_1111;
            let bits = (bits | bits >> 3) & 0x0303_0303;
            let bits = (bits | bits >> 6) & 0x000F_000F;
            (bits | bits >> 12) as u8
        };
        self.put(self.block(b) + self.offsets.high, 0, [0, 1, 2, 3].map(every_fourth));
    }

    fn scale(&mut self, b: usize, d: [u8; 2]) {
        self.half(self.block(b) + self.offsets.scales, d);
    }

    fn min(&mut self, b: usize, m: [u8; 2]) {
        self.half(self.block(b) + self.offsets.mins, m);
    }

    /// Writes what eight blocks share; `index` counts blocks of 256 columns.
    fn supers(&mut self, index: usize, d: [u8; 2], dmin: [u8; 2]) {
        let start = self.offsets.super_start(8 * index);
        self.half(start, d);
        self.half(start + self.offsets.dmin, dmin);
    }

    /// Codes of two or three bits: a plane of two bits, and one of the third.
    fn few_bits(&mut self, b: usize, codes: &[u8; BLOCK], has_third: bool) {
        let words: [u32; 8] = bytemuck::cast(*codes);
        let words = words.map(u32::from_le);
        let (halves, _) = words.as_chunks::<4>();
        self.words::<2>(b, [0, 1].map(|half| pairs(&halves[half]).to_le_bytes()));
        if has_third {
            self.upper_bits(b, words.map(|word| word >> 2));
        }
    }

    /// The lowest bits of columns, four in a word.
    fn upper_bits(&mut self, b: usize, words: [u32; 8]) {
        let bits = (0..8).fold(0, |all, s| all | (words[s] & 0x0101_0101) << s);
        self.put(self.block(b) + self.offsets.high, 0, bits.to_le_bytes());
    }

    /// Codes, scales and minima of a Q4_K or Q5_K block: 64 columns per 32 bytes.
    fn k_blocks(&mut self, b: usize, qs: &[u8; 128], scales: &[u8; 12]) {
        for s in 0..8 {
            self.half_bytes(8 * b + s, &qs[s / 2 * 32..], 4 * (s % 2));
            let (scale, min) = blocks::scale_min_k4(s, scales);
            let block = self.block(8 * b + s);
            self.put(block + self.offsets.scales, 0, [scale]);
            self.put(block + self.offsets.mins, 0, [min]);
        }
    }

    fn q6_k(&mut self, b: usize, block: &blocks::BlockQ6K) {
        self.half(self.offsets.super_start(8 * b), block.d);
        for s in 0..8 {
            // 128 columns share 64 bytes of `ql` and 32 of `qh`; `s % 4` picks the quarter.
            let (half, quarter) = (s / 4, s % 4);
            let target = 8 * b + s;
            self.half_bytes(target, &block.ql[half * 64 + quarter % 2 * 32..], quarter / 2 * 4);
            for h in 0..2 {
                let high = fields(&block.qh[half * 32 + 16 * h..], 2 * quarter, 0x03);
                let words: [u32; 4] = bytemuck::cast(high.to_le_bytes());
                let start = self.block(target);
                self.put(start + self.offsets.high, h, pairs(&words.map(u32::from_le)).to_le_bytes());
                self.put(start + self.offsets.scales, h, [block.scales[2 * s + h] as u8]);
            }
        }
    }
}

/// A field of each of the first 16 bytes: what `mask` leaves from bit `shift` on.
fn fields(bytes: &[u8], shift: usize, mask: u8) -> u128 {
    let bytes: [u8; 16] = bytes[..16].try_into().expect("16 bytes");
    u128::from_le_bytes(bytes) >> shift & u128::from_le_bytes([mask; 16])
}

/// The lowest two bits of columns, four in a word, as the fields of one.
fn pairs(words: &[u32; 4]) -> u32 {
    (0..4).fold(0, |all, f| all | (words[f] & 0x0303_0303) << (2 * f))
}

impl<const LANES: usize> ColumnVisitor for RowSink<'_, LANES> {
    fn take<B: Columnar>(&mut self, index: usize, block: &B) {
        const { assert!(matches!(B::FORM.codes, Codes::Two | Codes::Three | Codes::Four)) };
        let (supers, first) = (block.supers(), index * (B::LEN / BLOCK));
        for (i, half) in supers[..B::FORM.supers()].iter().enumerate() {
            self.put(self.offsets.super_start(first) + i * self.offsets.dmin, 0, *half);
        }
        for i in 0..B::LEN / BLOCK {
            let Columns { codes, scales } = block.columns(i);
            let b = first + i;
            match B::FORM.codes {
                Codes::Four => self.nibbles(b, &std::array::from_fn(|j| codes[j] | codes[j + 16] << 4)),
                bits => self.few_bits(b, &codes, bits == Codes::Three),
            }
            let plane = self.block(b) + self.offsets.scales;
            match B::FORM.scales {
                Scales::Half => self.put(plane, 0, scales),
                _ => {
                    let count = if B::FORM.has_halves() { 2 } else { 1 };
                    (0..count).for_each(|half| self.put(plane, half, [scales[half]]));
                }
            }
            self.finite &= B::FORM.is_sound(supers, scales);
        }
    }
}

/// A packed matrix: shape and bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedMatrix<'a> {
    shape: PackedShape,
    bytes: &'a [u8],
}

impl<'a> PackedMatrix<'a> {
    /// Views `bytes` as a matrix of this shape.
    ///
    /// # Panics
    /// If the length is not [`PackedShape::bytes`].
    pub(crate) fn new(shape: PackedShape, bytes: &'a [u8]) -> Self {
        assert_eq!(bytes.len(), shape.bytes(), "packed bytes");
        Self { shape, bytes }
    }

    /// The shape.
    pub(crate) fn shape(&self) -> PackedShape {
        self.shape
    }

    /// The bytes of groups `groups`.
    pub(crate) fn groups(&self, groups: std::ops::Range<usize>) -> &'a [u8] {
        let size = self.shape.group_bytes();
        &self.bytes[groups.start * size..groups.end * size]
    }

    /// One row, for element access.
    pub(crate) fn row(&self, index: usize) -> PackedRow<'a> {
        let lanes = self.shape.packing.lanes;
        PackedRow::new(self.shape, self.groups(index / lanes..index / lanes + 1), index % lanes)
    }

    /// Decodes row `index` into `out` (`cols` values), bit for bit as [`BlockType::decode`] does.
    pub(crate) fn decode_row(&self, index: usize, out: &mut [f32]) {
        let row = self.row(index);
        for (b, values) in out.chunks_mut(BLOCK).enumerate() {
            row.decode_block(b, values);
        }
    }
}
