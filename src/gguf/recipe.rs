//! Which storage type each tensor of a model gets. See [`Recipe`].
//!
//! The rules are those of `llama-quantize` without an importance matrix, so that the same recipe gives the
//! same types: <https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp>.

use super::{EMBEDDING_TENSOR, HEAD_TENSOR, TensorInfo};
use crate::blocks::BlockType;

/// Metadata key of a recipe's number.
pub const FILE_TYPE_KEY: &str = "general.file_type";
/// Metadata key of the version of the quantized formats.
pub const QUANTIZATION_VERSION_KEY: &str = "general.quantization_version";
/// The value of [`QUANTIZATION_VERSION_KEY`] for the formats of [`crate::blocks`].
pub const QUANTIZATION_VERSION: u32 = 2;

/// Parts of the names of matrices that keep their type: norms, routing, positions, and small convolutions.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "position_embd.weight",
    "token_types.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "attn_rel_b.weight",
];

/// Which layers a mix stores in more bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raised {
    /// None: one type throughout.
    No,
    /// The values and `ffn_down` of every third layer and of the first and last eighths, as Q6_K.
    EveryThird,
    /// The values of the first 4 layers and `ffn_down` of the first eighth, as Q5_K.
    First,
}

/// How a model is stored: one type throughout, or a mix of types.
///
/// Of a quantized recipe, the output head (or the token embedding that serves as the head) is stored as Q6_K,
/// or as Q8_0 where that is the recipe's type. Vectors are F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    name: &'static str,
    /// Value of [`FILE_TYPE_KEY`].
    file_type: u32,
    base: BlockType,
    raised: Raised,
    embedding: Option<BlockType>,
    head: Option<BlockType>,
}

const fn recipe(name: &'static str, file_type: u32, base: BlockType, raised: Raised) -> Recipe {
    Recipe { name, file_type, base, raised, embedding: None, head: None }
}

/// What every tensor's type depends on besides the tensor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    layers: u32,
    /// The token embedding serves as the output head.
    tied: bool,
}

/// The type of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The type the recipe asks for.
    pub wanted: BlockType,
    /// The type that can hold the tensor's rows: another one than `wanted` where they are no whole blocks.
    pub stored: BlockType,
}

impl Choice {
    fn plain(block_type: BlockType) -> Self {
        Self { wanted: block_type, stored: block_type }
    }

    /// `block_type` for rows of `cols` elements, or what takes its place where they are no whole blocks.
    pub fn fitting(block_type: BlockType, cols: usize) -> Self {
        Self { wanted: block_type, stored: fitting(block_type, cols) }
    }

    /// Whether the recipe's type had to be replaced.
    pub fn substituted(self) -> bool {
        self.wanted != self.stored
    }
}

impl Layout {
    /// The layout of a model with tensors of these names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut layout = Self { layers: 0, tied: true };
        for name in names {
            layout.tied &= name != HEAD_TENSOR;
            layout.layers = layout.layers.max(layer(name).map_or(0, |layer| layer.saturating_add(1)));
        }
        layout
    }
}

/// The layer a tensor belongs to: `blk.<layer>.`.
pub fn layer(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

impl Recipe {
    /// Every recipe. A name without a suffix stands for one type throughout.
    pub const ALL: &'static [Recipe] = &[
        recipe("f32", 0, BlockType::F32, Raised::No),
        recipe("f16", 1, BlockType::F16, Raised::No),
        recipe("bf16", 32, BlockType::BF16, Raised::No),
        recipe("q8_0", 7, BlockType::Q8_0, Raised::No),
        recipe("q4_0", 2, BlockType::Q4_0, Raised::No),
        recipe("q4_1", 3, BlockType::Q4_1, Raised::No),
        recipe("q5_0", 8, BlockType::Q5_0, Raised::No),
        recipe("q5_1", 9, BlockType::Q5_1, Raised::No),
        recipe("iq4_nl", 25, BlockType::IQ4NL, Raised::No),
        recipe("q4_k", 14, BlockType::Q4K, Raised::No),
        recipe("q4_k_s", 14, BlockType::Q4K, Raised::First),
        recipe("q4_k_m", 15, BlockType::Q4K, Raised::EveryThird),
        recipe("q5_k", 16, BlockType::Q5K, Raised::No),
        recipe("q5_k_m", 17, BlockType::Q5K, Raised::EveryThird),
        recipe("q6_k", 18, BlockType::Q6K, Raised::No),
    ];

    /// The recipe's name, e.g. `q4_k_m`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The recipe's number: the value of [`FILE_TYPE_KEY`].
    pub fn file_type(&self) -> u32 {
        self.file_type
    }

    /// The same recipe with the token embedding stored as `block_type`.
    #[must_use]
    pub fn with_embedding(self, block_type: BlockType) -> Self {
        Self { embedding: Some(block_type), ..self }
    }

    /// The same recipe with a separate output head stored as `block_type`.
    #[must_use]
    pub fn with_head(self, block_type: BlockType) -> Self {
        Self { head: Some(block_type), ..self }
    }

    /// The type of a tensor that is now stored as `tensor.block_type`.
    pub fn choose(&self, layout: Layout, tensor: &TensorInfo) -> Choice {
        if tensor.rows() == 1 {
            return Choice::plain(BlockType::F32);
        }
        if !Self::decides(tensor) {
            return Choice::plain(tensor.block_type);
        }
        Choice::fitting(self.wanted(layout, &tensor.name), tensor.cols())
    }

    /// Whether a recipe decides the type of a tensor: matrices, except those that are always kept.
    pub fn decides(tensor: &TensorInfo) -> bool {
        let name = tensor.name.as_str();
        tensor.rows() > 1 && name.ends_with(".weight") && !KEPT.iter().any(|part| name.contains(part))
    }

    /// The type asked for by [`Self::with_embedding`] or [`Self::with_head`].
    pub fn asked_for(&self, name: &str) -> Option<BlockType> {
        match name {
            EMBEDDING_TENSOR => self.embedding,
            HEAD_TENSOR => self.head,
            _ => None,
        }
    }

    fn wanted(&self, layout: Layout, name: &str) -> BlockType {
        let (embedding, head) = (name == EMBEDDING_TENSOR, name == HEAD_TENSOR);
        if let Some(block_type) = self.asked_for(name) {
            return block_type;
        }
        if !self.base.is_quantized() {
            return self.base;
        }
        if head || (embedding && layout.tied) {
            return if self.base == BlockType::Q8_0 { BlockType::Q8_0 } else { BlockType::Q6K };
        }
        let values = name.contains(".attn_v.");
        if !values && !name.contains(".ffn_down.") {
            return self.base;
        }
        let Some(layer) = layer(name) else { return self.base };
        match self.raised {
            Raised::EveryThird if every_third(layer, layout.layers) => BlockType::Q6K,
            Raised::First if layer < if values { 4 } else { layout.layers / 8 } => BlockType::Q5K,
            _ => self.base,
        }
    }
}

/// The first and last eighths of the layers and every third between them.
fn every_third(layer: u32, layers: u32) -> bool {
    let eighth = layers / 8;
    let last_eighth = u64::from(layers) * 7 / 8;
    layer < eighth || u64::from(layer) >= last_eighth || (layer - eighth) % 3 == 2
}

/// `block_type`, or the type that takes its place where rows of `cols` elements are no whole blocks of it.
fn fitting(block_type: BlockType, cols: usize) -> BlockType {
    let fits = |block_type: BlockType| cols.is_multiple_of(block_type.block_len());
    let smaller = match block_type {
        BlockType::Q4K => BlockType::Q5_0,
        BlockType::Q5K => BlockType::Q5_1,
        BlockType::Q6K => BlockType::Q8_0,
        other => other,
    };
    [block_type, smaller].into_iter().find(|candidate| fits(*candidate)).unwrap_or(BlockType::F16)
}

impl Default for Recipe {
    /// `q4_0`
    fn default() -> Self {
        recipe("q4_0", 2, BlockType::Q4_0, Raised::No)
    }
}

impl std::fmt::Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl std::str::FromStr for Recipe {
    type Err = String;

    /// Parses a recipe's name in any case.
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|recipe| recipe.name.eq_ignore_ascii_case(name));
        found.copied().ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|recipe| recipe.name).collect();
            format!("unknown type {name:?}; known: {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(recipe: &str, name: &str, cols: u64) -> Choice {
        let layout = Layout { layers: 30, tied: true };
        let tensor = TensorInfo::checked("test", name, vec![cols, 64], BlockType::F32, 0).unwrap();
        recipe.parse::<Recipe>().unwrap().choose(layout, &tensor)
    }

    /// Layers of 30 that llama-quantize's Q4_K_M stores in more bits.
    #[test]
    fn every_third_layer_of_a_mix_is_raised() {
        let raised: Vec<_> = (0..30).filter(|layer| every_third(*layer, 30)).collect();
        assert_eq!(raised, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]);
        let raised: Vec<_> = (0..6).filter(|layer| every_third(*layer, 6)).collect();
        assert_eq!(raised, [2, 5]);
        // An eighth that is no multiple of three moves them.
        let raised: Vec<_> = (0..16).filter(|layer| every_third(*layer, 16)).collect();
        assert_eq!(raised, [0, 1, 4, 7, 10, 13, 14, 15]);
        let _ = every_third(u32::MAX, u32::MAX);
    }

    #[test]
    fn a_recipe_is_found_by_its_name() {
        let names = [
            "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "q4_k", "q4_k_s",
            "q4_k_m", "q5_k", "q5_k_m", "q6_k",
        ];
        assert_eq!(Recipe::ALL.iter().map(Recipe::name).collect::<Vec<_>>(), names);
        for name in names {
            let found: Recipe = name.to_uppercase().parse().unwrap();
            assert_eq!((found.name(), found.to_string().as_str()), (name, name));
        }
    }

    #[test]
    fn mixes_follow_the_role_and_the_row_length() {
        use BlockType::{F16, F32, Q4_0, Q4K, Q5_0, Q5K, Q6K, Q8_0};
        for (recipe, name, cols, wanted, stored_as) in [
            ("q4_k_m", "token_embd.weight", 768, Q6K, Q6K),
            ("q4_k_m", "token_embd.weight", 576, Q6K, Q8_0),
            ("q4_k_m", "blk.5.attn_v.weight", 576, Q6K, Q8_0),
            ("q4_k_m", "blk.6.attn_v.weight", 576, Q4K, Q5_0),
            ("q4_k_m", "blk.5.ffn_down.weight", 1536, Q6K, Q6K),
            ("q4_k_m", "blk.5.attn_q.weight", 768, Q4K, Q4K),
            ("q4_k_s", "blk.3.attn_v.weight", 768, Q5K, Q5K),
            ("q4_k_s", "blk.3.ffn_down.weight", 768, Q4K, Q4K),
            ("q4_0", "token_embd.weight", 576, Q6K, Q8_0),
            ("q4_0", "blk.0.attn_v.weight", 576, Q4_0, Q4_0),
            ("q4_0", "blk.0.attn_v.weight", 48, Q4_0, F16),
            ("q8_0", "token_embd.weight", 768, Q8_0, Q8_0),
            ("f16", "token_embd.weight", 576, F16, F16),
            ("q4_0", "blk.0.attn_q_norm.weight", 64, F32, F32),
            ("q4_0", "blk.0.attn_q.bias", 64, F32, F32),
        ] {
            let expected = Choice { wanted, stored: stored_as };
            assert_eq!(stored(recipe, name, cols), expected, "{recipe} {name} {cols}");
        }
    }

    #[test]
    fn a_separate_head_frees_the_embedding() {
        let names = ["token_embd.weight", "output.weight", "blk.11.attn_q.weight"];
        let layout = Layout::of(names);
        assert_eq!(layout, Layout { layers: 12, tied: false });
        let recipe: Recipe = "Q4_K".parse().unwrap();
        assert_eq!(recipe.wanted(layout, "token_embd.weight"), BlockType::Q4K);
        assert_eq!(recipe.wanted(layout, "output.weight"), BlockType::Q6K);
        let asked = recipe.with_embedding(BlockType::Q5_0).with_head(BlockType::F16);
        assert_eq!(asked.wanted(layout, "token_embd.weight"), BlockType::Q5_0);
        assert_eq!(asked.wanted(layout, "output.weight"), BlockType::F16);
    }

    #[test]
    fn names_from_a_file_cannot_overflow() {
        let layout = Layout::of(["blk.4294967295.ffn_down.weight", "blk.99999999999.x", "blk.", "blk.x.y"]);
        assert_eq!(layout.layers, u32::MAX);
    }
}
