//! Files on the disk: opening, atomic writing, releasing pages.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::{GgufError, GgufFile, GgufWriter};
use super::raw::sample;
use crate::blocks::BlockType;
use crate::files::WriteError;

/// A directory that is removed at the end of a test.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("smolt-gguf-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A writer of one F32 tensor.
fn writer(elements: u64) -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.add_tensor("w", &[elements], BlockType::F32);
    writer
}

#[test]
fn what_is_not_a_readable_file_is_told_apart() {
    let scratch = Scratch::new();
    let missing = GgufFile::open(&scratch.0.join("missing.gguf")).unwrap_err();
    assert!(matches!(missing, GgufError::NotFound { .. }), "{missing:?}");
    assert!(missing.to_string().contains("missing.gguf: no such file"), "{missing}");
    let directory = GgufFile::open(&scratch.0).unwrap_err();
    assert!(matches!(directory, GgufError::IsDirectory { .. }), "{directory:?}");
    let path = scratch.0.join("empty.gguf");
    fs::write(&path, []).unwrap();
    let empty = GgufFile::open(&path).unwrap_err();
    assert!(matches!(empty, GgufError::Empty { .. }), "{empty:?}");
    #[cfg(unix)]
    {
        let device = GgufFile::open(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(device, GgufError::NotRegular { .. }), "{device:?}");
        let below_file = GgufFile::open(&path.join("x")).unwrap_err();
        assert!(matches!(below_file, GgufError::Io { .. }), "{below_file:?}");
        assert!(std::error::Error::source(&below_file).is_some());
    }
}

#[test]
fn mapped_owned_and_static_files_read_alike() {
    let scratch = Scratch::new();
    let path = scratch.0.join("sample.gguf");
    let bytes = sample().0;
    fs::write(&path, &bytes).unwrap();
    let mapped = GgufFile::open(&path).unwrap();
    let fixed = GgufFile::from_static("static", bytes.clone().leak()).unwrap();
    let owned = GgufFile::from_vec("owned", bytes).unwrap();
    assert_eq!(mapped.name(), path.display().to_string());
    for file in [&mapped, &fixed] {
        assert!(file.metadata().eq(owned.metadata()));
        assert_eq!(file.as_bytes().unwrap(), owned.as_bytes().unwrap());
        assert_eq!(file.tensors(), owned.tensors());
        file.release_all();
        assert_eq!(file.data(&file.tensors()[0]).unwrap(), owned.data(&owned.tensors()[0]).unwrap());
    }
}

#[test]
fn a_finished_file_replaces_the_old_one_under_an_open_map() {
    let scratch = Scratch::new();
    let path = scratch.0.join("model.gguf");
    let fill = |byte: u8| writer(1024).write_to(&path, |_, out| out.write_all(&[byte; 4096])).unwrap();
    assert_eq!(fill(1), fs::metadata(&path).unwrap().len());
    let old = GgufFile::open(&path).unwrap();
    fill(2);
    assert!(old.data(&old.tensors()[0]).unwrap().iter().all(|byte| *byte == 1));
    let new = GgufFile::open(&path).unwrap();
    assert!(new.data(&new.tensors()[0]).unwrap().iter().all(|byte| *byte == 2));
    assert_eq!(scratch.names(), ["model.gguf"]);
}

#[test]
fn a_failed_write_leaves_nothing_and_keeps_the_old_file() {
    let scratch = Scratch::new();
    let path = scratch.0.join("model.gguf");
    let fail = || {
        let result = writer(8).write_to(&path, |_, out| {
            out.write_all(&[0; 16])?;
            Err(io::Error::other("stopped"))
        });
        assert!(matches!(result, Err(GgufError::WriteTensor { .. })), "{result:?}");
    };
    fail();
    assert!(scratch.names().is_empty());
    fs::write(&path, "GGUF, old").unwrap();
    fail();
    assert!(matches!(writer(7).write_to(&path, |_, _| Ok(())), Err(GgufError::TensorBytes { .. })));
    assert_eq!(
        (scratch.names(), fs::read(&path).unwrap()),
        (vec!["model.gguf".to_owned()], b"GGUF, old".to_vec())
    );
    let into_directory = writer(8).write_to(&scratch.0, |_, out| out.write_all(&[0; 32]));
    assert!(matches!(into_directory, Err(GgufError::Write(WriteError::Folder { .. }))), "{into_directory:?}");
    let nowhere = writer(8).write_to(&scratch.0.join("no/model.gguf"), |_, out| out.write_all(&[0; 32]));
    assert!(matches!(nowhere, Err(GgufError::Write(WriteError::NoFolder { .. }))), "{nowhere:?}");
    assert_eq!(scratch.names(), ["model.gguf"]);
}

/// Resident bytes of this process's map of `path`; 0 where the kernel does not tell, as under emulation.
#[cfg(target_os = "linux")]
fn resident(path: &Path) -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let path = path.canonicalize().unwrap();
    let mut lines = maps.lines().skip_while(|line| !line.ends_with(path.to_str().unwrap()));
    let line = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[test]
fn released_pages_leave_the_resident_set_and_come_back_the_same() {
    const BYTES: u64 = 4 << 20;
    let scratch = Scratch::new();
    let path = scratch.0.join("large.gguf");
    let data: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
    writer(BYTES / 4).write_to(&path, |_, out| out.write_all(&data)).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let tensor = &file.tensors()[0];
    assert!(file.data(tensor).unwrap() == data);
    let all = resident(&path);
    if all == 0 {
        eprintln!("SKIPPED: resident sizes of maps are not reported here");
        return;
    }
    assert!(all > BYTES * 9 / 10, "{all}");
    // In parts smaller than a page, as rows are read.
    for start in (0..BYTES as usize / 2).step_by(1000) {
        file.release(tensor, start..start + 1000);
    }
    let half = resident(&path);
    assert!(half > BYTES * 4 / 10 && half < BYTES * 6 / 10, "{half}");
    assert!(file.data(tensor).unwrap() == data);
    file.release_all();
    assert!(resident(&path) < BYTES / 10);
    assert!(file.data(tensor).unwrap() == data);
}
