//! Pre-tokenizers: how each BPE family cuts text into words before merging, as rows of data.
//!
//! A row is a chain of stages. A stage cuts every piece left by the stage before it: each match of its
//! pattern becomes a piece, and so does the text between two matches.
//!
//! The published patterns end in `\s+(?!\S)|\s+`: a run of white space gives its last character to the
//! word that follows. Look-ahead would need a backtracking matcher, whose time and stack depend on the
//! text, so a stage with `spaces` matches `\s+` instead and gives back the last character itself.
//!
//! Sources of the rules: the `pre_tokenizer` entries of the published `tokenizer.json` files and the rules
//! by `tokenizer.ggml.pre` of llama.cpp (`llama-vocab.cpp`).

use regex_automata::meta::{Cache, Regex};
use regex_automata::{Input, PatternID};

use super::TextError;

/// One row: the names a file may use for a rule and what the rule is.
pub(super) struct PreRule {
    pub(super) names: &'static [&'static str],
    stages: &'static [Stage],
    /// A word that is itself a token is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether BOS is added when the file does not say.
    pub(super) add_bos: bool,
    /// Whether characters are composed (Unicode NFC) first, when the file does not say.
    pub(super) nfc: bool,
}

/// One cut of the chain.
struct Stage {
    pattern: &'static str,
    /// The pattern continues with `|\s+(?!\S)|\s+`.
    spaces: bool,
}

const GPT2: Stage =
    Stage { pattern: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+", spaces: true };
const DIGIT: Stage = Stage { pattern: r"\p{N}", spaces: false };
const LLAMA3: Stage = Stage {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const QWEN2: Stage = Stage {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const QWEN35: Stage = Stage {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const GPT4O: Stage = Stage {
    pattern: concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"(?:'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD]))?",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"(?:'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD]))?",
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const TEKKEN: Stage = Stage {
    pattern: concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const SEED: Stage = Stage {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+"
    ),
    spaces: true,
};
const BLOOM: Stage = Stage { pattern: r" ?[^(\s|.,!?…。，、।۔،)]+", spaces: false };
const DIGITS_UP_TO_3: Stage = Stage { pattern: r"\p{N}{1,3}", spaces: false };
const CJK_AND_KANA: Stage = Stage { pattern: "[一-龥\u{3040}-ゟ゠-ヿ]+", spaces: false };
const DEEPSEEK3: Stage = Stage {
    pattern: concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"
    ),
    spaces: true,
};
const DIGIT_TRIPLE: Stage = Stage { pattern: "[0-9][0-9][0-9]", spaces: false };
const CJK_IDEOGRAPHS: Stage =
    Stage { pattern: r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+", spaces: false };

/// Every rule known here. The first name is the one shown in messages.
pub(super) const PRE_RULES: &[PreRule] = &[
    PreRule {
        names: &[
            "gpt-2",
            "phi-2",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
        ],
        stages: &[GPT2],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    // GPT-NeoX, Pythia and MPT; OLMo.
    PreRule {
        names: &["mpt", "olmo", "gpt-neox"],
        stages: &[GPT2],
        ignore_merges: false,
        add_bos: false,
        nfc: true,
    },
    PreRule {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        stages: &[DIGIT, GPT2],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        stages: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
        nfc: false,
    },
    PreRule {
        names: &["smaug-bpe", "dbrx", "chatglm-bpe"],
        stages: &[LLAMA3],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule { names: &["glm4", "glm5"], stages: &[LLAMA3], ignore_merges: true, add_bos: false, nfc: false },
    PreRule {
        names: &["qwen2", "stablelm2"],
        stages: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
        nfc: true,
    },
    PreRule {
        names: &["deepseek-r1-qwen", "megrez", "kormo", "f2llmv2", "hunyuan", "solar-open", "grok-2"],
        stages: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule { names: &["qwen35"], stages: &[QWEN35], ignore_merges: false, add_bos: false, nfc: true },
    PreRule {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        stages: &[GPT4O],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule { names: &["seed-coder"], stages: &[SEED], ignore_merges: false, add_bos: false, nfc: false },
    PreRule {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        stages: &[DIGITS_UP_TO_3, CJK_AND_KANA, DEEPSEEK3],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule { names: &["tekken"], stages: &[TEKKEN], ignore_merges: true, add_bos: true, nfc: false },
    PreRule {
        names: &["falcon"],
        stages: &[Stage { pattern: r"[\p{P}\$\+<=>\^~\|`]+", spaces: false }, GPT2, DIGIT_TRIPLE],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule {
        names: &["deepseek-coder"],
        stages: &[
            Stage { pattern: r"[\r\n]", spaces: false },
            Stage { pattern: r"\s?\p{L}+", spaces: false },
            Stage { pattern: r"\s?\p{P}+", spaces: false },
            CJK_IDEOGRAPHS,
            DIGIT,
        ],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule {
        names: &["bloom", "gpt3-finnish", "poro-chat"],
        stages: &[BLOOM],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule { names: &["viking"], stages: &[BLOOM, DIGIT], ignore_merges: false, add_bos: false, nfc: false },
    // What llama.cpp's converter wrote before it knew families; only a file that says so gets it.
    PreRule {
        names: &["default"],
        stages: &[
            Stage { pattern: r"[\p{P}\$\+<=>\^~\|]+", spaces: false },
            GPT2,
            Stage { pattern: r"\p{N}+", spaces: false },
            DIGIT_TRIPLE,
        ],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
];

/// The rule a file names, or `None` when it is not known.
pub(super) fn find_rule(name: &str) -> Option<&'static PreRule> {
    PRE_RULES.iter().find(|rule| rule.names.contains(&name))
}

/// Every known name, for messages.
pub(super) fn known_names() -> String {
    let names: Vec<&str> = PRE_RULES.iter().flat_map(|rule| rule.names.iter().copied()).collect();
    names.join(", ")
}

/// The compiled chain of one rule.
pub(super) struct Splitter {
    stages: Vec<Regex>,
}

/// The matchers' working memory for one call: at most 4 MiB a stage on text of many scripts.
pub(super) struct SplitCache(Vec<Cache>);

impl Splitter {
    pub(super) fn new(rule: &PreRule) -> Result<Splitter, TextError> {
        let compile = |stage: &Stage| {
            let patterns: &[&str] = if stage.spaces { &[stage.pattern, r"\s+"] } else { &[stage.pattern] };
            Regex::new_many(patterns)
                .map_err(|error| TextError::Library { what: "pre-tokenizer", message: error.to_string() })
        };
        Ok(Splitter { stages: rule.stages.iter().map(compile).collect::<Result<_, _>>()? })
    }

    pub(super) fn cache(&self) -> SplitCache {
        SplitCache(self.stages.iter().map(Regex::create_cache).collect())
    }

    /// Calls `emit` with every piece of `text`, in order; the pieces joined are `text`.
    pub(super) fn split<'t, E>(
        &self,
        text: &'t str,
        cache: &mut SplitCache,
        emit: &mut dyn FnMut(&'t str) -> Result<(), E>,
    ) -> Result<(), E> {
        split_stage(&self.stages, &mut cache.0, text, emit)
    }
}

fn split_stage<'t, E>(
    stages: &[Regex],
    caches: &mut [Cache],
    text: &'t str,
    emit: &mut dyn FnMut(&'t str) -> Result<(), E>,
) -> Result<(), E> {
    if text.is_empty() {
        return Ok(());
    }
    let (Some((regex, later)), Some((cache, later_caches))) =
        (stages.split_first(), caches.split_first_mut())
    else {
        return emit(text);
    };
    let mut done = 0;
    while done < text.len() {
        let input = Input::new(text).span(done..text.len());
        let Some(found) = regex.search_with(cache, &input) else { break };
        let end = if found.pattern() == PatternID::must(1) {
            give_back(text, found.start(), found.end())
        } else {
            found.end()
        };
        split_stage(later, later_caches, &text[done..found.start()], emit)?;
        split_stage(later, later_caches, &text[found.start()..end], emit)?;
        done = end;
    }
    split_stage(later, later_caches, &text[done..], emit)
}

/// The end of `\s+(?!\S)|\s+` where `\s+` matched `start..end`.
fn give_back(text: &str, start: usize, end: usize) -> usize {
    if end == text.len() {
        return end;
    }
    match text[start..end].char_indices().next_back() {
        Some((last, _)) if last > 0 => start + last,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let splitter = Splitter::new(find_rule(name).unwrap()).unwrap();
        let mut found = Vec::new();
        let mut emit = |piece| {
            found.push(piece);
            Ok::<(), ()>(())
        };
        splitter.split(text, &mut splitter.cache(), &mut emit).unwrap();
        found
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
}
