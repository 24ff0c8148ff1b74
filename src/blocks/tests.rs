use super::*;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Types whose encoder is a search of our own and not defined to the bit by the formats' owner.
const SEARCHED: [BlockType; 4] = [BlockType::Q4K, BlockType::Q5K, BlockType::Q6K, BlockType::IQ4NL];

fn encode(block_type: BlockType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; block_type.row_bytes(values.len()).unwrap()];
    block_type.encode(values, &mut bytes);
    bytes
}

fn decode(block_type: BlockType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / block_type.block_bytes() * block_type.block_len()];
    block_type.decode(bytes, &mut values);
    values
}

fn round_trip(block_type: BlockType, values: &[f32]) -> Vec<f32> {
    decode(block_type, &encode(block_type, values))
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

fn gaussian(count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut one = || {
        let (radius, angle): (f64, f64) = (rng.random(), rng.random());
        ((-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
    };
    (0..count).map(|_| one()).collect()
}

fn laplace(count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut one = || {
        let (magnitude, negative): (f64, bool) = (rng.random(), rng.random());
        let magnitude = -(1.0 - magnitude).ln() as f32;
        if negative { -magnitude } else { magnitude }
    };
    (0..count).map(|_| one()).collect()
}

#[test]
fn ids_names_and_sizes_are_those_of_the_container() {
    let expected = [
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, 18),
        (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34),
        (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176),
        (14, "Q6_K", 256, 210),
        (20, "IQ4_NL", 32, 18),
        (30, "BF16", 1, 2),
        (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110),
        (16, "IQ2_XXS", 256, 66),
        (17, "IQ2_XS", 256, 74),
        (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50),
        (21, "IQ3_S", 256, 110),
        (22, "IQ2_S", 256, 82),
        (23, "IQ4_XS", 256, 136),
        (29, "IQ1_M", 256, 56),
        (34, "TQ1_0", 256, 54),
        (35, "TQ2_0", 256, 66),
        (39, "MXFP4", 32, 17),
        (40, "NVFP4", 64, 36),
        (41, "Q1_0", 128, 18),
        (42, "Q2_0", 64, 18),
    ];
    let actual: Vec<_> =
        BlockType::ALL.iter().map(|t| (t.id(), t.name(), t.block_len(), t.block_bytes())).collect();
    assert_eq!(actual, expected);
    for &block_type in BlockType::ALL {
        assert_eq!(BlockType::from_id(block_type.id()), Some(block_type));
        assert_eq!(block_type.to_string().to_lowercase().parse(), Ok(block_type));
    }
    assert_eq!(BlockType::from_id(4), None);
    assert_eq!(BlockType::from_id(u32::MAX), None);
    let error = "q9_9".parse::<BlockType>().unwrap_err();
    assert!(error.contains("q9_9") && error.contains("iq4_nl"), "{error}");
}

#[test]
fn types_that_are_only_read_are_none_to_write() {
    for &block_type in BlockType::ALL {
        let name = block_type.name().to_lowercase();
        match BlockType::to_write(&name) {
            Ok(found) => assert!(found == block_type && block_type.is_written()),
            Err(error) => {
                assert!(!block_type.is_written() && error.contains(block_type.name()), "{error}");
                assert!(error.contains("q4_k") && !error.contains("q3_k"), "{error}");
            }
        }
    }
    let error = BlockType::to_write("q9_9").unwrap_err();
    assert!(error.contains("q9_9") && error.contains("iq4_nl") && !error.contains("iq4_xs"), "{error}");
}

#[test]
fn row_bytes_rejects_partial_blocks_and_overflow() {
    assert_eq!(BlockType::Q4_0.row_bytes(0), Some(0));
    assert_eq!(BlockType::Q4_0.row_bytes(96), Some(54));
    assert_eq!(BlockType::Q4_0.row_bytes(95), None);
    assert_eq!(BlockType::Q6K.row_bytes(512), Some(420));
    assert_eq!(BlockType::Q6K.row_bytes(288), None);
    assert_eq!(BlockType::F32.row_bytes(usize::MAX), None);
    assert_eq!(BlockType::Q8_0.row_bytes(usize::MAX / 32 * 32), None);
}

/// Files of `scripts/golden_blocks.py`, made by an independent implementation.
mod golden {
    use super::*;
    use std::path::{Path, PathBuf};

    fn path(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocks").join(name)
    }

    fn bytes(name: &str) -> Vec<u8> {
        let path = path(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn floats(name: &str) -> Vec<f32> {
        bytes(name).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    #[test]
    fn every_type_decodes_to_the_same_bits() {
        for &block_type in BlockType::ALL {
            let expected = floats(&format!("{block_type}.decoded"));
            let actual = decode(block_type, &bytes(&format!("{block_type}.blocks")));
            assert!(expected.len() >= 256, "{block_type}: {} values", expected.len());
            assert_eq!(actual.len(), expected.len(), "{block_type}");
            for (i, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                // Payloads of NaN depend on the processor.
                let same = actual.to_bits() == expected.to_bits() || actual.is_nan() && expected.is_nan();
                assert!(same, "{block_type}: value {i} is {actual:e}, expected {expected:e}");
            }
        }
    }

    #[test]
    fn every_defined_encoding_gives_the_same_bytes() {
        let values = floats("values.f32");
        assert!(values.len() >= 2048);
        for &block_type in BlockType::WRITTEN {
            let name = format!("{block_type}.encoded");
            assert_eq!(SEARCHED.contains(&block_type), !path(&name).exists(), "{name}");
            if SEARCHED.contains(&block_type) {
                continue;
            }
            let (actual, expected) = (encode(block_type, &values), bytes(&name));
            assert_eq!(actual.len(), expected.len(), "{block_type}");
            let size = block_type.block_bytes();
            for (i, (a, e)) in actual.chunks_exact(size).zip(expected.chunks_exact(size)).enumerate() {
                let x = &values[i * block_type.block_len()..][..block_type.block_len()];
                assert_eq!(a, e, "{block_type}: block {i} of {x:?}");
            }
        }
    }
}

/// Bound of a round trip where scales are normal f16 numbers: the largest error of an element as a share of the block's largest magnitude,
/// and the root mean square error on Gaussian values as a share of theirs.
struct Bound {
    block_type: BlockType,
    max: f64,
    rms: f64,
}

/// Rounding of a scale to f16.
const F16_ROUNDING: f64 = 1.0 / 2048.0;

/// Half of the smallest positive f16.
const F16_SUBNORMAL: f64 = 1.0 / (1 << 25) as f64;

/// Half a step of the grid that spans -1..1, or a whole one where the positive end is not on the grid, plus
/// the rounding of the scales. Searched encodings trade the largest error for a smaller mean.
const BOUNDS: [Bound; 12] = [
    Bound { block_type: BlockType::F32, max: 0.0, rms: 0.0 },
    Bound { block_type: BlockType::F16, max: F16_ROUNDING, rms: 0.0003 },
    Bound { block_type: BlockType::BF16, max: 8.0 * F16_ROUNDING, rms: 0.002 },
    Bound { block_type: BlockType::Q8_0, max: 0.5 / 127.0 + F16_ROUNDING, rms: 0.006 },
    Bound { block_type: BlockType::Q4_0, max: 1.0 / 8.0 + F16_ROUNDING, rms: 0.09 },
    Bound { block_type: BlockType::Q5_0, max: 1.0 / 16.0 + F16_ROUNDING, rms: 0.045 },
    Bound { block_type: BlockType::Q4_1, max: 1.0 / 15.0 + 3.0 * F16_ROUNDING, rms: 0.08 },
    Bound { block_type: BlockType::Q5_1, max: 1.0 / 31.0 + 3.0 * F16_ROUNDING, rms: 0.04 },
    Bound { block_type: BlockType::Q4K, max: 2.0 / 15.0, rms: 0.072 },
    Bound { block_type: BlockType::Q5K, max: 2.0 / 31.0, rms: 0.036 },
    Bound { block_type: BlockType::Q6K, max: 1.0 / 32.0, rms: 0.0175 },
    Bound { block_type: BlockType::IQ4NL, max: 25.0 / 127.0, rms: 0.075 },
];

#[test]
fn round_trips_stay_within_the_bound_of_every_type() {
    let gaussian = gaussian(1 << 15);
    for &block_type in BlockType::WRITTEN {
        let bound = BOUNDS.iter().find(|b| b.block_type == block_type).expect("a bound for every type");
        for scale in [0.05, 1.0, 500.0] {
            for values in [&gaussian, &laplace(1 << 15)] {
                let values: Vec<f32> = values.iter().map(|x| x * scale).collect();
                let decoded = round_trip(block_type, &values);
                let len = block_type.block_len();
                for (values, decoded) in values.chunks_exact(len).zip(decoded.chunks_exact(len)) {
                    let largest = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                    for (x, y) in values.iter().zip(decoded) {
                        let within =
                            f64::from((x - y).abs()) <= bound.max * f64::from(largest) + F16_SUBNORMAL;
                        assert!(within, "{block_type}: {x} became {y} in a block up to {largest}");
                    }
                }
            }
        }
        let square: f64 = gaussian.iter().map(|x| f64::from(x * x)).sum();
        let rms = (squared_error(&gaussian, &round_trip(block_type, &gaussian)) / square).sqrt();
        assert!(rms <= bound.rms, "{block_type}: rms {rms}");
    }
}

/// Plain rounding to the grids of the searched formats, scales from the extremes and kept as f32.
mod plain {
    /// Values on the nearest of `levels`, the one of largest magnitude on `levels[0]`.
    pub(super) fn signed(values: &[f32], levels: &[f32]) -> Vec<f32> {
        let extreme = values.iter().fold(0.0f32, |best, &v| if v.abs() > best.abs() { v } else { best });
        let d = extreme / levels[0];
        let nearest = |x: f32| {
            let distance = |level: &f32| (d * level - x).abs();
            d * levels.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap()
        };
        values.iter().map(|&x| nearest(x)).collect()
    }

    /// Values on the nearest of `steps + 1` points from the smallest to the largest.
    pub(super) fn affine(values: &[f32], steps: f32) -> Vec<f32> {
        let min = values.iter().copied().fold(f32::INFINITY, f32::min);
        let d = (values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - min) / steps;
        values.iter().map(|&x| ((x - min) / d).round() * d + min).collect()
    }
}

/// Squared error of the searched encodings as a share of plain rounding's, on Gaussian and Laplace values.
const SEARCH_GAIN: [(BlockType, f64, f64); 4] = [
    (BlockType::Q4K, 0.80, 0.82),
    (BlockType::Q5K, 0.835, 0.855),
    (BlockType::Q6K, 0.81, 0.86),
    (BlockType::IQ4NL, 0.845, 0.885),
];

#[test]
fn searched_encodings_beat_plain_rounding_with_unrounded_scales() {
    let book: Vec<f32> = IQ4_NL_VALUES.iter().map(|&v| f32::from(v)).collect();
    let six_bit: Vec<f32> = (-32..32).map(|v| v as f32).collect();
    for (block_type, on_gaussian, on_laplace) in SEARCH_GAIN {
        for (values, bound) in [(gaussian(1 << 15), on_gaussian), (laplace(1 << 15), on_laplace)] {
            let plain: Vec<f32> = match block_type {
                BlockType::Q4K => values.chunks_exact(32).flat_map(|x| plain::affine(x, 15.0)).collect(),
                BlockType::Q5K => values.chunks_exact(32).flat_map(|x| plain::affine(x, 31.0)).collect(),
                BlockType::Q6K => values.chunks_exact(16).flat_map(|x| plain::signed(x, &six_bit)).collect(),
                _ => values.chunks_exact(32).flat_map(|x| plain::signed(x, &book)).collect(),
            };
            let searched = squared_error(&values, &round_trip(block_type, &values));
            let ratio = searched / squared_error(&values, &plain);
            assert!(ratio < bound, "{block_type}: {ratio} of the squared error of plain rounding");
        }
    }
}

#[test]
fn searched_encodings_hold_values_far_below_one_f16_step_of_their_codes() {
    // Scales of these values are below the smallest f16, but the K formats multiply it.
    let values: Vec<f32> = gaussian(2048).iter().map(|x| x * 1e-5).collect();
    let square: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
    for block_type in [BlockType::Q4K, BlockType::Q5K, BlockType::Q6K] {
        let share = squared_error(&values, &round_trip(block_type, &values)) / square;
        assert!(share < 0.02, "{block_type}: {share}");
    }
}

#[test]
fn zeros_stay_zeros() {
    for &block_type in BlockType::WRITTEN {
        assert!(round_trip(block_type, &[0.0; 256]).iter().all(|&x| x == 0.0), "{block_type}");
    }
}

/// Blocks that leave the range of f32, of f16, or of the numbers.
fn hostile() -> Vec<[f32; 256]> {
    let ramp: [f32; 256] = std::array::from_fn(|i| i as f32 - 100.0);
    let with = |i: usize, value: f32| {
        let mut block = ramp;
        block[i] = value;
        block
    };
    let mut blocks =
        vec![ramp.map(|x| x * f32::MAX), ramp.map(|x| if x < 0.0 { f32::MIN } else { f32::MAX })];
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, 1e-38, 65536.0, -7e4]
    {
        blocks.extend([[value; 256], [-value; 256], with(0, value), with(40, value), with(255, value)]);
        blocks.push(ramp.map(|x| x * value));
    }
    blocks
}

#[test]
fn hostile_values_do_not_panic_and_searched_encodings_stay_finite() {
    for &block_type in BlockType::WRITTEN {
        for block in hostile() {
            let decoded = round_trip(block_type, &block);
            if SEARCHED.contains(&block_type) {
                assert!(decoded.iter().all(|x| x.is_finite()), "{block_type} of {block:?}");
            }
        }
    }
}

#[test]
fn searched_encodings_take_nan_for_zero_and_infinity_for_the_largest_number() {
    let replaced =
        |block: [f32; 256]| block.map(|x| if x.is_nan() { 0.0 } else { x.clamp(f32::MIN, f32::MAX) });
    for block_type in SEARCHED {
        for block in hostile() {
            assert_eq!(encode(block_type, &block), encode(block_type, &replaced(block)), "{block_type}");
        }
    }
}

#[test]
fn half_formats_keep_nan_quiet_and_infinities() {
    let signalling = f32::from_bits(0x7F80_0001);
    for (block_type, quiet_bit) in [(BlockType::F16, 0x0200), (BlockType::BF16, 0x0040)] {
        for value in [f32::NAN, -f32::NAN, signalling] {
            let bytes = encode(block_type, &[value]);
            assert!(u16::from_le_bytes([bytes[0], bytes[1]]) & quiet_bit != 0, "{block_type}: {bytes:x?}");
            assert!(decode(block_type, &bytes)[0].is_nan());
        }
        assert_eq!(
            round_trip(block_type, &[f32::INFINITY, f32::NEG_INFINITY]),
            [f32::INFINITY, -f32::INFINITY]
        );
    }
}

#[test]
fn packed_scales_and_minima_unpack() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..1000 {
        let pairs: [(u8, u8); 8] =
            std::array::from_fn(|_| (rng.random_range(0..64), rng.random_range(0..64)));
        let packed = k_affine::pack_scale_min_k4(&pairs);
        assert_eq!(std::array::from_fn(|j| scale_min_k4(j, &packed)), pairs);
    }
}

#[test]
fn iq4_nl_finds_the_code_book_of_values_that_lie_on_it() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut block = [0; 18];
    for _ in 0..64 {
        rng.fill(&mut block[2..]);
        block[..2].copy_from_slice(&half::f16::from_f32(rng.random_range(-0.1..0.1)).to_le_bytes());
        let values = decode(BlockType::IQ4NL, &block);
        assert_eq!(round_trip(BlockType::IQ4NL, &values), values);
    }
}
