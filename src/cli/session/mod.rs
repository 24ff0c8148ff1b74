//! Sessions in files, as arguments name them.
//!
//! # Design
//!
//! ```text
//! lock   one process at a time
//! kept   sessions that are kept without being asked for
//! ```
//!
//! A turn is on the disk before its answer's line ends. What was computed is written at the end, where a file was
//! named; sessions that are kept by themselves are messages only, so that they stay small. A file of another model is
//! refused, one that is no session too; with another chat template, or a smaller context, which may cost turns, the
//! file as it was is kept beside.

mod kept;
mod lock;

use self::kept::last_origin;
pub(super) use self::kept::state_folder;
pub(super) use self::lock::Lock;

use std::path::{Path, PathBuf};

use super::args::ModelArgs;
use super::error::{CliError, SessionError};
use super::load::{Loaded, Planned};
use super::output::note;
use crate::files;
use crate::generate::{
    Conversation, Difference, Format, Identity, Journal, Opened, Origin, SavedError, Session, open, origin,
    save,
};
use crate::model::Runner;

/// Which session.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct SessionArgs {
    /// Go on with the session in this file, or begin one: every turn is saved there, and at the end all that was computed
    #[arg(long, value_name = "FILE", env = "SMOLT_SESSION")]
    session: Option<PathBuf>,

    /// Go on with the last session that was kept; -c without a number is the same
    #[arg(long = "continue", conflicts_with = "session")]
    goes_on: bool,
}

impl SessionArgs {
    /// Without a model, the one of the session that goes on.
    pub(super) fn choose_model(&self, model: &mut ModelArgs) {
        if self.goes_on
            && model.model.is_none()
            && !model.stored.is_some()
            && let Some(origin) = last_origin().filter(|origin| !origin.source.is_empty())
        {
            model.model = Some(origin.source.into());
        }
    }

    /// Whether there is one.
    pub(super) fn is_some(&self) -> bool {
        self.goes_on || self.session.is_some()
    }

    /// Opens it; nothing where none is asked for.
    ///
    /// # Errors
    /// As [`SessionFile::open`].
    pub(super) fn open(
        &self,
        origin: &Origin,
        session: &mut Session<Runner>,
    ) -> Result<(Option<SessionFile>, Option<Conversation>), CliError> {
        match &self.session {
            _ if self.goes_on => SessionFile::last(origin, session),
            Some(path) => {
                let (file, conversation) = SessionFile::open(path, origin, session)?;
                Ok((Some(file), conversation))
            }
            None => Ok((None, None)),
        }
    }
}

/// What a saved state depends on.
///
/// # Errors
/// Of a file that is read once, if it was not loaded.
pub(super) fn identity(planned: &Planned, loaded: &Loaded, format: &Format) -> Result<Identity, CliError> {
    Ok(planned.identity(&loaded.session, format)?)
}

/// What a session with this model is of. Reads the model file.
///
/// # Errors
/// As [`identity`].
pub(super) fn origin_of(
    args: &ModelArgs,
    planned: &Planned,
    loaded: &Loaded,
    format: &Format,
) -> Result<Origin, CliError> {
    // A file is found from every folder, a name as it is.
    let source = args.model.as_ref().map(|model| match std::path::absolute(model) {
        Ok(path) if path.exists() => path.display().to_string(),
        _ => model.display().to_string(),
    });
    Ok(Origin {
        identity: identity(planned, loaded, format)?,
        model: planned.name(),
        source: source.unwrap_or_default(),
    })
}

/// The file of a session that goes on.
#[derive(Debug)]
pub(super) struct SessionFile {
    path: PathBuf,
    origin: Origin,
    _lock: Lock,
    /// Nothing before the first turn.
    journal: Option<Journal>,
    /// Whether what was computed is kept too.
    has_state: bool,
    /// Whether the file holds what is to be kept beside it when it is replaced.
    keeps_old: bool,
    /// Whether there is more to say than the file does.
    is_changed: bool,
}

impl SessionFile {
    /// Opens a session, or makes ready to begin one; says so if what was computed cannot be used.
    ///
    /// # Errors
    /// If another process has it, or it is of another model or no session at all.
    pub(super) fn open(
        path: &Path,
        origin: &Origin,
        session: &mut Session<Runner>,
    ) -> Result<(SessionFile, Option<Conversation>), CliError> {
        let mut file = SessionFile {
            path: path.to_owned(),
            origin: origin.clone(),
            _lock: Lock::take(path)?,
            journal: None,
            has_state: true,
            keeps_old: false,
            is_changed: true,
        };
        if !is_there(path)? {
            return Ok((file, None));
        }
        let opened = open(path, &origin.identity, session)?;
        if let Some(what @ (Difference::Model | Difference::Tokenizer)) = opened.difference {
            let Origin { model, source, .. } = opened.origin;
            let file = path.display().to_string();
            return Err(SessionError::Other { file, what, model, begun: source }.into());
        }
        note_opened(path, &opened);
        file.keeps_old = matches!(opened.difference, Some(Difference::Template | Difference::Context));
        file.is_changed = opened.difference.is_some();
        file.journal = Some(Journal::open(path, opened.bytes, &opened.conversation)?);
        Ok((file, Some(opened.conversation)))
    }

    /// The last session that was kept of this model, or a new one; says so if it is new.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn last(
        origin: &Origin,
        session: &mut Session<Runner>,
    ) -> Result<(Option<SessionFile>, Option<Conversation>), CliError> {
        let Some(path) = kept::last(origin)? else {
            note("no session is kept yet; this is a new one");
            return Ok((SessionFile::keep(origin)?, None));
        };
        let (file, conversation) = SessionFile::open(&path, origin, session)?;
        Ok((Some(SessionFile { has_state: false, ..file }), conversation))
    }

    /// A new session that is kept without being asked for; `None` where there is no place.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn keep(origin: &Origin) -> Result<Option<SessionFile>, CliError> {
        let Some(path) = kept::new_path()? else { return Ok(None) };
        Ok(Some(SessionFile {
            _lock: Lock::take(&path)?,
            path,
            origin: origin.clone(),
            journal: None,
            has_state: false,
            keeps_old: false,
            is_changed: false,
        }))
    }

    /// Where it is, if a person asked for it.
    pub(super) fn named(&self) -> Option<&Path> {
        self.has_state.then_some(self.path.as_path())
    }

    /// Whether there is a file already.
    pub(super) fn is_begun(&self) -> bool {
        self.journal.is_some()
    }

    /// Whether it is in this file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        self.path == path || real(path).is_some_and(|path| real(&self.path) == Some(path))
    }

    /// Writes what is new in the conversation; it is on the disk when this returns.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn record(&mut self, conversation: &Conversation) -> Result<(), CliError> {
        match &mut self.journal {
            None if conversation.turns().is_empty() => Ok(()),
            Some(journal) if !self.keeps_old && !journal.is_long() => {
                self.is_changed |= journal.record(conversation)?;
                Ok(())
            }
            _ => {
                self.set_aside()?;
                self.is_changed = true;
                // What it writes to is replaced.
                self.journal = None;
                let bytes = save::<Runner>(&self.path, &self.origin, conversation, None)?;
                self.journal = Some(Journal::open(&self.path, bytes, conversation)?);
                Ok(())
            }
        }
    }

    /// Keeps the file as it was, where it holds what this session does not.
    fn set_aside(&mut self) -> Result<(), CliError> {
        if std::mem::take(&mut self.keeps_old) {
            let aside = kept::keep_aside(&self.path)?;
            note(format_args!("{} as it was is kept in {}", self.path.display(), aside.display()));
        }
        Ok(())
    }

    /// Writes the conversation with what was computed, if that is wanted here and there is anything new.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn finish(
        &mut self,
        origin: &Origin,
        conversation: &Conversation,
        session: &mut Session<Runner>,
    ) -> Result<(), CliError> {
        self.origin.clone_from(origin);
        if !self.is_changed {
            return Ok(());
        }
        if !self.has_state {
            return self.record(conversation);
        }
        self.set_aside()?;
        self.journal = None;
        let bytes = save(&self.path, &self.origin, conversation, Some(session))?;
        self.journal = Some(Journal::open(&self.path, bytes, conversation)?);
        self.is_changed = false;
        Ok(())
    }

    /// Another conversation takes the place of this one, which is kept.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn replace(&mut self) -> Result<(), CliError> {
        if self.has_state {
            self.keeps_old |= self.journal.is_some();
        } else if self.journal.is_some()
            && let Some(new) = SessionFile::keep(&self.origin)?
        {
            *self = new;
        }
        Ok(())
    }

    /// Goes on with another model; the session of this one is kept beside.
    pub(super) fn switch(&mut self, origin: &Origin) {
        self.keeps_old |= self.journal.take().is_some();
        self.origin = origin.clone();
        self.is_changed = true;
    }
}

/// Reads a saved conversation that goes on elsewhere; the file stays as it is.
///
/// # Errors
/// If it cannot be read.
pub(super) fn read(
    path: &Path,
    identity: &Identity,
    session: &mut Session<Runner>,
) -> Result<Conversation, CliError> {
    let opened = open(path, identity, session)?;
    note_opened(path, &opened);
    Ok(opened.conversation)
}

/// Saves a conversation in a file that it does not go on in; what else is there is kept beside, and refused if it is
/// no session. With `is_own` what is there is an older copy. Returns the size of the file.
///
/// # Errors
/// If there is something else, or the disk refuses.
pub(super) fn save_copy(
    path: &Path,
    origin: &Origin,
    conversation: &Conversation,
    session: &mut Session<Runner>,
    is_own: bool,
) -> Result<u64, CliError> {
    let _lock = Lock::take(path)?;
    if is_there(path)? {
        is_session(path)?;
        if !is_own {
            let aside = kept::keep_aside(path)?;
            note(format_args!("{} as it was is kept in {}", path.display(), aside.display()));
        }
    }
    Ok(save(path, origin, conversation, Some(session))?)
}

/// Whether there is anything of this name, a session or not.
fn is_there(path: &Path) -> Result<bool, SavedError> {
    let read = |source| SavedError::Read { file: path.display().to_string(), source };
    files::is_there(path).map_err(read)
}

/// Refuses what is no session of any version.
fn is_session(path: &Path) -> Result<(), SavedError> {
    match origin(path) {
        Err(error @ (SavedError::NotASession { .. } | SavedError::Read { .. })) => Err(error),
        _ => Ok(()),
    }
}

/// Says what of an opened file is not used.
fn note_opened(path: &Path, opened: &Opened) {
    if let Some(what) = opened.difference {
        note(format_args!(
            "{} was saved with {what}: what was computed is not used, the messages are read again",
            path.display()
        ));
    }
    if opened.cut > 0 {
        note(format_args!("the last turn of {} was not saved whole and is not used", path.display()));
    }
}

/// Says that the oldest turns were dropped.
pub(super) fn note_dropped(turns: usize, has_system: bool) {
    let what = match turns {
        0 => return,
        1 => "the oldest turn is".to_owned(),
        _ => format!("the {turns} oldest turns are"),
    };
    let kept = if has_system { "; the system prompt is kept" } else { "" };
    note(format_args!("the context is full: {what} forgotten{kept}"));
}
