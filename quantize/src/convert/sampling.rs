//! How the model's authors sample: numbers of generation_config.json, which readers of GGUF take as defaults.

use smolt::gguf::GgufWriter;

use super::ConvertError;
use super::json::Object;

/// Largest `top_k`.
const MAX_TOP_K: u64 = i32::MAX as u64;

/// Sets `general.sampling.*`, unless the file says that nothing is drawn.
pub(super) fn describe(generation: &Object<'_>, writer: &mut GgufWriter) -> Result<(), ConvertError> {
    if generation.flag("do_sample")? == Some(false) {
        return Ok(());
    }
    for (key, gguf) in [
        ("temperature", "temp"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("repetition_penalty", "penalty_repeat"),
    ] {
        if let Some(value) = generation.positive(key)? {
            writer.set(format!("general.sampling.{gguf}"), value as f32);
        }
    }
    if let Some(value) = generation.count("top_k", MAX_TOP_K)? {
        writer.set("general.sampling.top_k", value as i32);
    }
    Ok(())
}
