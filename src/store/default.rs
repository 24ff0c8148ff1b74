//! The model that is meant where none is named.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::installed::one_line;
use super::{Store, StoreError, files};
use crate::files::{read_text_if_there, write_whole};

/// Longest name, in bytes.
const MAX_NAME: u64 = 1 << 16;

impl Store {
    /// The file that keeps the name of the default model.
    pub fn default_file(&self) -> PathBuf {
        self.home().join("default")
    }

    /// The name or path of the default model, as it was given; nothing if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is no name.
    pub fn default_model(&self) -> Result<Option<String>, StoreError> {
        let file = self.default_file();
        read_text_if_there(&file, MAX_NAME)?.map(|text| one_line(&file, &text)).transpose()
    }

    /// Makes this the name or path of the default model.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_default(&self, name: &str) -> Result<(), StoreError> {
        one_line(&self.default_file(), name)?;
        files::make_folder(self.home())?;
        Ok(write_whole(&self.default_file(), format!("{name}\n").as_bytes())?)
    }

    /// Has no default model any more.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn clear_default(&self) -> Result<(), StoreError> {
        match fs::remove_file(self.default_file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &self.default_file())(error))
            }
            _ => Ok(()),
        }
    }
}
