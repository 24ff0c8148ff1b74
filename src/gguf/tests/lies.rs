//! One test per way a file can lie: the error names what is wrong and where.

use super::super::GgufError::*;
use super::super::{MAX_ARRAY_LEN, MAX_KEY_BYTES, MAX_KEYS, MAX_STRING_BYTES, MAX_TENSORS, Place};
use super::raw::{Raw, sample};
use crate::files::Kind;

/// `name: file => pattern, "part of the message";` for each lie.
macro_rules! lies {
    ($($name:ident: $raw:expr => $pattern:pat $(if $guard:expr)?, $message:literal;)*) => {
        $(#[test]
        fn $name() {
            let error = $raw.open().unwrap_err();
            assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("raw.gguf: ") && text.contains($message), "{text}");
        })*
    };
}

/// A file of one tensor with these fields and `data` bytes of data.
fn one_tensor(shape: &[u64], block_type: u32, offset: u64, data: usize) -> Raw {
    Raw::v3(1, 0).tensor("w", shape, block_type, offset).data(data)
}

/// A file of one key, up to its value.
fn one_key(kind: u32) -> Raw {
    Raw::v3(0, 1).key("k", kind)
}

fn key(place: &Place) -> bool {
    *place == Place::Key("k".to_owned())
}

lies! {
    empty: Raw::default() => Empty { .. }, "empty";
    magic: Raw::default().bytes(b"GGML\x01 and more") => BadMagic { found: [b'G', b'G', b'M', b'L'], .. }, "starts with \"GGML\"";
    text: Raw::default().bytes("GGML and more than four bytes") => OtherKind { found: Kind::Text, .. }, "a text file, not a GGUF file";
    swapped_magic: Raw::default().bytes("FUGG").bytes(3u32.to_be_bytes()).bytes([0; 16]) => BigEndian { version: 3, .. }, "big-endian";
    git_lfs_pointer: Raw::default().bytes("version https://git-lfs") => OtherKind { found: Kind::LfsPointer, .. }, "git lfs pull";
    shorter_than_magic: Raw::default().bytes("GGU") => Truncated { place: Place::Header, needed: 4, left: 3, .. }, "cut short";
    shorter_than_counts: Raw::default().bytes("GGUF").u32(3).u64(0).u32(0) => Truncated { place: Place::Header, offset: 16, needed: 8, left: 4, .. }, "offset 16";
    version_0: Raw::start(0, 0, 0) => Version { found: 0, .. }, "expected 2 or 3";
    version_1: Raw::start(1, 0, 0) => Version { found: 1, .. }, "convert the model again";
    version_4: Raw::start(4, 0, 0) => Version { found: 4, .. }, "too old";
    big_endian: Raw::start(3u32.swap_bytes(), 0, 0) => BigEndian { version: 3, .. }, "little endian";

    tensor_count_absurd: Raw::v3(1 << 62, 0) => LimitExceeded { limit: MAX_TENSORS, what: "number of tensors", .. }, "4611686018427387904";
    key_count_absurd: Raw::v3(0, u64::MAX) => LimitExceeded { limit: MAX_KEYS, what: "number of keys", .. }, "number of keys";
    tensor_count_beyond_file: Raw::v3(60_000, 0).bytes([0; 64]) => Truncated { place: Place::Header, left: 64, .. }, "the header";
    key_count_beyond_file: Raw::v3(0, 4000).bytes([0; 64]) => Truncated { place: Place::Header, left: 64, .. }, "the header";
    tensor_count_one_more: Raw::v3(2, 0).tensor("w", &[8, 1, 1, 1], 0, 0).bytes([0; 16]) => BadName { place: Place::TensorNumber(1), .. }, "tensor number 1";

    key_length_absurd: Raw::v3(0, 1).u64(1 << 63).bytes([0; 32]) => LimitExceeded { limit: MAX_KEY_BYTES, place: Place::KeyNumber(0), .. }, "key length";
    key_length_one_too_many: Raw::v3(0, 1).u64(33).bytes([b'k'; 32]) => Truncated { needed: 33, left: 32, .. }, "key number 0";
    key_empty: Raw::v3(0, 1).key("", 4).bytes([0; 8]) => BadName { place: Place::KeyNumber(0), .. }, "empty";
    key_with_nul: Raw::v3(0, 1).key("a\0b", 4).u32(1) => BadName { offset: 32, .. }, "\"a\\0b\"";
    key_not_utf8: Raw::v3(0, 1).text(b"ab\xff").u32(4).u32(1) => NotUtf8 { offset: 34, .. }, "not UTF-8";
    key_twice: Raw::v3(0, 3).key_u32("k", 1).key_u32("j", 1).key_u32("k", 1) => DuplicateKey { key, offset: 66, .. } if key == "k", "\"k\" appears twice";

    value_type_13: one_key(13).bytes([0; 16]) => UnknownValueType { found: 13, offset: 33, place, .. } if key(place), "key \"k\"";
    value_type_huge: one_key(u32::MAX).bytes([0; 16]) => UnknownValueType { found: u32::MAX, .. }, "4294967295";
    value_cut: one_key(10).u32(0) => Truncated { needed: 8, left: 4, offset: 37, place, .. } if key(place), "key \"k\"";
    bool_7: one_key(7).bytes([7]) => BadBool { found: 7, offset: 37, .. }, "boolean is 7";
    bool_7_in_array: one_key(9).array(7, 3).bytes([0, 1, 7]) => BadBool { found: 7, offset: 51, .. }, "boolean is 7";
    string_length_wraps: one_key(8).u64(u64::MAX).bytes([0; 16]) => LimitExceeded { limit: MAX_STRING_BYTES, what: "string length", .. }, "string length";
    string_longer_than_file: one_key(8).u64(1000).bytes([b' '; 100]) => Truncated { needed: 1000, left: 100, .. }, "1000 bytes";
    string_not_utf8: one_key(8).text(b"abc\xc3") => NotUtf8 { offset: 48, .. }, "offset 48";
    string_in_array_not_utf8: one_key(9).array(8, 2).text("a").text(b"\x80") => NotUtf8 { offset: 66, .. }, "not UTF-8";
    string_in_array_longer_than_file: one_key(9).array(8, 2).text("a").u64(5).bytes("abcd") => Truncated { needed: 5, left: 4, .. }, "key \"k\"";
    array_length_wraps: one_key(9).array(10, 1 << 61).bytes([0; 32]) => LimitExceeded { limit: MAX_ARRAY_LEN, .. }, "array length";
    array_longer_than_file: one_key(9).array(4, 9).bytes([0; 32]) => Truncated { needed: 36, left: 32, .. }, "key \"k\"";
    string_array_longer_than_file: one_key(9).array(8, 1 << 24).bytes([0; 32]) => Truncated { left: 32, .. }, "key \"k\"";
    array_of_arrays: one_key(9).array(9, 1).array(4, 1).u32(1) => NestedArray { offset: 37, .. }, "array of arrays";
    array_type_13_without_elements: one_key(9).array(13, 0) => UnknownValueType { found: 13, .. }, "value type 13";

    alignment_0: Raw::v3(0, 1).key_u32("general.alignment", 0) => BadAlignment { found: 0, .. }, "power of two";
    alignment_3: Raw::v3(0, 1).key_u32("general.alignment", 3) => BadAlignment { found: 3, .. }, "power of two";
    alignment_2_31: Raw::v3(0, 1).key_u32("general.alignment", 1 << 31) => BadAlignment { found: 0x8000_0000, .. }, "65536";
    alignment_text: Raw::v3(0, 1).key("general.alignment", 8).text("32") => WrongType { expected: "u32", .. }, "string \"32\"";
    alignment_negative: Raw::v3(0, 1).key("general.alignment", 5).u32(u32::MAX) => WrongType { .. }, "i32 -1";
    split_part: Raw::v3(0, 1).key("split.count", 2).bytes(3u16.to_le_bytes()) => MissingKey { .. }, "split.no";

    tensor_name_empty: Raw::v3(1, 0).tensor("", &[8, 1], 0, 0).data(32) => BadName { place: Place::TensorNumber(0), .. }, "empty";
    tensor_name_too_long: Raw::v3(1, 0).tensor(&"w".repeat(65), &[8], 0, 0).data(32) => LimitExceeded { found: 65, limit: 64, what: "name length", .. }, "tensor number 0";
    tensor_name_with_nul: Raw::v3(1, 0).tensor("a\0b", &[8], 0, 0).data(32) => BadName { place: Place::TensorNumber(0), .. }, "\"a\\0b\"";
    tensor_twice: Raw::v3(2, 0).tensor("w", &[8], 0, 0).tensor("w", &[8], 0, 32).data(64) => DuplicateTensor { offset: 65, .. }, "\"w\" appears twice";
    dimensions_0: Raw::v3(1, 0).tensor("w", &[], 0, 0).data(32) => DimensionCount { found: 0, .. }, "0 dimensions";
    dimensions_5: one_tensor(&[1; 5], 0, 0, 32) => DimensionCount { found: 5, .. }, "1 to 4";
    dimensions_huge: Raw::v3(1, 0).text("w").u32(u32::MAX).bytes([0; 64]) => DimensionCount { found: 0xffff_ffff, .. }, "4294967295";
    dimension_zero: one_tensor(&[8, 0], 0, 0, 32) => ZeroDimension { shape, .. } if shape[..] == [8, 0], "[8, 0]";
    dimension_negative: one_tensor(&[u64::MAX], 0, 0, 32) => TooManyElements { .. }, "tensor \"w\"";
    elements_wrap: one_tensor(&[1 << 32, 1 << 32], 0, 0, 32) => TooManyElements { .. }, "[4294967296, 4294967296]";
    elements_wrap_to_small: one_tensor(&[1 << 33, 1 << 31, 2, 1], 0, 0, 32) => TooManyElements { .. }, "tensor \"w\"";
    elements_beyond_cap: one_tensor(&[1 << 21, 1 << 20], 8, 0, 32) => TooManyElements { .. }, "1099511627776";
    row_not_whole_blocks: one_tensor(&[33, 32], 2, 0, 4096) => RowLength { cols: 33, .. }, "multiple of 32 for Q4_0";
    row_not_whole_superblocks: one_tensor(&[128, 2], 12, 0, 4096) => RowLength { cols: 128, .. }, "multiple of 256 for Q4_K";
    row_not_whole_small_superblocks: one_tensor(&[96, 2], 40, 0, 4096) => RowLength { cols: 96, .. }, "multiple of 64 for NVFP4";
    row_not_whole_codebook_blocks: one_tensor(&[288, 2], 16, 0, 4096) => RowLength { cols: 288, .. }, "multiple of 256 for IQ2_XXS";
    codes_cut_short: one_tensor(&[256], 11, 0, 109) => OutsideFile { bytes: 110, available: 109, .. }, "cut short";
    type_known_elsewhere: one_tensor(&[256], 31, 0, 4096) => UnsupportedType { id: 31, .. }, "31 (Q4_0_4_4), which is not supported; supported types are F32, F16,";
    type_removed: one_tensor(&[256], 4, 0, 4096) => UnsupportedType { id: 4, .. }, "4 (Q4_2)";
    type_unknown: one_tensor(&[256], u32::MAX, 0, 4096) => UnsupportedType { id: u32::MAX, .. }, "4294967295 (unknown)";
    offset_misaligned: one_tensor(&[8], 0, 16, 64) => MisalignedTensor { offset: 16, alignment: 32, .. }, "multiple of 32";
    offset_wraps: one_tensor(&[16], 0, u64::MAX - 31, 64) => OutsideFile { available: 64, .. }, "tensor \"w\"";
    one_byte_short: one_tensor(&[8], 0, 32, 63) => OutsideFile { offset: 32, bytes: 32, available: 63, .. }, "cut short";
    data_beyond_file: one_tensor(&[1 << 30], 0, 0, 64) => OutsideFile { bytes: 0x1_0000_0000, .. }, "4294967296 bytes";
    no_data_at_all: Raw::v3(1, 0).tensor("w", &[8], 0, 0) => OutsideFile { available: 0, .. }, "0 bytes of tensor data";
    overlap: Raw::v3(2, 0).tensor("v", &[16], 0, 32).tensor("w", &[16], 0, 0).data(96) => Overlap { tensor, other, offset: 32, end: 64, .. } if tensor == "v" && other == "w", "inside tensor \"w\"";
    same_place: Raw::v3(2, 0).tensor("v", &[8], 0, 0).tensor("w", &[8], 0, 0).data(64) => Overlap { .. }, "inside tensor";
    tensor_cut: Raw::v3(1, 0).text("weights").u32(2).u64(1).u32(7) => Truncated { .. }, "cut short";
}

#[test]
fn true_counterparts_open() {
    for raw in [
        Raw::v3(0, 0),
        Raw::start(2, 0, 0),
        one_tensor(&[8], 0, 32, 64),
        one_tensor(&[256, 2], 12, 0, 288),
        one_tensor(&[1 << 3, 1, 1, 1], 0, 0, 32),
        Raw::v3(1, 0).tensor(&"w".repeat(64), &[8], 0, 0).data(32),
        Raw::v3(2, 0).tensor("v", &[16], 0, 64).tensor("w", &[16], 0, 0).data(128),
        Raw::v3(0, 1).key_u32("general.alignment", 1 << 16),
        Raw::v3(0, 1).key_u32("split.count", 1),
        one_key(9).array(8, 0),
        sample(),
        sample().bytes("bytes after the last tensor are nobody's"),
    ] {
        raw.open().unwrap();
    }
}

#[test]
fn wrong_type_access_names_key_and_value() {
    let file = sample().open().unwrap();
    let errors = [
        (file.u32("single.string").unwrap_err(), "key \"single.string\" is string \"größe\""),
        (file.u32("single.i8").unwrap_err(), "is i8 -7, expected an integer from 0"),
        (file.u32("single.u64").unwrap_err(), "is u64 1099511627776"),
        (file.u32("single.bool").unwrap_err(), "is bool true"),
        (file.f32("single.u8").unwrap_err(), "is u8 7, expected a float"),
        (file.bool("single.u8").unwrap_err(), "expected a bool"),
        (file.str("array.string").unwrap_err(), "is array of 3 string, expected a string"),
        (file.array("single.u8").unwrap_err(), "expected an array"),
        (file.str_array("array.u8").unwrap_err(), "is array of 3 u8, expected an array of strings"),
        (file.f32_array("array.u8").unwrap_err(), "expected an array of floats"),
        (file.integer_array("array.f32").unwrap_err(), "expected an array of integers"),
        (file.require_u32("single.f32").unwrap_err(), "is f32 0.25"),
    ];
    for (error, part) in errors {
        assert!(matches!(error, WrongType { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let missing = file.require_str("general.architecture").unwrap_err();
    assert!(matches!(&missing, MissingKey { key, .. } if key == "general.architecture"), "{missing:?}");
    assert_eq!(file.u32("absent").unwrap(), None);
}

#[test]
fn messages_escape_and_cut_untrusted_names() {
    let long = "é".repeat(10_000);
    let error = Raw::v3(0, 1).key(&long, 13).open().unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
    let error = Raw::v3(0, 1).key("\x1b[2J", 4).u32(0).open().unwrap_err();
    assert!(!error.to_string().contains('\x1b'), "{error}");
}

#[test]
#[should_panic(expected = "is not one of raw.gguf")]
fn a_tensor_of_another_file_is_refused() {
    let large = one_tensor(&[1024], 0, 0, 4096).open().unwrap();
    let small = one_tensor(&[8], 0, 0, 32).open().unwrap();
    small.data(&large.tensors()[0]).unwrap();
}
