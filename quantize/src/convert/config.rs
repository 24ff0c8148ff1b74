//! config.json: the family, sizes and constants of a model.

use std::path::Path;

use serde_json::Value;
use smolt::gguf::GgufWriter;

use super::ConvertError;
use super::family::{Choice, FAMILIES, Family, Fixed, Flag, Kind, Known};
use super::json::{Json, Object};
use super::layers;
use super::rope::Rope;
use super::sizes::Sizes;

/// Bytes of a configuration file.
pub(super) const MAX_CONFIG_BYTES: u64 = 1 << 22;

/// A model's config.json, checked.
#[derive(Debug)]
pub(super) struct Config {
    json: Json,
    pub(super) family: &'static Family,
    pub(super) sizes: Sizes,
    pub(super) rope: Option<Rope>,
    /// The kind of every layer, where a family has several.
    pub(super) kinds: Vec<Kind>,
    /// How often each layer is used, in a row.
    pub(super) uses: u64,
    /// Metadata keys after the architecture's prefix.
    numbers: Vec<(&'static str, f32)>,
    texts: Vec<(&'static str, &'static str)>,
    flags: Vec<(&'static str, bool)>,
}

impl Config {
    /// Reads the configuration in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, ConvertError> {
        let missing =
            || ConvertError::MissingFile { folder: folder.display().to_string(), what: "config.json" };
        let json = Json::read(&folder.join("config.json"), MAX_CONFIG_BYTES)?.ok_or_else(missing)?;
        let root = json.root();
        let family = family(&root)?;
        let sizes = Sizes::read(family, &root)?;
        for fixed in family.fixed {
            check(fixed, &sizes, &root)?;
        }
        let rope = family.rotary.map(|rotary| Rope::read(&rotary, &root, &sizes)).transpose()?;
        let kinds = layers::read(family, &sizes, &root)?;
        let uses = if family.twice.map_or(Ok(false), |flag| root.is(flag))? { 2 } else { 1 };
        let mut numbers = Vec::new();
        for number in family.numbers {
            let value = root.positive(root.first_of(number.config))?.unwrap_or(number.absent);
            numbers.push((number.gguf, value as f32));
        }
        let texts = family.choices.iter().map(|choice| chosen(choice, &root));
        let texts = texts.collect::<Result<_, _>>()?;
        let flags = family.flags.iter().map(|key| Ok((key.gguf, root.is(key.flag)? != key.inverted)));
        let flags = flags.collect::<Result<_, ConvertError>>()?;
        Ok(Self { family, sizes, rope, kinds, uses, numbers, texts, flags, json })
    }

    pub(super) fn root(&self) -> Object<'_> {
        self.json.root()
    }

    /// Whether this is true.
    pub(super) fn is(&self, flag: Flag) -> Result<bool, ConvertError> {
        self.root().is(flag)
    }

    /// The name the model was saved under, without its folders.
    pub(super) fn model_name(&self) -> Result<Option<&str>, ConvertError> {
        let path = self.json.root().text("_name_or_path")?.map(|path| path.trim_end_matches('/'));
        Ok(path.and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty()))
    }

    /// Sets the keys of the forward pass.
    pub(super) fn describe(&self, writer: &mut GgufWriter) {
        let key = |name: &str| format!("{}.{name}", self.family.architecture);
        self.sizes.describe(self.family, self.uses, writer);
        layers::describe(self.family, &self.sizes, &self.kinds, writer);
        if let Some(rope) = &self.rope {
            rope.describe(self.family.architecture, writer);
        }
        for (name, value) in &self.numbers {
            writer.set(key(name), *value);
        }
        for (name, value) in &self.texts {
            writer.set(key(name), *value);
        }
        for (name, value) in &self.flags {
            writer.set(key(name), *value);
        }
    }
}

/// Refuses what is not known of a key.
fn check(fixed: &Fixed, sizes: &Sizes, root: &Object<'_>) -> Result<(), ConvertError> {
    let found = root.get(fixed.config);
    let (differs, expected) = match fixed.value {
        Known::Text(text) => (found.is_some_and(|found| found != text), format!("{text:?}")),
        Known::Flag(flag) => (found.is_some_and(|found| *found != flag), flag.to_string()),
        Known::Nothing => (found.is_some(), "null".to_owned()),
        Known::Size(axis, absent) => {
            let size = sizes.get(axis);
            (
                found.map_or(absent as f64, |found| found.as_f64().unwrap_or(-1.0)) != size as f64,
                size.to_string(),
            )
        }
        Known::Texts(text) => {
            let all =
                |found: &Value| found.as_array().is_some_and(|list| list.iter().all(|entry| entry == text));
            (found.is_some_and(|found| !all(found)), format!("a list of {text:?}"))
        }
        Known::Said(text) => (found.is_none_or(|found| found != text), format!("{text:?}")),
        Known::AllSaid(text) => {
            let all =
                |found: &Value| found.as_array().is_some_and(|list| list.iter().all(|entry| entry == text));
            (!found.is_some_and(all), format!("a list of {text:?}"))
        }
        Known::Number(number) => (found.and_then(Value::as_u64) != Some(number), number.to_string()),
        Known::Unlimited => {
            let unlimited = |found: &Value| match found.as_array().map(Vec::as_slice) {
                Some([low, high]) => low.as_f64() == Some(0.0) && high.as_f64().is_none(),
                _ => false,
            };
            (found.is_some_and(|found| !unlimited(found)), "[0, Infinity]".to_owned())
        }
    };
    if differs { Err(root.bad(fixed.config, expected)) } else { Ok(()) }
}

/// The metadata key of a choice and its value.
fn chosen(choice: &Choice, root: &Object<'_>) -> Result<(&'static str, &'static str), ConvertError> {
    let found = root.text(choice.config)?;
    let known = choice.known.iter().find(|(name, _)| found.is_none_or(|found| found == *name));
    let names = || choice.known.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
    let (_, value) = known.ok_or_else(|| root.bad(choice.config, names()))?;
    Ok((choice.gguf, value))
}

fn family(root: &Object<'_>) -> Result<&'static Family, ConvertError> {
    let classes: Vec<&str> = match root.get("architectures") {
        Some(Value::Array(classes)) => classes.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err(root.bad("architectures", "a list of classes")),
        None => Vec::new(),
    };
    let model_type = root.text("model_type")?.filter(|_| classes.is_empty());
    let known = |family: &&Family| {
        classes.contains(&family.class) || model_type.is_some_and(|found| found == family.model_type)
    };
    FAMILIES.iter().find(known).ok_or_else(|| ConvertError::UnknownFamily {
        file: root.file().to_owned(),
        found: match classes.first() {
            Some(class) => super::json::cut(class, 80),
            None => "(no architectures given)".to_owned(),
        },
        known: FAMILIES.iter().map(|family| family.class).collect::<Vec<_>>().join(", "),
    })
}
