//! Damaged files: opening and walking them never panics, and accepted ones are consistent.

use std::hint::black_box;

use super::super::{GgufError, GgufFile};
use super::raw::{open_both, sample};

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Accepted and refused files.
#[derive(Default)]
struct Counts {
    accepted: usize,
    refused: usize,
}

impl Counts {
    fn try_open(&mut self, bytes: Vec<u8>) {
        match open_both("damaged", bytes) {
            Ok(file) => {
                walk(&file);
                self.accepted += 1;
            }
            Err(error) => {
                assert!(error.to_string().starts_with("damaged: "), "{error:?}");
                self.refused += 1;
            }
        }
    }
}

/// Reads everything there is.
fn walk(file: &GgufFile) {
    for (key, value) in file.metadata() {
        assert_eq!(file.get(key).map(|v| v.kind()), Some(value.kind()));
        black_box((value.to_string(), file.u32(key).is_ok(), file.f32(key).is_ok()));
        black_box((file.bool(key).is_ok(), file.str(key).is_ok(), file.str_array(key).is_ok()));
        if let Some(array) = value.as_array() {
            assert_eq!(array.iter().count(), array.len());
            assert!(array.iter_str().all(|text| text != "\u{fffd}"));
            black_box((array.iter_f32().sum::<f32>(), array.iter_i64().fold(0, i64::wrapping_add)));
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.tensor(&tensor.name), Some(tensor));
        let data = file.data(tensor).unwrap();
        assert_eq!(data.len() as u64, tensor.bytes);
        assert_eq!(tensor.rows() * tensor.block_type.row_bytes(tensor.cols()).unwrap(), data.len());
        black_box(data.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        file.release(tensor, 0..data.len());
    }
}

#[test]
fn truncation_at_every_length_is_refused() {
    let bytes = sample().0;
    for len in 0..bytes.len() {
        let error = open_both("damaged", bytes[..len].to_vec()).unwrap_err();
        let expected = match len {
            0 => matches!(error, GgufError::Empty { .. }),
            _ => matches!(error, GgufError::Truncated { .. } | GgufError::OutsideFile { .. }),
        };
        assert!(expected, "{len}: {error:?}");
    }
    walk(&sample().open().unwrap());
}

#[test]
fn every_bit_flip_is_survived() {
    let bytes = sample().0;
    let mut counts = Counts::default();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        counts.try_open(damaged);
    }
    assert!(counts.accepted > 1000 && counts.refused > 1000, "{} {}", counts.accepted, counts.refused);
}

#[test]
fn extreme_numbers_anywhere_are_survived() {
    let bytes = sample().0;
    let mut counts = Counts::default();
    for at in 0..bytes.len() - 8 {
        for value in [0, 1, u64::MAX, 1 << 63, 1 << 61, (1 << 32) - 1, 1 << 24, 65_535] {
            let mut damaged = bytes.clone();
            damaged[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
            counts.try_open(damaged);
        }
    }
    assert!(counts.accepted > 100 && counts.refused > 1000, "{} {}", counts.accepted, counts.refused);
}

#[test]
fn seeded_damage_is_survived() {
    let bytes = sample().0;
    let mut random = Random(20_250_101);
    let mut counts = Counts::default();
    for _ in 0..10_000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random.below(8) {
            let at = random.below(damaged.len());
            match random.below(4) {
                0 => damaged[at] ^= 1 << random.below(8),
                1 => damaged[at] = random.next() as u8,
                2 => drop(damaged.remove(at)),
                _ => damaged.insert(at, random.next() as u8),
            }
        }
        counts.try_open(damaged);
    }
    assert!(counts.accepted > 100 && counts.refused > 1000, "{} {}", counts.accepted, counts.refused);
}
