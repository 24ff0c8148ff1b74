//! What is written is what is read.

use std::io::{self, Write};

use super::super::{GgufError, GgufFile, GgufWriter, Kind, OwnedValue, TensorInfo, Value};
use super::raw::{Raw, sample};
use crate::blocks::BlockType;

/// Writes bytes that depend on the tensor's name and the position.
fn pattern(info: &TensorInfo, out: &mut dyn Write) -> io::Result<()> {
    let seed = info.name.len() as u64;
    (0..info.bytes).try_for_each(|i| out.write_all(&[(seed + i) as u8]))
}

#[test]
fn every_kind_is_read_as_it_lies_in_the_file() {
    let file = sample().open().unwrap();
    assert_eq!((file.version(), file.alignment(), file.metadata().len()), (3, 32, 24));
    let singles = [
        ("u8", Value::U8(7)),
        ("i8", Value::I8(-7)),
        ("u16", Value::U16(700)),
        ("i16", Value::I16(-700)),
        ("u32", Value::U32(70_000)),
        ("i32", Value::I32(-70_000)),
        ("f32", Value::F32(0.25)),
        ("bool", Value::Bool(true)),
        ("string", Value::Str("größe")),
        ("u64", Value::U64(1 << 40)),
        ("i64", Value::I64(-(1 << 40))),
        ("f64", Value::F64(-0.5)),
    ];
    for (name, value) in singles {
        assert_eq!(file.get(&format!("single.{name}")), Some(value));
        assert_eq!(value.kind().name(), name);
    }
    let integers: [(&str, &[i64]); 9] = [
        ("u8", &[1, 2, 255]),
        ("i8", &[1, -1]),
        ("u16", &[300]),
        ("i16", &[-300]),
        ("u32", &[0, 4_294_967_295]),
        ("i32", &[-5]),
        ("bool", &[1, 0, 1]),
        ("u64", &[i64::MAX]),
        ("i64", &[i64::MIN]),
    ];
    for (name, values) in integers {
        let array = file.integer_array(&format!("array.{name}")).unwrap().unwrap();
        assert_eq!(array.iter_i64().collect::<Vec<_>>(), values, "{name}");
        assert_eq!(array.iter_f32().count(), values.len());
        assert_eq!(array.iter_str().count(), 0);
    }
    let floats = |key| file.f32_array(key).unwrap().unwrap().iter_f32().collect::<Vec<_>>();
    assert_eq!((floats("array.f32"), floats("array.f64")), (vec![1.5, -2.0], vec![0.125]));
    let strings = file.str_array("array.string").unwrap().unwrap();
    assert_eq!(strings.iter_str().len(), 3);
    assert_eq!(strings.iter_str().collect::<Vec<_>>(), ["a", "", "né"]);
    assert_eq!(strings.iter_i64().count() + strings.iter_f32().count(), 0);
    assert_eq!(file.array("array.u64").unwrap().unwrap().iter().next(), Some(Value::U64(u64::MAX)));
}

#[test]
fn tensors_are_found_in_file_order_and_by_name() {
    let file = sample().open().unwrap();
    let names: Vec<_> = file.tensors().iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["b.weight", "a.weight", "c.weight"]);
    let a = file.tensor("a.weight").unwrap();
    assert_eq!((a.cols(), a.rows(), a.elements(), a.bytes), (4, 2, 8, 32));
    assert_eq!(file.data(a).unwrap(), (0..32).collect::<Vec<u8>>());
    let b = file.tensor("b.weight").unwrap();
    assert_eq!((b.block_type, b.bytes, file.data(b).unwrap()[0]), (BlockType::Q8_0, 68, 64));
    assert_eq!(file.tensor("c.weight").unwrap().bytes, 6);
    assert!(file.tensor("d.weight").is_none());
}

#[test]
fn integers_of_any_width_are_accepted() {
    let file = sample().open().unwrap();
    assert_eq!(file.u32("single.u8").unwrap(), Some(7));
    assert_eq!(file.u32("single.u16").unwrap(), Some(700));
    assert_eq!(file.f32("single.f64").unwrap(), Some(-0.5));
    let file = Raw::v3(0, 1).key("k", 11).u64(5).open().unwrap();
    assert_eq!(file.require_u32("k").unwrap(), 5);
}

/// What would have to be written to read this value.
fn owned(value: Value<'_>) -> OwnedValue {
    match value {
        Value::U8(v) => OwnedValue::U8(v),
        Value::I8(v) => OwnedValue::I8(v),
        Value::U16(v) => OwnedValue::U16(v),
        Value::I16(v) => OwnedValue::I16(v),
        Value::U32(v) => OwnedValue::U32(v),
        Value::I32(v) => OwnedValue::I32(v),
        Value::U64(v) => OwnedValue::U64(v),
        Value::I64(v) => OwnedValue::I64(v),
        Value::F32(v) => OwnedValue::F32(v),
        Value::F64(v) => OwnedValue::F64(v),
        Value::Bool(v) => OwnedValue::Bool(v),
        Value::Str(v) => OwnedValue::Str(v.to_owned()),
        Value::Array(v) => match v.kind() {
            Kind::U8 => OwnedValue::U8Array(v.iter_i64().map(|v| v.try_into().unwrap()).collect()),
            Kind::U32 => OwnedValue::U32Array(v.iter_i64().map(|v| v.try_into().unwrap()).collect()),
            Kind::I32 => OwnedValue::I32Array(v.iter_i64().map(|v| v.try_into().unwrap()).collect()),
            Kind::F32 => OwnedValue::F32Array(v.iter_f32().collect()),
            Kind::Bool => OwnedValue::BoolArray(v.iter().map(|v| v.as_bool().unwrap()).collect()),
            Kind::Str => OwnedValue::StrArray(v.iter_str().map(str::to_owned).collect()),
            kind => panic!("no array of {kind} was written"),
        },
    }
}

#[test]
fn written_values_are_read_back() {
    let values: Vec<OwnedValue> = vec![
        OwnedValue::U8(200),
        OwnedValue::I8(-100),
        OwnedValue::U16(60_000),
        OwnedValue::I16(-30_000),
        OwnedValue::U32(4_000_000_000),
        OwnedValue::I32(-2_000_000_000),
        OwnedValue::U64(u64::MAX),
        OwnedValue::I64(i64::MIN),
        OwnedValue::F32(-1.5),
        OwnedValue::F64(1e300),
        OwnedValue::Bool(false),
        OwnedValue::Str("naïve\n".to_owned()),
        OwnedValue::U8Array(vec![0, 255]),
        OwnedValue::U32Array(vec![1, u32::MAX]),
        OwnedValue::I32Array(vec![-1, 7]),
        OwnedValue::F32Array(vec![0.5, f32::MAX]),
        OwnedValue::BoolArray(vec![true, false]),
        OwnedValue::StrArray(vec!["x".to_owned(), String::new()]),
        OwnedValue::StrArray(Vec::new()),
    ];
    let mut writer = GgufWriter::new();
    for (i, value) in values.iter().enumerate() {
        writer.set(format!("k{i}"), value.clone());
    }
    let file = GgufFile::from_vec("written", writer.to_vec("written", pattern).unwrap()).unwrap();
    assert_eq!(file.metadata().len(), values.len());
    for (i, (value, (key, read))) in values.iter().zip(file.metadata()).enumerate() {
        assert_eq!((key, &owned(read)), (format!("k{i}").as_str(), value));
    }
}

#[test]
fn written_tensors_are_aligned_and_complete() {
    for alignment in [None, Some(1u32), Some(64), Some(4096)] {
        let mut writer = GgufWriter::new();
        if let Some(alignment) = alignment {
            writer.set("general.alignment", alignment);
        }
        for (i, block_type) in BlockType::ALL.iter().enumerate() {
            writer.add_tensor(format!("{i:0i$}"), &[256, 3], *block_type);
        }
        writer.add_tensor("odd", &[5, 1, 1, 3], BlockType::F16);
        let bytes = writer.to_vec("written", pattern).unwrap();
        assert_eq!(bytes, writer.to_vec("written", pattern).unwrap(), "same calls, same bytes");
        let file = GgufFile::from_vec("written", bytes).unwrap();
        let alignment = u64::from(alignment.unwrap_or(32));
        assert_eq!((file.alignment(), file.file_bytes() % alignment), (alignment, 0));
        assert_eq!(file.tensors().len(), BlockType::ALL.len() + 1);
        for info in file.tensors() {
            let mut expected = Vec::new();
            pattern(info, &mut expected).unwrap();
            assert_eq!(file.data(info).unwrap(), expected, "{}", info.name);
            assert_eq!(info.offset % alignment, 0);
        }
    }
}

#[test]
fn copied_metadata_is_the_same() {
    let original = sample().open().unwrap();
    let mut writer = GgufWriter::new();
    writer.set("first", 1u32).copy_metadata(&original, |key| key != "single.u8").set("single.bool", false);
    let file = GgufFile::from_vec("copy", writer.to_vec("copy", pattern).unwrap()).unwrap();
    assert_eq!(file.metadata().next(), Some(("first", Value::U32(1))));
    assert_eq!(file.get("single.u8"), None);
    assert_eq!(file.bool("single.bool").unwrap(), Some(false));
    for (key, value) in original.metadata().filter(|(key, _)| !key.ends_with(".bool") && *key != "single.u8")
    {
        assert_eq!(file.get(key), Some(value), "{key}");
    }
    let order: Vec<_> = file.metadata().map(|(key, _)| key).skip(1).collect();
    let expected: Vec<_> = original.metadata().map(|(key, _)| key).skip(1).collect();
    assert_eq!(order, expected);
}

#[test]
fn what_a_reader_would_refuse_is_not_written() {
    let refuse = |build: &dyn Fn(&mut GgufWriter)| {
        let mut writer = GgufWriter::new();
        build(&mut writer);
        writer.to_vec("refused", pattern).unwrap_err()
    };
    use GgufError::*;
    assert!(matches!(refuse(&|w| _ = w.set("", 1u32)), BadName { .. }));
    assert!(matches!(refuse(&|w| _ = w.set("general.alignment", 3u32)), BadAlignment { found: 3, .. }));
    assert!(matches!(refuse(&|w| _ = w.set("general.alignment", "32")), WrongType { .. }));
    let tensor = |name: &str, shape: &[u64], block_type| {
        refuse(&|w| _ = w.add_tensor("w", &[32], BlockType::F32).add_tensor(name, shape, block_type))
    };
    assert!(matches!(tensor("w", &[32], BlockType::F32), DuplicateTensor { .. }));
    assert!(matches!(tensor("v", &[33], BlockType::Q8_0), RowLength { cols: 33, .. }));
    assert!(matches!(tensor("v", &[], BlockType::F32), DimensionCount { found: 0, .. }));
    assert!(matches!(tensor("v", &[1 << 30, 1 << 30], BlockType::F32), TooManyElements { .. }));
    assert!(matches!(tensor(&"v".repeat(65), &[32], BlockType::F32), LimitExceeded { .. }));
}

#[test]
fn wrong_amounts_of_tensor_data_are_refused() {
    let mut writer = GgufWriter::new();
    writer.add_tensor("w", &[8], BlockType::F32);
    let write = |len: usize| writer.to_vec("w.gguf", |_, out| out.write_all(&vec![0; len]));
    assert!(write(32).is_ok());
    for len in [0, 31, 33] {
        let error = write(len).unwrap_err();
        let GgufError::TensorBytes { expected: 32, found, .. } = error else { panic!("{error:?}") };
        assert_eq!(found, len as u64);
    }
    let error = writer.to_vec("w.gguf", |_, _| Err(io::Error::other("no weights"))).unwrap_err();
    assert!(matches!(&error, GgufError::WriteTensor { tensor, .. } if tensor == "w"), "{error:?}");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no weights");
}
