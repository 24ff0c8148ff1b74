//! A message written in the user's editor.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use super::error::ChatError;
use crate::files::{ReadError, read_text};
use crate::text::MAX_MESSAGE_BYTES;

/// The editor where no variable names one.
const DEFAULT: &str = "vi";

/// A file that goes away.
struct Draft(PathBuf);

impl Draft {
    fn new(text: &str) -> std::io::Result<Draft> {
        let name = format!("smolt-message-{}-{}.md", std::process::id(), unique());
        let draft = Draft(std::env::temp_dir().join(name));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&draft.0)?.write_all(text.as_bytes())?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A number nobody else would choose for a name in a folder of all users.
fn unique() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Opens `text` in the editor that `VISUAL` or `EDITOR` names and returns what it is when the editor ends.
///
/// # Errors
/// If the editor cannot be started or fails, or the text is too long or not UTF-8.
pub(super) fn edit(text: &str) -> Result<String, ChatError> {
    let named = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.trim().is_empty()));
    let command = named.unwrap_or(DEFAULT.to_owned());
    let draft = Draft::new(text).map_err(|source| ChatError::Draft { source })?;
    // It may have arguments.
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().unwrap_or(DEFAULT)).args(words).arg(&draft.0).status();
    match status {
        Err(source) => return Err(ChatError::Editor { command, source }),
        Ok(status) if !status.success() => return Err(ChatError::EditorFailed { command }),
        Ok(_) => {}
    }
    match read_text(&draft.0, MAX_MESSAGE_BYTES as u64) {
        Ok(edited) => Ok(edited.trim_end().to_owned()),
        Err(ReadError::TooLong { .. }) => Err(ChatError::MessageTooLong { limit: MAX_MESSAGE_BYTES }),
        Err(source) => Err(ChatError::EditorText { source }),
    }
}
