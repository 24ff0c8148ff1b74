//! Trains the demo model that is embedded in `smolt`, from data to bytes:
//!
//! ```text
//! cargo run --release -p smolt-quantize --example train_demo -- OUT_DIR
//! ```
//!
//! writes to `OUT_DIR`
//!
//! - `demo-f16.gguf`: the float model,
//! - `demo-heldout.jsonl`: requests in phrasings that training never shows, with the expected replies,
//! - `demo-calibration.txt`: dialogues to calibrate a quantization on, in the chat format,
//! - `greedy.json`: greedy continuations of the float model, for comparing engines,
//! - `report.json`: extents, held-out accuracy,
//! - `checkpoint.safetensors`: the state of an interrupted run, from which the same command goes on.
//!
//! ```text
//! phrases    what people say, by intent
//! dialogues  phrases -> seeded requests and replies
//! vocab      dialogues -> byte-level BPE, chat format
//! net        the network
//! train      the training loop
//! evaluate   held-out accuracy, golden ids
//! export     the GGUF file
//! ```

mod dialogues;
mod evaluate;
mod export;
mod net;
mod phrases;
mod train;
mod vocab;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use crate::dialogues::{Dialogue, HeldOut, held_out, training};
use crate::evaluate::Golden;
use crate::net::{Net, Shape};
use crate::train::{Example, Plan};
use crate::vocab::{Vocab, chat};

const SEED: u64 = 0x5e01;
const VOCAB_SIZE: usize = 1536;
/// Dialogues the vocabulary is trained on.
const VOCAB_DIALOGUES: usize = 40_000;
/// Dialogues of the calibration text.
const CALIBRATION_DIALOGUES: usize = 800;
/// Examples per pool; see `train`.
const POOL_EXAMPLES: usize = 1024;
/// One training thread per shard.
const SHARDS: usize = 2;
/// Variables this program runs itself with. candle's own threads spin at barriers, which costs more than it
/// gains beside our shards; glibc's allocator otherwise returns the pages of every tensor to the system.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("RAYON_NUM_THREADS", "1"),
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "4294967296"),
    ("MALLOC_TRIM_THRESHOLD_", "8589934592"),
];
const GOLDENS: usize = 10;
const GOLDEN_TOKENS: usize = 32;
/// Smallest logit gap of a golden: rounding in another order of summation does not change the choice.
const GOLDEN_GAP: f32 = 0.05;

fn main() -> Result<ExitCode> {
    let out_dir = PathBuf::from(std::env::args_os().nth(1).context("usage: train_demo OUT_DIR")?);
    if ENVIRONMENT.iter().any(|(name, _)| std::env::var_os(name).is_none()) {
        let mut again = Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args_os().skip(1)).envs(ENVIRONMENT).status()?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    make_demo(&out_dir)?;
    Ok(ExitCode::SUCCESS)
}

fn make_demo(out_dir: &Path) -> Result<()> {
    std::fs::create_dir_all(out_dir).with_context(|| out_dir.display().to_string())?;
    let held_out = held_out();
    std::fs::write(out_dir.join("demo-heldout.jsonl"), lines(&held_out)?)?;
    std::fs::write(out_dir.join("demo-calibration.txt"), calibration())?;
    let vocab = Vocab::train(&training(SEED, VOCAB_DIALOGUES), VOCAB_SIZE)?;
    let shape = Shape {
        vocab: vocab.tokens.len(),
        width: 256,
        ff: 512,
        layers: 4,
        heads: 8,
        kv_heads: 4,
        context: 256,
    };
    eprintln!("{} parameters, {} tokens", shape.parameter_count(), shape.vocab);
    let plan = Plan {
        steps: 1400,
        warmup_steps: 100,
        peak_rate: 2e-3,
        batch_tokens: 2048,
        shards: SHARDS,
        max_gradient_norm: 1.0,
        weight_decay: 0.1,
        seed: SEED,
        checkpoint: out_dir.join("checkpoint.safetensors"),
    };
    let started = Instant::now();
    let net = train::train(shape, &plan, |pool| pool_examples(&vocab, pool, shape.context))?;
    eprintln!("trained for {:.1} min", started.elapsed().as_secs_f64() / 60.0);
    write_results(&net.rounded_to_f16()?, &vocab, &held_out, out_dir)
}

/// Everything that is made from the trained network.
fn write_results(net: &Net, vocab: &Vocab, held_out: &[Dialogue], out_dir: &Path) -> Result<()> {
    let bytes = export::write(net, vocab, &out_dir.join("demo-f16.gguf"))?;
    eprintln!("demo-f16.gguf: {bytes} bytes");
    let goldens = goldens(net, vocab, held_out)?;
    std::fs::write(out_dir.join("greedy.json"), serde_json::to_string(&goldens)? + "\n")?;
    let score = evaluate::score(net, vocab, held_out, SHARDS)?;
    let percent = 100.0 * score.actions_right as f64 / score.commands.max(1) as f64;
    println!("{}", serde_json::to_string(&score)?);
    println!("held-out commands with the exact action: {percent:.1} %");
    let report = serde_json::json!({
        "parameters": net.shape.parameter_count(),
        "vocabulary": net.shape.vocab,
        "held_out": score,
    });
    std::fs::write(out_dir.join("report.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(())
}

/// Continuations of requests from all over the list, each with clear choices throughout.
fn goldens(net: &Net, vocab: &Vocab, held_out: &[Dialogue]) -> Result<Vec<Golden>> {
    let stride = held_out.len().div_ceil(GOLDENS);
    let mut chosen = Vec::with_capacity(GOLDENS);
    for part in held_out.chunks(stride) {
        for dialogue in part {
            let golden = evaluate::golden(net, vocab, &dialogue.prompt, GOLDEN_TOKENS)?;
            if golden.gaps.iter().all(|&gap| gap >= GOLDEN_GAP) {
                chosen.push(golden);
                break;
            }
        }
    }
    Ok(chosen)
}

/// Conversations of one turn, of two or of three: a half, a third, a sixth.
fn pool_examples(vocab: &Vocab, pool: u64, context: usize) -> Result<Vec<Example>> {
    let mut rng = ChaCha8Rng::seed_from_u64(pool_seed(pool));
    let mut dialogues = pool_dialogues(pool);
    let mut examples = Vec::with_capacity(POOL_EXAMPLES);
    for _ in 0..POOL_EXAMPLES {
        let turns = [1, 1, 1, 2, 2, 3][rng.random_range(0..6)];
        let rest = dialogues.split_off(dialogues.len() - turns);
        let mut example = vocab.example(&rest)?;
        example.ids.truncate(context);
        example.weights.truncate(context);
        examples.push(example);
    }
    Ok(examples)
}

/// The dialogues a pool draws from.
pub(crate) fn pool_dialogues(pool: u64) -> Vec<Dialogue> {
    training(pool_seed(pool), 3 * POOL_EXAMPLES)
}

/// The vocabulary's dialogues have the seed before that of the first pool.
fn pool_seed(pool: u64) -> u64 {
    SEED + 1 + pool
}

/// Dialogues of one turn that no training pool begins with, in the chat format.
fn calibration() -> String {
    let dialogues = training(SEED - 1, CALIBRATION_DIALOGUES);
    dialogues
        .iter()
        .map(|dialogue| format!("{}{}<|im_end|>\n", chat(&dialogue.prompt), dialogue.reply))
        .collect()
}

/// The held-out dialogues, one JSON object per line.
fn lines(dialogues: &[Dialogue]) -> Result<String> {
    let mut text = String::new();
    for (number, dialogue) in dialogues.iter().enumerate() {
        let line = HeldOut {
            id: format!("{}-{number:03}", dialogue.intent),
            prompt: &dialogue.prompt,
            reply: &dialogue.reply,
            action: dialogue.action.as_deref(),
        };
        writeln!(text, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(text)
}
