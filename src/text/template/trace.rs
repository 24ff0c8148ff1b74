//! Which characters of a rendered prompt come from messages.
//!
//! A template is rendered twice: with the messages as they are, which gives the prompt, and with characters of the
//! messages replaced by stand-ins, private-use characters that occur nowhere else. Where the second text has a
//! stand-in, the character of the prompt is a message's.
//!
//! That holds only if the second text is otherwise the prompt. A template that looks into messages or changes them
//! may do something else with stand-ins. Then fewer characters are replaced: after all but white space, the first
//! and last characters of control tokens, then sets of characters of which every control token has one. Some set
//! leaves alone what real templates look for (`</think>`, quotes, letters); the last is chosen so that it leaves alone
//! what this template may look for in these messages. If none does, nothing is known, and the prompt is refused.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use minijinja::value::{Value, ValueKind};

/// Sets that are tried after the first and last characters.
const COVERS: usize = 4;
/// Nesting of the variables.
pub(super) const MAX_DEPTH: usize = 64;

/// The characters that stand-ins are taken from: the private-use planes.
fn stand_ins() -> impl Iterator<Item = char> {
    ('\u{F0000}'..='\u{FFFFD}').chain('\u{100000}'..='\u{10FFFD}')
}

fn is_private(c: char) -> bool {
    c >= '\u{F0000}'
}

/// Which characters are replaced.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    NotSpace,
    Only(BTreeSet<char>),
}

impl Wanted {
    fn has(&self, c: char) -> bool {
        match self {
            Wanted::NotSpace => !c.is_whitespace() && !is_private(c),
            Wanted::Only(set) => set.contains(&c),
        }
    }
}

/// What to try for a vocabulary with these control tokens, in order. Tokens of nothing but white space are left
/// out: no prompt is read for them.
pub(super) fn plans(controls: &[&str]) -> Vec<Wanted> {
    let texts = trimmed(controls);
    let edges = texts.iter().flat_map(|text| text.chars().next().into_iter().chain(text.chars().next_back()));
    let mut plans = vec![Wanted::NotSpace, Wanted::Only(edges.collect())];
    let mut avoided = BTreeSet::new();
    for _ in 0..COVERS {
        let set = cover(&texts, &avoided);
        avoided.extend(set.iter().copied());
        plans.push(Wanted::Only(set));
    }
    plans
}

/// A set like those of [`plans`] without characters of `sought`, where that is possible.
pub(super) fn sparing(controls: &[&str], sought: &BTreeSet<char>) -> Wanted {
    Wanted::Only(cover(&trimmed(controls), sought))
}

fn trimmed<'a>(texts: &[&'a str]) -> Vec<&'a str> {
    texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect()
}

/// Few characters of which every text has one; those in `avoided`, letters and digits only where nothing else will
/// do.
fn cover(texts: &[&str], avoided: &BTreeSet<char>) -> BTreeSet<char> {
    let mut set = BTreeSet::new();
    let mut left: Vec<BTreeSet<char>> =
        texts.iter().map(|text| text.chars().filter(|c| !c.is_whitespace()).collect()).collect();
    while !left.is_empty() {
        let mut counts: HashMap<char, usize> = HashMap::new();
        for c in left.iter().flatten() {
            *counts.entry(*c).or_default() += 1;
        }
        let rank = |(c, count): (char, usize)| (!avoided.contains(&c), !c.is_alphanumeric(), count, c);
        let Some(best) = counts.into_iter().map(rank).max() else { break };
        set.insert(best.3);
        left.retain(|characters| !characters.contains(&best.3));
    }
    set
}

/// Whether a value is not nested too deep.
pub(super) fn is_shallow(value: &Value) -> bool {
    map_texts(value, 0, &mut |_| Some(String::new())).is_some()
}

/// Every private-use character of `value`.
pub(super) fn private(value: &Value, found: &mut HashSet<char>) {
    let _ = map_texts(value, 0, &mut |text| {
        found.extend(text.chars().filter(|c| is_private(*c)));
        Some(text.to_owned())
    });
}

/// A character that is none of `used`.
pub(super) fn unused(used: &HashSet<char>) -> Option<char> {
    stand_ins().find(|candidate| !used.contains(candidate))
}

/// Replaces characters by stand-ins.
pub(super) struct Mask<'a> {
    wanted: &'a Wanted,
    used: &'a HashSet<char>,
    forward: HashMap<char, char>,
    back: HashMap<char, char>,
    next: Box<dyn Iterator<Item = char>>,
}

impl<'a> Mask<'a> {
    /// `used` are the private-use characters that already have a meaning.
    pub(super) fn new(wanted: &'a Wanted, used: &'a HashSet<char>) -> Mask<'a> {
        Mask { wanted, used, forward: HashMap::new(), back: HashMap::new(), next: Box::new(stand_ins()) }
    }

    /// `value` with stand-ins in its texts; `None` if there are not enough of them.
    pub(super) fn put(&mut self, value: &Value) -> Option<Value> {
        map_texts(value, 0, &mut |text| text.chars().map(|c| self.stand_in(c)).collect())
    }

    fn stand_in(&mut self, c: char) -> Option<char> {
        if !self.wanted.has(c) {
            return Some(c);
        }
        if let Some(known) = self.forward.get(&c) {
            return Some(*known);
        }
        let used = self.used;
        let stand_in = self.next.find(|candidate| !used.contains(candidate))?;
        self.forward.insert(c, stand_in);
        self.back.insert(stand_in, c);
        Some(stand_in)
    }

    /// Where `prompt` has characters that `marked` has stand-ins for; `None` if the two differ otherwise.
    pub(super) fn compare(&self, prompt: &str, marked: &str) -> Option<Vec<Range<usize>>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut found = marked.chars();
        for (start, expected) in prompt.char_indices() {
            let c = found.next()?;
            let original = self.back.get(&c);
            if *original.unwrap_or(&c) != expected {
                return None;
            }
            if original.is_some() {
                let end = start + expected.len_utf8();
                match ranges.last_mut().filter(|last| last.end == start) {
                    Some(last) => last.end = end,
                    None => ranges.push(start..end),
                }
            }
        }
        found.next().is_none().then_some(ranges)
    }
}

/// `value` with every text in it changed, keys of mappings excepted.
fn map_texts(value: &Value, depth: usize, change: &mut impl FnMut(&str) -> Option<String>) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    match value.kind() {
        ValueKind::String => change(value.as_str()?).map(Value::from),
        ValueKind::Seq => {
            let items: Option<Vec<Value>> =
                value.try_iter().ok()?.map(|item| map_texts(&item, depth + 1, change)).collect();
            items.map(Value::from)
        }
        ValueKind::Map => {
            let mut pairs = Vec::new();
            for key in value.try_iter().ok()? {
                let item = map_texts(&value.get_item(&key).ok()?, depth + 1, change)?;
                pairs.push((key, item));
            }
            Some(Value::from_pairs(pairs))
        }
        _ => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_have_a_character_of_every_token() {
        let tokens = ["<|im_start|>", "<|im_end|>", "<unk>", "[PAD]", "</s>", "\n\n"];
        let plans = plans(&tokens);
        assert!(matches!(plans[0], Wanted::NotSpace));
        let sets: Vec<&BTreeSet<char>> = plans
            .iter()
            .filter_map(|plan| match plan {
                Wanted::Only(set) => Some(set),
                Wanted::NotSpace => None,
            })
            .collect();
        assert_eq!(sets.len(), 1 + COVERS);
        for set in &sets {
            assert!(tokens[..5].iter().all(|token| token.chars().any(|c| set.contains(&c))), "{set:?}");
        }
        assert!(sets[1..].iter().any(|set| !set.contains(&'<')), "{sets:?}");
        let sought = BTreeSet::from_iter("</think>".chars());
        let Wanted::Only(set) = sparing(&tokens[..5], &sought) else { panic!() };
        let tokens = ["<|im_start|>", "<|im_end|>", "[PAD]", "</s>"];
        assert!(tokens.iter().all(|token| token.chars().any(|c| set.contains(&c))), "{set:?}");
        let Wanted::Only(set) = sparing(&tokens, &sought) else { panic!() };
        assert!(set.is_disjoint(&sought), "{set:?}");
    }

    #[test]
    fn stand_ins_are_found_again_and_nothing_else() {
        let (wanted, used) = (Wanted::NotSpace, HashSet::from(['\u{F0000}']));
        let mut mask = Mask::new(&wanted, &used);
        let marked = mask.put(&Value::from("a \u{F0000}bé")).unwrap();
        let marked = marked.as_str().unwrap();
        assert_eq!(mask.compare("x a \u{F0000}bé y", &format!("x {marked} y")), Some(vec![2..3, 8..11]));
        assert_eq!(mask.compare("x A y", &format!("x {marked} y")), None);
        assert_eq!(mask.compare("a", ""), None);
        assert_eq!(mask.compare("", "a"), None);
    }
}
