//! GPTQ checkpoints: the same numbers, or a refusal.

use safetensors::Dtype;
use serde_json::json;
use smolt::blocks::BlockType;
use smolt::gguf::GgufFile;
use smolt_quantize::convert::ConvertOptions;

use super::folder::{Folder, HEAD_DIM, LAYERS, MATRICES, Weights, decoded, noise};

/// A matrix on a grid: `w = scale * (code - zero)`.
struct Grid {
    rows: usize,
    cols: usize,
    /// `[row][col]`.
    codes: Vec<u8>,
    /// `[group][row]`.
    zeros: Vec<u8>,
    /// `[group][row]`.
    scales: Vec<f32>,
    /// `[col]`.
    groups: Vec<usize>,
}

impl Grid {
    /// Random codes and scales of `group` columns each, zero points by `zero(group, row)`.
    fn new(seed: u64, rows: usize, cols: usize, group: usize, zero: impl Fn(usize, usize) -> u8) -> Self {
        let count = cols.div_ceil(group);
        let codes = noise(seed, rows * cols).iter().map(|x| ((x + 1.0) * 8.0) as u8 & 15).collect();
        let scale = |x: &f32| half::f16::from_f32(0.01 + 0.005 * x).to_f32();
        let scales = noise(seed + 1000, rows * count).iter().map(scale).collect();
        let zeros =
            (0..count).flat_map(|g| (0..rows).map(move |r| (g, r))).map(|(g, r)| zero(g, r)).collect();
        Self { rows, cols, codes, zeros, scales, groups: (0..cols).map(|col| col / group).collect() }
    }

    fn value(&self, row: usize, col: usize) -> f32 {
        let at = self.groups[col] * self.rows + row;
        self.scales[at] * (f32::from(self.codes[row * self.cols + col]) - f32::from(self.zeros[at]))
    }

    /// Packs as AutoGPTQ does, zero points less `less`.
    fn put(&self, folder: &mut Folder, name: &str, less: u8, scales: Dtype) {
        let count = self.zeros.len() / self.rows;
        let pack = |codes: &mut dyn Iterator<Item = u8>| {
            codes.enumerate().fold(0u32, |word, (k, code)| word | u32::from(code) << (4 * k))
        };
        let mut weights = vec![];
        for word in 0..self.cols / 8 {
            for row in 0..self.rows {
                weights.push(pack(&mut (0..8).map(|k| self.codes[row * self.cols + 8 * word + k])));
            }
        }
        let mut zeros = vec![];
        for group in 0..count {
            for word in 0..self.rows / 8 {
                zeros.push(pack(&mut (0..8).map(|k| self.zeros[group * self.rows + 8 * word + k] - less)));
            }
        }
        let groups: Vec<u32> = self.groups.iter().map(|&g| g as u32).collect();
        folder.tensors.remove(&format!("{name}.weight"));
        let mut put = |part: &str, weights| folder.tensors.insert(format!("{name}.{part}"), weights);
        put("qweight", Weights::integers(&[self.cols / 8, self.rows], &weights));
        put("qzeros", Weights::integers(&[count, self.rows / 8], &zeros));
        put("scales", Weights::floats(scales, &[count, self.rows], &self.scales));
        put("g_idx", Weights::integers(&[self.cols], &groups));
    }
}

fn settings(folder: &mut Folder, group: i64, format: Option<&str>) {
    folder.config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4, "group_size": group,
        "desc_act": false, "sym": true, "checkpoint_format": format});
}

/// A folder with every matrix of every layer quantized, and the grids.
fn checkpoint(
    group: usize,
    less: u8,
    zero: impl Fn(usize, usize) -> u8 + Copy,
) -> (Folder, Vec<(String, Grid)>) {
    let mut folder = Folder::llama(Dtype::F16);
    let mut grids = vec![];
    for layer in 0..LAYERS {
        for (i, (name, rows, cols)) in MATRICES.into_iter().enumerate() {
            let grid = Grid::new((layer * 10 + i) as u64, rows, cols, group.min(cols), zero);
            let name = format!("model.layers.{layer}.{name}");
            grid.put(&mut folder, &name, less, Dtype::F16);
            grids.push((name, grid));
        }
    }
    settings(&mut folder, group as i64, Some(if less == 1 { "gptq" } else { "gptq_v2" }));
    (folder, grids)
}

fn gguf_name(name: &str) -> String {
    let mut name = name.replace("model.layers.", "blk.");
    for (hf, gguf) in [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ] {
        name = name.replace(hf, gguf);
    }
    format!("{name}.weight")
}

/// Every number of the output is that of the grid, to the bit.
#[track_caller]
fn assert_exact(file: &GgufFile, grids: &[(String, Grid)], block_type: BlockType) {
    for (name, grid) in grids {
        let gguf = gguf_name(name);
        assert_eq!(file.tensor(&gguf).unwrap().block_type, block_type, "{gguf}");
        let found = decoded(file, &gguf);
        let rotary = name.contains("q_proj") || name.contains("k_proj");
        for row in 0..grid.rows {
            // Value i of a head, which rotates with i + n/2, lies beside it.
            let (head, i) = (row / HEAD_DIM, row % HEAD_DIM);
            let half = HEAD_DIM / 2;
            let place = if i < half { 2 * i } else { 2 * (i - half) + 1 };
            let out = if rotary { head * HEAD_DIM + place } else { row };
            for col in 0..grid.cols {
                let (found, expected) = (found[out * grid.cols + col], grid.value(row, col));
                assert!(found == expected, "{name} [{row}][{col}]: {found}, expected {expected}");
            }
        }
    }
}

#[test]
fn symmetric_checkpoints_are_exact_as_q4_0() {
    for group in [32, 64, 128] {
        for less in [1, 0] {
            let (folder, grids) = checkpoint(group, less, |_, _| 8);
            let (file, _) = folder.convert(&ConvertOptions::default());
            assert_exact(&file, &grids, BlockType::Q4_0);
            assert_eq!(file.u32("general.file_type").unwrap(), Some(2));
            assert_eq!(file.tensor("token_embd.weight").unwrap().block_type, BlockType::F16);
            let kernels = smolt::kernels::Kernels::detect().unwrap();
            smolt::model::Model::load(&file, kernels).unwrap();
        }
    }
}

#[test]
fn a_scale_for_a_whole_row_and_settings_in_a_file_of_their_own() {
    let (mut folder, grids) = checkpoint(128, 1, |_, _| 8);
    folder.config["quantization_config"] = json!(null);
    folder.write_json("quantize_config.json", &json!({"bits": 4, "group_size": -1, "desc_act": true}));
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_exact(&file, &grids, BlockType::Q4_0);
}

/// Zero points 1, 2, 4 and 8 times an F16 scale are F16 numbers.
#[test]
fn asymmetric_checkpoints_are_exact_as_q4_1_where_f16_holds_the_offsets() {
    let (folder, grids) = checkpoint(32, 1, |group, row| 1 << ((group + row) % 4));
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_exact(&file, &grids, BlockType::Q4_1);
    assert_eq!(file.u32("general.file_type").unwrap(), Some(3));
    let (folder, _) = checkpoint(32, 0, |_, row| (row % 16) as u8);
    refused(&folder, &["qzeros", "F16 cannot hold", "only symmetric checkpoints"]);
}

#[track_caller]
fn refused(folder: &Folder, words: &[&str]) {
    folder.write();
    let done = folder.command(&[]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} is not in: {}", done.stderr);
    }
    assert!(!folder.scratch.names().iter().any(|name| name.contains("gguf")), "{:?}", folder.scratch.names());
}

/// Groups may change places as long as each block of 32 columns is of one.
#[test]
fn the_order_of_activations_is_kept_by_blocks_or_refused() {
    const UP: &str = "model.layers.1.mlp.up_proj";
    let (mut folder, mut grids) = checkpoint(32, 1, |_, _| 8);
    let grid = &mut grids.iter_mut().find(|(name, _)| name == UP).unwrap().1;
    grid.groups.reverse();
    grid.put(&mut folder, UP, 1, Dtype::F16);
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_exact(&file, &grids, BlockType::Q4_0);
    std::fs::remove_file(folder.output()).unwrap();
    let grid = &mut grids.iter_mut().find(|(name, _)| name == UP).unwrap().1;
    grid.groups.swap(40, 3);
    grid.put(&mut folder, UP, 1, Dtype::F16);
    refused(&folder, &[&format!("{UP}.g_idx"), "columns 0..32 are of several groups", "desc_act"]);
}

#[test]
fn columns_are_in_order_without_an_index() {
    let (mut folder, grids) = checkpoint(64, 1, |_, _| 8);
    folder.tensors.retain(|name, _| !name.ends_with("g_idx"));
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_exact(&file, &grids, BlockType::Q4_0);
}

#[test]
fn scales_must_be_f16_numbers() {
    const UP: &str = "model.layers.1.mlp.up_proj";
    let (mut folder, mut grids) = checkpoint(64, 1, |_, _| 8);
    let grid = &mut grids.iter_mut().find(|(name, _)| name == UP).unwrap().1;
    grid.put(&mut folder, UP, 1, Dtype::F32);
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_exact(&file, &grids, BlockType::Q4_0);
    std::fs::remove_file(folder.output()).unwrap();
    for scale in [0.1, 1e6, f32::NAN, 1e-9] {
        let grid = &mut grids.iter_mut().find(|(name, _)| name == UP).unwrap().1;
        grid.scales[7] = scale;
        grid.put(&mut folder, UP, 1, Dtype::F32);
        refused(&folder, &[&format!("{UP}.scales"), &format!("the scale {scale} is not an F16 number")]);
    }
}

#[test]
fn zero_points_that_readers_disagree_on_are_refused() {
    let (folder, _) = checkpoint(64, 1, |_, row| if row == 3 { 16 } else { 8 });
    refused(&folder, &["qzeros", "16 to some readers"]);
}

#[test]
fn other_quantizations_are_refused() {
    let change = |key: &str, value: serde_json::Value| {
        let (mut folder, _) = checkpoint(64, 1, |_, _| 8);
        folder.config["quantization_config"][key] = value;
        folder
    };
    refused(&change("quant_method", json!("awq")), &["quantization_config.quant_method", "\"awq\""]);
    refused(&change("bits", json!(8)), &["quantization_config.bits: expected 4, found 8"]);
    refused(&change("group_size", json!(16)), &["quantization_config.group_size", "found 16"]);
    refused(&change("checkpoint_format", json!("marlin")), &["checkpoint_format", "\"marlin\""]);
    // Another group size than the tensors have.
    refused(&change("group_size", json!(32)), &["qzeros", "expected shape"]);
    let (mut folder, _) = checkpoint(64, 1, |_, _| 8);
    folder.config["quantization_config"] = json!(null);
    refused(
        &folder,
        &["quantization_config: expected how model.layers.0.mlp.down_proj.qweight is quantized"],
    );
    let (mut folder, _) = checkpoint(64, 1, |_, _| 8);
    folder.tensors.remove("model.layers.0.self_attn.v_proj.scales");
    refused(&folder, &["v_proj.scales\" is missing"]);
    let (mut folder, _) = checkpoint(64, 1, |_, _| 8);
    let groups = Weights::integers(&[64], &[9; 64]);
    folder.tensors.insert("model.layers.0.self_attn.v_proj.g_idx".to_owned(), groups);
    refused(&folder, &["v_proj.g_idx", "names group 9 of 1"]);
}

/// Matrices that were left as they are, and biases of zeros that the model does not have.
#[test]
fn matrices_may_be_left_unquantized() {
    let (mut folder, mut grids) = checkpoint(64, 1, |_, _| 8);
    let plain = Folder::llama(Dtype::F16);
    folder.tensors.retain(|name, _| !name.starts_with("model.layers.1.mlp.down_proj."));
    let name = "model.layers.1.mlp.down_proj.weight".to_owned();
    folder.tensors.insert(name.clone(), plain.tensors[&name].clone());
    let bias = Weights::floats(Dtype::F16, &[64], &[0.0; 64]);
    folder.tensors.insert("model.layers.0.self_attn.q_proj.bias".to_owned(), bias);
    grids.retain(|(grid, _)| !name.starts_with(grid.as_str()));
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_exact(&file, &grids, BlockType::Q4_0);
    assert!(decoded(&file, "blk.1.ffn_down.weight") == plain.tensors[&name].values());
    assert!(decoded(&file, "blk.0.attn_q.bias") == [0.0; 64]);
}
