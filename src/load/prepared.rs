//! A model file whose header was read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DoesNotFit, LoadError, LoadOptions, Loaded, MemoryPlan};
use crate::generate::{Format, Identity, SamplerOptions, Session, Slots};
use crate::gguf::{GgufFile, Purpose};
use crate::kernels::Kernels;
use crate::model::{Header, Model, Resume, RunOptions, Spec, Verified, check_purpose, pack_path};
use crate::text::{Tokenizer, TokenizerOptions};

/// A model file, options filled in, and what they will take; nothing is loaded yet.
#[derive(Debug)]
pub struct Prepared {
    file: GgufFile,
    kernels: &'static Kernels,
    spec: Spec,
    options: RunOptions,
    plan: MemoryPlan,
    limit: Option<u64>,
    pre: Option<String>,
    verified: Option<Verified>,
}

/// Rebuilds the tokenizer of a file, which need not hold more than that; `pre` as in [`LoadOptions`].
///
/// # Errors
/// If it is not complete or not supported.
pub fn tokenizer(file: &GgufFile, pre: Option<&str>) -> Result<Tokenizer, LoadError> {
    if file.purpose() != Purpose::Vocabulary {
        check_purpose(file)?;
    }
    Ok(Tokenizer::from_gguf(file, TokenizerOptions { pre: pre.map(str::to_owned) })?)
}

impl Prepared {
    /// Opens the file at `path` and plans. A plan above the limit is refused by [`Self::check`] and [`Self::load`].
    ///
    /// # Errors
    /// If there is no model that can be run, or an option is out of range.
    pub fn open(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Prepared, LoadError> {
        Prepared::new(GgufFile::open(path.as_ref())?, options)
    }

    /// Plans with an open file, such as one that is part of a program.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn new(file: GgufFile, options: &LoadOptions) -> Result<Prepared, LoadError> {
        let kernels = options.kernels.map_or_else(Kernels::detect, Ok)?;
        let spec = Spec::read(&file)?;
        let run = options.resolve(&spec)?;
        let mut plan = MemoryPlan::new(&file, kernels, &run, options.program_bytes)?;
        if options.grammar {
            plan.add_grammar(&file);
        }
        let (limit, pre, verified) = (options.max_memory, options.pre.clone(), options.verified.clone());
        Ok(Prepared { file, kernels, spec, options: run, plan, limit, pre, verified })
    }

    /// The file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// The kernels that the weights will be packed for.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// The shape of the model.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The options of a session, filled in.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// The memory that the model and one session will take.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// The limit of the plan.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Plans for another number of slots.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn set_slots(&mut self, slots: usize) -> Result<(), LoadError> {
        let options = RunOptions { slots, ..self.options };
        let mut plan = MemoryPlan::new(&self.file, self.kernels, &options, self.plan.program)?;
        if self.plan.grammar > 0 {
            plan.set_grammar(self.plan.grammar);
        }
        (self.options, self.plan) = (options, plan);
        Ok(())
    }

    /// Replaces the plan by one with memory for grammars.
    pub fn add_grammar(&mut self) {
        self.plan.add_grammar(&self.file);
    }

    /// As [`Self::add_grammar`], by a plan that was made before.
    #[doc(hidden)]
    pub fn set_plan(&mut self, plan: MemoryPlan) {
        self.plan = plan;
    }

    /// Refuses a plan above the limit.
    ///
    /// # Errors
    /// If it is above.
    pub fn check(&self) -> Result<(), DoesNotFit> {
        self.check_plan(&self.plan)
    }

    /// Refuses another plan of this model if it is above the limit.
    ///
    /// # Errors
    /// If it is above.
    pub fn check_plan(&self, plan: &MemoryPlan) -> Result<(), DoesNotFit> {
        plan.check(self.limit, &self.file, self.kernels, &self.options)
    }

    /// How the file prefers tokens to be chosen (`general.sampling.*`, which conversion fills from a model's generation
    /// config), else the defaults.
    ///
    /// # Errors
    /// If a preference is of a wrong type or outside its range.
    pub fn sampling(&self) -> Result<SamplerOptions, LoadError> {
        Ok(SamplerOptions::for_model(&self.file)?)
    }

    /// What the state of a session depends on. Reads samples of the file.
    ///
    /// # Errors
    /// Of a file that is read once, if it was not loaded yet.
    pub fn identity<M: Resume>(&self, session: &Session<M>, format: &Format) -> Result<Identity, LoadError> {
        self.identity_of(session.tokenizer(), session.state_key(), format)
    }

    /// What the state of slots depends on. Reads samples of the file.
    ///
    /// # Errors
    /// As [`Self::identity`].
    pub fn slots_identity(&self, slots: &Slots<'_>, format: &Format) -> Result<Identity, LoadError> {
        self.identity_of(slots.tokenizer(), slots.state_key(), format)
    }

    fn identity_of(&self, tokenizer: &Tokenizer, state: u64, format: &Format) -> Result<Identity, LoadError> {
        let identity = Identity {
            model: self.file.fingerprint()?,
            model_bytes: self.file.file_bytes(),
            tokenizer: tokenizer.fingerprint(),
            template: format.fingerprint(),
            state,
        };
        // Of the samples nothing need stay in memory.
        self.file.release_all();
        Ok(identity)
    }

    /// Rebuilds the tokenizer.
    ///
    /// # Errors
    /// As [`tokenizer`].
    pub fn tokenizer(&self) -> Result<Tokenizer, LoadError> {
        tokenizer(&self.file, self.pre.as_deref())
    }

    /// Writes the pack of the model, which was loaded without one; path and size, unless it was loaded with one.
    ///
    /// # Errors
    /// As [`Model::renew_pack`].
    pub fn renew_pack(&self, model: &Model) -> Result<Option<(PathBuf, u64)>, LoadError> {
        Ok(model.renew_pack(&self.file, self.verified.as_ref())?)
    }

    /// Loads tokenizer and weights.
    ///
    /// # Errors
    /// If the plan is above its limit, the file is damaged, or memory cannot be had.
    pub fn load(&self) -> Result<Loaded, LoadError> {
        self.check()?;
        let sampling = self.sampling()?;
        let (tokenizer, model) = self.load_both();
        // A judgement on the file goes before an error that follows from what it holds.
        let (model, tokenizer) = (model?, tokenizer?);
        let (tokens, rows) = (tokenizer.vocab_size(), self.spec.vocab);
        if tokens > rows {
            return Err(LoadError::Vocabulary { file: self.file.name().to_owned(), tokens, rows });
        }
        Ok(Loaded {
            model: Arc::new(model),
            tokenizer: Arc::new(tokenizer),
            options: self.options,
            plan: self.plan,
            sampling,
        })
    }

    /// The same loaded model with the options and the plan that there are now.
    ///
    /// # Errors
    /// If the plan is above its limit.
    pub fn renew(&self, loaded: &Loaded) -> Result<Loaded, LoadError> {
        self.check()?;
        Ok(Loaded {
            model: Arc::clone(&loaded.model),
            tokenizer: Arc::clone(&loaded.tokenizer),
            options: self.options,
            plan: self.plan,
            sampling: loaded.sampling.clone(),
        })
    }

    fn load_both(&self) -> (Result<Tokenizer, LoadError>, Result<Model, LoadError>) {
        let (verified, threads) = (self.verified.as_ref(), self.options.threads);
        let load = || Ok(Header::new(&self.file, self.kernels)?.load(&self.file, verified, threads)?);
        // Either takes as long as the other; with one thread the memory that building the tokenizer took for
        // a while is used again for the rest, of which there is little beside a pack.
        let has_pack = self.file.path().is_some_and(|path| pack_path(path, self.kernels).exists());
        let at_once = std::thread::scope(|scope| {
            if self.options.threads == 1 && !has_pack {
                return None;
            }
            let model = std::thread::Builder::new().spawn_scoped(scope, load).ok()?;
            Some((self.tokenizer(), model.join()))
        });
        match at_once {
            Some((tokenizer, model)) => {
                (tokenizer, model.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            }
            None => (self.tokenizer(), load()),
        }
    }
}
