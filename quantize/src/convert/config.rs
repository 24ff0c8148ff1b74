//! config.json: the family, sizes and constants of a model.

use std::path::Path;

use serde_json::Value;
use smolt::gguf::GgufWriter;

use super::ConvertError;
use super::family::{AXES, Absent, Axis, Extent, FAMILIES, Family};
use super::json::{Json, Object};
use super::rope::Rope;

/// Bytes of a configuration file.
pub(super) const MAX_CONFIG_BYTES: u64 = 1 << 22;
/// Largest of the sizes but the context.
const MAX_SIZE: u64 = 1 << 20;

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes([u64; AXES]);

impl Sizes {
    pub(super) fn get(&self, axis: Axis) -> u64 {
        self.0[axis as usize]
    }

    /// At most the square of [`MAX_SIZE`].
    pub(super) fn extent(&self, extent: Extent) -> u64 {
        match extent {
            Extent::Of(axis) => self.get(axis),
            Extent::InHeads(axis) => self.get(axis) * self.get(Axis::HeadDim),
        }
    }

    fn read(family: &Family, root: &Object<'_>) -> Result<Self, ConvertError> {
        let mut sizes = Self([0; AXES]);
        for count in family.counts {
            let most = if count.axis == Axis::Context { u64::from(u32::MAX) } else { MAX_SIZE };
            let absent = match count.absent {
                Absent::Refused => None,
                Absent::Same(axis) => Some(sizes.get(axis)),
                Absent::Quotient(a, b) => sizes.get(a).checked_div(sizes.get(b)),
            };
            let value = root.count(count.config, most)?.or(absent);
            let expected = || root.bad(count.config, format!("an integer from 1 to {most}"));
            sizes.0[count.axis as usize] = value.filter(|n| *n > 0).ok_or_else(expected)?;
        }
        sizes.check_heads(family, root)?;
        Ok(sizes)
    }

    fn check_heads(&self, family: &Family, root: &Object<'_>) -> Result<(), ConvertError> {
        let key = |axis| family.counts.iter().find(|count| count.axis == axis).map_or("", |c| c.config);
        let (heads, kv_heads) = (self.get(Axis::Heads), self.get(Axis::KvHeads));
        if !heads.is_multiple_of(kv_heads) {
            return Err(root.bad(key(Axis::KvHeads), format!("a divisor of the {heads} heads")));
        }
        if !self.get(Axis::HeadDim).is_multiple_of(2) || heads * self.get(Axis::HeadDim) > MAX_SIZE {
            let expected = format!("an even number, with {heads} heads of it at most {MAX_SIZE}");
            return Err(root.bad(key(Axis::HeadDim), expected));
        }
        Ok(())
    }
}

/// A model's config.json, checked.
#[derive(Debug)]
pub(super) struct Config {
    json: Json,
    pub(super) family: &'static Family,
    pub(super) sizes: Sizes,
    pub(super) rope: Rope,
    norm_eps: f32,
}

impl Config {
    /// Reads the configuration in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, ConvertError> {
        let missing =
            || ConvertError::MissingFile { folder: folder.display().to_string(), what: "config.json" };
        let json = Json::read(&folder.join("config.json"), MAX_CONFIG_BYTES)?.ok_or_else(missing)?;
        let root = json.root();
        let family = family(&root)?;
        for fixed in family.fixed {
            if root.text(fixed.config)?.is_some_and(|found| found != fixed.value) {
                return Err(root.bad(fixed.config, format!("{:?}", fixed.value)));
            }
        }
        let sizes = Sizes::read(family, &root)?;
        let rope = Rope::read(&root, sizes.get(Axis::HeadDim))?;
        let norm_eps = root.positive(family.norm_eps.config)?.unwrap_or(family.norm_eps.absent) as f32;
        Ok(Self { family, sizes, rope, norm_eps, json })
    }

    pub(super) fn root(&self) -> Object<'_> {
        self.json.root()
    }

    /// Whether a key is present and true.
    pub(super) fn is_set(&self, key: &str) -> Result<bool, ConvertError> {
        Ok(self.root().flag(key)?.unwrap_or(false))
    }

    /// The name the model was saved under, without its folders.
    pub(super) fn model_name(&self) -> Result<Option<&str>, ConvertError> {
        let path = self.json.root().text("_name_or_path")?.map(|path| path.trim_end_matches('/'));
        Ok(path.and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty()))
    }

    /// Sets the keys of the forward pass.
    pub(super) fn describe(&self, writer: &mut GgufWriter) {
        let key = |name: &str| format!("{}.{name}", self.family.architecture);
        for count in self.family.counts {
            for name in count.gguf {
                // Within u32 by the caps.
                writer.set(key(name), self.sizes.get(count.axis) as u32);
            }
        }
        writer.set(key("rope.freq_base"), self.rope.base as f32);
        if let Some(factor) = self.rope.linear {
            writer.set(key("rope.scaling.type"), "linear");
            writer.set(key("rope.scaling.factor"), factor as f32);
        }
        writer.set(key(self.family.norm_eps.gguf), self.norm_eps);
    }
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
