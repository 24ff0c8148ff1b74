//! The kiosk page and what its operator says of it, in a file of TOML.
//!
//! # Design
//!
//! ```text
//! Kiosk        the files of the page, and the operator's limits
//!   settings   what the page reads as /kiosk.json
//!   language   texts, greetings and suggestions, built in or the operator's
//!   theme      the operator's colours as a style sheet
//!   logo       the operator's picture
//!   asset      a file of the page
//!   fields     values of the file, with their places for messages
//! ```

mod asset;
mod fields;
mod language;
mod logo;
mod settings;
mod theme;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::files::read_text;

pub use self::asset::Asset;
pub use self::fields::KioskError;
use self::fields::{Field, Source};
use self::logo::Logo;
use self::settings::Settings;
use self::theme::Theme;

/// Longest file of settings, in bytes.
const MAX_FILE: u64 = 256 << 10;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// The kiosk page, as its operator wants it.
#[derive(Clone, Debug)]
pub struct Kiosk {
    system: Option<String>,
    max_turns: usize,
    max_message_chars: usize,
    json: String,
    theme: String,
    logo: Option<Logo>,
}

impl Kiosk {
    /// Reads a file of settings; what it names lies beside it.
    ///
    /// # Errors
    /// If it cannot be read, or says what cannot be.
    pub fn read(path: &Path) -> Result<Kiosk, KioskError> {
        let text = read_text(path, MAX_FILE)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Kiosk::parse(&path.display().to_string(), &text, folder)
    }

    /// Understands the text of such a file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn parse(file: &str, text: &str, folder: &Path) -> Result<Kiosk, KioskError> {
        let source = Source { file, text };
        let mut settings = Settings::of_kiosk();
        let (mut theme, mut logo, mut system, mut languages) = (Theme::default(), None, None, None);
        let table = source.table()?;
        for field in Field::all(&source, "", table.get_ref()) {
            match field.name() {
                "system" => system = Some(field.long_text()?),
                "languages" => languages = Some(field),
                "logo" => logo = Some(logo::read(&field, folder)?),
                "accent" => theme.accent = Some(theme::colour(&field)?),
                "accent_dark" => theme.accent_dark = Some(theme::colour(&field)?),
                _ => settings.take(&field)?,
            }
        }
        // After the tables of the languages that it may name.
        if let Some(list) = languages {
            settings.choose(&list)?;
        }
        settings.logo = logo.is_some();
        Ok(Kiosk { system, logo, ..Kiosk::new(&settings, theme) })
    }

    fn new(settings: &Settings, theme: Theme) -> Kiosk {
        Kiosk {
            system: None,
            max_turns: settings.max_turns,
            max_message_chars: settings.max_message_chars,
            json: settings.json(),
            theme: theme.css(),
            logo: None,
        }
    }

    /// The operator's system prompt.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Questions of a conversation that the page sends.
    pub fn max_turns(&self) -> usize {
        self.max_turns
    }

    /// Characters of a question.
    pub fn max_message_chars(&self) -> usize {
        self.max_message_chars
    }

    /// The file of the page at a path such as `/kiosk.css`.
    pub fn file(&self, path: &str) -> Option<Asset<'_>> {
        let (content_type, text) = match path {
            "/" => (HTML, include_str!("../page/index.html")),
            "/kiosk.css" => (CSS, include_str!("../page/kiosk.css")),
            "/kiosk.js" => (JAVASCRIPT, include_str!("../page/kiosk.js")),
            "/kiosk-writing.js" => (JAVASCRIPT, include_str!("../page/kiosk-writing.js")),
            "/kiosk-theme.css" => (CSS, self.theme.as_str()),
            "/kiosk.json" => (JSON, self.json.as_str()),
            "/kiosk-logo" => return self.logo.as_ref().map(Logo::asset),
            _ => return None,
        };
        Some(Asset { content_type, bytes: text.as_bytes() })
    }
}

/// The page without an operator: all languages that are built in, and no end of a conversation.
impl Default for Kiosk {
    fn default() -> Kiosk {
        Kiosk::new(&Settings::default(), Theme::default())
    }
}
