//! What a file and a writer tell of themselves.

use super::super::{GgufError, GgufFile, GgufWriter, Kind, Place, TensorInfo};
use super::raw::{Raw, sample};
use crate::blocks::BlockType;
use crate::files::Fnv;

fn written(writer: &GgufWriter, byte: u8) -> Vec<u8> {
    let data =
        |tensor: &TensorInfo, out: &mut dyn std::io::Write| out.write_all(&vec![byte; tensor.bytes as usize]);
    writer.to_vec("written", data).unwrap()
}

fn open(bytes: &[u8]) -> GgufFile {
    GgufFile::from_vec("file", bytes.to_vec()).unwrap()
}

#[test]
fn a_writer_knows_its_file_before_it_is_written() {
    let mut writer = GgufWriter::new();
    writer.set("general.name", "a").add_tensor("w", &[40], BlockType::F32);
    let bytes = written(&writer, 1);
    assert_eq!(writer.file_bytes("file").unwrap(), bytes.len() as u64);
    let file = open(&bytes);
    assert_eq!((file.as_bytes().unwrap(), file.file_bytes()), (&bytes[..], bytes.len() as u64));
    assert!(writer.describes(&file).unwrap());
    assert!(writer.describes(&open(&written(&writer, 2))).unwrap(), "with other data");
    let mut longer = writer.clone();
    longer.add_tensor("x", &[1], BlockType::F32);
    assert!(!longer.describes(&file).unwrap() && !writer.describes(&open(&written(&longer, 1))).unwrap());
    let mut other = writer.clone();
    other.set("general.name", "b");
    assert!(!other.describes(&file).unwrap(), "of the same size");
}

#[test]
fn values_that_must_be_there_are_read_or_missed() {
    let file = sample().open().unwrap();
    assert_eq!(file.require_f32("single.f32").unwrap(), 0.25);
    assert!(matches!(file.require_f32("nothing"), Err(GgufError::MissingKey { .. })));
    assert!(matches!(file.require_f32("single.string"), Err(GgufError::WrongType { .. })));
    let mut writer = GgufWriter::new();
    writer.set("none", Vec::<u32>::new()).set("one", vec![1_u32]);
    let file = open(&written(&writer, 0));
    for (key, is_empty) in [("none", true), ("one", false)] {
        let array = file.array(key).unwrap().unwrap();
        assert_eq!((array.is_empty(), array.kind()), (is_empty, Kind::U32), "{key}");
    }
}

/// Saved sessions and packs know their model by this number: it must stay the same.
#[test]
fn the_fingerprint_is_of_what_it_says() {
    let mut writer = GgufWriter::new();
    writer.add_tensor("w", &[40], BlockType::F32);
    let mut bytes = written(&writer, 3);
    let file = open(&bytes);
    let mut hash = Fnv::default();
    hash.add(b"w");
    for number in [u64::from(BlockType::F32.id()), 0, 40] {
        hash.add(&number.to_le_bytes());
    }
    hash.add(&[3; 128]);
    assert_eq!(file.fingerprint().unwrap(), hash.finish());
    // 160 bytes of data end the file: its last byte is seen, one in the middle is not.
    let (last, middle) = (bytes.len() - 1, bytes.len() - 80);
    bytes[middle] ^= 1;
    assert_eq!(open(&bytes).fingerprint().unwrap(), file.fingerprint().unwrap());
    bytes[last] ^= 1;
    assert_ne!(open(&bytes).fingerprint().unwrap(), file.fingerprint().unwrap());
}

/// A count of things that do not fit is refused for itself, before the first of them is read.
#[test]
fn false_counts_are_found_before_the_walk() {
    let error = |raw: Raw| raw.open().unwrap_err();
    for counts in [(0, 40), (40, 0)] {
        let found = error(Raw::v3(counts.0, counts.1).bytes([0; 100]));
        let GgufError::Truncated { place: Place::Header, offset: 24, needed, left: 100, .. } = found else {
            panic!("{found:?}")
        };
        assert!(needed > 400, "{needed} for {counts:?}");
    }
    // Twelve empty texts would fit.
    let found = error(Raw::v3(0, 1).key("k", 9).array(8, 90).bytes([0; 100]));
    assert!(matches!(found, GgufError::Truncated { needed: 720, left: 100, .. }), "{found:?}");
}
