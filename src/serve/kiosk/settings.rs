//! What the page reads as `/kiosk.json`.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::fields::{Field, KioskError};
use super::language::{self, Language};

/// What the page is called where nobody says.
const USUAL_TITLE: &str = "smolt";
/// Seconds without a touch until a kiosk warns, where its file does not say.
const USUAL_IDLE: usize = 90;
/// Least and most seconds of that.
const IDLE: RangeInclusive<usize> = 10..=86_400;
/// Seconds of the warning: fewer than twenty are too few to read it and to reach the screen (WCAG 2.2.1).
const WARNING: RangeInclusive<usize> = 20..=600;
const MAX_LANGUAGES: usize = 24;
/// All keys of the file.
pub(super) const KEYS: [&str; 13] = [
    "title",
    "system",
    "languages",
    "language",
    "logo",
    "accent",
    "accent_dark",
    "idle_seconds",
    "warning_seconds",
    "unsure_below",
    "max_turns",
    "max_message_chars",
    "big_text",
];

/// What the page reads.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    title: String,
    /// The first is the one that the page begins with.
    languages: Vec<Language>,
    /// Seconds without a touch until the page warns; 0 for never.
    idle_seconds: usize,
    /// Seconds from the warning until all is erased.
    warning_seconds: usize,
    /// The page says "not sure" of answers whose tokens had, in the geometric mean, a smaller probability.
    unsure_below: Option<f64>,
    pub(super) max_message_chars: usize,
    pub(super) max_turns: usize,
    pub(super) logo: bool,
    /// Whether the page begins with large text.
    big_text: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            title: USUAL_TITLE.to_owned(),
            languages: language::built_in(),
            idle_seconds: 0,
            warning_seconds: *WARNING.start(),
            unsure_below: None,
            max_message_chars: 500,
            max_turns: 10,
            logo: false,
            big_text: false,
        }
    }
}

impl Settings {
    /// Those of a kiosk whose file says nothing: visitors come and go.
    pub(super) fn of_kiosk() -> Settings {
        Settings { idle_seconds: USUAL_IDLE, ..Settings::default() }
    }

    /// Takes one that the file gives.
    pub(super) fn take(&mut self, field: &Field<'_>) -> Result<(), KioskError> {
        match field.name() {
            "title" => self.title = field.text()?,
            "idle_seconds" => {
                let is_never = field.number(0..=0).is_ok();
                self.idle_seconds = if is_never { 0 } else { field.number(IDLE)? };
            }
            "warning_seconds" => self.warning_seconds = field.number(WARNING)?,
            "unsure_below" => self.unsure_below = Some(field.share()?),
            "max_turns" => self.max_turns = field.number(1..=100)?,
            "max_message_chars" => self.max_message_chars = field.number(20..=8000)?,
            "big_text" => self.big_text = field.flag()?,
            "language" => {
                for field in field.fields()? {
                    language::take(&mut self.languages, &field)?;
                }
            }
            _ => return Err(field.unknown(KEYS)),
        }
        Ok(())
    }

    /// Leaves the languages that a list names, in its order.
    pub(super) fn choose(&mut self, list: &Field<'_>) -> Result<(), KioskError> {
        let mut chosen: Vec<Language> = vec![];
        for item in list.items(MAX_LANGUAGES)? {
            let code = item.text()?;
            let Some(language) = self.languages.iter().find(|language| language.code == code) else {
                let known: Vec<&str> = self.languages.iter().map(|language| language.code.as_str()).collect();
                let expected = format!("one of {}, or one with a table [language.{code}]", known.join(", "));
                return Err(item.wrong(expected, format!("{code:?}")));
            };
            if chosen.iter().any(|language| language.code == code) {
                return Err(item.wrong("each language once", format!("{code:?} again")));
            }
            chosen.push(language.clone());
        }
        if chosen.is_empty() {
            return Err(list.wrong("a language", "none"));
        }
        self.languages = chosen;
        Ok(())
    }

    /// For the page.
    pub(super) fn json(&self) -> String {
        // Only texts and numbers, all of them finite: nothing that JSON has not.
        serde_json::to_string(self).unwrap_or_default()
    }
}
