//! From arguments to a session: open, plan, refuse what does not fit, then load.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::{ModelArgs, ResourceArgs};
use super::constrain::GrammarArgs;
use super::demo;
use super::error::CliError;
use super::memory::MemoryPlan;
use super::output::{note, with_causes};
use super::preset;
use super::prompt::PromptArgs;
use crate::console::is_unsafe;
use crate::generate::{Format, Session, loaded_grammar_bytes};
use crate::gguf::{GgufFile, Purpose};
use crate::kernels::Kernels;
use crate::model::{Misfit, Model, PackStatus, RunOptions, Runner, Spec, check_purpose, pack_path};
use crate::store::{Store, StoreError};
use crate::text::{Tokenizer, TokenizerOptions};

/// A model file, resolved options and what they will take; nothing is loaded yet.
pub(super) struct Planned {
    pub(super) file: GgufFile,
    pub(super) kernels: &'static Kernels,
    pub(super) spec: Spec,
    pub(super) options: RunOptions,
    pub(super) memory: MemoryPlan,
    /// What is allowed, from `--max-memory`.
    limit: Option<u64>,
    name: String,
    /// The plan with a grammar, and why it is above what is allowed.
    foreseen: Option<(MemoryPlan, Option<CliError>)>,
}

/// A loaded model, ready to answer.
pub(super) struct Loaded {
    pub(super) session: Session<Runner>,
    /// From opening the file to here.
    pub(super) time: Duration,
}

/// The file that an argument means: itself if it exists or cannot be looked at, else that of an alias or an installed model.
///
/// # Errors
/// If it is none of these.
pub(super) fn file(model: &Path) -> Result<Cow<'_, Path>, CliError> {
    let found = std::fs::metadata(model);
    // A folder may have the name of a model, as ORG/REPO.
    let is_folder = found.as_ref().is_ok_and(std::fs::Metadata::is_dir);
    let is_there = match found {
        Ok(_) => !is_folder,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    };
    let (Some(name), false) = (model.to_str(), is_there) else { return Ok(Cow::Borrowed(model)) };
    match Store::of_user() {
        Ok(_) if preset::exists(model) => Err(CliError::OnlyPreset { name: name.to_owned() }),
        Ok(store) => match store.resolve(name) {
            // What the folder is will be said where it is opened.
            Err(StoreError::NotInstalled { .. }) if is_folder => Ok(Cow::Borrowed(model)),
            resolved => Ok(Cow::Owned(resolved?)),
        },
        Err(_) => Ok(Cow::Borrowed(model)),
    }
}

/// Opens the model, or the built-in one, which it says.
///
/// # Errors
/// If the file is missing or not valid GGUF.
pub(super) fn open(args: &ModelArgs) -> Result<GgufFile, CliError> {
    match &args.model {
        Some(model) => Ok(GgufFile::open(&file(model)?)?),
        None => {
            demo::say();
            Ok(demo::open()?)
        }
    }
}

/// Resolves the options and plans the memory of running the model and holding answers to the grammar.
/// `logit_rows` as in [`RunOptions`].
///
/// # Errors
/// If the file holds no model that can be run.
pub(super) fn plan(
    args: &ModelArgs,
    resources: &ResourceArgs,
    logit_rows: usize,
    grammar: &GrammarArgs,
) -> Result<Planned, CliError> {
    let kernels = Kernels::detect()?;
    let file = open(args)?;
    let spec = Spec::read(&file)?;
    let options = resources.resolve(&spec, logit_rows);
    if options.context > spec.trained_context {
        note(format_args!(
            "a context of {} is more than the {} tokens the model was trained for; late answers may be poor",
            options.context, spec.trained_context
        ));
    }
    let mut memory = MemoryPlan::new(&file, kernels, &options)?;
    if grammar.takes_memory() {
        memory.add_grammar(&file);
    }
    let name = name(&file);
    Ok(Planned { file, kernels, spec, options, memory, limit: resources.max_memory, name, foreseen: None })
}

/// Rebuilds the tokenizer of the file, and says what may be wrong with it.
///
/// # Errors
/// If it is not complete or not supported.
pub(super) fn tokenizer(file: &GgufFile, args: &ModelArgs) -> Result<Tokenizer, CliError> {
    if file.purpose() != Purpose::Vocabulary {
        check_purpose(file)?;
    }
    let tokenizer = Tokenizer::from_gguf(file, TokenizerOptions { pre: args.pre.clone() })?;
    for warning in tokenizer.warnings() {
        note(format_args!("{}: {warning}", file.name()));
    }
    Ok(tokenizer)
}

impl Loaded {
    /// The format of prompts; answers end where its template ends them.
    ///
    /// # Errors
    /// As [`PromptArgs::format`].
    pub(super) fn format(&mut self, prompting: &PromptArgs) -> Result<Format, CliError> {
        let format = prompting.format(self.session.tokenizer())?;
        let end = format.turn_end(self.session.tokenizer());
        self.session.set_turn_end(end);
        Ok(format)
    }
}

impl Planned {
    /// Refuses to go on if the plan is above what is allowed.
    ///
    /// # Errors
    /// [`CliError::DoesNotFit`].
    pub(super) fn check(&self) -> Result<(), CliError> {
        self.memory.check(self.limit, &self.file, self.kernels, &self.options)
    }

    /// Plans for answers to a grammar too.
    ///
    /// # Errors
    /// [`CliError::DoesNotFit`].
    pub(super) fn allow_grammar(&mut self) -> Result<(), CliError> {
        self.memory.add_grammar(&self.file);
        self.check()
    }

    /// Plans for answers to a grammar, which may be asked for when the file is gone.
    pub(super) fn foresee_grammar(&mut self) {
        if self.limit.is_some() {
            let mut memory = self.memory;
            memory.add_grammar(&self.file);
            let refusal = memory.check(self.limit, &self.file, self.kernels, &self.options).err();
            self.foreseen = Some((memory, refusal));
        }
    }

    /// As [`Self::allow_grammar`], without the file, after [`Self::foresee_grammar`].
    ///
    /// # Errors
    /// [`CliError::DoesNotFit`].
    pub(super) fn allow_foreseen_grammar(&mut self, tokenizer: &Tokenizer) -> Result<(), CliError> {
        match &self.foreseen {
            None if self.memory.grammar == 0 => {
                self.memory.add_grammar_bytes(loaded_grammar_bytes(tokenizer));
                Ok(())
            }
            None => Ok(()),
            Some((memory, None)) => {
                self.memory = *memory;
                Ok(())
            }
            Some((_, Some(CliError::DoesNotFit { file, needed, limit, context, grammar, largest }))) => {
                let (file, needed, limit) = (file.clone(), *needed, *limit);
                let (context, grammar, largest) = (*context, *grammar, *largest);
                Err(CliError::DoesNotFit { file, needed, limit, context, grammar, largest })
            }
            Some(_) => self.check(),
        }
    }

    /// Loads tokenizer and weights and allocates all that was planned. `started` is when the file was opened.
    ///
    /// # Errors
    /// If the file is damaged or memory cannot be had.
    pub(super) fn load(&self, args: &ModelArgs, started: Instant) -> Result<Loaded, CliError> {
        let (tokenizer, model) = self.load_both(args);
        let (tokenizer, model) = (tokenizer?, model?);
        let (tokens, rows) = (tokenizer.vocab_size(), self.spec.vocab);
        if tokens > rows {
            return Err(CliError::Vocabulary { file: self.file.name().to_owned(), tokens, rows });
        }
        if let PackStatus::Unfit(path, misfit) = model.pack() {
            self.renew_pack(&model, path, *misfit);
        }
        let runner = Runner::new(Arc::new(model), &self.options)?;
        if runner.threads() < self.options.threads {
            let (started, asked) = (runner.threads(), self.options.threads);
            note(format_args!(
                "the system refuses more than {started} of {asked} threads; it goes on with these"
            ));
        }
        let session = Session::new(runner, Arc::new(tokenizer));
        Ok(Loaded { session, time: started.elapsed() })
    }

    /// Loads tokenizer and weights.
    fn load_both(&self, args: &ModelArgs) -> (Result<Tokenizer, CliError>, Result<Model, CliError>) {
        let load = || Ok(Model::load(&self.file, self.kernels)?);
        // Either takes as long as the other; with one thread the memory that building the tokenizer took for
        // a while is used again for the rest, of which there is little beside a pack.
        let has_pack = self.file.path().is_some_and(|path| pack_path(path, self.kernels).exists());
        let at_once = std::thread::scope(|scope| {
            if self.options.threads == 1 && !has_pack {
                return None;
            }
            let model = std::thread::Builder::new().spawn_scoped(scope, load).ok()?;
            Some((tokenizer(&self.file, args), model.join()))
        });
        match at_once {
            Some((tokenizer, model)) => {
                (tokenizer, model.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            }
            None => (tokenizer(&self.file, args), load()),
        }
    }

    /// Makes a pack anew that was not used, and says so.
    fn renew_pack(&self, model: &Model, path: &Path, misfit: Misfit) {
        let path = path.display();
        let why = match misfit {
            Misfit::Foreign => {
                return note(format_args!(
                    "{path} is not a pack of this program and is not used; move it away, then smolt pack makes one"
                ));
            }
            Misfit::Other => "does not fit this model or program",
            Misfit::Damaged => "is damaged",
        };
        match model.renew_pack(&self.file) {
            Ok(_) => note(format_args!("{path} {why} and is not used; it was made anew")),
            Err(error) => {
                let error = with_causes(&error);
                note(format_args!("{path} {why} and is not used; it cannot be made anew: {error}"));
            }
        }
    }

    /// What the model is called.
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }
}

/// What a model is called: `general.name`, else the file's name.
pub(super) fn name(file: &GgufFile) -> String {
    let named = file.str("general.name").ok().flatten().filter(|name| !name.trim().is_empty());
    let stem = || Path::new(file.name()).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = named.map(str::to_owned).or_else(stem).unwrap_or_default();
    name.chars().filter(|c| !is_unsafe(*c) && !c.is_control()).collect()
}
