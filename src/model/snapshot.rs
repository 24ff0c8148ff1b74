//! What a cache holds, as bytes: a later run goes on from there without reading the tokens again.
//!
//! The bytes are those in memory, of the cached positions only, in one order for both ways ([`Cache::visit`]).
//! They do not depend on the length of the context; they do depend on the model, on how keys and values are
//! stored and, for 8-bit codes, on the instruction set, which is what [`Resume::state_key`] tells apart.

use super::LanguageModel;
use super::cache::Cache;
use super::runner::Runner;
use crate::files::Fnv;
use crate::kernels::KvType;
use std::io;

/// Changes with every change of what is stored or how.
const VERSION: u8 = 2;

/// A model whose cache can be stored and restored, exactly.
pub trait Resume: LanguageModel {
    /// A number that differs (with high probability) where the bytes of a state mean something else. It says
    /// nothing about the weights.
    fn state_key(&self) -> u64;

    /// Bytes of the state of a cache of `positions` tokens, at most [`LanguageModel::context`].
    fn state_bytes(&mut self, positions: usize) -> u64;

    /// Writes the state of the tokens in the cache.
    ///
    /// # Errors
    /// As `out`.
    fn write_state(&mut self, out: &mut dyn io::Write) -> io::Result<()>;

    /// Reads the state of a cache of `positions` tokens, written with an equal [`Self::state_key`] by a model with
    /// equal weights. Then the cache has these tokens. After an error it is empty.
    ///
    /// # Errors
    /// As `from`; [`io::ErrorKind::InvalidData`] if there cannot be such a state.
    fn read_state(&mut self, positions: usize, from: &mut dyn io::Read) -> io::Result<()>;
}

impl Cache {
    /// As [`Resume::state_key`].
    pub(crate) fn state_key(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.add(&[VERSION, u8::from(cfg!(target_endian = "big"))]);
        let spec = self.model.spec();
        hash.add(spec.family.architecture.as_bytes());
        let state = spec.state.map_or([0; 5], |s| [s.heads, s.head_dim, s.size, s.groups, s.taps]);
        let shape = [spec.layers, spec.dim, spec.heads, spec.kv_heads, spec.head_dim, spec.vocab, spec.taps];
        for number in shape.into_iter().chain(state) {
            hash.add(&(number as u64).to_le_bytes());
        }
        hash.add(self.kv.kind.name().as_bytes());
        if self.kv.kind == KvType::Q8_0 {
            // Codes lie in memory as the kernels read them.
            let packing = self.model.kernels().packing;
            hash.add(&[packing.lanes as u8, u8::from(packing.offset_bytes)]);
        }
        hash.finish()
    }
}

impl Resume for Runner {
    fn state_key(&self) -> u64 {
        self.cache.state_key()
    }

    fn state_bytes(&mut self, positions: usize) -> u64 {
        let mut bytes = 0;
        // Counting cannot fail.
        let _ = self.cache.visit(positions.min(self.context()), &mut |part| {
            bytes += part.len() as u64;
            Ok(())
        });
        bytes
    }

    fn write_state(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        let positions = self.cache.position;
        self.cache.visit(positions, &mut |part| out.write_all(part))
    }

    fn read_state(&mut self, positions: usize, from: &mut dyn io::Read) -> io::Result<()> {
        self.truncate(0);
        if positions > self.context() {
            return Err(impossible("the number of positions"));
        }
        let cache = &mut self.cache;
        let read = cache.visit(positions, &mut |part| from.read_exact(part)).and_then(|()| {
            let is_possible = cache.states.is_possible(positions) && cache.history.is_possible(positions);
            if is_possible { Ok(()) } else { Err(impossible("a position of a state")) }
        });
        if read.is_ok() {
            cache.position = positions;
        } else {
            cache.states.forget();
            cache.history.forget();
        }
        read
    }
}

/// The error for a state that no run can have.
fn impossible(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is impossible"))
}
