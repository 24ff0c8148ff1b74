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
use super::packer::{RowSink, TOGETHER};
use crate::blocks::{self, BlockType, Codes, Form, Minima, Scales};

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
        let lanes = self.packing.lanes;
        let (mut index, mut native) = (first_row, native);
        while !native.is_empty() {
            let has_room = index % lanes + TOGETHER <= lanes;
            let count = if has_room && native.len() >= TOGETHER * row_bytes { TOGETHER } else { 1 };
            let (rows, rest) = native.split_at(count * row_bytes);
            let group = &mut packed[index / lanes * self.group_bytes()..][..self.group_bytes()];
            match count {
                1 => self.pack_together(index, [rows], group)?,
                _ => {
                    let row = |i: usize| &rows[i * row_bytes..(i + 1) * row_bytes];
                    self.pack_together::<TOGETHER>(index, std::array::from_fn(row), group)?;
                }
            }
            (index, native) = (index + count, rest);
        }
        Ok(())
    }

    /// Packs rows `index ..` into the bytes of their group.
    fn pack_together<const N: usize>(
        &self,
        index: usize,
        rows: [&[u8]; N],
        group: &mut [u8],
    ) -> Result<(), KernelError> {
        let (packing, row) = (self.packing, index % self.packing.lanes);
        let mut sink = RowSink { bytes: group, offsets: self.offsets(), packing, row, finite: [true; N] };
        sink.pack(self.block_type, rows);
        match sink.finite.iter().position(|finite| !finite) {
            Some(row) => Err(KernelError::NotFinite { row: index + row }),
            None => Ok(()),
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
