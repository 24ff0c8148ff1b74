//! The code books of the IQ formats: numbers that their owner chose, written by `scripts/codebooks.py`.
//!
//! An entry is a word of 16 bits that holds the places of 8 (two bits each) or 4 elements (four bits each) among the
//! magnitudes of the format.

pub(super) static IQ1: &[u8; 4096] = include_bytes!("codebooks/iq1.bin");
pub(super) static IQ2_XXS: &[u8; 512] = include_bytes!("codebooks/iq2_xxs.bin");
pub(super) static IQ2_XS: &[u8; 1024] = include_bytes!("codebooks/iq2_xs.bin");
pub(super) static IQ2_S: &[u8; 2048] = include_bytes!("codebooks/iq2_s.bin");
pub(super) static IQ3_XXS: &[u8; 512] = include_bytes!("codebooks/iq3_xxs.bin");
pub(super) static IQ3_S: &[u8; 1024] = include_bytes!("codebooks/iq3_s.bin");

fn word(book: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([book[2 * index], book[2 * index + 1]])
}

/// The eight elements of an entry.
///
/// # Panics
/// If the book has no such entry; the formats' indices have as many bits as it has entries.
pub(super) fn eight(book: &[u8], index: usize) -> [u8; 8] {
    let word = word(book, index);
    std::array::from_fn(|i| (word >> (2 * i) & 3) as u8)
}

/// The four elements of an entry, likewise.
pub(super) fn four(book: &[u8], index: usize) -> [u8; 4] {
    let word = word(book, index);
    std::array::from_fn(|i| (word >> (4 * i) & 15) as u8)
}

/// Eight signs that are stored as seven: their number is even.
pub(super) fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 0x7F) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// Adds `bit` to the codes whose signs are set.
pub(super) fn with_signs(codes: &mut [u8], signs: u8, bit: u8) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= (signs >> i & 1) * bit;
    }
}
