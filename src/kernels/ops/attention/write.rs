//! Writing new keys and values to the cache.

use super::{Past, Stage, Unit, Working};
use crate::kernels::acts::ActScale;
use crate::kernels::kv::{CHUNK, KvShape, KvType};
use crate::kernels::ops::Shared;
use crate::kernels::scalar::VIRTUAL;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::ops::Range;

/// Where a key and a value go: cache, KV head and position.
type Place<'a> = (&'a Past<'a>, usize, usize);

impl Stage<'_> {
    /// Writes the new keys and values of a KV head at some tokens.
    ///
    /// # Safety
    /// No other thread uses these blocks of 16 positions.
    pub(super) unsafe fn write(&self, unit: &Unit<'_>, working: &mut Working) {
        let KvShape { heads, dim, .. } = self.kv;
        let past = unit.past;
        for (token, at) in unit.rows().zip(past.position + unit.tokens.start..) {
            let from = (token * heads + unit.head) * dim;
            let to = (past, unit.head, at);
            let row = &mut working.queries[..dim];
            row.copy_from_slice(&self.new_keys[from..from + dim]);
            self.rotation.apply(token, row);
            let value = &self.new_values[from..from + dim];
            // SAFETY: the block is ours by contract.
            unsafe {
                match self.kv.kind {
                    KvType::F16 => self.write_halves(to, row, value),
                    KvType::F32 => self.write_singles(to, row, value),
                    KvType::Q8_0 => self.write_bytes(to, value, working),
                }
            }
        }
    }

    pub(super) fn of_head(&self, head: usize, range: Range<usize>) -> Range<usize> {
        let start = head * self.kv.head_len();
        start + range.start..start + range.end
    }

    /// The codes of the block of 16 positions in which a position lies.
    fn block(&self, (_, head, position): Place<'_>) -> Range<usize> {
        let first = position / VIRTUAL * VIRTUAL;
        self.of_head(head, self.kv.codes_at(&(first..first + VIRTUAL)))
    }

    /// # Safety
    /// As for [`Self::write`].
    unsafe fn write_halves(&self, at: Place<'_>, key: &[f32], value: &[f32]) {
        let lane = at.2 % VIRTUAL;
        // SAFETY: the block is ours by contract.
        let (keys, values) = unsafe { (at.0.keys.part(self.block(at)), at.0.values.part(self.block(at))) };
        for (columns, key) in keys.chunks_exact_mut(VIRTUAL * VIRTUAL).zip(key.chunks(VIRTUAL)) {
            let mut halves = [half::f16::ZERO; VIRTUAL];
            halves[..key.len()].convert_from_f32_slice(key);
            for (column, half) in columns.chunks_exact_mut(VIRTUAL).zip(halves) {
                column[lane] = half.to_bits();
            }
        }
        let row = &mut values[lane * self.kv.row()..][..value.len()];
        row.reinterpret_cast_mut::<half::f16>().convert_from_f32_slice(value);
    }

    /// # Safety
    /// As for [`Self::write`].
    unsafe fn write_singles(&self, at: Place<'_>, key: &[f32], value: &[f32]) {
        let lane = at.2 % VIRTUAL;
        // SAFETY: the block is ours by contract.
        let (keys, values) = unsafe { (at.0.keys.part(self.block(at)), at.0.values.part(self.block(at))) };
        let columns = bytemuck::cast_slice_mut::<u16, f32>(keys).chunks_exact_mut(VIRTUAL);
        columns.zip(key).for_each(|(column, key)| column[lane] = *key);
        let rows = bytemuck::cast_slice_mut::<u16, f32>(values);
        rows[lane * self.kv.row()..][..value.len()].copy_from_slice(value);
    }

    /// # Safety
    /// As for [`Self::write`].
    unsafe fn write_bytes(&self, at: Place<'_>, value: &[f32], working: &mut Working) {
        let (kv, lane) = (&self.kv, at.2 % VIRTUAL);
        // SAFETY: the block is ours by contract.
        let (keys, values) = unsafe { (at.0.keys.part(self.block(at)), at.0.values.part(self.block(at))) };
        let put = |cache: &Shared<'_, u16>, scales: &[ActScale]| {
            let start = self.of_head(at.1, kv.scales_at(at.2 / CHUNK)).start + at.2 % CHUNK;
            for (b, scale) in scales.iter().enumerate() {
                // SAFETY: as above.
                let to = unsafe { cache.part(start + b * CHUNK..start + b * CHUNK + 1) };
                to[0] = half::f16::from_f32(scale.d).to_bits();
            }
        };
        working.round(self.kernels, kv, 1);
        let offset = if self.kernels.packing.offset_bytes { i8::MIN } else { 0 };
        let dwords = bytemuck::cast_slice_mut::<u16, i8>(keys).chunks_exact_mut(4 * VIRTUAL);
        for (dwords, codes) in dwords.zip(working.codes.chunks_exact(4)) {
            let to = &mut dwords[4 * lane..][..4];
            to.iter_mut().zip(codes).for_each(|(to, code)| *to = code.wrapping_add(offset));
        }
        put(&at.0.keys, &working.scales[..kv.scales()]);
        working.queries[..value.len()].copy_from_slice(value);
        working.round(self.kernels, kv, 1);
        let row = &mut bytemuck::cast_slice_mut::<u16, i8>(values)[lane * kv.row()..][..kv.row()];
        row.copy_from_slice(&working.codes[..kv.row()]);
        put(&at.0.values, &working.scales[..kv.scales()]);
    }
}
