//! From arguments to a session: open, plan, refuse what does not fit, then load.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::{Duration, Instant};

use super::args::{ModelArgs, ResourceArgs};
use super::constrain::GrammarArgs;
use super::demo;
use super::error::CliError;
use super::opened::Opened;
use super::output::{note, with_causes};
use super::presets;
use super::prompt::PromptArgs;
use crate::console::is_unsafe;
use crate::eval::probe::{available_bytes, program_bytes};
use crate::generate::{Format, Session, Slots, loaded_grammar_bytes};
use crate::gguf::GgufFile;
use crate::kernels::Kernels;
use crate::load::{self, DoesNotFit, LoadOptions, MemoryPlan, Prepared};
use crate::model::{Misfit, Model, PackStatus, Runner};
use crate::runtime::has_unlocked_secrets;
use crate::store::{Store, StoreError};
use crate::text::Tokenizer;

/// A model file, resolved options and what they will take. Nothing is loaded yet, but for a model of a store, of which only
/// what was loaded is known to run.
pub(super) struct Planned {
    prepared: Prepared,
    loaded: Option<load::Loaded>,
    name: String,
    /// The plan with a grammar, and why it is above what is allowed.
    foreseen: Option<(MemoryPlan, Option<DoesNotFit>)>,
}

/// A loaded model, ready to answer several at once.
pub(super) struct LoadedSlots {
    pub(super) slots: Slots<'static>,
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
        Ok(_) if presets::exists(model) => Err(CliError::OnlyPreset { name: name.to_owned() }),
        Ok(store) => match store.resolve(name) {
            // What the folder is will be said where it is opened.
            Err(StoreError::NotInstalled { .. }) if is_folder => Ok(Cow::Borrowed(model)),
            resolved => Ok(Cow::Owned(resolved?)),
        },
        Err(_) => Ok(Cow::Borrowed(model)),
    }
}

/// Opens the model, or the built-in one, which it says unless that was named. One that must be signed is read once.
///
/// # Errors
/// If the file is missing, not valid GGUF, or not signed as it must be.
pub(super) fn open(args: &ModelArgs) -> Result<Opened, CliError> {
    if let Some(opened) = args.stored.open(args.named())? {
        return Ok(opened);
    }
    match &args.model {
        Some(model) => {
            let path = file(model)?;
            match args.trust.open(&path, args.stored.identity())? {
                Some(opened) => Ok(opened),
                None => Ok(GgufFile::open(&path)?.into()),
            }
        }
        None => {
            args.trust.check_demo()?;
            if !args.is_demo {
                say_demo();
            }
            Ok(demo::open()?.into())
        }
    }
}

/// Says that the built-in model is used, and how to get another.
fn say_demo() {
    let has_models = Store::of_user().and_then(|store| store.list()).is_ok_and(|models| !models.is_empty());
    let how = if has_models {
        ", smolt use NAME makes an installed one the default"
    } else if cfg!(feature = "pull") {
        ", smolt pull bartowski/SmolLM2-135M-Instruct-GGUF fetches one that knows more"
    } else {
        ""
    };
    note(format_args!("using {}; -m FILE names another{how}", demo::NAME));
}

/// Opens the model to look at what its header says. One that must be signed is read to its end before.
///
/// # Errors
/// As [`open`]; if it is not what was signed.
pub(super) fn open_header(args: &ModelArgs) -> Result<GgufFile, CliError> {
    let file = open(args)?.file;
    file.read_to_end()?;
    Ok(file)
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
    let options = LoadOptions {
        logit_rows,
        grammar: grammar.takes_memory(),
        program_bytes: program_bytes(),
        pre: args.pre.clone(),
        kernels: Some(Kernels::detect()?),
        ..resources.options()
    };
    let (prepared, loaded) = match args.stored.load(args.named(), &options)? {
        Some((prepared, loaded)) => (prepared, Some(loaded)),
        None => {
            let Opened { file, verified } = open(args)?;
            (Prepared::new(file, &LoadOptions { verified, ..options })?, None)
        }
    };
    let (context, trained) = (prepared.options().context, prepared.spec().trained_context);
    if context > trained {
        note(format_args!(
            "a context of {context} is more than the {trained} tokens the model was trained for; late answers may be poor"
        ));
    }
    let name = name(prepared.file());
    Ok(Planned { prepared, loaded, name, foreseen: None })
}

/// Rebuilds the tokenizer of the file, and says what may be wrong with it.
///
/// # Errors
/// If it is not complete or not supported.
pub(super) fn tokenizer(file: &GgufFile, args: &ModelArgs) -> Result<Tokenizer, CliError> {
    let tokenizer = load::tokenizer(file, args.pre.as_deref())?;
    warn(file, &tokenizer);
    Ok(tokenizer)
}

/// Says what may be wrong with the tokenizer of a file.
fn warn(file: &GgufFile, tokenizer: &Tokenizer) {
    for warning in tokenizer.warnings() {
        note(format_args!("{}: {warning}", file.name()));
    }
}

impl Loaded {
    /// The format of prompts; answers end where its template ends them.
    ///
    /// # Errors
    /// As [`PromptArgs::format`].
    pub(super) fn format(&mut self, prompting: &PromptArgs) -> Result<Format, CliError> {
        let (format, end) = format(prompting, self.session.tokenizer())?;
        self.session.set_turn_end(end);
        Ok(format)
    }
}

impl LoadedSlots {
    /// The format of prompts; answers end where its template ends them.
    ///
    /// # Errors
    /// As [`PromptArgs::format`].
    pub(super) fn format(&mut self, prompting: &PromptArgs) -> Result<Format, CliError> {
        let (format, end) = format(prompting, self.slots.tokenizer())?;
        self.slots.set_turn_end(end);
        Ok(format)
    }
}

/// The format of prompts, and the token that ends answers in it.
fn format(prompting: &PromptArgs, tokenizer: &Tokenizer) -> Result<(Format, Option<u32>), CliError> {
    let format = prompting.format(tokenizer)?;
    let end = format.turn_end(tokenizer);
    Ok((format, end))
}

impl DerefMut for Planned {
    fn deref_mut(&mut self) -> &mut Prepared {
        &mut self.prepared
    }
}

impl Deref for Planned {
    type Target = Prepared;

    fn deref(&self) -> &Prepared {
        &self.prepared
    }
}

impl Planned {
    /// Refuses to go on if the plan is above what is allowed.
    ///
    /// # Errors
    /// [`LoadError::DoesNotFit`](crate::load::LoadError::DoesNotFit).
    pub(super) fn check(&self) -> Result<(), CliError> {
        Ok(self.prepared.check()?)
    }

    /// Plans for answers to a grammar too.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn allow_grammar(&mut self) -> Result<(), CliError> {
        self.prepared.add_grammar();
        self.check()
    }

    /// Plans for answers to a grammar, which may be asked for when the file is gone.
    pub(super) fn foresee_grammar(&mut self) {
        if self.limit().is_some() {
            let mut plan = *self.plan();
            plan.add_grammar(self.file());
            let refusal = self.prepared.check_plan(&plan).err();
            self.foreseen = Some((plan, refusal));
        }
    }

    /// As [`Self::allow_grammar`], without the file, after [`Self::foresee_grammar`].
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn allow_foreseen_grammar(&mut self, tokenizer: &Tokenizer) -> Result<(), CliError> {
        match &self.foreseen {
            Some((_, Some(refusal))) => Err(refusal.clone().into()),
            Some((plan, None)) => {
                self.prepared.set_plan(*plan);
                Ok(())
            }
            None => {
                let mut plan = *self.plan();
                plan.add_grammar_bytes(loaded_grammar_bytes(tokenizer));
                self.prepared.set_plan(plan);
                Ok(())
            }
        }
    }

    /// Loads tokenizer and weights and allocates all that was planned. `started` is when the file was opened.
    ///
    /// # Errors
    /// If the file is damaged or memory cannot be had.
    pub(super) fn load(&self, started: Instant) -> Result<Loaded, CliError> {
        let session = self.load_model()?.plain_session()?;
        self.note_threads(session.model().threads());
        Ok(Loaded { session, time: started.elapsed() })
    }

    /// Loads tokenizer and weights and allocates all that was planned, for several answers at once.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(super) fn load_slots(&self) -> Result<LoadedSlots, CliError> {
        // As many jobs wait as are prepared while others run.
        let mut slots = self.load_model()?.plain_slots(self.options().slots)?;
        self.note_threads(slots.worker().threads());
        // What does not fit ends before the first answer; where there is plenty, pages that no answer needs cost time.
        let is_tight = available_bytes().is_none_or(|bytes| self.plan().total > bytes / 2);
        if is_tight || slots.len() == 1 {
            slots.prefault();
        }
        Ok(LoadedSlots { slots })
    }

    fn load_model(&self) -> Result<load::Loaded, CliError> {
        let loaded = match &self.loaded {
            Some(loaded) => self.prepared.renew(loaded)?,
            None => self.prepared.load()?,
        };
        warn(self.file(), loaded.tokenizer());
        if has_unlocked_secrets() {
            note(
                "the weights were sealed and cannot be locked in memory (ulimit -l); there is no swap that could take them to a disk",
            );
        }
        if let PackStatus::Unfit(path, misfit) = loaded.model().pack() {
            self.renew_pack(loaded.model(), path, *misfit);
        }
        Ok(loaded)
    }

    fn note_threads(&self, started: usize) {
        let asked = self.options().threads;
        if started < asked {
            note(format_args!(
                "the system refuses more than {started} of {asked} threads; it goes on with these"
            ));
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
        match self.prepared.renew_pack(model) {
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
