//! Sessions in files, as arguments name them.

use std::path::Path;

use super::error::CliError;
use super::load::{Loaded, Planned};
use super::output::note;
use crate::generate::{Conversation, Format, Identity, open};

/// What a saved state depends on.
pub(super) fn identity(planned: &Planned, loaded: &Loaded, format: &Format) -> Identity {
    let file = &planned.file;
    let identity = Identity {
        model: file.fingerprint(),
        model_bytes: file.file_bytes(),
        tokenizer: loaded.session.tokenizer().fingerprint(),
        template: format.fingerprint(),
        state: loaded.session.state_key(),
    };
    // Of the fingerprint's samples nothing need stay in memory.
    file.release_all();
    identity
}

/// Goes on with a saved conversation; says so if what was computed cannot be used.
///
/// # Errors
/// If it cannot be read.
pub(super) fn resume(
    path: &Path,
    identity: &Identity,
    loaded: &mut Loaded,
) -> Result<Conversation, CliError> {
    let opened = open(path, identity, &mut loaded.session)?;
    if let Some(what) = opened.refused {
        note(format_args!(
            "{} was saved with {what}: what was computed is not used, the messages are read again",
            path.display()
        ));
    }
    Ok(opened.conversation)
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
