//! Ids with a meaning, and whether they are added to a text.
//!
//! Ids are taken from tokenizer_config.json, the post-processor, config.json and generation_config.json, in this
//! order. Generation may end at
//! several tokens; GGUF has a key for the first and two for others, named after turns and messages.

use serde_json::Value;
use smolt::gguf::GgufWriter;

use super::source::{Source, kind, steps};
use super::vocab::Vocab;
use crate::convert::ConvertError;
use crate::convert::json::Object;

/// Tokenizer classes that make the post-processor anew from `add_bos_token` and `add_eos_token`.
const REBUILD: &[&str] =
    &["LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast"];

/// The files ids are read from.
pub(super) struct Configs<'a> {
    pub(super) tokenizer: Option<Object<'a>>,
    pub(super) model: Object<'a>,
    pub(super) generation: Option<Object<'a>>,
}

/// Ids with a meaning.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Special {
    bos: Option<u32>,
    /// All tokens at which generation ends, the one that ends a text first.
    ends: Vec<u32>,
    unknown: Option<u32>,
    padding: Option<u32>,
    add_bos: bool,
    add_eos: bool,
}

impl Special {
    pub(super) fn read(
        source: &Source,
        vocab: &Vocab,
        configs: &Configs<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Self, ConvertError> {
        let (before, after) = affixes(source, vocab)?;
        let mut special = Self {
            bos: id(vocab, configs, ("bos", before), notes)?,
            ends: ends(vocab, configs, after, notes)?,
            unknown: id(vocab, configs, ("unk", None), notes)?,
            padding: id(vocab, configs, ("pad", None), notes)?,
            add_bos: before.is_some(),
            add_eos: after.is_some(),
        };
        if let Some(text) = &source.model.unk_token {
            special.unknown = special.unknown.or(vocab.id(text));
        }
        let (bos, eos) = (special.bos, special.ends.first().copied());
        if before.is_some_and(|id| bos != Some(id)) || after.is_some_and(|id| eos != Some(id)) {
            let reason = format!(
                "adds tokens {before:?} and {after:?}, tokenizer_config.json says that a text starts with {bos:?} \
                 and ends with {eos:?}"
            );
            return Err(source.refused("post_processor", reason));
        }
        if let Some(config) = &configs.tokenizer {
            special.read_flags(config, notes)?;
        }
        Ok(special)
    }

    /// Follows `add_bos_token` and `add_eos_token` where the class does, else tells of a contradiction.
    fn read_flags(&mut self, config: &Object<'_>, notes: &mut Vec<String>) -> Result<(), ConvertError> {
        let rebuilds = config.text("tokenizer_class")?.is_some_and(|class| REBUILD.contains(&class));
        let (has_bos, has_eos) = (self.bos.is_some(), !self.ends.is_empty());
        let flags =
            [("add_bos_token", &mut self.add_bos, has_bos), ("add_eos_token", &mut self.add_eos, has_eos)];
        for (key, flag, possible) in flags {
            let Some(said) = config.flag(key)?.filter(|said| said != flag) else { continue };
            if rebuilds && (possible || !said) {
                *flag = said;
            } else {
                notes.push(format!(
                    "{}: {key} is {said}, tokenizer.json says otherwise and is followed",
                    config.file()
                ));
            }
        }
        Ok(())
    }

    /// Sets the keys.
    pub(super) fn describe(&self, writer: &mut GgufWriter) {
        let end = |i: usize| self.ends.get(i).copied();
        for (name, id) in [
            ("bos", self.bos),
            ("eos", end(0)),
            ("eot", end(1)),
            ("eom", end(2)),
            ("unknown", self.unknown),
            ("padding", self.padding),
        ] {
            if let Some(id) = id {
                writer.set(format!("tokenizer.ggml.{name}_token_id"), id);
            }
        }
        writer.set("tokenizer.ggml.add_bos_token", self.add_bos);
        writer.set("tokenizer.ggml.add_eos_token", self.add_eos);
    }
}

/// The tokens that the post-processor adds before and after a text.
fn affixes(source: &Source, vocab: &Vocab) -> Result<(Option<u32>, Option<u32>), ConvertError> {
    let mut affixes = (None, None);
    for step in steps(source.post_processor.as_ref(), "processors") {
        let (before, after) = match kind(step) {
            "ByteLevel" => continue,
            "TemplateProcessing" => template(step).ok_or_else(|| {
                source.refused("post_processor", "its template is not a text between tokens")
            })?,
            other => {
                let reason = format!("the step {other:?} cannot be expressed in GGUF");
                return Err(source.refused("post_processor", reason));
            }
        };
        let known = |id: &u32| (*id as usize) < vocab.len();
        if !before.iter().chain(&after).all(known) || before.len() > 1 || after.len() > 1 {
            let reason =
                format!("adds tokens {before:?} and {after:?}; GGUF can add one of the vocabulary each");
            return Err(source.refused("post_processor", reason));
        }
        affixes = (before.first().copied(), after.first().copied());
    }
    Ok(affixes)
}

/// Tokens before and after the text of a template for one text.
fn template(step: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    let tokens = step.get("special_tokens");
    let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
    for part in step.get("single")?.as_array()? {
        if let Some(token) = part.get("SpecialToken") {
            let ids = tokens?.get(token.get("id")?.as_str()?)?.get("ids")?.as_array()?;
            let side = if seen { &mut after } else { &mut before };
            for id in ids {
                side.push(u32::try_from(id.as_u64()?).ok()?);
            }
        } else if part.get("Sequence").is_some() && !seen {
            seen = true;
        } else {
            return None;
        }
    }
    seen.then_some((before, after))
}

/// The token named `{name}_token` in tokenizer_config.json.
fn named(vocab: &Vocab, configs: &Configs<'_>, name: &str) -> Result<Option<u32>, ConvertError> {
    let Some(config) = &configs.tokenizer else { return Ok(None) };
    let key = format!("{name}_token");
    let Some(value) = config.get(&key) else { return Ok(None) };
    let text = value.as_str().or_else(|| value.get("content")?.as_str());
    let text = text.ok_or_else(|| config.bad(&key, "a string, or an object with `content`"))?;
    vocab.id(text).map(Some).ok_or_else(|| config.bad(&key, "a token of tokenizer.json"))
}

/// The ids of `{name}_token_id`, one or a list. Ids outside the vocabulary, as -1, stand for none.
fn numbered(
    vocab: &Vocab,
    config: &Object<'_>,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<u32>, ConvertError> {
    let key = format!("{name}_token_id");
    let Some(value) = config.get(&key) else { return Ok(Vec::new()) };
    let one = std::slice::from_ref(value);
    let mut ids = Vec::new();
    for value in value.as_array().map_or(one, Vec::as_slice) {
        let id = value.as_i64().ok_or_else(|| config.bad(&key, "an id or a list of ids"))?;
        match u32::try_from(id).ok().filter(|id| (*id as usize) < vocab.len()) {
            Some(id) => ids.push(id),
            None => {
                notes.push(format!("{}: {key} {id} is not in the vocabulary and is left out", config.file()))
            }
        }
    }
    Ok(ids)
}

/// One id: by name, else the one a text is given, else by number.
fn id(
    vocab: &Vocab,
    configs: &Configs<'_>,
    (name, added): (&str, Option<u32>),
    notes: &mut Vec<String>,
) -> Result<Option<u32>, ConvertError> {
    if let Some(id) = named(vocab, configs, name)?.or(added) {
        return Ok(Some(id));
    }
    for config in [Some(&configs.model), configs.generation.as_ref()].into_iter().flatten() {
        if let Some(id) = numbered(vocab, config, name, notes)?.first() {
            return Ok(Some(*id));
        }
    }
    Ok(None)
}

/// All tokens at which generation ends: that of the tokenizer, then those of the model.
fn ends(
    vocab: &Vocab,
    configs: &Configs<'_>,
    added: Option<u32>,
    notes: &mut Vec<String>,
) -> Result<Vec<u32>, ConvertError> {
    let mut ends: Vec<u32> = named(vocab, configs, "eos")?.or(added).into_iter().collect();
    let mut more = Vec::new();
    for config in [configs.generation.as_ref(), Some(&configs.model)].into_iter().flatten() {
        if more.is_empty() {
            more = numbered(vocab, config, "eos", notes)?;
        }
    }
    for id in more {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    if ends.len() > 3 {
        notes.push(format!(
            "generation ends at {} tokens; GGUF has keys for the first 3 of {ends:?}",
            ends.len()
        ));
    }
    Ok(ends)
}
