//! A model file whose header was read, and the model loaded from it.

use super::error::ModelError;
use super::layout::Layout;
use super::options::RunOptions;
use super::packed::{self, PackStatus};
use super::plan::Plan;
use super::spec::Spec;
use super::tagged::Verified;
use super::weights::Weights;
use crate::gguf::GgufFile;
use crate::kernels::Kernels;
use crate::runtime::Pool;
use std::path::PathBuf;

/// What the header of a model says: its shape and where each tensor goes. Planning and loading start here.
#[derive(Debug)]
pub struct Header {
    pub(super) spec: Spec,
    pub(super) layout: Layout,
    kernels: &'static Kernels,
}

impl Header {
    /// Reads the header of `file`.
    ///
    /// # Errors
    /// If the file does not hold a model that can be run.
    pub fn new(file: &GgufFile, kernels: &'static Kernels) -> Result<Self, ModelError> {
        let spec = Spec::read(file)?;
        let layout = Layout::new(file, &spec, kernels.packing)?;
        Ok(Self { spec, layout, kernels })
    }

    /// The shape.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Plans a run.
    ///
    /// # Errors
    /// If the context or the number of slots is out of range.
    pub fn plan(&self, options: &RunOptions) -> Result<Plan, ModelError> {
        Plan::of(&self.spec, &self.layout, options)
    }

    /// Loads the model in `file`, whose header was read, on so many threads. The file is not needed afterwards. Of a model
    /// that was verified, `verified` says which packs may be used.
    ///
    /// # Errors
    /// If the file is damaged, or memory cannot be had.
    pub fn load(
        self,
        file: &GgufFile,
        verified: Option<&Verified>,
        threads: usize,
    ) -> Result<Model, ModelError> {
        let Self { spec, layout, kernels } = self;
        let mut pool = Pool::new(threads);
        let (weights, pack) =
            Weights::load(file, (&layout, kernels), (spec.logit_scale, verified), &mut pool)?;
        Ok(Model { spec, layout, weights, pack, kernels })
    }
}

/// A loaded model: shape and packed weights. Shared by any number of workers and caches.
#[derive(Debug)]
pub struct Model {
    pub(super) spec: Spec,
    pub(super) layout: Layout,
    pub(super) weights: Weights,
    pack: PackStatus,
    kernels: &'static Kernels,
}

impl Model {
    /// Loads the model in `file` for `kernels`, on this thread. The file is not needed afterwards.
    ///
    /// # Errors
    /// If the file does not hold a model that can be run, or memory cannot be had.
    pub fn load(file: &GgufFile, kernels: &'static Kernels) -> Result<Self, ModelError> {
        Header::new(file, kernels)?.load(file, None, 1)
    }

    /// Whether the weights came from a pack.
    pub fn pack(&self) -> &PackStatus {
        &self.pack
    }

    /// Writes the pack of the model, which was loaded from `file` without one, for those who may use it (see
    /// [`Header::load`]); path and size.
    ///
    /// # Errors
    /// If something else has the name of the pack, the model is sealed, or the disk refuses.
    pub fn renew_pack(
        &self,
        file: &GgufFile,
        verified: Option<&Verified>,
    ) -> Result<Option<(PathBuf, u64)>, ModelError> {
        let Some(packed) = self.weights.packed_here() else { return Ok(None) };
        match verified {
            Some(verified) => verified.write(file, self.kernels, packed, self.weights.vectors()),
            None => packed::write(file, self.kernels, packed),
        }
        .map(Some)
    }

    /// The shape.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The kernels it is packed for.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }
}
