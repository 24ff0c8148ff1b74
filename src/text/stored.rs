//! The chat templates a file holds.

use crate::gguf::GgufFile;

use super::TextError;

/// Templates in one file.
const MAX_TEMPLATES: usize = 32;
const KEY: &str = "tokenizer.chat_template";

/// Jinja sources by name; the name of the usual one is empty.
pub(super) struct StoredTemplates(Box<[(Box<str>, Box<str>)]>);

impl StoredTemplates {
    pub(super) fn read(file: &GgufFile) -> Result<StoredTemplates, TextError> {
        file.str(KEY)?;
        let found: Vec<_> = entries(file).map(|(name, source)| (name.into(), source.into())).collect();
        if found.len() > MAX_TEMPLATES {
            let (what, limit) = ("the number of chat templates", MAX_TEMPLATES);
            return Err(TextError::OutOfBounds {
                file: file.name().to_owned(),
                what,
                found: found.len(),
                limit,
            });
        }
        Ok(StoredTemplates(found.into()))
    }

    pub(super) fn named(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, source)| &**source)
    }

    /// The names of all but the usual one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name).filter(|name| !name.is_empty())
    }

    /// The heap that the templates of a file take.
    pub(super) fn planned_bytes(file: &GgufFile) -> u64 {
        entries(file).map(|(name, source)| (name.len() + source.len() + 64) as u64).sum()
    }
}

/// Names and sources: `tokenizer.chat_template` and `tokenizer.chat_template.NAME`.
fn entries(file: &GgufFile) -> impl Iterator<Item = (&str, &str)> {
    file.metadata().filter_map(|(key, value)| {
        let rest = key.strip_prefix(KEY)?;
        let name =
            if rest.is_empty() { "" } else { rest.strip_prefix('.').filter(|name| !name.is_empty())? };
        // An empty one would drop all that is said.
        Some((name, value.as_str().filter(|source| !source.trim().is_empty())?))
    })
}
