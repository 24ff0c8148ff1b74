//! Pre-tokenizers: how each BPE family cuts text into words before merging, as rows of data.
//!
//! A row is a chain of stages. A stage cuts every piece left by the stage before it: each match of one of its
//! patterns becomes a piece, and so does the text between two matches. The first pattern that matches is taken, as in
//! the regular expressions that the families publish; the tests hold every row against those (`split`).
//!
//! The published expressions end in `\s+(?!\S)|\s+`: a run of white space gives its last character to the
//! word that follows. A stage with `spaces` does so.
//!
//! Sources of the rules: the `pre_tokenizer` entries of the published `tokenizer.json` files and the rules
//! by `tokenizer.ggml.pre` of llama.cpp (`llama-vocab.cpp`).

use super::classes::Class::{
    Letter, Lower, Mark, Modifier, Newline, Number, Punctuation, Space, Symbol, Title, Upper, White,
};
use super::split::Item::{Ending, MaybeEnding};
use super::split::{Item, Set, Stage};

/// One row: the names a file may use for a rule and what the rule is.
pub(super) struct PreRule {
    pub(super) names: &'static [&'static str],
    pub(super) stages: &'static [Stage],
    /// A word that is itself a token is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether BOS is added when the file does not say.
    pub(super) add_bos: bool,
    /// Whether characters are composed (Unicode NFC) first, when the file does not say.
    pub(super) nfc: bool,
}

// Sets of characters. `\s`, `\p{L}`, `\p{N}`, `\p{P}`:
const WHITE: Set = Set::of(&[White, Newline, Space]);
const LETTERS: Set = Set::of(&[Upper, Lower, Title, Modifier, Letter]);
const NUMBERS: Set = Set::of(&[Number]);
const PUNCTUATION: Set = Set::of(&[Punctuation]);
// ` `, `[\r\n]`, `[\r\n/]`:
const SPACE: Set = Set::of(&[Space]);
const NEWLINES: Set = Set::of(&[Newline]);
const NEWLINES_SLASH: Set = NEWLINES.with("/");
// `[^\s\p{L}\p{N}]` and its like:
const SIGNS: Set = WHITE.and(LETTERS).and(NUMBERS).not();
const LETTERS_MARKS: Set = LETTERS.and(Set::of(&[Mark]));
const SIGNS_BUT_MARKS: Set = WHITE.and(LETTERS_MARKS).and(NUMBERS).not();
const PUNCTUATION_SYMBOLS: Set = Set::of(&[Punctuation, Symbol]);
// What may stand before a word, `[^\r\n\p{L}\p{N}]` and `[^\r\n\p{L}\p{P}\p{S}]`:
const BEFORE: Set = NEWLINES.and(LETTERS).and(NUMBERS).not();
const BEFORE_V3: Set = NEWLINES.and(LETTERS).and(PUNCTUATION_SYMBOLS).not();
// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]` and `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`:
const CAPITALS: Set = Set::of(&[Upper, Title, Modifier, Letter, Mark]);
const SMALL: Set = Set::of(&[Lower, Modifier, Letter, Mark]);

// Numbers of characters: `X?`, `X*`, `X+`, `X{1,3}`.
const fn maybe(set: Set) -> Item {
    Item::Chars(set, 0, 1)
}
const fn any(set: Set) -> Item {
    Item::Chars(set, 0, u32::MAX)
}
const fn some(set: Set) -> Item {
    Item::Chars(set, 1, u32::MAX)
}
const fn times(set: Set, least: u32, most: u32) -> Item {
    Item::Chars(set, least, most)
}

/// `\s*[\r\n]+`.
const LINES: &[Item] = &[any(WHITE), some(NEWLINES)];
const ANY_CASE: &[Item] = &[Ending { any_case: true }];

/// A stage of one pattern of one item.
const fn only(patterns: &'static [&'static [Item]]) -> Stage {
    Stage { patterns, spaces: false }
}

const GPT2: Stage = Stage {
    patterns: &[
        &[Ending { any_case: false }],
        &[maybe(SPACE), some(LETTERS)],
        &[maybe(SPACE), some(NUMBERS)],
        &[maybe(SPACE), some(SIGNS)],
    ],
    spaces: true,
};
const DIGIT: Stage = only(&[&[times(NUMBERS, 1, 1)]]);
const DIGITS_UP_TO_3: Stage = only(&[&[times(NUMBERS, 1, 3)]]);
const LLAMA3: Stage = Stage {
    patterns: &[
        ANY_CASE,
        &[maybe(BEFORE), some(LETTERS)],
        &[times(NUMBERS, 1, 3)],
        &[maybe(SPACE), some(SIGNS), any(NEWLINES)],
        LINES,
    ],
    spaces: true,
};
const QWEN2: Stage = Stage {
    patterns: &[
        ANY_CASE,
        &[maybe(BEFORE), some(LETTERS)],
        &[times(NUMBERS, 1, 1)],
        &[maybe(SPACE), some(SIGNS), any(NEWLINES)],
        LINES,
    ],
    spaces: true,
};
const QWEN35: Stage = Stage {
    patterns: &[
        ANY_CASE,
        &[maybe(BEFORE), some(LETTERS_MARKS)],
        &[times(NUMBERS, 1, 1)],
        &[maybe(SPACE), some(SIGNS_BUT_MARKS), any(NEWLINES)],
        LINES,
    ],
    spaces: true,
};
const GPT4O: Stage = Stage {
    patterns: &[
        &[maybe(BEFORE), any(CAPITALS), some(SMALL), MaybeEnding],
        &[maybe(BEFORE), some(CAPITALS), any(SMALL), MaybeEnding],
        &[times(NUMBERS, 1, 3)],
        &[maybe(SPACE), some(SIGNS), any(NEWLINES_SLASH)],
        LINES,
    ],
    spaces: true,
};
const TEKKEN: Stage = Stage {
    patterns: &[
        &[maybe(BEFORE), any(CAPITALS), some(SMALL)],
        &[maybe(BEFORE), some(CAPITALS), any(SMALL)],
        &[times(NUMBERS, 1, 1)],
        &[maybe(SPACE), some(SIGNS), any(NEWLINES_SLASH)],
        LINES,
    ],
    spaces: true,
};
const SEED: Stage = Stage {
    patterns: &[
        ANY_CASE,
        &[maybe(BEFORE), some(LETTERS)],
        &[times(NUMBERS, 1, 1)],
        &[maybe(SPACE), some(SIGNS)],
        LINES,
    ],
    spaces: true,
};
const BLOOM: Stage = only(&[&[maybe(SPACE), some(WHITE.with("(|.,!?…。，、।۔،)").not())]]);
const CJK_AND_KANA: Stage = only(&[&[some(Set::ranges(&[('一', '龥'), ('\u{3040}', 'ゟ'), ('゠', 'ヿ')]))]]);
const DEEPSEEK3: Stage = Stage {
    patterns: &[
        &[times(Set::ranges(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]), 1, 1), some(ASCII_LETTERS)],
        &[maybe(BEFORE_V3), some(LETTERS_MARKS)],
        &[maybe(SPACE), some(PUNCTUATION_SYMBOLS), any(NEWLINES)],
        LINES,
    ],
    spaces: true,
};
const ASCII_LETTERS: Set = Set::ranges(&[('A', 'Z'), ('a', 'z')]);
const DIGIT_TRIPLE: Stage = only(&[&[times(Set::ranges(&[('0', '9')]), 3, 3)]]);
const CJK_IDEOGRAPHS: Stage = only(&[&[some(Set::ranges(&[
    ('\u{4E00}', '\u{9FA5}'),
    ('\u{0800}', '\u{4E00}'),
    ('\u{AC00}', '\u{D7FF}'),
]))]]);

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
        stages: &[only(&[&[some(PUNCTUATION.with("$+<=>^~|`"))]]), GPT2, DIGIT_TRIPLE],
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    },
    PreRule {
        names: &["deepseek-coder"],
        stages: &[
            only(&[&[times(NEWLINES, 1, 1)]]),
            only(&[&[maybe(WHITE), some(LETTERS)]]),
            only(&[&[maybe(WHITE), some(PUNCTUATION)]]),
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
            only(&[&[some(PUNCTUATION.with("$+<=>^~|"))]]),
            GPT2,
            only(&[&[some(NUMBERS)]]),
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
