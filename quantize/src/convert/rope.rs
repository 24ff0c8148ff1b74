//! Rotary embedding: its base and how it is stretched beyond the context it was first trained for.
//!
//! `transformers` has two forms: `rope_theta` with `rope_scaling`, and since version 5 `rope_parameters` with both.

use std::f64::consts::TAU;

use smolt::gguf::GgufWriter;

use super::ConvertError;
use super::family::{Axis, LocalBase, Rotary};
use super::json::Object;
use super::sizes::Sizes;

/// Rotary embedding of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    /// Values of each head that rotate, an even number.
    pub(super) dims: u64,
    /// Base of the frequencies.
    pub(super) base: f64,
    /// Key and base of layers with a window.
    pub(super) local: Option<(&'static str, f64)>,
    /// Positions are divided by this.
    pub(super) linear: Option<f64>,
    /// Each frequency is divided by its factor, `[dims / 2]`.
    pub(super) factors: Option<Vec<f32>>,
}

impl Rope {
    /// Reads the rotary embedding of a model of these sizes.
    pub(super) fn read(rotary: &Rotary, root: &Object<'_>, sizes: &Sizes) -> Result<Self, ConvertError> {
        let parameters = root.object("rope_parameters")?;
        let (section, local) = match rotary.local {
            Some(local) => local_base(&local, parameters, root)?,
            None => (parameters, None),
        };
        let (section, base) = match section {
            Some(section) => (Some(section.clone()), section.positive("rope_theta")?),
            None => (root.object("rope_scaling")?, None),
        };
        let key = root.first_of(rotary.base);
        let base = base.map_or_else(|| root.positive(key), |base| Ok(Some(base)))?;
        let dims = dims(rotary, section.as_ref(), root, sizes.get(Axis::HeadDim))?;
        let base = base.unwrap_or(rotary.absent);
        let mut rope = Self { dims, base, local, linear: None, factors: None };
        let Some(section) = section else { return Ok(rope) };
        let key = if section.get("rope_type").is_some() { "rope_type" } else { "type" };
        match section.text(key)?.unwrap_or("default") {
            "default" => {}
            "linear" => rope.linear = Some(required(&section, "factor")?),
            "llama3" => rope.factors = Some(llama3_factors(&section, rope.base, dims)?),
            _ => return Err(section.bad(key, "default, linear or llama3")),
        }
        Ok(rope)
    }

    /// Sets the keys of the embedding; its factors are a tensor.
    pub(super) fn describe(&self, architecture: &str, writer: &mut GgufWriter) {
        let key = |name: &str| format!("{architecture}.{name}");
        writer.set(key("rope.dimension_count"), self.dims as u32);
        writer.set(key("rope.freq_base"), self.base as f32);
        if let Some((name, base)) = self.local {
            writer.set(key(name), base as f32);
        }
        if let Some(factor) = self.linear {
            writer.set(key("rope.scaling.type"), "linear");
            writer.set(key("rope.scaling.factor"), factor as f32);
        }
    }
}

/// The section of layers without a window, and key and base of those with one. Theirs is not scaled.
#[expect(clippy::type_complexity, reason = "used once")]
fn local_base<'a>(
    local: &LocalBase,
    parameters: Option<Object<'a>>,
    root: &Object<'a>,
) -> Result<(Option<Object<'a>>, Option<(&'static str, f64)>), ConvertError> {
    let (global, windowed) = local.sections;
    let (section, base) = match parameters {
        Some(parameters) => {
            let windowed = parameters.object(windowed)?;
            if let Some(windowed) = &windowed
                && windowed.text("rope_type")?.is_some_and(|kind| kind != "default")
            {
                return Err(windowed.bad("rope_type", "default"));
            }
            let base = windowed.map(|windowed| windowed.positive("rope_theta")).transpose()?.flatten();
            (parameters.object(global)?, base)
        }
        None => (None, root.positive(local.key)?),
    };
    Ok((section, Some((local.gguf, base.unwrap_or(local.absent)))))
}

/// Values of heads of `head_dim` that rotate.
fn dims(
    rotary: &Rotary,
    section: Option<&Object<'_>>,
    root: &Object<'_>,
    head_dim: u64,
) -> Result<u64, ConvertError> {
    const PART: &str = "partial_rotary_factor";
    let Some((keys, absent)) = rotary.part else {
        for object in section.into_iter().chain([root]) {
            if object.positive(PART)?.is_some_and(|part| part != 1.0) {
                return Err(object.bad(PART, "1 in this family"));
            }
        }
        return Ok(head_dim);
    };
    let key = root.first_of(keys);
    let part = match section {
        Some(section) => section.positive(PART)?,
        None => None,
    };
    let part = part.map_or_else(|| root.positive(key), |part| Ok(Some(part)))?.unwrap_or(absent);
    let dims = (part * head_dim as f64) as u64;
    if dims < 2 || dims > head_dim || !dims.is_multiple_of(2) {
        let expected = format!("a part of the {head_dim} values of a head that is an even number of them");
        return Err(root.bad(key, expected));
    }
    Ok(dims)
}

fn required(section: &Object<'_>, key: &str) -> Result<f64, ConvertError> {
    section.positive(key)?.ok_or_else(|| section.bad(key, "a positive number"))
}

/// Llama 3's scaling: frequencies of wavelengths beyond the first context are divided by `factor`, short ones are
/// kept, those between are blended. Source: the Llama 3.1 release, `transformers` (`modeling_rope_utils`).
fn llama3_factors(section: &Object<'_>, base: f64, dims: u64) -> Result<Vec<f32>, ConvertError> {
    let factor = required(section, "factor")?;
    let (low, high) = (required(section, "low_freq_factor")?, required(section, "high_freq_factor")?);
    if low >= high {
        return Err(section.bad("high_freq_factor", format!("more than low_freq_factor, {low}")));
    }
    let context = required(section, "original_max_position_embeddings")?;
    let factor_of = |pair: u64| {
        let wavelength = TAU * base.powf(2.0 * pair as f64 / dims as f64);
        if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            factor
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok((0..dims / 2).map(|pair| factor_of(pair) as f32).collect())
}
