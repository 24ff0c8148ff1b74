//! The tokenizer: text to ids and ids to bytes.

use std::borrow::Cow;
use std::ops::Range;

use crate::files::Fnv;
use crate::gguf::GgufFile;

use super::added::{AddedTokens, Part, Wanted};
use super::bpe::ByteLevel;
use super::merge::Sink;
use super::pre::{self, PreRule};
use super::special::SpecialIds;
use super::split::split;
use super::spm::SentencePiece;
use super::stored::StoredTemplates;
use super::vocab::{PieceTable, TokenKind, TokenList};
use super::words::{Words, Work};
use super::{TextError, TextWarning, bpe, kinds, normal, special, spm};

/// Whether text is composed (Unicode NFC) before it is split, where that is not what the name of the pre-tokenizer
/// says. A key of this project.
const KEY_NFC: &str = "smolt.tokenizer.nfc";

/// Bytes of a text: places in it are 32-bit numbers, also where it is composed, which makes it at most three times as long.
const MAX_TEXT_BYTES: usize = u32::MAX as usize / 4;
/// Bytes of a text that may become one byte when it is composed (Unicode NFC): those of three Hangul letters become three.
const MAX_COMPOSED: usize = 3;

/// What the caller may say about a file's tokenizer.
#[derive(Clone, Debug, Default)]
pub struct TokenizerOptions {
    /// Name of the pre-tokenizer, in place of `tokenizer.ggml.pre`. Only BPE files have one.
    pub pre: Option<String>,
}

/// How to encode a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add the start and end tokens that the vocabulary asks for.
    pub add_special: bool,
    /// Read control tokens written in the text, e.g. `<|im_end|>`, as such. Leave it off for text that
    /// users write: without it no text becomes a control token.
    pub parse_special: bool,
}

/// The two ways to merge characters into tokens.
enum Scheme {
    /// Words cut by a pre-tokenizer, then bytes merged by rank.
    ByteLevel { rule: &'static PreRule, nfc: bool, merges: ByteLevel },
    /// Whole text, characters merged by score.
    SentencePiece { space_prefix: bool, merges: SentencePiece },
}

/// A vocabulary and the rules to apply it, rebuilt from the metadata of a GGUF file.
pub struct Tokenizer {
    scheme: Scheme,
    added: AddedTokens,
    pieces: PieceTable,
    kinds: Box<[TokenKind]>,
    special: SpecialIds,
    templates: StoredTemplates,
    warnings: Vec<TextWarning>,
}

impl Tokenizer {
    /// Rebuilds the tokenizer of a file.
    ///
    /// # Errors
    /// If the file has no complete tokenizer, one of an unsupported kind, a pre-tokenizer that is not known,
    /// or data that contradicts itself; the message names the key and, where it helps, `--pre`.
    pub fn from_gguf(file: &GgufFile, options: TokenizerOptions) -> Result<Tokenizer, TextError> {
        let kind = file.require_str("tokenizer.ggml.model")?;
        let is_bpe = match kind {
            "gpt2" => true,
            "llama" => false,
            other => {
                let found = other.chars().take(64).collect();
                return Err(TextError::UnknownModel { file: file.name().to_owned(), found });
            }
        };
        let rule = if is_bpe { Some(find_rule(file, options.pre.as_deref())?) } else { None };
        let mut tokens = TokenList::read(file)?;
        let templates = StoredTemplates::read(file)?;
        let named = special::named(&tokens)?;
        let warnings = kinds::mend(&mut tokens, &named, templates.named(""), is_bpe)?.into_iter().collect();
        let special = SpecialIds::read(&tokens, rule)?;
        let (scheme, pieces) = match rule {
            Some(rule) => {
                let (pieces, spellings) = bpe::pieces(&tokens)?;
                let merges = ByteLevel::new(&tokens, (&pieces, &spellings), rule.ignore_merges)?;
                let nfc = file.bool(KEY_NFC)?.unwrap_or(rule.nfc);
                (Scheme::ByteLevel { rule, nfc, merges }, pieces)
            }
            None => {
                let (pieces, spellings) = spm::pieces(&tokens)?;
                let merges = SentencePiece::new(&tokens, (&pieces, &spellings), special.unknown)?;
                let space_prefix = file.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
                (Scheme::SentencePiece { space_prefix, merges }, pieces)
            }
        };
        let added = AddedTokens::new(&tokens, &pieces)?;
        Ok(Tokenizer { scheme, added, pieces, kinds: tokens.kinds, special, templates, warnings })
    }

    /// What may be wrong with the file's tokenizer, and what was made of it.
    pub fn warnings(&self) -> &[TextWarning] {
        &self.warnings
    }

    /// Appends the ids of `text` to `out`. Working memory does not grow with the text, but where it has to be
    /// composed or holds a `▁` that is a space, and is freed on return.
    ///
    /// # Errors
    /// If the text holds a byte or character for which the vocabulary has no token, or is longer than 1 GiB.
    pub fn encode(&self, text: &str, options: EncodeOptions, out: &mut Vec<u32>) -> Result<(), TextError> {
        self.check_length(text.len(), usize::MAX)?;
        let mut work = Work::new(self.longest_piece(), text.len(), usize::MAX);
        self.encode_parts(text, options, |_, _| false, &mut work, out)
    }

    /// Like [`Tokenizer::encode`]; a control token that has a byte of `guarded`, or that is nothing but white space,
    /// is read as text. `guarded` holds ascending ranges of bytes of `text`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_guarded(
        &self,
        text: &str,
        guarded: &[Range<usize>],
        options: EncodeOptions,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        self.encode_within(text, guarded, options, usize::MAX, out)
    }

    /// Like [`Tokenizer::encode_guarded`] where there is only room for `limit` tokens, those in `out` included. What is
    /// surely longer is refused from its length, before it is encoded.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], and if the text is far longer.
    pub fn encode_within(
        &self,
        text: &str,
        guarded: &[Range<usize>],
        options: EncodeOptions,
        limit: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let refuse = |id: u32, range: Range<usize>| {
            let next = guarded.partition_point(|other| other.end <= range.start);
            let overlaps = guarded.get(next).is_some_and(|other| other.start < range.end);
            (overlaps || text[range].trim().is_empty()) && self.is_special(id)
        };
        self.check_length(text.len(), limit)?;
        let mut work = Work::new(self.longest_piece(), text.len(), limit);
        self.encode_parts(text, options, refuse, &mut work, out)
    }

    /// Refuses a text that has more than `limit` tokens whatever it says: more bytes than so many of the longest.
    ///
    /// # Errors
    /// [`TextError::TooLong`].
    pub fn check_length(&self, bytes: usize, limit: usize) -> Result<(), TextError> {
        let longest = match &self.scheme {
            Scheme::ByteLevel { nfc: true, .. } => self.longest_piece() * MAX_COMPOSED,
            Scheme::ByteLevel { .. } => self.longest_piece(),
            // One token stands for any number of characters in a row that have none of their own.
            Scheme::SentencePiece { merges, .. } if !merges.has_bytes() => usize::MAX,
            Scheme::SentencePiece { .. } => self.longest_piece(),
        };
        let tokens = bytes.div_ceil(longest.max(1));
        if tokens > limit || bytes > MAX_TEXT_BYTES {
            Err(TextError::TooLong { bytes, tokens, limit })
        } else {
            Ok(())
        }
    }

    /// Encodes; an added token that `refuse` holds for is text.
    fn encode_parts(
        &self,
        text: &str,
        options: EncodeOptions,
        refuse: impl Fn(u32, Range<usize>) -> bool,
        work: &mut Work,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let special = &self.special;
        if options.add_special && special.add_bos {
            out.extend(special.bos);
        }
        let mut after_added = true;
        self.partition(text, options.parse_special, refuse, |part| {
            match part {
                Part::Text { text, .. } => self.encode_text(text, after_added, work, out)?,
                Part::Token(id) => out.push(id),
            }
            after_added = matches!(part, Part::Token(_));
            Ok(())
        })?;
        if options.add_special && special.add_eos {
            out.extend(special.eos);
        }
        Ok(())
    }

    /// Cuts `text` at added tokens: user-defined ones, and control tokens if `parse_special` and not `refuse`.
    fn partition<'t>(
        &self,
        text: &'t str,
        parse_special: bool,
        refuse: impl Fn(u32, Range<usize>) -> bool,
        mut emit: impl FnMut(Part<'t>) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        let (added, pieces) = (&self.added, &self.pieces);
        if !parse_special {
            return added.partition(pieces, text, Wanted::UserDefined, |_, _| false, emit);
        }
        added.partition(pieces, text, Wanted::All, refuse, |part| match part {
            // Text that holds a guarded token was not searched for user-defined ones.
            Part::Text { text, has_guarded: true } => {
                added.partition(pieces, text, Wanted::UserDefined, |_, _| false, &mut emit)
            }
            part => emit(part),
        })
    }

    fn encode_text(
        &self,
        text: &str,
        after_added: bool,
        work: &mut Work,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        match &self.scheme {
            Scheme::SentencePiece { space_prefix, merges } => {
                let text = SentencePiece::spaces(text);
                let mut out = Sink::new(out, merges.unknown());
                let prefix = (*space_prefix && after_added).then_some(' ');
                let mut words = Words { joints: &merges.joints, merges: &merges.merges(&self.pieces), work };
                words.encode_prefixed(prefix, &text, &mut out)
            }
            Scheme::ByteLevel { rule, nfc, merges } => {
                let text = if *nfc { normal::nfc(text) } else { Cow::from(text) };
                let mut out = Sink::new(out, None);
                split(rule.stages, &text, &mut |piece| {
                    if let Some(id) = merges.word(&self.pieces, piece.as_bytes()) {
                        out.out.push(id);
                        return work.check(&out);
                    }
                    let mut words = Words { joints: &merges.joints, merges, work };
                    words.encode(piece.as_bytes(), |bytes| bytes.iter().copied(), &mut out)
                })
            }
        }
    }

    /// The bytes a token stands for; control tokens have their written form. Empty outside the vocabulary.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id)
    }

    /// Bytes of the longest token.
    pub fn longest_piece(&self) -> usize {
        self.pieces.longest()
    }

    /// What a token is, `None` outside the vocabulary.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// Whether a token is structure (control or unknown) rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.kind(id).is_some_and(TokenKind::is_special)
    }

    /// Tokens of the vocabulary; ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token with exactly this written form, e.g. `<|im_start|>`, among control and user-defined tokens.
    pub fn added_token(&self, text: &str) -> Option<u32> {
        let mut only = None;
        let mut parts = 0;
        let found = self.added.partition(
            &self.pieces,
            text,
            Wanted::All,
            |_, _| false,
            |part| {
                parts += 1;
                only = if let Part::Token(id) = part { Some(id) } else { None };
                Ok(())
            },
        );
        if found.is_ok() && parts == 1 { only } else { None }
    }

    /// The control or user-defined token that `text` begins with.
    pub(super) fn leading_added(&self, text: &str) -> Option<u32> {
        let mut first = None;
        let mut is_first = true;
        let _ = self.added.partition(
            &self.pieces,
            text,
            Wanted::All,
            |_, _| false,
            |part| {
                if let (Part::Token(id), true) = (part, is_first) {
                    first = Some(id);
                }
                is_first = false;
                Ok(())
            },
        );
        first
    }

    /// The token that starts a text.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// Whether encoding with `add_special` starts with [`Tokenizer::bos`].
    pub fn adds_bos(&self) -> bool {
        self.special.add_bos
    }

    /// Whether encoding with `add_special` ends with [`Tokenizer::eos`].
    pub fn adds_eos(&self) -> bool {
        self.special.add_eos
    }

    /// Whether generation ends at this token: end of text, of turn or of message.
    pub fn is_end(&self, id: u32) -> bool {
        self.special.ends.binary_search(&id).is_ok()
    }

    /// All ids for which [`Tokenizer::is_end`] holds, ascending.
    pub fn end_ids(&self) -> &[u32] {
        &self.special.ends
    }

    /// The chat template of the file (Jinja source).
    pub fn chat_template(&self) -> Option<&str> {
        self.templates.named("")
    }

    /// A further chat template of the file by its name, e.g. `tool_use`.
    pub fn named_chat_template(&self, name: &str) -> Option<&str> {
        self.templates.named(name).filter(|_| !name.is_empty())
    }

    /// The names of the further chat templates.
    pub fn chat_template_names(&self) -> impl Iterator<Item = &str> {
        self.templates.names()
    }

    /// The written forms of all control tokens.
    pub(super) fn control_texts(&self) -> impl Iterator<Item = String> {
        let ids = (0..self.vocab_size() as u32).filter(|id| self.is_special(*id));
        ids.map(|id| String::from_utf8_lossy(self.piece(id)).into_owned()).filter(|text| !text.is_empty())
    }

    /// The pre-tokenizer in use, by its first known name; empty for SentencePiece.
    pub fn pre_name(&self) -> &'static str {
        match &self.scheme {
            Scheme::ByteLevel { rule, .. } => rule.names[0],
            Scheme::SentencePiece { .. } => "",
        }
    }

    /// Whether a leading space is added to text that starts or follows an added token.
    pub(super) fn space_prefix(&self) -> bool {
        matches!(self.scheme, Scheme::SentencePiece { space_prefix: true, .. })
    }

    /// A number that differs (with high probability) between vocabularies: FNV-1a over kinds, pieces and
    /// rules. Equal numbers mean that ids may be exchanged.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.add(self.pre_name().as_bytes());
        hash.add(&[u8::from(self.space_prefix()), u8::from(self.adds_bos()), u8::from(self.adds_eos())]);
        hash.add(&[u8::from(matches!(self.scheme, Scheme::ByteLevel { nfc: true, .. }))]);
        for (id, kind) in (0u32..).zip(&self.kinds) {
            hash.add(&[*kind as u8]);
            hash.add(&(self.piece(id).len() as u32).to_le_bytes());
            hash.add(self.piece(id));
        }
        hash.finish()
    }
}

/// The rule named by the caller, else by the file.
fn find_rule(file: &GgufFile, option: Option<&str>) -> Result<&'static PreRule, TextError> {
    let stored = file.str("tokenizer.ggml.pre")?;
    let (name, known) = (file.name().to_owned(), pre::known_names());
    match option.or(stored) {
        None => Err(TextError::MissingPre { file: name, known }),
        Some(wanted) => pre::find_rule(wanted).ok_or_else(|| {
            let found = wanted.chars().take(64).collect();
            TextError::UnknownPre { file: name, found, known }
        }),
    }
}
