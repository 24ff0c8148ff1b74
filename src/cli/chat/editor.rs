//! A message written in the user's editor.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::error::ChatError;
use crate::cli::session::Lock;
use crate::files::{ReadError, read_text};
use crate::text::MAX_MESSAGE_BYTES;

/// The editor where no variable names one.
const DEFAULT: &str = "vi";

/// What names of drafts begin and end with.
const NAME: (&str, &str) = ("smolt-message-", ".md");

/// A file that goes away.
struct Draft {
    path: PathBuf,
    /// Tells that somebody writes it.
    _lock: Lock,
}

impl Draft {
    fn new(text: &str) -> std::io::Result<Draft> {
        let folder = std::env::temp_dir();
        remove_left(&folder);
        let (start, end) = NAME;
        let path = folder.join(format!("{start}{}-{}{end}", std::process::id(), unique()));
        let lock = Lock::take(&path).map_err(std::io::Error::other)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let draft = Draft { path, _lock: lock };
        file.write_all(text.as_bytes())?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the drafts of killed processes. Those of other users stay, where the folder is one of all users.
fn remove_left(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_draft = |name: &str| {
            let ids = name.strip_prefix(NAME.0).and_then(|name| name.strip_suffix(NAME.1));
            ids.is_some_and(|ids| ids.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
        };
        if name.to_str().is_some_and(is_draft) && !Lock::is_taken(&entry.path()) {
            Lock::remove_left(&entry.path());
            let _ = std::fs::remove_file(entry.path());
        }
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
    let status = Command::new(words.next().unwrap_or(DEFAULT)).args(words).arg(&draft.path).status();
    match status {
        Err(source) => return Err(ChatError::Editor { command, source }),
        Ok(status) if !status.success() => return Err(ChatError::EditorFailed { command }),
        Ok(_) => {}
    }
    match read_text(&draft.path, MAX_MESSAGE_BYTES as u64) {
        Ok(edited) => Ok(edited.trim_end().to_owned()),
        Err(ReadError::TooLong { .. }) => Err(ChatError::MessageTooLong { limit: MAX_MESSAGE_BYTES }),
        Err(source) => Err(ChatError::EditorText { source }),
    }
}
