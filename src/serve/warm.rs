//! A start at which the system prompt was read before.
//!
//! The operator's system prompt is the beginning of every prompt. What the model made of it is kept in a file, in the
//! form of a session without turns, and restored when the server starts again with the same model, template and
//! settings. The file is checked, and its tokens are compared: one that does not fit is made anew, one that is something
//! else is left alone.

use std::ops::ControlFlow;
use std::path::Path;

use crate::generate::{
    Conversation, Format, GenerateError, Origin, Request, SavedError, Session, Slots, open, save,
};
use crate::model::Runner;
use crate::text::TemplateError;

/// How a server began.
#[derive(Debug)]
pub enum Warmth {
    /// There is nothing that all prompts begin with.
    Cold,
    /// So many tokens came from the file.
    Restored(usize),
    /// So many tokens were read, and what came of keeping them.
    Read(usize, Option<SavedError>),
}

/// Why the system prompt cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WarmError {
    /// It cannot be rendered, or does not fit.
    #[error("the system prompt cannot be used")]
    Template(#[from] TemplateError),
    /// The model fails.
    #[error("the system prompt cannot be read")]
    Generate(#[from] GenerateError),
}

/// Lets the first slot have the system prompt, from the file at `path` if that has it.
///
/// # Errors
/// If the system prompt does not fit into the context, or the model fails.
pub fn warm(
    slots: Slots<'static>,
    system: Option<&str>,
    format: &Format,
    origin: &Origin,
    path: Option<&Path>,
) -> Result<(Slots<'static>, Warmth), WarmError> {
    let (conversation, context) = (Conversation::new(system), slots.context());
    let Some(_) = conversation.system() else { return Ok((slots, Warmth::Cold)) };
    let opening = conversation.opening(format, slots.tokenizer(), context)?;
    if opening.is_empty() {
        return Ok((slots, Warmth::Cold));
    }
    let (slots, warmth) = slots.with_first(|session| -> Result<Warmth, WarmError> {
        let found = path.map(|path| open(path, &origin.identity, session));
        let has_all = matches!(&found, Some(Ok(opened)) if opened.difference.is_none());
        if has_all && session.cached() == opening {
            return Ok(Warmth::Restored(opening.len()));
        }
        read(session, &opening)?;
        let mut conversation = conversation;
        conversation.forget_tokens();
        let may_write = match found {
            Some(Err(SavedError::NotASession { .. })) | None => false,
            Some(Ok(opened)) => opened.conversation.turns().is_empty(),
            Some(Err(_)) => true,
        };
        let kept = match (path, may_write) {
            (Some(path), true) => save(path, origin, &conversation, Some(session)).err(),
            (Some(path), false) => Some(SavedError::NotASession { file: path.display().to_string() }),
            (None, _) => None,
        };
        Ok(Warmth::Read(opening.len(), kept))
    });
    Ok((slots, warmth?))
}

fn read(session: &mut Session<Runner>, opening: &[u32]) -> Result<(), GenerateError> {
    session.clear();
    let request = Request { max_tokens: Some(0), ..Request::new(opening) };
    session.generate(request, &mut |_| ControlFlow::Continue(())).map(|_| ())
}
