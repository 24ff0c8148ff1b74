//! Rotary embedding: its base and how it is stretched beyond the context it was first trained for.
//!
//! `transformers` has two forms: `rope_theta` with `rope_scaling`, and since version 5 `rope_parameters` with both.

use std::f64::consts::TAU;

use super::ConvertError;
use super::json::Object;

/// Base where config.json does not give one.
const DEFAULT_BASE: f64 = 10_000.0;

/// Rotary embedding of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    /// Base of the frequencies.
    pub(super) base: f64,
    /// Positions are divided by this.
    pub(super) linear: Option<f64>,
    /// Each frequency is divided by its factor, `[head_dim / 2]`.
    pub(super) factors: Option<Vec<f32>>,
}

impl Rope {
    /// Reads the rotary embedding of heads of `head_dim` values.
    pub(super) fn read(root: &Object<'_>, head_dim: u64) -> Result<Self, ConvertError> {
        let (section, base) = match root.object("rope_parameters")? {
            Some(section) => (Some(section.clone()), section.positive("rope_theta")?),
            None => (root.object("rope_scaling")?, None),
        };
        let base = base.map_or_else(|| root.positive("rope_theta"), |base| Ok(Some(base)))?;
        let mut rope = Self { base: base.unwrap_or(DEFAULT_BASE), linear: None, factors: None };
        for object in section.iter().chain([root]) {
            if object.positive("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
                return Err(object.bad("partial_rotary_factor", "1 in this family"));
            }
        }
        let Some(section) = section else { return Ok(rope) };
        let key = if section.get("rope_type").is_some() { "rope_type" } else { "type" };
        match section.text(key)?.unwrap_or("default") {
            "default" => {}
            "linear" => rope.linear = Some(required(&section, "factor")?),
            "llama3" => rope.factors = Some(llama3_factors(&section, rope.base, head_dim)?),
            _ => return Err(section.bad(key, "default, linear or llama3")),
        }
        Ok(rope)
    }
}

fn required(section: &Object<'_>, key: &str) -> Result<f64, ConvertError> {
    section.positive(key)?.ok_or_else(|| section.bad(key, "a positive number"))
}

/// Llama 3's scaling: frequencies of wavelengths beyond the first context are divided by `factor`, short ones are
/// kept, those between are blended. Source: the Llama 3.1 release, `transformers` (`modeling_rope_utils`).
fn llama3_factors(section: &Object<'_>, base: f64, head_dim: u64) -> Result<Vec<f32>, ConvertError> {
    let factor = required(section, "factor")?;
    let (low, high) = (required(section, "low_freq_factor")?, required(section, "high_freq_factor")?);
    if low >= high {
        return Err(section.bad("high_freq_factor", format!("more than low_freq_factor, {low}")));
    }
    let context = required(section, "original_max_position_embeddings")?;
    let factor_of = |pair: u64| {
        let wavelength = TAU * base.powf(2.0 * pair as f64 / head_dim as f64);
        if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            factor
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok((0..head_dim / 2).map(|pair| factor_of(pair) as f32).collect())
}
