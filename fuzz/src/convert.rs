//! What the target of the quantizer does with bytes.

use smolt_quantize::convert::{Conversion, ConvertOptions};

use super::input::parts;
use super::scratch::Scratch;

/// Most that the converted file may take.
const MAX_BYTES: u64 = 32 << 20;

/// The folder of a published model. Whether it can be converted.
pub fn convert(data: &[u8]) -> bool {
    let [config, tokenizer, settings, weights] = parts(data);
    let scratch = Scratch::new("convert");
    scratch.write("config.json", config);
    scratch.write("tokenizer.json", tokenizer);
    scratch.write("tokenizer_config.json", settings);
    scratch.write("model.safetensors", weights);
    let Ok(conversion) = Conversion::open(scratch.path(), &ConvertOptions::default()) else { return false };
    conversion.file_bytes() < MAX_BYTES
        && conversion.write(&scratch.path().join("out.gguf"), &mut |_| {}).is_ok()
}
