//! Bit layouts shared by the formats: little-endian f16, nibbles, fifth bits.

use half::f16;

/// Reads a little-endian f16. Exact.
pub(super) fn read_f16(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Rounds to the nearest f16, ties to even; magnitudes of 65520 and above become infinite.
pub(super) fn write_f16(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

/// Packs `2 * out.len()` codes below 16: byte `j` holds code `j` in its low and code `j + out.len()` in
/// its high nibble. Higher bits of the codes are dropped.
pub(super) fn pack_nibbles(codes: &[u8], out: &mut [u8]) {
    let (low, high) = codes.split_at(out.len());
    for ((byte, low), high) in out.iter_mut().zip(low).zip(high) {
        *byte = (low & 0x0F) | (high << 4);
    }
}

/// Inverse of [`pack_nibbles`]: fills `2 * bytes.len()` codes.
pub(super) fn unpack_nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = byte & 0x0F;
        *high = byte >> 4;
    }
}

/// Packs 32 codes below 16 as the 16 bytes of Q4_0, Q4_1 and IQ4_NL.
pub(super) fn pack_4bit(codes: &[u8; 32]) -> [u8; 16] {
    let mut qs = [0; 16];
    pack_nibbles(codes, &mut qs);
    qs
}

/// Inverse of [`pack_4bit`].
pub(super) fn unpack_4bit(qs: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    unpack_nibbles(qs, &mut codes);
    codes
}

/// Splits 32 codes below 32 into the fifth bits (bit `k` of the little-endian word is code `k`) and the
/// nibbles of Q5_0 and Q5_1.
pub(super) fn pack_5bit(codes: &[u8; 32]) -> ([u8; 4], [u8; 16]) {
    let fifth = codes.iter().enumerate().fold(0u32, |word, (k, code)| word | (u32::from(code >> 4) & 1) << k);
    (fifth.to_le_bytes(), pack_4bit(codes))
}

/// Inverse of [`pack_5bit`].
pub(super) fn unpack_5bit(qh: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let fifth = u32::from_le_bytes(qh);
    let mut codes = unpack_4bit(qs);
    for (k, code) in codes.iter_mut().enumerate() {
        *code |= ((fifth >> k & 1) as u8) << 4;
    }
    codes
}
