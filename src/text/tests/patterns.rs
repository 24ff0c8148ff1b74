//! The rows of pre-tokenizers against the regular expressions that the families publish, run by another matcher.

use regex_automata::meta::Regex;
use regex_automata::{Input, PatternID};

use crate::text::pre::{PRE_RULES, find_rule};
use crate::text::split::split;

/// A stage as it is published.
struct Published {
    pattern: &'static str,
    /// The pattern continues with `|\s+(?!\S)|\s+`.
    spaces: bool,
}

const GPT2: Published =
    Published { pattern: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+", spaces: true };
const DIGIT: Published = Published { pattern: r"\p{N}", spaces: false };
const LLAMA3: Published = Published {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const QWEN2: Published = Published {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const QWEN35: Published = Published {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const GPT4O: Published = Published {
    pattern: concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"(?:'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD]))?",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"(?:'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD]))?",
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const TEKKEN: Published = Published {
    pattern: concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const SEED: Published = Published {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+"
    ),
    spaces: true,
};
const BLOOM: Published = Published { pattern: r" ?[^(\s|.,!?…。，、।۔،)]+", spaces: false };
const DIGITS_UP_TO_3: Published = Published { pattern: r"\p{N}{1,3}", spaces: false };
const CJK_AND_KANA: Published = Published { pattern: "[一-龥\u{3040}-ゟ゠-ヿ]+", spaces: false };
const DEEPSEEK3: Published = Published {
    pattern: concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const DIGIT_TRIPLE: Published = Published { pattern: "[0-9][0-9][0-9]", spaces: false };
const CJK_IDEOGRAPHS: Published =
    Published { pattern: r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+", spaces: false };

/// By the first name of the rule.
const PUBLISHED: &[(&str, &[Published])] = &[
    ("gpt-2", &[GPT2]),
    ("mpt", &[GPT2]),
    ("smollm", &[DIGIT, GPT2]),
    ("llama-bpe", &[LLAMA3]),
    ("smaug-bpe", &[LLAMA3]),
    ("glm4", &[LLAMA3]),
    ("qwen2", &[QWEN2]),
    ("deepseek-r1-qwen", &[QWEN2]),
    ("qwen35", &[QWEN35]),
    ("gpt-4o", &[GPT4O]),
    ("seed-coder", &[SEED]),
    ("deepseek-v3", &[DIGITS_UP_TO_3, CJK_AND_KANA, DEEPSEEK3]),
    ("tekken", &[TEKKEN]),
    ("falcon", &[Published { pattern: r"[\p{P}\$\+<=>\^~\|`]+", spaces: false }, GPT2, DIGIT_TRIPLE]),
    (
        "deepseek-coder",
        &[
            Published { pattern: r"[\r\n]", spaces: false },
            Published { pattern: r"\s?\p{L}+", spaces: false },
            Published { pattern: r"\s?\p{P}+", spaces: false },
            CJK_IDEOGRAPHS,
            DIGIT,
        ],
    ),
    ("bloom", &[BLOOM]),
    ("viking", &[BLOOM, DIGIT]),
    (
        "default",
        &[
            Published { pattern: r"[\p{P}\$\+<=>\^~\|]+", spaces: false },
            GPT2,
            Published { pattern: r"\p{N}+", spaces: false },
            DIGIT_TRIPLE,
        ],
    ),
];

fn compile(stages: &[Published]) -> Vec<Regex> {
    let compile = |stage: &Published| {
        let patterns: &[&str] = if stage.spaces { &[stage.pattern, r"\s+"] } else { &[stage.pattern] };
        Regex::new_many(patterns).unwrap()
    };
    stages.iter().map(compile).collect()
}

fn expected<'t>(stages: &[Regex], text: &'t str, pieces: &mut Vec<&'t str>) {
    let Some((regex, later)) = stages.split_first() else {
        pieces.extend(Some(text).filter(|text| !text.is_empty()));
        return;
    };
    let mut done = 0;
    while let Some(found) = regex.search(&Input::new(text).span(done..text.len())) {
        let mut end = found.end();
        // The look-ahead, which a matcher without backtracking does not have.
        if found.pattern() == PatternID::must(1) && end < text.len() {
            let last = text[found.start()..end].char_indices().next_back().unwrap().0;
            end = if last > 0 { found.start() + last } else { end };
        }
        expected(later, &text[done..found.start()], pieces);
        expected(later, &text[found.start()..end], pieces);
        done = end;
        if done == text.len() {
            break;
        }
    }
    expected(later, &text[done..], pieces);
}

fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
    let mut found = Vec::new();
    let mut emit = |piece| {
        found.push(piece);
        Ok::<(), ()>(())
    };
    split(find_rule(name).unwrap().stages, text, &mut emit).unwrap();
    found
}

/// What texts are made of: some characters of each class, and what the patterns name.
#[rustfmt::skip]
const UNITS: &[&str] = &[
    "a", "B", "é", "É", "ǅ", "ʰ", "日", "本", "ガ", "ひ", "한", "ا", "ن", "क", "\u{301}", "\u{93f}", "1", "23",
    "٣", "Ⅷ", "²", " ", "  ", "\t", "\n", "\r\n", "\u{a0}", "\u{3000}", "\u{85}", "\u{200b}", ".", ",",
    "!", "/", "_", "-", "'", "’", "«", "(", ")", "|", "$", "+", "`", "^", "~", "<", "=", "€", "\u{1F600}",
    "\u{7f}", "\u{e000}", "\u{10FFFF}", "…", "。", "،", "'s", "'T", "'re", "'VE", "'ll", "'d", "word",
    "WORD", "Word", "ſ", "K",
];

#[test]
fn every_rule_cuts_as_the_published_patterns_do() {
    let mut state = 11u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut texts: Vec<String> = UNITS.iter().map(|unit| unit.repeat(7)).collect();
    for round in 0..4000 {
        let kinds = if round % 3 == 0 { 5 } else { UNITS.len() };
        let first = next(UNITS.len());
        let length = 1 + next(24);
        texts.push((0..length).map(|_| UNITS[(first + next(kinds)) % UNITS.len()]).collect());
    }
    assert_eq!(PUBLISHED.len(), PRE_RULES.len());
    for (rule, (name, published)) in PRE_RULES.iter().zip(PUBLISHED) {
        assert_eq!(rule.names[0], *name);
        let stages = compile(published);
        for text in &texts {
            let mut wanted = vec![];
            expected(&stages, text, &mut wanted);
            assert_eq!(pieces(name, text), wanted, "{name}: {text:?}");
        }
    }
}

#[test]
fn white_space_gives_its_last_character_to_the_next_word() {
    assert_eq!(pieces("gpt-2", "a   b"), ["a", "  ", " b"]);
    assert_eq!(pieces("gpt-2", "a \n b"), ["a", " \n", " b"]);
    assert_eq!(pieces("gpt-2", "a\nb"), ["a", "\n", "b"]);
    assert_eq!(pieces("gpt-2", "a  "), ["a", "  "]);
    assert_eq!(pieces("llama-bpe", "a \n  b"), ["a", " \n", " ", " b"]);
    assert_eq!(pieces("gpt-2", "\u{3000}\u{3000}x"), ["\u{3000}", "\u{3000}", "x"]);
}

#[test]
fn digits_follow_the_family() {
    assert_eq!(pieces("gpt-2", "x 1234"), ["x", " 1234"]);
    assert_eq!(pieces("smollm", "x 1234"), ["x", " ", "1", "2", "3", "4"]);
    assert_eq!(pieces("llama-bpe", "x 1234"), ["x", " ", "123", "4"]);
    assert_eq!(pieces("qwen2", "x 12"), ["x", " ", "1", "2"]);
    assert_eq!(pieces("falcon", "12345"), ["123", "45"]);
}

#[test]
fn case_and_marks_follow_the_family() {
    assert_eq!(pieces("gpt-4o", "HelloWorld's"), ["Hello", "World's"]);
    assert_eq!(pieces("tekken", "HelloWorld's"), ["Hello", "World", "'s"]);
    assert_eq!(pieces("llama-bpe", "I'M HelloWorld"), ["I", "'M", " HelloWorld"]);
    assert_eq!(pieces("gpt-2", "I'M"), ["I", "'", "M"]);
    assert_eq!(pieces("qwen35", "e\u{301}a"), ["e\u{301}a"]);
    assert_eq!(pieces("qwen2", "e\u{301}a"), ["e", "\u{301}a"]);
}

#[test]
fn every_rule_compiles_and_loses_nothing() {
    let text = "Hi, we're 12 345\r\n\t  naïve 日本語 \u{1F600}!! x_y=$3.50 `a` (b) \u{a0}\n\n end  ";
    for rule in PRE_RULES {
        for name in rule.names {
            assert_eq!(pieces(name, text).concat(), text, "{name}");
        }
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = PRE_RULES.iter().flat_map(|rule| rule.names).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
