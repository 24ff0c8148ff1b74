//! What `/set` changes.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use super::super::constrain;
use super::super::error::{ChatError, CliError};
use super::super::generation::Length;
use super::super::prompt;
use super::load_settings;
use crate::ask::Form;
use crate::generate::{Grammar, SamplerOptions, Thinking};
use crate::text::TemplateVariables;

/// Settings of the answers to come.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) sampler: SamplerOptions,
    /// At which choices are drawn; without it the likeliest is taken.
    pub(super) choice_temp: Option<f32>,
    /// Tokens of an answer at most.
    pub(super) length: Length,
    pub(super) stop: Vec<String>,
    /// End answers that go in circles.
    pub(super) loop_guard: bool,
    /// Say after each answer how long it took.
    pub(super) stats: bool,
    /// Break lines of answers between words, on a terminal.
    pub(super) wrap: bool,
    /// What answers may be.
    pub(super) form: Option<Form>,
    /// Variables of the chat template.
    pub(super) variables: TemplateVariables,
    /// Whether the model thinks before it answers; `None` for what the template does.
    pub(super) think: Option<Thinking>,
    /// Which of these hold.
    pub(super) asked: Asked,
}

/// Which settings were asked for, where a server has its own for the others; all hold where the model is here.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Option<BTreeSet<&'static str>>);

/// Settings that a server has its own of.
const OF_SERVER: [&str; 8] =
    ["temp", "top_k", "top_p", "min_p", "repeat_penalty", "max_tokens", "stop", "loop_guard"];

impl Asked {
    /// Only these, and those that no server has its own of.
    #[cfg(any(test, feature = "serve"))]
    pub(super) fn only(names: impl IntoIterator<Item = &'static str>) -> Asked {
        Asked(Some(names.into_iter().collect()))
    }

    /// Whether the setting of this name holds.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(name)) || !OF_SERVER.contains(&name)
    }

    fn set(&mut self, name: &'static str, holds: bool) {
        let Some(names) = &mut self.0 else { return };
        if holds {
            names.insert(name);
        } else {
            names.remove(name);
        }
    }
}

/// Names of the settings; those of [`super::load_settings`] follow them.
pub(super) const NAMES: [&str; 14] = [
    "temp",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "seed",
    "max_tokens",
    "stop",
    "loop_guard",
    "stats",
    "wrap",
    "answer",
    "template_var",
    "think",
];

impl Settings {
    /// Changes a setting to what `text` says, `NAME VALUE`, or back to that of `start`, `NAME default`; on an error
    /// nothing is changed.
    ///
    /// # Errors
    /// If there is no such setting, it cannot have this value, or a file that it names cannot be read.
    pub(super) fn set(&mut self, text: &str, start: &Settings) -> Result<(), CliError> {
        let (name, value) = split(text);
        let Some(&name) = NAMES.iter().find(|known| **known == name) else {
            let known = NAMES.iter().chain(&load_settings::NAMES).copied().collect::<Vec<_>>().join(", ");
            return Err(ChatError::UnknownSetting { found: name.chars().take(32).collect(), known }.into());
        };
        if value == "default" {
            self.reset(name, start);
            return Ok(());
        }
        let mut changed = self.clone();
        let bad = |expected| ChatError::BadSetting { setting: name, found: value.to_owned(), expected };
        match name {
            "temp" => {
                changed.sampler.temperature = number(value).ok_or(bad("a number from 0 to 10"))?;
                changed.choice_temp = Some(changed.sampler.temperature);
            }
            "top_k" => changed.sampler.top_k = number(value).ok_or(bad("a whole number, 0 for all"))?,
            "top_p" => changed.sampler.top_p = number(value).ok_or(bad("a number from 0 to 1"))?,
            "min_p" => changed.sampler.min_p = number(value).ok_or(bad("a number from 0 to 1"))?,
            "repeat_penalty" => {
                changed.sampler.repeat_penalty = number(value).ok_or(bad("a number from 0.01 to 100"))?;
            }
            "seed" => changed.sampler.seed = number(value).ok_or(bad("a whole number"))?,
            "max_tokens" => {
                changed.length = value.parse().map_err(|_| bad("a whole number or none"))?;
            }
            "stop" if value == "none" => changed.stop.clear(),
            "stop" if value.is_empty() => return Err(bad("a text or none").into()),
            "stop" => changed.stop = vec![value.to_owned()],
            "loop_guard" => changed.loop_guard = switch(value).ok_or(bad("on or off"))?,
            "stats" => changed.stats = switch(value).ok_or(bad("on or off"))?,
            "think" => {
                let think = Thinking::named(value);
                changed.think = think.is_some().then_some(think).ok_or(bad("on, off, hide or default"))?;
                changed.variables.set_thinking(think.map(Thinking::is_asked));
            }
            "wrap" => changed.wrap = switch(value).ok_or(bad("on or off"))?,
            "template_var" if value == "none" => {
                let thinking = changed.variables.thinking();
                changed.variables = TemplateVariables::default();
                changed.variables.set_thinking(thinking);
            }
            "template_var" => {
                let (name, text) = prompt::variable(value).map_err(|_| bad("NAME=VALUE or none"))?;
                changed.variables.set(&name, &text)?;
            }
            _ => {
                let expected = "any, schema FILE, regex RE, grammar FILE, choices A,B,C or tools FILE";
                changed.form = form(value)?.ok_or(bad(expected))?;
            }
        }
        if changed.sampler.validate().is_err() {
            return Err(bad("a number in its range; smolt help chat has the ranges").into());
        }
        changed.asked.set(name, true);
        *self = changed;
        Ok(())
    }

    /// Takes the setting of this name from `start`.
    fn reset(&mut self, name: &'static str, start: &Settings) {
        let start = start.clone();
        self.asked.set(name, start.asked.holds(name));
        match name {
            "temp" => {
                self.sampler.temperature = start.sampler.temperature;
                self.choice_temp = start.choice_temp;
            }
            "top_k" => self.sampler.top_k = start.sampler.top_k,
            "top_p" => self.sampler.top_p = start.sampler.top_p,
            "min_p" => self.sampler.min_p = start.sampler.min_p,
            "repeat_penalty" => self.sampler.repeat_penalty = start.sampler.repeat_penalty,
            "seed" => self.sampler.seed = start.sampler.seed,
            "max_tokens" => self.length = start.length,
            "stop" => self.stop = start.stop,
            "loop_guard" => self.loop_guard = start.loop_guard,
            "stats" => self.stats = start.stats,
            "wrap" => self.wrap = start.wrap,
            "template_var" => {
                let thinking = self.variables.thinking();
                self.variables = start.variables;
                self.variables.set_thinking(thinking);
            }
            "think" => {
                self.think = start.think;
                self.variables.set_thinking(start.think.map(Thinking::is_asked));
            }
            _ => self.form = start.form,
        }
    }

    /// All settings, one a line.
    pub(super) fn show(&self) -> String {
        let SamplerOptions { temperature, top_k, top_p, min_p, repeat_penalty, seed, .. } = &self.sampler;
        let on = |on: bool| if on { "on" } else { "off" };
        let stop = if self.stop.is_empty() { "none".to_owned() } else { format!("{:?}", self.stop) };
        let (loop_guard, stats, wrap) = (on(self.loop_guard), on(self.stats), on(self.wrap));
        let answer = self.form.as_ref().map_or("any".to_owned(), |form| match form {
            Form::Calls(_) => "tools".to_owned(),
            Form::Choices(choices) => format!("choices {}", choices.join(",")),
            Form::Grammar(Grammar::Regex(regex)) => format!("regex {regex}"),
            Form::Grammar(grammar) => grammar.what().to_owned(),
        });
        let variables: Vec<String> = self.variables.show().collect();
        let variables = if variables.is_empty() { "none".to_owned() } else { variables.join(" ") };
        let think = self.think.map_or("default", Thinking::name);
        let values: [&dyn Display; NAMES.len()] = [
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            seed,
            &self.length,
            &stop,
            &loop_guard,
            &stats,
            &wrap,
            &answer,
            &variables,
            &think,
        ];
        let lines = NAMES.iter().zip(values).map(|(name, value)| match self.asked.holds(name) {
            true => format!("  {name:<15} {value}"),
            false => format!("  {name:<15} the server's"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Name and value, as they were typed but for hyphens.
pub(super) fn split(text: &str) -> (String, &str) {
    let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (name.replace('-', "_"), value.trim())
}

/// Values that a setting often has, to be completed.
pub(super) fn values(name: &str) -> &'static [&'static str] {
    match name {
        "loop_guard" | "stats" | "wrap" => &["on", "off", "default"],
        "think" => &["on", "off", "hide", "default"],
        "max_tokens" | "stop" | "template_var" => &["none", "default"],
        "answer" => &["any", "schema", "regex", "grammar", "choices", "default"],
        "kv" => &["f16", "q8_0", "default"],
        "temp" => &["0", "0.7", "1", "default"],
        _ => &["default"],
    }
}

/// What answers may be, `KIND VALUE`; `None` if it is none of these.
fn form(text: &str) -> Result<Option<Option<Form>>, CliError> {
    let (kind, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let value = value.trim();
    let grammar = match (kind, value) {
        ("any", "") => return Ok(Some(None)),
        (_, "") => return Ok(None),
        ("schema", file) => Grammar::Schema(constrain::read_file(Path::new(file))?),
        ("grammar", file) => Grammar::Lark(constrain::read_file(Path::new(file))?),
        ("regex", regex) => Grammar::Regex(regex.to_owned()),
        ("choices", texts) => {
            let texts = texts.split(',').map(str::to_owned).collect();
            return Ok(Some(Some(Form::Choices(texts))));
        }
        ("tools", file) => return Ok(Some(Some(Form::Calls(constrain::calling(Path::new(file), "auto")?)))),
        _ => return Ok(None),
    };
    Ok(Some(Some(Form::Grammar(grammar))))
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "true" | "1" => Some(true),
        "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let sampler = SamplerOptions::default();
        Settings {
            sampler,
            choice_temp: None,
            length: Length::Usual,
            stop: vec![],
            loop_guard: true,
            stats: false,
            wrap: true,
            form: None,
            variables: TemplateVariables::default(),
            think: None,
            asked: Asked::default(),
        }
    }

    #[test]
    fn a_server_has_settings_of_its_own() {
        let start = Settings { asked: Asked::only(["top_k"]), ..settings() };
        let mut settings = start.clone();
        let line = |settings: &Settings, name: &str| {
            settings.show().lines().find(|line| line.contains(name)).unwrap().to_owned()
        };
        assert!(
            line(&settings, "temp ").ends_with("the server's") && line(&settings, "top_k").ends_with("40")
        );
        assert!(!line(&settings, "seed").ends_with("the server's"));
        settings.set("temp 0.5", &start).unwrap();
        settings.set("stop none", &start).unwrap();
        assert!(
            settings.asked.holds("temp") && settings.asked.holds("stop") && !settings.asked.holds("top_p")
        );
        settings.set("temp default", &start).unwrap();
        settings.set("top_k default", &start).unwrap();
        assert!(!settings.asked.holds("temp") && settings.asked.holds("top_k"));
    }

    #[test]
    fn every_setting_can_be_changed_and_shown() {
        let (mut settings, start) = (settings(), settings());
        for (name, value) in NAMES.iter().zip([
            "0.25",
            "7",
            "0.5",
            "0.125",
            "1.5",
            "99",
            "12",
            "END",
            "off",
            "on",
            "off",
            "choices a,b",
            "mood=\"calm\"",
            "hide",
        ]) {
            settings.set(&format!("{name}  {value} "), &start).unwrap();
            assert!(
                settings.show().lines().any(|line| line.contains(name) && line.contains(value)),
                "{name}"
            );
        }
        assert_eq!((settings.sampler.temperature, settings.sampler.seed), (0.25, 99));
        assert_eq!(settings.choice_temp, Some(0.25));
        assert_eq!((settings.length, settings.loop_guard, settings.stats), (Length::AtMost(12), false, true));
        let changed = settings.clone();
        for name in NAMES {
            settings.set(&format!("{name} default"), &start).unwrap();
        }
        assert_eq!(settings.show(), start.show());
        settings = changed;
        settings.set("max-tokens none", &start).unwrap();
        settings.set("stop none", &start).unwrap();
        settings.set("answer any", &start).unwrap();
        settings.set("template_var none", &start).unwrap();
        assert_eq!((settings.variables.names().count(), settings.variables.thinking()), (0, Some(true)));
        settings.set("think default", &start).unwrap();
        assert!(settings.variables.is_empty() && settings.think.is_none());
        assert_eq!((settings.length, settings.stop.len(), settings.form), (Length::Full, 0, None));
    }

    #[test]
    fn wrong_values_change_nothing() {
        let (mut settings, start) = (settings(), settings());
        let before = settings.show();
        for wrong in [
            "temp",
            "temp x",
            "temp -1",
            "temp nan",
            "top_p 2",
            "seed -1",
            "max_tokens many",
            "stats maybe",
            "answer regex",
            "template_var mood",
            "think loudly",
            "template_var messages=1",
        ] {
            let error = settings.set(wrong, &start).unwrap_err();
            assert!(matches!(error, CliError::Chat(ChatError::BadSetting { .. })), "{wrong}");
        }
        assert!(matches!(settings.set("answer schema /no/file", &start), Err(CliError::Read(_))));
        assert!(settings.set("colour red", &start).unwrap_err().to_string().contains("repeat_penalty"));
        assert_eq!(settings.show(), before);
    }
}
