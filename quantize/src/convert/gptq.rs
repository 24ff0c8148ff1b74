//! GPTQ checkpoints (Frantar et al. 2022, arXiv 2210.17323) as `AutoGPTQ` and `GPTQModel` write them, onto blocks.
//!
//! A matrix `[rows][cols]` is `qweight [cols/8][rows]` (8 codes of 4 bits along the columns, lowest bits first),
//! `qzeros [groups][rows/8]` (8 zero points along the rows), `scales [groups][rows]` and `g_idx [cols]`, the group
//! of each column: `w = scale * (code - zero)`.
//!
//! That is a Q4_0 block, `w = d * (code - 8)`, where the zero point is 8 and the block's 32 columns are of one
//! group, and a Q4_1 block, `w = d * code + m`, with `m = -scale * zero`. Codes are copied and scales are stored
//! as they are, so that the numbers are the same; where they would not be, the model is refused. All grids are
//! checked before a byte is written.

use std::io::Write;
use std::path::Path;

use half::f16;
use safetensors::Dtype;
use smolt::blocks::{BlockQ4_0, BlockQ4_1, BlockType};

use super::ConvertError;
use super::config::{Config, MAX_CONFIG_BYTES};
use super::floats::{RowOrder, StreamError, float_type};
use super::json::{Json, Object};
use super::shards::{Entry, Shards};

/// Columns of a block.
const BLOCK: usize = 32;
/// Codes in a word.
const PER_WORD: usize = 8;
/// The zero point of a Q4_0 block.
const MIDDLE: u8 = 8;

/// How a checkpoint is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GptqSettings {
    /// Columns that share a scale; all of a row where absent.
    group: Option<u64>,
    /// The first format stores zero points less one.
    zeros_less_one: bool,
}

impl GptqSettings {
    /// Reads `quantization_config` of config.json, or quantize_config.json. Refuses other methods.
    pub(super) fn read(folder: &Path, config: &Config) -> Result<Option<Self>, ConvertError> {
        if let Some(object) = config.root().object("quantization_config")? {
            return match object.text("quant_method")? {
                Some("gptq") => Self::from_object(&object).map(Some),
                _ => Err(object.bad("quant_method", "\"gptq\", or a model that is not quantized")),
            };
        }
        let file = Json::read(&folder.join("quantize_config.json"), MAX_CONFIG_BYTES)?;
        file.map(|json| Self::from_object(&json.root())).transpose()
    }

    fn from_object(object: &Object<'_>) -> Result<Self, ConvertError> {
        if object.get("bits").and_then(serde_json::Value::as_u64) != Some(4) {
            return Err(object.bad("bits", "4"));
        }
        let key = "checkpoint_format";
        let zeros_less_one = match object.text(key)?.unwrap_or("gptq") {
            "gptq" => true,
            "gptq_v2" => false,
            _ => return Err(object.bad(key, "gptq or gptq_v2")),
        };
        let group = match object.get("group_size").and_then(serde_json::Value::as_i64) {
            Some(-1) => None,
            Some(n @ (32 | 64 | 128 | 256 | 512 | 1024)) => Some(n.unsigned_abs()),
            _ => return Err(object.bad("group_size", "-1, 32, 64, 128, 256, 512 or 1024")),
        };
        Ok(Self { group, zeros_less_one })
    }

    /// The layout of the matrix `name` of this shape, rows first.
    pub(super) fn layout(
        self,
        shards: &Shards,
        name: &str,
        shape: &[u64],
        order: RowOrder,
    ) -> Result<Layout, ConvertError> {
        let &[rows, cols] = shape else {
            return Err(refused(shards, None, name, "it is not a matrix".to_owned()));
        };
        if !cols.is_multiple_of(BLOCK as u64) || !rows.is_multiple_of(PER_WORD as u64) {
            let reason = format!("{rows} rows of {cols} are no whole blocks of {BLOCK} columns and 8 rows");
            return Err(refused(shards, shards.get(&format!("{name}.qweight")), name, reason));
        }
        let group = self.group.unwrap_or(cols).min(cols);
        let groups = cols.div_ceil(group);
        Ok(Layout { rows, cols, group, groups, order, zeros_less_one: self.zeros_less_one })
    }
}

/// Sizes of a quantized matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) rows: u64,
    pub(super) cols: u64,
    group: u64,
    pub(super) groups: u64,
    order: RowOrder,
    zeros_less_one: bool,
}

/// The tensors of a quantized matrix.
#[derive(Debug)]
pub(super) struct Parts {
    /// `qweight`.
    pub(super) codes: Entry,
    /// `qzeros`.
    pub(super) zeros: Entry,
    pub(super) scales: Entry,
    /// `g_idx`; columns are in order where it is absent.
    pub(super) groups: Option<Entry>,
}

/// A matrix quantized by GPTQ whose grid is that of blocks.
#[derive(Debug)]
pub(super) struct GptqLinear {
    layout: Layout,
    parts: Parts,
    block_type: BlockType,
}

/// Scale and offset of every group and row, and the group of every block of columns.
struct Grid {
    /// Whether all zero points are that of Q4_0.
    symmetric: bool,
    /// `[group][row]`.
    scales: Vec<f16>,
    /// `[group][row]`.
    offsets: Vec<f16>,
    /// `[block]`.
    groups: Vec<usize>,
}

impl GptqLinear {
    /// Checks that blocks can hold the matrix exactly.
    pub(super) fn new(shards: &Shards, layout: Layout, parts: Parts) -> Result<Self, ConvertError> {
        let mut linear = Self { layout, parts, block_type: BlockType::Q4_0 };
        for entry in [&linear.parts.codes, &linear.parts.zeros].into_iter().chain(&linear.parts.groups) {
            if !matches!(entry.dtype, Dtype::I32 | Dtype::U32) {
                return Err(ConvertError::TensorType {
                    file: shards.file_of(entry),
                    tensor: entry.name.clone(),
                    expected: "I32",
                    found: entry.dtype,
                });
            }
        }
        if !linear.grid(shards)?.symmetric {
            linear.block_type = BlockType::Q4_1;
        }
        Ok(linear)
    }

    /// Q4_0, or Q4_1 where not all zero points are 8.
    pub(super) fn block_type(&self) -> BlockType {
        self.block_type
    }

    /// Bytes of the source.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.codes.bytes
    }

    fn grid(&self, shards: &Shards) -> Result<Grid, ConvertError> {
        let zeros = self.zeros(shards)?;
        let (scales, exact) = self.scales(shards)?;
        let symmetric = zeros.iter().all(|zero| *zero == MIDDLE);
        let mut offsets = Vec::new();
        for (i, (scale, zero)) in exact.iter().zip(&zeros).enumerate().filter(|_| !symmetric) {
            let offset = -scale * f32::from(*zero);
            let rounded = f16::from_f32(offset);
            if rounded.to_f32() != offset {
                let row = i % self.layout.rows as usize;
                let reason = format!(
                    "the group of row {row} with zero point {zero} and scale {scale} starts at {offset}, which F16 \
                     cannot hold; only symmetric checkpoints (zero point {MIDDLE}) always fit"
                );
                return Err(refused(shards, Some(&self.parts.zeros), &self.parts.zeros.name, reason));
            }
            offsets.push(rounded);
        }
        Ok(Grid { symmetric, scales, offsets, groups: self.groups(shards)? })
    }

    /// Zero points, `[group][row]`.
    fn zeros(&self, shards: &Shards) -> Result<Vec<u8>, ConvertError> {
        let entry = &self.parts.zeros;
        let mut zeros = Vec::with_capacity((self.layout.groups * self.layout.rows) as usize);
        for word in words(&shards.read_all(entry)?) {
            zeros.extend((0..PER_WORD).map(|k| code(word, k)));
        }
        if self.layout.zeros_less_one {
            if zeros.contains(&15) {
                let reason = "a stored zero point of 15 is 16 to some readers of this format and 0 to others";
                return Err(refused(shards, Some(entry), &entry.name, reason.to_owned()));
            }
            zeros.iter_mut().for_each(|zero| *zero += 1);
        }
        Ok(zeros)
    }

    /// Scales as they are stored and as numbers, `[group][row]`.
    fn scales(&self, shards: &Shards) -> Result<(Vec<f16>, Vec<f32>), ConvertError> {
        let entry = &self.parts.scales;
        let dtype = float_type(shards, entry)?;
        let bytes = shards.read_all(entry)?;
        let mut exact = vec![0.0; bytes.len() / dtype.block_bytes()];
        dtype.decode(&bytes, &mut exact);
        let scales: Vec<f16> = exact.iter().map(|scale| f16::from_f32(*scale)).collect();
        let lost =
            exact.iter().zip(&scales).find(|(exact, scale)| !exact.is_finite() || scale.to_f32() != **exact);
        if let Some((scale, _)) = lost {
            let reason = format!("the scale {scale} is not an F16 number");
            return Err(refused(shards, Some(entry), &entry.name, reason));
        }
        Ok((scales, exact))
    }

    /// The group of every block of columns.
    fn groups(&self, shards: &Shards) -> Result<Vec<usize>, ConvertError> {
        let Layout { cols, group, groups, .. } = self.layout;
        let Some(entry) = &self.parts.groups else {
            return Ok((0..cols).step_by(BLOCK).map(|col| (col / group) as usize).collect());
        };
        let columns: Vec<u32> = words(&shards.read_all(entry)?).collect();
        if let Some(found) = columns.iter().find(|&&found| u64::from(found) >= groups) {
            let reason = format!("it names group {found} of {groups}");
            return Err(refused(shards, Some(entry), &entry.name, reason));
        }
        let mut of_blocks = Vec::with_capacity(columns.len() / BLOCK);
        for (block, columns) in columns.chunks_exact(BLOCK).enumerate() {
            if columns.iter().any(|group| *group != columns[0]) {
                let start = block * BLOCK;
                let reason = format!(
                    "columns {start}..{} are of several groups: the checkpoint was quantized in the order of \
                     activations (desc_act), and a block has one scale",
                    start + BLOCK
                );
                return Err(refused(shards, Some(entry), &entry.name, reason));
            }
            of_blocks.push(columns[0] as usize);
        }
        Ok(of_blocks)
    }

    /// Writes the blocks. Holds the codes of the matrix, half a byte per weight.
    pub(super) fn write(&self, shards: &Shards, out: &mut dyn Write) -> Result<(), StreamError> {
        let grid = self.grid(shards)?;
        if grid.symmetric != (self.block_type == BlockType::Q4_0) {
            let entry = &self.parts.zeros;
            let reason = "the file changed while it was read".to_owned();
            return Err(refused(shards, Some(entry), &entry.name, reason).into());
        }
        let packed: Vec<u32> = words(&shards.read_all(&self.parts.codes)?).collect();
        let rows = self.layout.rows as usize;
        let mut bytes = Vec::new();
        for row in 0..self.layout.rows {
            let source = self.layout.order.source(row) as usize;
            bytes.clear();
            for (block, group) in grid.groups.iter().enumerate() {
                let word = |i: usize| packed[(block * (BLOCK / PER_WORD) + i) * rows + source];
                let codes: [u8; BLOCK] = std::array::from_fn(|i| code(word(i / PER_WORD), i % PER_WORD));
                let at = group * rows + source;
                if self.block_type == BlockType::Q4_0 {
                    bytes.extend(bytemuck::bytes_of(&BlockQ4_0::from_codes(grid.scales[at], &codes)));
                } else {
                    let block = BlockQ4_1::from_codes(grid.scales[at], grid.offsets[at], &codes);
                    bytes.extend(bytemuck::bytes_of(&block));
                }
            }
            out.write_all(&bytes).map_err(StreamError::Write)?;
        }
        Ok(())
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word))
}

/// The `k`th code of a word.
fn code(word: u32, k: usize) -> u8 {
    (word >> (4 * k) & 15) as u8
}

fn refused(shards: &Shards, entry: Option<&Entry>, key: &str, reason: String) -> ConvertError {
    let file = entry.map_or_else(|| "model".to_owned(), |entry| shards.file_of(entry));
    ConvertError::Gptq { file, key: key.to_owned(), reason }
}
