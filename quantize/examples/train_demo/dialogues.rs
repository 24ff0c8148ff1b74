//! Home-and-kiosk dialogues from a seed: one request, one reply.
//!
//! # Actions
//!
//! The reply to a command is a sentence, a line feed and one line of JSON without spaces, keys in this order:
//!
//! ```text
//! {"action":"light","room":ROOM|"all","state":"on"|"off"}
//! {"action":"light","room":ROOM,"level":1..=100}                brightness in percent
//! {"action":"blinds","room":ROOM,"state":"open"|"closed"}
//! {"action":"blinds","room":ROOM,"position":1..=100}            percent, 100 is open
//! {"action":"heating","room":ROOM,"state":"on"|"off"}
//! {"action":"heating","room":ROOM,"celsius":5..=30}
//! {"action":"timer","minutes":2..=90}
//! {"action":"timer","state":"cancelled"}
//! {"action":"door","door":DOOR,"state":"locked"|"unlocked"}
//! ```
//!
//! `ROOM` and `DOOR` are the fillers of these slots in `phrases::slots`, with `_` for spaces. Other replies have no
//! action line.
//!
//! # Phrases
//!
//! A phrase is text with `{slots}`. A leading `+` marks an imperative, which may be wrapped in courtesies
//! ("could you ... for me"). Phrases listed as held out never make a training request.

use rand::{Rng, RngExt, SeedableRng, rngs::ChaCha8Rng, seq::IndexedRandom};
use serde::Serialize;

use crate::phrases::{Intent, SLOTS, intents};

/// A request and its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialogue {
    pub(crate) intent: &'static str,
    pub(crate) prompt: String,
    /// The whole reply, action line included.
    pub(crate) reply: String,
    /// The action line alone.
    pub(crate) action: Option<String>,
}

/// A line of the held-out file.
#[derive(Serialize)]
pub(crate) struct HeldOut<'a> {
    pub(crate) id: String,
    pub(crate) prompt: &'a str,
    pub(crate) reply: &'a str,
    pub(crate) action: Option<&'a str>,
}

/// Requests made per held-out phrase: commands, others.
const PER_HELD_OUT: (usize, usize) = (3, 1);
const HELD_OUT_SEED: u64 = 0x5eed_4e1d;

const PREFIXES: &[&str] = &[
    "please ",
    "please ",
    "could you ",
    "can you ",
    "could you please ",
    "would you ",
    "hey, ",
    "now ",
    "would you please ",
    "I want you to ",
    "I would like you to ",
];
const SUFFIXES: &[&str] = &[" please", ", please", " now", ", thanks", " for me", " again"];
const NUMBER_WORDS: &[(&str, u32)] = &[
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("fifteen", 15),
    ("twenty", 20),
    ("twenty-five", 25),
    ("thirty", 30),
    ("forty", 40),
    ("forty-five", 45),
    ("fifty", 50),
    ("sixty", 60),
];

/// Draws `count` training dialogues. The same seed gives the same dialogues.
pub(crate) fn training(seed: u64, count: usize) -> Vec<Dialogue> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let intents: Vec<&Intent> = intents().collect();
    let draw = |_| {
        let intent = intents.choose_weighted(&mut rng, |intent| intent.weight);
        let intent = intent.expect("the weights are positive");
        let phrase = intent.train.choose(&mut rng).expect("every intent has phrases");
        dialogue(&mut rng, intent, phrase)
    };
    (0..count).map(draw).collect()
}

/// The held-out dialogues: every held-out phrase a few times, always the same.
pub(crate) fn held_out() -> Vec<Dialogue> {
    let mut rng = ChaCha8Rng::seed_from_u64(HELD_OUT_SEED);
    let mut all: Vec<Dialogue> = Vec::new();
    for intent in intents() {
        let wanted = if intent.action.is_some() { PER_HELD_OUT.0 } else { PER_HELD_OUT.1 };
        for phrase in intent.held_out {
            all.extend((0..wanted).map(|_| dialogue(&mut rng, intent, phrase)));
        }
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|dialogue| seen.insert(dialogue.prompt.clone()));
    all
}

fn dialogue(rng: &mut impl Rng, intent: &Intent, phrase: &str) -> Dialogue {
    let (imperative, phrase) = match phrase.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, phrase),
    };
    let mut filled = Filled::default();
    let spoken = filled.fill(rng, phrase, Form::Said);
    let reply = intent.replies.choose(rng).expect("every intent has a reply");
    let sentence = filled.fill(rng, reply, Form::Named);
    let action = intent.action.map(|action| filled.fill(rng, action, Form::Action));
    let reply = match &action {
        Some(line) => format!("{sentence}\n{line}"),
        None => sentence,
    };
    Dialogue { intent: intent.name, prompt: written(rng, &spoken, imperative), reply, action }
}

/// Adds courtesies, case and punctuation.
fn written(rng: &mut impl Rng, spoken: &str, imperative: bool) -> String {
    let mut text = spoken.to_owned();
    if imperative && rng.random_bool(0.4) {
        text.insert_str(0, PREFIXES.choose(rng).expect("not empty"));
    }
    if imperative && rng.random_bool(0.2) {
        text.push_str(SUFFIXES.choose(rng).expect("not empty"));
    }
    const QUESTIONS: &[&str] = &[
        "could", "can", "would", "is", "are", "why", "what", "when", "where", "how", "which", "who", "do",
        "did", "has", "may", "will", "should", "until",
    ];
    let first = text.split(' ').next().unwrap_or_default();
    let mark = if QUESTIONS.contains(&first) { "?" } else { "." };
    if rng.random_bool(0.7) {
        text[..1].make_ascii_uppercase();
    }
    match rng.random_range(0..20) {
        0..9 => text.push_str(mark),
        9 if mark == "." => text.push('!'),
        _ => {}
    }
    text
}

/// How a slot is written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// In a request.
    Said,
    /// In the sentence of a reply.
    Named,
    /// In an action line.
    Action,
}

/// The slots of a dialogue and what they were filled with: said, named.
#[derive(Default)]
struct Filled(Vec<(String, String, String)>);

impl Filled {
    fn fill(&mut self, rng: &mut impl Rng, text: &str, form: Form) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_slot(rest) {
            out.push_str(before);
            let (said, named) = self.value(rng, name);
            match form {
                Form::Said => out.push_str(&said),
                Form::Named => out.push_str(&named),
                Form::Action => out.push_str(&named.replace(' ', "_")),
            }
            rest = after;
        }
        out.push_str(rest);
        out.replace(" %", "%").replace(" °", "°")
    }

    /// The filler of a slot, drawn when the slot is met first. `number` is drawn every time.
    fn value(&mut self, rng: &mut impl Rng, name: &str) -> (String, String) {
        if name == "number" {
            let number = rng.random_range(1..100).to_string();
            return (number.clone(), number);
        }
        if self.0.iter().all(|(known, ..)| known != name) {
            self.draw(rng, name);
        }
        let found = self.0.iter().find(|(known, ..)| known == name);
        let (_, said, named) = found.unwrap_or_else(|| panic!("no slot is called {name}"));
        (said.clone(), named.clone())
    }

    fn draw(&mut self, rng: &mut impl Rng, name: &str) {
        let Some(slot) = SLOTS.iter().find(|slot| slot.name == name || slot.second == Some(name)) else {
            let (said, named) = numeric(rng, name);
            return self.0.push((name.to_owned(), said, named));
        };
        let filler = slot.fillers.choose(rng).expect("every slot has fillers");
        let (said, named) = (filler.said.to_owned(), filler.named.to_owned());
        match slot.second {
            Some(second) => {
                self.0.push((slot.name.to_owned(), said.clone(), said));
                self.0.push((second.to_owned(), named.clone(), named));
            }
            None => self.0.push((name.to_owned(), said, named)),
        }
    }
}

/// Splits `text` around its first `{slot}`. Braces of JSON hold a quote and are not slots.
fn next_slot(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|at| from + at) {
        let close = open + text[open..].find('}')?;
        let name = &text[open + 1..close];
        if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Some((&text[..open], name, &text[close + 1..]));
        }
        from = open + 1;
    }
    None
}

/// A number, said and named.
fn numeric(rng: &mut impl Rng, name: &str) -> (String, String) {
    let said_and_named = |number: u32| (number.to_string(), number.to_string());
    match name {
        "level" if rng.random_bool(0.05) => {
            let &(word, number) = NUMBER_WORDS.choose(rng).expect("not empty");
            (word.to_owned(), number.to_string())
        }
        "level" if rng.random_bool(0.5) => said_and_named(rng.random_range(1..=20) * 5),
        "level" => said_and_named(rng.random_range(1..=100)),
        "celsius" => said_and_named(rng.random_range(5..=30)),
        "minutes" => minutes(rng),
        _ => panic!("no slot is called {name}"),
    }
}

fn minutes(rng: &mut impl Rng) -> (String, String) {
    match rng.random_range(0..10) {
        0 => ("half an hour".to_owned(), "30".to_owned()),
        1 => ("an hour".to_owned(), "60".to_owned()),
        2 | 3 => {
            let &(word, number) = NUMBER_WORDS.choose(rng).expect("not empty");
            (format!("{word} minutes"), number.to_string())
        }
        _ => {
            let number = rng.random_range(2..=90);
            (format!("{number} minutes"), number.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// At least as many pools as a training run draws.
    const POOLS: u64 = 40;

    fn key_values(dialogue: &Dialogue) -> Vec<(String, String, String)> {
        let Some(action) = &dialogue.action else { return Vec::new() };
        let value: serde_json::Value = serde_json::from_str(action).unwrap();
        let object = value.as_object().unwrap();
        let action = object["action"].as_str().unwrap();
        object.iter().map(|(key, value)| (action.to_owned(), key.clone(), value.to_string())).collect()
    }

    /// The words of a request without case and punctuation.
    fn words(prompt: &str) -> String {
        prompt.to_lowercase().replace(['.', '!', '?', ',', ':'], "")
    }

    #[test]
    fn a_seed_gives_the_same_dialogues() {
        assert_eq!(training(7, 300), training(7, 300));
        assert_ne!(training(7, 300), training(8, 300));
        assert_eq!(held_out(), held_out());
    }

    #[test]
    fn held_out_phrases_are_not_trained_on() {
        let trained: HashSet<_> = intents().flat_map(|intent| intent.train).collect();
        for intent in intents() {
            assert!(!intent.held_out.is_empty(), "{}", intent.name);
            for phrase in intent.held_out {
                assert!(!trained.contains(phrase), "{}: {phrase}", intent.name);
                let other = phrase.strip_prefix('+').map_or(format!("+{phrase}"), str::to_owned);
                assert!(!trained.contains(&other.as_str()), "{}: {phrase}", intent.name);
            }
        }
    }

    #[test]
    fn held_out_requests_are_not_made_in_training_but_their_values_are() {
        let drawn: Vec<Dialogue> = (0..POOLS).flat_map(crate::pool_dialogues).collect();
        let trained: HashSet<String> = drawn.iter().map(|dialogue| words(&dialogue.prompt)).collect();
        let values: HashSet<_> = drawn.iter().flat_map(key_values).collect();
        for dialogue in held_out() {
            assert!(!trained.contains(&words(&dialogue.prompt)), "{}", dialogue.prompt);
            for value in key_values(&dialogue) {
                assert!(values.contains(&value), "{value:?}");
            }
        }
    }

    #[test]
    fn actions_are_compact_json_with_the_documented_keys() {
        let keys = [
            "action,room,state",
            "action,room,level",
            "action,room,position",
            "action,room,celsius",
            "action,minutes",
            "action,state",
            "action,door,state",
        ];
        for dialogue in training(3, 5_000).into_iter().chain(held_out()) {
            let Some(action) = &dialogue.action else {
                assert!(!dialogue.reply.contains('{'), "{}", dialogue.reply);
                continue;
            };
            assert_eq!(dialogue.reply.lines().last(), Some(action.as_str()));
            assert_eq!(dialogue.reply.lines().count(), 2);
            assert!(!action.contains(' '), "{action}");
            serde_json::from_str::<serde_json::Value>(action).unwrap();
            let inner = action.trim_matches(['{', '}']);
            let order: Vec<_> =
                inner.split(',').map(|pair| pair.split(':').next().unwrap().trim_matches('"')).collect();
            assert!(keys.contains(&order.join(",").as_str()), "{action}");
        }
    }

    #[test]
    fn no_slot_is_left_unfilled() {
        for dialogue in training(5, 5_000) {
            assert!(!dialogue.prompt.contains(['{', '}', '+']), "{}", dialogue.prompt);
        }
    }
}
