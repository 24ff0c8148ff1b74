//! Every row of the family table, as a random model: made by adding the tensors that loading asks for.

use super::*;
use crate::gguf::OwnedValue;
use crate::runtime::allocated_bytes;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const WIDTH: u64 = 32;
pub(super) const WORDS: u64 = 48;
const PLACES: u64 = 192;
const LAYERS: u32 = 6;

/// Shapes by name.
type Tensors = BTreeMap<String, Vec<u64>>;

/// A model of a family with more keys and tensors than it must have.
pub(super) struct Sample {
    pub(super) family: &'static Family,
    keys: Vec<(&'static str, OwnedValue)>,
    extra: &'static [(&'static str, &'static [u64])],
}

impl Sample {
    fn of(family: &'static Family) -> Self {
        Self { family, keys: Vec::new(), extra: &[] }
    }

    fn named(architecture: &str) -> Self {
        Self::of(Family::named(architecture).unwrap())
    }

    fn with(mut self, key: &'static str, value: impl Into<OwnedValue>) -> Self {
        self.keys.push((key, value.into()));
        self
    }

    fn tensors(mut self, extra: &'static [(&'static str, &'static [u64])]) -> Self {
        self.extra = extra;
        self
    }

    fn write(&self, tensors: &Tensors) -> GgufFile {
        let mut writer = GgufWriter::new();
        let prefix = self.family.architecture;
        writer.set("general.architecture", prefix);
        for (key, value) in [
            ("context_length", PLACES as u32),
            ("embedding_length", WIDTH as u32),
            ("block_count", LAYERS),
            ("feed_forward_length", 40),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("attention.sliding_window", 21),
            ("ssm.inner_size", 24),
            ("ssm.time_step_rank", 6),
            ("ssm.group_count", 2),
            ("ssm.state_size", 20),
            ("ssm.conv_kernel", 4),
            ("shortconv.l_cache", 3),
        ] {
            writer.set(format!("{prefix}.{key}"), value);
        }
        writer.set(format!("{prefix}.residual_scale"), 0.5f32);
        writer.set(format!("{prefix}.logit_scale"), 4.0f32);
        if self.family.windows == Windows::Pattern(0) {
            let local: Vec<bool> = (0..LAYERS).map(|layer| layer % 2 == 1).collect();
            writer.set(format!("{prefix}.attention.sliding_window_pattern"), OwnedValue::BoolArray(local));
        }
        for (key, value) in &self.keys {
            writer.set(format!("{prefix}.{key}"), value.clone());
        }
        for (name, shape) in tensors {
            writer.add_tensor(name.clone(), shape, BlockType::F32);
        }
        let bytes = writer.to_vec(prefix, |info, out| {
            let seed = info.name.bytes().fold(7, |seed, byte| seed * 31 % 65_521 + u64::from(byte));
            let mut rng = rand::rngs::ChaCha8Rng::seed_from_u64(seed);
            for _ in 0..info.elements() {
                let value: f32 = rng.random_range(-1.0..1.0);
                let value = match &*info.name {
                    name if name.ends_with("ssm_a") => -value.abs(),
                    name if name.ends_with("norm.weight") => 1.0 + value / 4.0,
                    _ => value * (3.0 / info.cols() as f32).sqrt(),
                };
                out.write_all(&value.to_le_bytes())?;
            }
            Ok(())
        });
        GgufFile::from_vec(prefix, bytes.unwrap()).unwrap()
    }

    pub(super) fn file(&self) -> GgufFile {
        let mut tensors: Tensors = self.extra.iter().map(|(n, s)| ((*n).to_owned(), s.to_vec())).collect();
        tensors.insert("token_embd.weight".to_owned(), vec![WIDTH, WORDS]);
        if self.family.positions == Positions::Learned {
            tensors.insert("position_embd.weight".to_owned(), vec![WIDTH, PLACES]);
        }
        loop {
            let file = self.write(&tensors);
            let options = RunOptions { context: 1, threads: 1, slots: 1, logit_rows: 1, kv: KvType::F16 };
            let (name, shape) = match Plan::new(&file, Kernels::detect().unwrap(), &options) {
                Ok(_) => return file,
                Err(ModelError::MissingTensor { tensor, .. }) => (tensor, vec![1]),
                Err(ModelError::TensorShape { tensor, expected, .. }) => (tensor, expected),
                Err(error) => panic!("{}: {error}", self.family.architecture),
            };
            tensors.insert(name, shape);
        }
    }

    fn refused(&self) -> String {
        let tensors = [("token_embd.weight", WORDS), ("position_embd.weight", PLACES)];
        let tensors = tensors.map(|(name, rows)| (name.to_owned(), vec![WIDTH, rows]));
        Spec::read(&self.write(&tensors.into())).unwrap_err().to_string()
    }
}

/// Every family, and what some files of theirs have besides.
pub(super) fn samples() -> Vec<Sample> {
    let mut samples: Vec<_> = FAMILIES.iter().map(Sample::of).collect();
    samples.push(Sample::named("gptneox").with("use_parallel_residual", false));
    samples.push(Sample::named("stablelm").tensors(&[
        ("blk.0.ffn_norm.weight", &[WIDTH]),
        ("blk.3.attn_q_norm.weight", &[8, 4]),
        ("blk.3.attn_k_norm.weight", &[8, 2]),
    ]));
    samples.push(Sample::named("opt").with("post_norm", true).with("word_embedding_length", 20u32).tensors(
        &[
            ("token_embd.weight", &[20, WORDS]),
            ("blk.2.attn_qkv.weight", &[WIDTH, 64]),
            ("blk.2.attn_qkv.bias", &[64]),
        ],
    ));
    samples.push(Sample::named("olmo").with("attention.clamp_kqv", 0.5f32));
    let counts: Vec<u32> = vec![0, 2, 0, 0, 2, 0];
    samples.push(Sample::named("lfm2").with("attention.head_count_kv", counts));
    samples
}

fn text(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * i * 7 + i * 3 + 1) % WORDS as u32).collect()
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn runner(file: &GgufFile, kernels: &'static Kernels, threads: usize) -> Runner {
    let model = Arc::new(Model::load(file, kernels).unwrap());
    let options = RunOptions { context: 160, threads, slots: 1, logit_rows: 4, kv: KvType::F16 };
    Runner::new(model, &options).unwrap()
}

/// Logits after every token of a text that is read at once.
fn all_logits(runner: &mut Runner, tokens: &[u32]) -> Vec<Vec<u32>> {
    runner.truncate(0);
    let mut all = vec![];
    runner.score(tokens, 0, &mut |_, logits| all.push(bits(logits))).unwrap();
    all
}

#[test]
fn every_family_reads_alike_however_it_is_fed() {
    let tokens = text(150);
    for sample in samples() {
        let (name, file) = (sample.family.architecture, sample.file());
        let reference = all_logits(&mut runner(&file, Kernels::detect().unwrap(), 1), &tokens);
        assert!(reference.iter().flatten().all(|v| f32::from_bits(*v).is_finite()), "{name}");
        assert_ne!(reference[148], reference[149], "{name}");
        for kernels in Kernels::available() {
            let mut runner = runner(&file, kernels, 2);
            assert!(all_logits(&mut runner, &tokens) == reference, "{name} {}", kernels.name);
            for split in [1, 7, 100] {
                runner.truncate(0);
                for (part, end) in tokens.chunks(split).zip((split..).step_by(split)) {
                    let found = bits(runner.feed(part, &|| false).unwrap());
                    assert!(found == reference[end.min(150) - 1], "{name} {} {split} {end}", kernels.name);
                }
            }
        }
    }
}

#[test]
fn every_family_goes_back() {
    let (tokens, other) = (text(150), vec![5; 60]);
    for sample in samples() {
        let (name, file) = (sample.family.architecture, sample.file());
        let mut runner = runner(&file, Kernels::detect().unwrap(), 1);
        let reference = all_logits(&mut runner, &tokens);
        let has_state = sample.family.state_space || file.tensor("blk.0.shortconv.conv.weight").is_some();
        let back_to = |runner: &mut Runner, asked: usize| {
            runner.truncate(asked);
            let found = runner.position();
            assert!(found <= asked && (has_state || found == asked), "{name}: {found} for {asked}");
            found
        };
        let feed = |runner: &mut Runner, tokens: &[u32]| bits(runner.feed(tokens, &|| false).unwrap());
        for (back, further) in [(149, 140), (130, 129), (100, 64), (66, 65), (63, 62), (3, 1), (1, 0)] {
            // Another text, which the run forgets again.
            let start = back_to(&mut runner, back);
            let mut changed = tokens[..back].to_vec();
            changed.extend(&other[..other.len().min(155 - back)]);
            feed(&mut runner, &changed[start..]);
            let start = back_to(&mut runner, further);
            assert_eq!(feed(&mut runner, &tokens[start..]), reference[149], "{name} {back} {further}");
        }
    }
}

/// A convolution goes back exactly by a tile, and by more to a multiple of 64.
#[test]
fn convolutions_go_back_a_tile_exactly() {
    let file = samples().pop().unwrap().file();
    let mut runner = runner(&file, Kernels::detect().unwrap(), 1);
    for (asked, expected) in [(149, 149), (86, 86), (85, 64), (62, 0)] {
        all_logits(&mut runner, &text(150));
        runner.truncate(asked);
        assert_eq!(runner.position(), expected, "{asked}");
    }
}

#[test]
fn the_plan_of_every_family_is_what_is_allocated() {
    for sample in samples() {
        let file = sample.file();
        for (context, threads, kv) in [(1, 1, KvType::F16), (100, 2, KvType::Q8_0), (160, 3, KvType::F32)] {
            let options = RunOptions { context, threads, slots: 1, logit_rows: 3, kv };
            let kernels = Kernels::detect().unwrap();
            let planned = Plan::new(&file, kernels, &options).unwrap().total();
            let before = allocated_bytes();
            let model = Arc::new(Model::load(&file, kernels).unwrap());
            let runner = Runner::new(model, &options).unwrap();
            let name = sample.family.architecture;
            assert_eq!(runner.threads(), threads, "{name}");
            assert_eq!(allocated_bytes() - before, planned, "{name} {options:?}");
        }
    }
}

#[test]
fn impossible_features_are_refused() {
    for (sample, expected) in [
        (Sample::named("opt").with("activation", "swish"), "opt.activation is \"swish\", expected one of"),
        (
            Sample::named("gemma3")
                .with("attention.sliding_window_pattern", OwnedValue::BoolArray(vec![true; 5])),
            "each of 6 layers",
        ),
        (Sample::named("gptneo").with("attention.sliding_window_pattern", 0u32), "expected 1..="),
        (Sample::named("lfm2").with("attention.head_count_kv", vec![2u32, 1, 0, 0, 0, 0]), "one count, or 0"),
        (Sample::named("lfm2").with("attention.head_count_kv", vec![0u32; 4]), "each of 6 layers"),
        (
            Sample::named("lfm2")
                .with("attention.head_count_kv", vec![0u32; 6])
                .with("shortconv.l_cache", 1u32),
            "expected 2..=16",
        ),
        (
            Sample::named("lfm2")
                .with("attention.head_count_kv", vec![0u32; 6])
                .with("attention.key_length", 16u32),
            "heads of 32 values in all",
        ),
        (Sample::named("falcon-h1").with("ssm.time_step_rank", 5u32), "a divisor of 24"),
        (Sample::named("falcon-h1").with("ssm.group_count", 4u32), "a divisor of the 6 heads"),
        (Sample::named("falcon-h1").with("ssm.state_size", 5000u32), "1..=4096"),
        (Sample::named("granite").with("logit_scale", 0.0f32), "a positive number"),
        (Sample::named("qwen2").with("rope.scaling.type", "yarn"), "none, linear or llama3"),
    ] {
        let found = sample.refused();
        assert!(found.contains(expected), "{found}, expected {expected}");
    }
}

#[test]
fn a_family_needs_its_tensors() {
    for (architecture, tensor) in [
        ("llama", "blk.0.ffn_gate.weight"),
        ("qwen3", "blk.5.attn_k_norm.weight"),
        ("olmo2", "blk.1.post_ffw_norm.weight"),
        ("gpt2", "position_embd.weight"),
        ("bloom", "token_embd_norm.weight"),
        ("falcon-h1", "blk.2.ssm_dt.bias"),
        ("lfm2", "token_embd_norm.weight"),
    ] {
        let sample = Sample::named(architecture);
        let whole = sample.file();
        let kept = whole.tensors().iter().filter(|info| info.name != tensor);
        let file = sample.write(&kept.map(|info| (info.name.clone(), info.shape.clone())).collect());
        let error = Model::load(&file, Kernels::detect().unwrap()).unwrap_err().to_string();
        assert!(error.contains(&format!("{tensor} is missing")), "{architecture}: {error}");
    }
}

#[test]
fn positions_without_an_embedding_are_refused() {
    let file = Sample::named("gpt2").file();
    let plan = |context| {
        let options = RunOptions { context, threads: 1, slots: 1, logit_rows: 1, kv: KvType::F16 };
        Plan::new(&file, Kernels::detect().unwrap(), &options)
    };
    assert!(plan(PLACES as usize).is_ok());
    let error = plan(PLACES as usize + 1).unwrap_err();
    assert!(matches!(error, ModelError::ContextSize { found: 193, most: 192 }), "{error}");
}

#[test]
fn layers_differ_as_the_keys_say() {
    let layer_specs = |sample: Sample| Spec::read(&sample.file()).unwrap().layer_specs;
    let gemma = layer_specs(Sample::named("gemma3"));
    let whole = LayerSpec { mixer: Mixer::Attention, number: 5, rotary: Rotary::Global, window: usize::MAX };
    assert_eq!(gemma[5], whole);
    assert_eq!(gemma[4], LayerSpec { number: 4, rotary: Rotary::Local, window: 21, ..whole });
    let pattern = layer_specs(Sample::named("gemma3").with("attention.sliding_window_pattern", 2u32));
    let windows: Vec<_> = pattern.iter().map(|layer| layer.window).collect();
    assert_eq!(windows, [21, usize::MAX, 21, usize::MAX, 21, usize::MAX]);
    let smollm = layer_specs(Sample::named("smollm3"));
    let nope_interval: Vec<_> = (0..6).filter(|i| smollm[*i].rotary == Rotary::None).collect();
    assert_eq!(nope_interval, [3]);
    let lfm = layer_specs(samples().pop().unwrap());
    let attention: Vec<_> = (0..6).filter(|i| lfm[*i].mixer == Mixer::Attention).collect();
    assert_eq!((attention, lfm[4].number, lfm[5].number), (vec![1, 4], 1, 3));
}

/// A file of one layer says which it is.
#[test]
fn a_layer_alone_keeps_its_features() {
    for (sample, index) in [
        (Sample::named("gemma3"), 5),
        (Sample::named("smollm3"), 3),
        (Sample::named("gptneo"), 1),
        (samples().pop().unwrap(), 4),
    ] {
        let file = sample.file();
        let whole = Spec::read(&file).unwrap().layer_specs[index];
        let mut writer = GgufWriter::new();
        writer.copy_metadata(&file, |key| !key.ends_with("block_count"));
        writer.set(format!("{}.block_count", sample.family.architecture), 1u32);
        writer.set(FIRST_LAYER, index as u32);
        for name in ["token_embd.weight", "position_embd.weight"] {
            if let Some(info) = file.tensor(name) {
                writer.add_tensor(name, &info.shape, info.block_type);
            }
        }
        let zeros = |info: &crate::gguf::TensorInfo, out: &mut dyn std::io::Write| {
            out.write_all(&vec![0; info.elements() * 4])
        };
        let alone = GgufFile::from_vec("alone", writer.to_vec("alone", zeros).unwrap()).unwrap();
        let found = Spec::read(&alone).unwrap().layer_specs;
        assert_eq!(found, [LayerSpec { number: 0, ..whole }], "{}", sample.family.architecture);
    }
}

#[test]
fn slopes_are_those_of_the_paper() {
    let slopes =
        Spec::read(&Sample::named("bloom").with("attention.head_count", 8u32).file()).unwrap().slopes;
    assert_eq!(slopes, [1, 2, 3, 4, 5, 6, 7, 8].map(|i| 0.5f32.powi(i)));
    let slopes =
        Spec::read(&Sample::named("bloom").with("attention.head_count", 6u32).file()).unwrap().slopes;
    let expected = [0.25, 0.0625, 1.0 / 64.0, 1.0 / 256.0, 0.5, 0.125];
    assert!(slopes.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-7));
}

#[test]
fn every_family_goes_on_from_its_state() {
    let tokens = text(150);
    for sample in samples() {
        let (name, file) = (sample.family.architecture, sample.file());
        let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
        let mut keys = vec![];
        for kv in KvType::ALL {
            let with = |context| {
                let options = RunOptions { context, threads: 1, slots: 1, logit_rows: 4, kv };
                Runner::new(Arc::clone(&model), &options).unwrap()
            };
            let (mut first, mut second) = (with(160), with(151));
            let reference = all_logits(&mut first, &tokens);
            keys.push(first.state_key());
            assert_eq!(second.state_key(), first.state_key());
            for at in [1, 64, 133] {
                first.truncate(0);
                first.feed(&tokens[..at], &|| false).unwrap();
                let mut bytes = vec![];
                first.write_state(&mut bytes).unwrap();
                all_logits(&mut second, &[5; 140]);
                assert_eq!(second.state_bytes(at), bytes.len() as u64, "{name} {kv} {at}");
                second.read_state(at, &mut &bytes[..]).unwrap();
                assert_eq!(second.position(), at);
                let found = bits(second.feed(&tokens[at..], &|| false).unwrap());
                assert_eq!(found, reference[149], "{name} {kv} {at}");
                // And back, as the one that wrote it.
                second.read_state(at, &mut &bytes[..]).unwrap();
                for runner in [&mut first, &mut second] {
                    runner.truncate(at / 2);
                }
                let back = second.position();
                assert_eq!(back, first.position(), "{name} {kv} {at}");
                let found = bits(second.feed(&tokens[back..], &|| false).unwrap());
                assert_eq!(found, reference[149], "{name} {kv} {at} back to {back}");
                // A state cut short leaves nothing behind.
                assert!(second.read_state(at, &mut &bytes[..bytes.len() - 1]).is_err());
                assert_eq!(second.position(), 0);
                assert_eq!(all_logits(&mut second, &tokens)[149], reference[149], "{name} {kv} {at} afresh");
            }
            assert!(second.read_state(152, &mut std::io::empty()).is_err());
        }
        keys.dedup();
        assert_eq!(keys.len(), KvType::ALL.len());
    }
}
