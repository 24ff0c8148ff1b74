//! Models in several files: found by any part, refused when one is missing, foreign or wrong.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{GgufError, GgufFile, GgufWriter};
use super::disk::Scratch;
use crate::blocks::BlockType;

const COUNT: u32 = 3;

/// The path of part `number`, from 1.
fn path(scratch: &Scratch, number: u32) -> PathBuf {
    scratch.0.join(format!("tiny-{number:05}-of-00003.gguf"))
}

/// Writes a part with one tensor, all of whose bytes are its number.
fn write(path: &Path, number: u32, count: u32, tensor: &str, tensors: i32) {
    let mut writer = GgufWriter::new();
    if number == 0 {
        writer.set("general.architecture", "llama").set("general.name", "tiny");
    }
    writer.set("split.no", number).set("split.count", count).set("split.tensors.count", tensors);
    // Data starts elsewhere in each part.
    writer.set("general.alignment", 32u32 << number);
    writer.add_tensor(tensor, &[8], BlockType::F32);
    writer.write_to(path, |_, out| out.write_all(&[number as u8; 32])).unwrap();
}

fn whole(scratch: &Scratch) {
    for number in 0..COUNT {
        write(&path(scratch, number + 1), number, COUNT, &format!("t{number}"), 3);
    }
}

#[test]
fn any_part_leads_to_the_whole() {
    let scratch = Scratch::new();
    whole(&scratch);
    let first = path(&scratch, 1);
    let bytes: u64 = (1..=COUNT).map(|number| fs::metadata(path(&scratch, number)).unwrap().len()).sum();
    let mut prints = vec![];
    for number in 1..=COUNT {
        let file = GgufFile::open(&path(&scratch, number)).unwrap();
        assert_eq!((file.name(), file.path()), (first.to_str().unwrap(), Some(first.as_path())));
        assert_eq!(file.str("general.name").unwrap(), Some("tiny"));
        assert_eq!((file.tensors().len(), file.file_bytes(), file.files().unwrap().len()), (3, bytes, 3));
        for number in 0..COUNT {
            let tensor = file.tensor(&format!("t{number}")).unwrap();
            assert_eq!((tensor.part, file.data(tensor).unwrap()), (number as usize, &[number as u8; 32][..]));
            file.release(tensor, 0..32);
        }
        file.prefetch();
        file.release_all();
        assert_eq!(file.modified(), fs::metadata(path(&scratch, 3)).unwrap().modified().ok());
        prints.push(file.fingerprint().unwrap());
    }
    assert!(prints.iter().all(|print| *print == prints[0]));
    // One weight of a later part differs.
    write(&path(&scratch, 3), 2, COUNT, "t2", 3);
    let mut changed = fs::read(path(&scratch, 3)).unwrap();
    let data = changed.len() - 128;
    changed[data] = 9;
    fs::write(path(&scratch, 3), changed).unwrap();
    assert_ne!(GgufFile::open(&first).unwrap().fingerprint().unwrap(), prints[0]);
}

#[test]
fn a_copy_is_whole() {
    let scratch = Scratch::new();
    whole(&scratch);
    let file = GgufFile::open(&path(&scratch, 1)).unwrap();
    let mut writer = GgufWriter::new();
    writer.copy_metadata(&file, |_| true);
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, info.block_type);
    }
    let copy = writer
        .to_vec("copy", |info, out| out.write_all(file.data(file.tensor(&info.name).unwrap()).unwrap()));
    let copy = GgufFile::from_vec("copy", copy.unwrap()).unwrap();
    assert!(copy.get("split.count").is_none());
    for info in copy.tensors() {
        assert_eq!(copy.data(info).unwrap(), file.data(file.tensor(&info.name).unwrap()).unwrap());
    }
}

#[test]
fn parts_that_are_no_whole_are_refused() {
    let error = |change: &dyn Fn(&Scratch)| {
        let scratch = Scratch::new();
        whole(&scratch);
        change(&scratch);
        GgufFile::open(&path(&scratch, 1)).unwrap_err()
    };
    let missing = error(&|scratch| fs::remove_file(path(scratch, 2)).unwrap());
    assert!(
        matches!(&missing, GgufError::MissingPart { number: 2, count: 3, file } if file.ends_with("tiny-00002-of-00003.gguf")),
        "{missing}"
    );
    let twice = error(&|scratch| {
        fs::copy(path(scratch, 3), path(scratch, 2)).unwrap();
    });
    assert!(matches!(&twice, GgufError::OtherPart { number: 2, count: 3, .. }), "{twice}");
    let whole = error(&|scratch| {
        let mut writer = GgufWriter::new();
        writer.add_tensor("t1", &[8], BlockType::F32);
        writer.write_to(&path(scratch, 2), |_, out| out.write_all(&[0; 32])).unwrap();
    });
    assert!(matches!(&whole, GgufError::OtherPart { .. }), "{whole}");
    let count = error(&|scratch| write(&path(scratch, 3), 2, 4, "t2", 3));
    assert!(matches!(&count, GgufError::OtherPart { number: 3, .. }), "{count}");
    let tensor = error(&|scratch| write(&path(scratch, 2), 1, COUNT, "t0", 3));
    assert!(matches!(&tensor, GgufError::TensorInParts { tensor, .. } if tensor == "t0"), "{tensor}");
    let tensors = error(&|scratch| write(&path(scratch, 1), 0, COUNT, "t0", 4));
    assert!(matches!(&tensors, GgufError::PartTensors { expected: 4, found: 3, .. }), "{tensors}");
    let many = error(&|scratch| write(&path(scratch, 1), 0, 2000, "t0", 3));
    assert!(many.to_string().contains("at most 1024"), "{many}");
    let beyond = error(&|scratch| write(&path(scratch, 1), 3, COUNT, "t0", 3));
    assert!(beyond.to_string().contains("less than split.count"), "{beyond}");
    let cut = error(&|scratch| {
        let bytes = fs::read(path(scratch, 3)).unwrap();
        fs::write(path(scratch, 3), &bytes[..bytes.len() - 100]).unwrap();
    });
    assert!(
        cut.to_string().contains("tiny-00003-of-00003.gguf") && cut.to_string().contains("cut short"),
        "{cut}"
    );
}

#[test]
fn a_part_needs_its_name() {
    let scratch = Scratch::new();
    whole(&scratch);
    let renamed = scratch.0.join("model.gguf");
    fs::rename(path(&scratch, 2), &renamed).unwrap();
    let error = GgufFile::open(&renamed).unwrap_err();
    assert!(
        error.to_string().contains("is part 2 of 3") && error.to_string().contains("-00002-of-00003.gguf"),
        "{error}"
    );
    let error = GgufFile::from_vec("memory", fs::read(&renamed).unwrap()).unwrap_err();
    assert!(matches!(error, GgufError::Split { parts: 3, .. }), "{error}");
}
