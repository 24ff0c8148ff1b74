//! Writes the network as a GGUF file of architecture `llama`.
//!
//! RoPE of `llama` in GGUF rotates neighbouring dimensions `2i, 2i + 1` of a head, the network `i` and
//! `i + head_dim / 2`: the rows of the query and key matrices are reordered so that both compute the same.

use std::path::Path;

use anyhow::Result;
use half::f16;
use smolt::blocks::BlockType;
use smolt::gguf::{GgufWriter, OwnedValue};

use crate::net::{Net, Shape};
use crate::vocab::{CHAT_TEMPLATE, END_ID, SPECIAL, Vocab};

const NORMAL_TOKEN: i32 = 1;
const CONTROL_TOKEN: i32 = 3;
/// `general.file_type` of a file whose matrices are mostly F16.
const MOSTLY_F16: u32 = 1;

/// Writes matrices as F16 and norms as F32. Returns the size of the file in bytes.
pub(crate) fn write(net: &Net, vocab: &Vocab, path: &Path) -> Result<u64> {
    let mut writer = GgufWriter::new();
    set_general(&mut writer, net);
    set_shape(&mut writer, &net.shape);
    set_vocab(&mut writer, vocab);
    for (name, extents) in net.shape.parameters() {
        let columns_first: Vec<u64> = extents.iter().rev().map(|&extent| extent as u64).collect();
        let block_type = if extents.len() == 1 { BlockType::F32 } else { BlockType::F16 };
        writer.add_tensor(name, &columns_first, block_type);
    }
    let bytes = writer.write_to(path, |tensor, out| {
        let values = file_values(net, &tensor.name).map_err(std::io::Error::other)?;
        let bytes: Vec<u8> = match tensor.block_type {
            BlockType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        out.write_all(&bytes)
    })?;
    Ok(bytes)
}

fn set_general(writer: &mut GgufWriter, net: &Net) {
    writer.set("general.architecture", "llama");
    writer.set("general.type", "model");
    writer.set("general.name", "smolt demo");
    writer.set("general.description", "A home and a museum kiosk, answered by a very small model");
    writer.set("general.license", "MIT OR Apache-2.0");
    writer.set("general.parameter_count", OwnedValue::U64(net.shape.parameter_count() as u64));
    writer.set("general.file_type", OwnedValue::U32(MOSTLY_F16));
}

fn set_shape(writer: &mut GgufWriter, shape: &Shape) {
    let extents = [
        ("block_count", shape.layers),
        ("context_length", shape.context),
        ("embedding_length", shape.width),
        ("feed_forward_length", shape.ff),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("rope.dimension_count", shape.head_dim()),
        ("vocab_size", shape.vocab),
    ];
    for (name, value) in extents {
        writer.set(format!("llama.{name}"), OwnedValue::U32(value as u32));
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", OwnedValue::F32(Shape::NORM_EPS as f32));
    writer.set("llama.rope.freq_base", OwnedValue::F32(Shape::ROPE_THETA as f32));
}

fn set_vocab(writer: &mut GgufWriter, vocab: &Vocab) {
    let kind = |text: &String| if SPECIAL.contains(&text.as_str()) { CONTROL_TOKEN } else { NORMAL_TOKEN };
    writer.set("tokenizer.ggml.model", "gpt2");
    writer.set("tokenizer.ggml.pre", "gpt-2");
    writer.set("tokenizer.ggml.tokens", OwnedValue::StrArray(vocab.tokens.clone()));
    writer.set("tokenizer.ggml.token_type", OwnedValue::I32Array(vocab.tokens.iter().map(kind).collect()));
    writer.set("tokenizer.ggml.merges", OwnedValue::StrArray(vocab.merges.clone()));
    writer.set("tokenizer.ggml.bos_token_id", OwnedValue::U32(0));
    writer.set("tokenizer.ggml.eos_token_id", OwnedValue::U32(END_ID));
    writer.set("tokenizer.ggml.padding_token_id", OwnedValue::U32(0));
    writer.set("tokenizer.ggml.add_bos_token", OwnedValue::Bool(false));
    writer.set("tokenizer.chat_template", CHAT_TEMPLATE);
}

/// A parameter as the file orders it.
fn file_values(net: &Net, name: &str) -> Result<Vec<f32>> {
    let values = net.values(name)?;
    let heads = match name {
        _ if name.contains("attn_q.") => net.shape.heads,
        _ if name.contains("attn_k.") => net.shape.kv_heads,
        _ => return Ok(values),
    };
    Ok(pair_rows(&values, heads, net.shape.width))
}

/// Reorders the rows of each head so that row `i` and row `i + half` become neighbours.
fn pair_rows(values: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let head_values = values.len() / heads;
    let half = head_values / columns / 2;
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_values) {
        for i in 0..half {
            for row in [i, i + half] {
                out.extend_from_slice(&head[row * columns..(row + 1) * columns]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::pair_rows;

    #[test]
    fn rows_that_rotate_together_become_neighbours() {
        // Two heads of four rows and two columns.
        let values: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let rows = [0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.];
        assert_eq!(pair_rows(&values, 2, 2), rows);
    }
}
