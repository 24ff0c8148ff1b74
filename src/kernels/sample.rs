//! Blocks of any type for tests and timings: random bytes whose scales are those of a model.

use super::layout::{PackedShape, Packing};
use crate::blocks::BlockType;

/// What the largest magnitude of a block lies between, so that sums keep their digits.
const SIZES: std::ops::Range<f32> = 1e-4..1e4;
const MOST_TRIES: usize = 1 << 14;

/// Fills `block`, one block, with bytes of `next` until all it decodes to are numbers of usual size.
///
/// # Panics
/// If `next` gives no such bytes in many tries.
pub(super) fn fill_block(block_type: BlockType, block: &mut [u8], next: &mut dyn FnMut(&mut [u8])) {
    let cols = block_type.block_len();
    let shape = PackedShape { block_type, rows: 1, cols, packing: Packing { lanes: 4, offset_bytes: false } };
    let (mut values, mut packed) = (vec![0.0f32; cols], vec![0; shape.bytes()]);
    for _ in 0..MOST_TRIES {
        next(block);
        block_type.decode(block, &mut values);
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if SIZES.contains(&largest) && shape.pack_rows(block, 0, &mut packed).is_ok() {
            return;
        }
    }
    panic!("no block of {block_type} in {MOST_TRIES} tries");
}
