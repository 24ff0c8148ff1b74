//! What of the data of tensors is part of a file's fingerprint.

use super::TensorInfo;
use crate::files::Fnv;

/// Bytes at either end of a tensor that are part of a file's fingerprint.
const SAMPLE_BYTES: usize = 64;

/// The fingerprint of a file; `ends` gives the first and last bytes of each tensor, by its number.
pub(super) fn fingerprint<'a>(tensors: &[TensorInfo], ends: impl Fn(usize) -> [&'a [u8]; 2]) -> u64 {
    let mut hash = Fnv::default();
    for (number, tensor) in tensors.iter().enumerate() {
        hash.add(tensor.name.as_bytes());
        if tensor.part > 0 {
            hash.add(&(tensor.part as u64).to_le_bytes());
        }
        for number in [&[u64::from(tensor.block_type.id()), tensor.offset], tensor.shape.as_slice()].concat()
        {
            hash.add(&number.to_le_bytes());
        }
        ends(number).into_iter().for_each(|end| hash.add(end));
    }
    hash.finish()
}

/// The first and last bytes of a tensor.
pub(super) fn ends(data: &[u8]) -> [&[u8]; 2] {
    let sample = data.len().min(SAMPLE_BYTES);
    [&data[..sample], &data[data.len() - sample..]]
}

/// The ends of tensors whose data passes.
pub(super) struct Samples(Vec<[Vec<u8>; 2]>);

impl Samples {
    pub(super) fn new(tensors: usize) -> Self {
        Self(vec![Default::default(); tensors])
    }

    /// Adds the next bytes of a tensor.
    pub(super) fn add(&mut self, tensor: usize, bytes: &[u8]) {
        let [first, last] = &mut self.0[tensor];
        let missing = (SAMPLE_BYTES - first.len()).min(bytes.len());
        first.extend_from_slice(&bytes[..missing]);
        last.extend_from_slice(ends(bytes)[1]);
        last.drain(..last.len().saturating_sub(SAMPLE_BYTES));
    }

    /// The fingerprint, when all passed.
    pub(super) fn fingerprint(&self, tensors: &[TensorInfo]) -> u64 {
        fingerprint(tensors, |number| self.0[number].each_ref().map(Vec::as_slice))
    }
}
