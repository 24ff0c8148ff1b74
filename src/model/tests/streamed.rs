//! Models that are read once, from front to back: the same weights to the last bit, or no model.

use std::io::{self, Cursor, Read};

use super::super::layout::Place;
use super::super::{Model, ModelError};
use super::families::samples;
use crate::gguf::{GgufError, GgufFile};
use crate::kernels::Kernels;
use crate::runtime::Secrecy;

fn load(bytes: u64, reader: impl Read + Send + 'static) -> Result<Model, ModelError> {
    let file = GgufFile::from_reader("stream", Box::new(reader), bytes, Secrecy::Plain)?;
    Model::load(&file, Kernels::detect().unwrap())
}

/// Every bit of the weights.
fn bits(model: &Model) -> (Vec<u8>, Vec<u32>) {
    let vectors = model.layout.placed.iter().filter_map(|placed| match &placed.place {
        Place::Vector(vector) => Some(model.weights.vector(vector)),
        Place::Matrix(_) => None,
    });
    let vectors = vectors.flatten().map(|value| value.to_bits()).collect();
    (model.weights.packed_here().unwrap().to_vec(), vectors)
}

/// Fails once all was read.
struct Unsigned;

impl Read for Unsigned {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the signature is of something else"))
    }
}

#[test]
fn every_family_is_loaded_alike_from_a_stream() {
    for sample in samples() {
        let file = sample.file();
        let bytes = file.as_bytes().unwrap().to_vec();
        let expected = bits(&Model::load(&file, Kernels::detect().unwrap()).unwrap());
        let streamed = load(bytes.len() as u64, Cursor::new(bytes.clone())).unwrap();
        assert!(bits(&streamed) == expected, "{}", file.name());
        match load(bytes.len() as u64, Cursor::new(bytes).chain(Unsigned)) {
            Err(ModelError::Gguf(GgufError::Io { source, .. })) => {
                assert!(source.to_string().contains("signature"), "{source}");
            }
            other => panic!("{}: {other:?}", file.name()),
        }
    }
}

#[test]
fn a_model_is_loaded_alike_by_any_reader() {
    let file = samples()[0].file();
    let bytes = file.as_bytes().unwrap().to_vec();
    let expected = bits(&Model::load(&file, Kernels::detect().unwrap()).unwrap());
    let step = |step: usize| Steps { bytes: bytes.clone(), at: 0, step };
    for len in [1, 13, 5000] {
        assert!(bits(&load(bytes.len() as u64, step(len)).unwrap()) == expected, "{len}");
    }
    for cut in [0, 1, 100, bytes.len() / 2, bytes.len() - 1] {
        let error = load(bytes.len() as u64, Cursor::new(bytes[..cut].to_vec())).unwrap_err();
        assert!(matches!(error, ModelError::Gguf(GgufError::Shorter { .. })), "{cut}: {error}");
    }
}

/// Gives a few bytes at a time.
struct Steps {
    bytes: Vec<u8>,
    at: usize,
    step: usize,
}

impl Read for Steps {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.step.min(out.len()).min(self.bytes.len() - self.at);
        out[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
