//! The page's languages: built in, changed and added by the operator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fields::{Field, KioskError};

/// The languages that are built in.
const TEXTS: &str = include_str!("../page/texts.json");
const MAX_SUGGESTIONS: usize = 12;
/// Longest code of a language.
const MAX_CODE: usize = 35;
const KEYS: [&str; 5] = ["name", "dir", "greeting", "suggestions", "texts"];
/// What a text says in place of a number.
const COUNT: &str = "{count}";
/// The one text that may be empty: then it is not shown.
const OPTIONAL: &str = "note";

/// A language of the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Language {
    /// As in HTML's attribute `lang`.
    pub(super) code: String,
    /// In itself.
    name: String,
    /// The direction that it is written in, `ltr` or `rtl`.
    dir: String,
    greeting: String,
    suggestions: Vec<String>,
    texts: BTreeMap<String, String>,
}

/// The languages that are built in.
pub(super) fn built_in() -> Vec<Language> {
    // The tests read it, so it can be read.
    serde_json::from_str(TEXTS).unwrap_or_default()
}

/// Changes a language, or adds one, as a table of the file says.
pub(super) fn take(languages: &mut Vec<Language>, table: &Field<'_>) -> Result<(), KioskError> {
    let code = table.name();
    if let Some(language) = languages.iter_mut().find(|language| language.code == code) {
        return language.change(table);
    }
    if !is_code(code) {
        return Err(table.wrong("the code of a language such as nl or pt-BR", format!("{code:?}")));
    }
    let mut language = Language {
        code: code.to_owned(),
        name: String::new(),
        dir: "ltr".to_owned(),
        greeting: String::new(),
        suggestions: vec![],
        texts: BTreeMap::new(),
    };
    language.change(table)?;
    language.check(table)?;
    languages.push(language);
    Ok(())
}

/// Whether it is the code of a language: letters, then parts of letters and digits.
fn is_code(code: &str) -> bool {
    let mut parts = code.split('-');
    let is_first =
        |part: &str| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphabetic());
    let is_part =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    code.len() <= MAX_CODE && parts.next().is_some_and(is_first) && parts.all(is_part)
}

/// The texts that every language has, by their keys.
fn needed() -> BTreeMap<String, String> {
    built_in().into_iter().next().map(|language| language.texts).unwrap_or_default()
}

impl Language {
    /// Takes what the table gives.
    fn change(&mut self, table: &Field<'_>) -> Result<(), KioskError> {
        for field in table.fields()? {
            match field.name() {
                "name" => self.name = field.text()?,
                "dir" => {
                    let dir = field.text()?;
                    if dir != "ltr" && dir != "rtl" {
                        return Err(field.wrong("\"ltr\" or \"rtl\"", format!("{dir:?}")));
                    }
                    self.dir = dir;
                }
                "greeting" => self.greeting = field.text()?,
                "suggestions" => {
                    let items = field.items(MAX_SUGGESTIONS)?;
                    self.suggestions = items.iter().map(Field::text).collect::<Result<_, _>>()?;
                }
                "texts" => self.change_texts(&field)?,
                _ => return Err(field.unknown(KEYS)),
            }
        }
        Ok(())
    }

    fn change_texts(&mut self, table: &Field<'_>) -> Result<(), KioskError> {
        let needed = needed();
        for field in table.fields()? {
            let Some(usual) = needed.get(field.name()) else {
                return Err(field.unknown(needed.keys().map(String::as_str)));
            };
            let text = if field.name() == OPTIONAL { field.text_or_none()? } else { field.text()? };
            if usual.contains(COUNT) && !text.contains(COUNT) {
                return Err(field.wrong(format!("a text with {COUNT}"), format!("{text:?}")));
            }
            self.texts.insert(field.name().to_owned(), text);
        }
        Ok(())
    }

    /// Makes sure that nothing of it is missing.
    fn check(&self, table: &Field<'_>) -> Result<(), KioskError> {
        let mut missing: Vec<String> = vec![];
        for (key, text) in [("name", &self.name), ("greeting", &self.greeting)] {
            if text.is_empty() {
                missing.push(key.to_owned());
            }
        }
        let texts = needed().into_keys().filter(|key| !self.texts.contains_key(key));
        missing.extend(texts.map(|key| format!("texts.{key}")));
        if missing.is_empty() {
            return Ok(());
        }
        Err(table.wrong("a name, a greeting and all texts", format!("no {}", missing.join(", no "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_languages_are_whole() {
        let languages = built_in();
        let codes: Vec<&str> = languages.iter().map(|language| language.code.as_str()).collect();
        assert_eq!(codes, ["en", "de", "fr", "es", "ar"]);
        for language in &languages {
            assert!(needed().keys().eq(language.texts.keys()), "{}", language.code);
            for (key, text) in &language.texts {
                assert_eq!(text.contains(COUNT), needed()[key].contains(COUNT), "{}: {key}", language.code);
                assert!(
                    !text.trim().is_empty() && !text.chars().any(char::is_control),
                    "{}: {key}",
                    language.code
                );
            }
            assert!(is_code(&language.code) && !language.greeting.is_empty());
            assert!((1..=MAX_SUGGESTIONS).contains(&language.suggestions.len()));
            assert_eq!(language.dir, if language.code == "ar" { "rtl" } else { "ltr" });
        }
    }

    #[test]
    fn the_page_asks_for_texts_that_there_are() {
        let needed = needed();
        let script = include_str!("../page/kiosk.js");
        let html = include_str!("../page/index.html");
        for attribute in ["data-text=\"", "data-label=\"", "data-placeholder=\""] {
            for (at, _) in html.match_indices(attribute) {
                let key = html[at + attribute.len()..].split('"').next().unwrap();
                assert!(needed.contains_key(key), "{key}");
            }
        }
        for key in needed.keys() {
            let is_used = [html, script].iter().any(|text| text.contains(&format!("\"{key}\"")));
            assert!(is_used, "{key} is nowhere used");
        }
    }

    #[test]
    fn codes_are_told_from_other_words() {
        for code in ["nl", "pt-BR", "zh-Hant-TW", "sl-rozaj"] {
            assert!(is_code(code), "{code}");
        }
        for word in ["", "n", "nl-", "-nl", "n1", "nl_BE", "dutchlanguage", "é", "nl-\u{e9}"] {
            assert!(!is_code(word), "{word}");
        }
    }
}
