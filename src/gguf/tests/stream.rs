//! Files that are read once: the same as in memory, whatever the reader does; and its last word counts.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::super::stream::CHUNK_BYTES;
use super::super::{GgufError, GgufFile, MAX_STREAMED_HEADER_BYTES, TensorInfo};
use super::raw::{Raw, sample};
use crate::runtime::Secrecy;

/// Gives at most so many bytes at a time, is interrupted before each, and fails at an offset.
struct Reader {
    bytes: Vec<u8>,
    at: usize,
    step: usize,
    fails_at: Option<usize>,
    interrupted: bool,
}

impl Reader {
    fn new(bytes: &[u8], step: usize) -> Self {
        Self { bytes: bytes.to_vec(), at: 0, step, fails_at: None, interrupted: false }
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut end = self.bytes.len().min(self.at + self.step.min(out.len()));
        if let Some(fails_at) = self.fails_at {
            if self.at >= fails_at {
                return Err(io::Error::other("the verdict"));
            }
            end = end.min(fails_at);
        }
        let read = end - self.at;
        out[..read].copy_from_slice(&self.bytes[self.at..end]);
        self.at = end;
        Ok(read)
    }
}

fn open(reader: Reader, bytes: usize) -> Result<GgufFile, GgufError> {
    GgufFile::from_reader("stream", Box::new(reader), bytes as u64, Secrecy::Plain)
}

/// The data of all tensors by name; checks that it comes in the order of the file and in whole rows.
fn read(file: &GgufFile) -> Result<BTreeMap<String, Vec<u8>>, GgufError> {
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut last = 0;
    let mut take = |info: &TensorInfo, start: usize, bytes: &[u8]| {
        let data = found.entry(info.name.clone()).or_default();
        assert_eq!(data.len(), start, "{}", info.name);
        assert!(info.offset >= last && bytes.len().is_multiple_of(info.bytes as usize / info.rows()));
        assert!(bytes.len() <= CHUNK_BYTES.max(info.bytes as usize / info.rows()));
        last = info.offset;
        data.extend_from_slice(bytes);
        Ok::<_, GgufError>(())
    };
    file.read_tensors(&|_| true, &mut take)?;
    Ok(found)
}

/// Tensors out of order, of several pieces and of less than a row's sample, gaps before, between and after them.
fn gaps() -> Vec<u8> {
    let mut raw = Raw::v3(3, 1).key_u32("general.alignment", 32);
    raw = raw.tensor("late", &[40_000, 20], 0, 512).tensor("early", &[3], 0, 96);
    raw.tensor("middle", &[32, 3], 8, 256).data(512 + 4 * 40_000 * 20 + 77).0
}

#[test]
fn a_stream_gives_what_memory_gives() {
    for bytes in [sample().0, gaps()] {
        let memory = GgufFile::from_vec("memory", bytes.clone()).unwrap();
        let expected = read(&memory).unwrap();
        for info in memory.tensors() {
            assert_eq!(expected[&info.name], memory.data(info).unwrap());
        }
        for step in [1, 7, 4096, usize::MAX / 2] {
            if step == 1 && bytes.len() > 100_000 {
                continue;
            }
            let file = open(Reader::new(&bytes, step), bytes.len()).unwrap();
            assert!(file.metadata().eq(memory.metadata()));
            assert_eq!((file.tensors(), file.file_bytes()), (memory.tensors(), bytes.len() as u64));
            assert!(matches!(file.fingerprint(), Err(GgufError::NotRead { .. })));
            assert_eq!(read(&file).unwrap(), expected, "{step}");
            assert_eq!(file.fingerprint().unwrap(), memory.fingerprint().unwrap());
        }
    }
}

#[test]
fn a_stream_is_read_once_and_not_in_place() {
    let bytes = sample().0;
    let file = open(Reader::new(&bytes, 100), bytes.len()).unwrap();
    assert!(matches!(file.data(&file.tensors()[0]), Err(GgufError::NotInPlace { .. })));
    assert!(matches!(file.as_bytes(), Err(GgufError::NotInPlace { .. })));
    assert!(matches!(file.files(), Err(GgufError::NotInPlace { .. })));
    file.release_all();
    file.prefetch();
    read(&file).unwrap();
    assert!(matches!(read(&file), Err(GgufError::AlreadyRead { .. })));
    assert_eq!((file.path(), file.modified()), (None, None));
}

#[test]
fn what_is_not_wanted_is_read_all_the_same() {
    let bytes = gaps();
    let file = open(Reader::new(&bytes, 5000), bytes.len()).unwrap();
    let mut names = vec![];
    let mut take = |info: &TensorInfo, _: usize, _: &[u8]| {
        names.push(info.name.clone());
        Ok::<_, GgufError>(())
    };
    file.read_tensors(&|info| info.name == "early", &mut take).unwrap();
    assert_eq!(names, ["early"]);
    assert_eq!(file.fingerprint().unwrap(), GgufFile::from_vec("m", bytes).unwrap().fingerprint().unwrap());
}

fn is_verdict(error: &GgufError) -> bool {
    matches!(error, GgufError::Io { source, .. } if source.to_string() == "the verdict")
}

#[test]
fn an_error_at_any_offset_is_the_error_of_all() {
    let bytes = sample().0;
    for fails_at in 0..=bytes.len() {
        let reader = Reader { fails_at: Some(fails_at), ..Reader::new(&bytes, 50) };
        let error = open(reader, bytes.len()).and_then(|file| read(&file)).unwrap_err();
        assert!(is_verdict(&error), "{fails_at}: {error:?}");
    }
}

#[test]
fn a_verdict_goes_before_what_follows_from_the_content() {
    // A header that is wrong, and one who takes the data and does not like it.
    let mut bytes = sample().0;
    let len = bytes.len();
    let refuse = |bytes: &[u8]| {
        let reader = Reader { fails_at: Some(len), ..Reader::new(bytes, 50) };
        let file = open(reader, len)?;
        let refused = || GgufError::BadAlignment { file: "taker".into(), found: 3 };
        file.read_tensors(&|_| true, &mut |_, _, _| Err(refused()))
    };
    assert!(is_verdict(&refuse(&bytes).unwrap_err()));
    bytes[4] = 9;
    assert!(is_verdict(&refuse(&bytes).unwrap_err()));
    // Without a verdict it is the error of the content.
    let error = open(Reader::new(&bytes, 50), len).unwrap_err();
    assert!(matches!(error, GgufError::Version { found: 9, .. }), "{error:?}");
    bytes[4] = 3;
    let file = open(Reader::new(&bytes, 50), len).unwrap();
    let refused = || GgufError::BadAlignment { file: "taker".into(), found: 3 };
    let error = file.read_tensors(&|_| true, &mut |_, _, _| Err(refused())).unwrap_err();
    assert!(matches!(error, GgufError::BadAlignment { found: 3, .. }), "{error:?}");
}

#[test]
fn a_stream_that_ends_early_or_goes_on_is_refused() {
    let bytes = sample().0;
    for len in 0..bytes.len() {
        let error = open(Reader::new(&bytes[..len], 50), bytes.len()).and_then(|file| read(&file));
        let error = error.unwrap_err();
        assert!(matches!(error, GgufError::Shorter { found, .. } if found == len as u64), "{len}: {error:?}");
    }
    // The last tensor ends 4 bytes before the file.
    let end = bytes.len() - 154;
    for said in 0..bytes.len() {
        let error = open(Reader::new(&bytes, 50), said).and_then(|file| read(&file)).unwrap_err();
        let is_typed = match said {
            0 => matches!(error, GgufError::Empty { .. }),
            _ if said < end => {
                matches!(error, GgufError::Truncated { .. } | GgufError::OutsideFile { .. })
            }
            _ => matches!(error, GgufError::Longer { .. } | GgufError::OutsideFile { .. }),
        };
        assert!(is_typed, "{said}: {error:?}");
    }
}

#[test]
fn no_more_than_the_header_is_held() {
    let raw = Raw::v3(1, 1).key("big", 9).array(0, 700_000).bytes(vec![1; 700_000]);
    let raw = raw.tensor("w", &[1 << 20], 0, 0);
    let header = raw.0.len().next_multiple_of(32);
    let bytes = raw.data(4 << 20).0;
    let file = open(Reader::new(&bytes, 10_000), bytes.len()).unwrap();
    assert_eq!(file.held_bytes(), header as u64);
    assert_eq!(read(&file).unwrap()["w"], bytes[header..]);
}

#[test]
fn a_header_above_the_limit_is_refused() {
    let key = |raw: Raw, name: &str| raw.key(name, 9).array(0, 1 << 24);
    let start = key(Raw::v3(0, 6), "a").0;
    let zeros = io::repeat(0).take(1 << 24);
    let mut reader: Box<dyn Read + Send> = Box::new(io::Cursor::new(start).chain(zeros));
    for name in ["b", "c", "d", "e"] {
        let next = key(Raw::default(), name).0;
        reader = Box::new(reader.chain(io::Cursor::new(next)).chain(io::repeat(0).take(1 << 24)));
    }
    let error = GgufFile::from_reader("stream", reader, 1 << 30, Secrecy::Plain).unwrap_err();
    let limit = MAX_STREAMED_HEADER_BYTES;
    let is_limit =
        matches!(error, GgufError::LimitExceeded { what: "size of the header", limit: l, .. } if l == limit);
    assert!(is_limit, "{error:?}");
}

#[test]
fn secret_files_are_read_alike() {
    let bytes = gaps();
    let secret = Secrecy::Secret;
    match GgufFile::from_reader("stream", Box::new(Reader::new(&bytes, 9999)), bytes.len() as u64, secret) {
        Ok(file) => {
            assert_eq!(file.secrecy(), Secrecy::Secret);
            assert_eq!(read(&file).unwrap(), read(&GgufFile::from_vec("m", bytes).unwrap()).unwrap());
        }
        // On a computer with swap, for one who may lock nothing.
        Err(error) => assert!(matches!(error, GgufError::Alloc(_)), "{error:?}"),
    }
}
