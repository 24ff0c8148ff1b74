//! The training loop: AdamW with warm-up and cosine decay, clipped gradients, checkpoints.
//!
//! Data is drawn in pools from a seeded source, sorted by length and cut into batches of about equal size
//! in tokens. A batch is split into shards whose gradients are computed in parallel and added.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var, backprop::GradStore};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use rand::{SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};

use crate::net::{Net, Shape, token_losses};

/// A tokenized text and how much each of its tokens counts as a target.
pub(crate) struct Example {
    pub(crate) ids: Vec<u32>,
    /// One per token of `ids`; that of the first is not used.
    pub(crate) weights: Vec<f32>,
}

/// What a run does.
pub(crate) struct Plan {
    pub(crate) steps: usize,
    pub(crate) warmup_steps: usize,
    pub(crate) peak_rate: f64,
    /// Tokens per batch, padding included.
    pub(crate) batch_tokens: usize,
    pub(crate) shards: usize,
    pub(crate) max_gradient_norm: f64,
    pub(crate) weight_decay: f64,
    pub(crate) seed: u64,
    /// Where the state is kept while training.
    pub(crate) checkpoint: PathBuf,
}

const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
const REPORT_EVERY: usize = 20;
/// Steps over which the rate rises again after a restart: the moments of AdamW are not in the checkpoint.
const RESTART_STEPS: usize = 20;
/// Name of the step counter among the tensors of a checkpoint.
const STEP: &str = "step";

impl Plan {
    /// Learning rate of a step: linear warm-up, then a cosine to a twentieth of the peak.
    fn rate(&self, step: usize, first_step: usize) -> f64 {
        let warm = (step + 1) as f64 / self.warmup_steps as f64;
        let done = step.saturating_sub(self.warmup_steps) as f64;
        let progress = done / (self.steps - self.warmup_steps).max(1) as f64;
        let cosine = 0.05 + 0.95 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        let restart = match first_step {
            0 => 1.0,
            first => (step - first + 1) as f64 / RESTART_STEPS as f64,
        };
        self.peak_rate * warm.min(1.0) * cosine * restart.min(1.0)
    }
}

/// Trains a network of this shape on the pools of `source`, or goes on from the checkpoint. Progress goes to
/// standard error. `source` maps a pool's number to its examples.
pub(crate) fn train(shape: Shape, plan: &Plan, source: impl Fn(u64) -> Result<Vec<Example>>) -> Result<Net> {
    let (net, first_step) = start(shape, plan)?;
    let mut optimizers = optimizers(&net, plan)?;
    let mut batches = Batches { source, plan, pool: 0, left: Vec::new() };
    for _ in 0..first_step {
        batches.next()?;
    }
    let mut progress = Progress::new(plan.steps, first_step);
    let mut saved = Instant::now();
    for step in first_step..plan.steps {
        let batch = batches.next()?;
        let (loss, mut gradients) = gradients(&net, &batch, plan.shards)?;
        clip(&net, &mut gradients, plan.max_gradient_norm)?;
        for optimizer in &mut optimizers {
            optimizer.set_learning_rate(plan.rate(step, first_step));
            optimizer.step(&gradients)?;
        }
        progress.step(step, loss, batch.iter().map(|example| example.ids.len()).sum());
        if saved.elapsed() > CHECKPOINT_EVERY || step + 1 == plan.steps {
            save(&net, step + 1, &plan.checkpoint)?;
            saved = Instant::now();
        }
    }
    Ok(net)
}

/// Weight decay for matrices, none for norms.
fn optimizers(net: &Net, plan: &Plan) -> Result<[AdamW; 2]> {
    let (matrices, norms) = net.parameter_groups();
    let make = |vars: Vec<Var>, weight_decay| {
        AdamW::new(vars, ParamsAdamW { lr: 0.0, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay })
    };
    Ok([make(matrices, plan.weight_decay)?, make(norms, 0.0)?])
}

fn start(shape: Shape, plan: &Plan) -> Result<(Net, usize)> {
    if !plan.checkpoint.exists() {
        return Ok((Net::new(shape, plan.seed)?, 0));
    }
    let name = plan.checkpoint.display();
    let tensors = candle_core::safetensors::load(&plan.checkpoint, &Device::Cpu)?;
    let step = tensors.get(STEP).with_context(|| format!("{name}: no step"))?.to_vec1::<u32>()?[0] as usize;
    eprintln!("going on from step {step} of {name}");
    Ok((Net::from_tensors(shape, &tensors)?, step))
}

fn save(net: &Net, step: usize, path: &Path) -> Result<()> {
    let mut tensors: HashMap<String, Tensor> = net.tensors();
    tensors.insert(STEP.to_owned(), Tensor::new(&[step as u32], &Device::Cpu)?);
    let temporary = path.with_extension("tmp");
    candle_core::safetensors::save(&tensors, &temporary)?;
    std::fs::rename(&temporary, path).with_context(|| path.display().to_string())
}

/// Batches without end.
struct Batches<'a, S> {
    source: S,
    plan: &'a Plan,
    /// Pools drawn so far.
    pool: u64,
    left: Vec<Vec<Example>>,
}

impl<S: Fn(u64) -> Result<Vec<Example>>> Batches<'_, S> {
    fn next(&mut self) -> Result<Vec<Example>> {
        if self.left.is_empty() {
            let mut examples = (self.source)(self.pool)?;
            examples.sort_by_key(|example| example.ids.len());
            self.left = cut(examples, self.plan.batch_tokens);
            self.left.shuffle(&mut ChaCha8Rng::seed_from_u64(self.plan.seed ^ self.pool));
            self.pool += 1;
        }
        self.left.pop().context("the source has no examples")
    }
}

/// Cuts sorted examples into batches that stay within `tokens` when padded.
fn cut(examples: Vec<Example>, tokens: usize) -> Vec<Vec<Example>> {
    let mut batches: Vec<Vec<Example>> = vec![Vec::new()];
    for example in examples {
        let batch = batches.last().map_or(0, Vec::len);
        if batch > 0 && (batch + 1) * example.ids.len() > tokens {
            batches.push(Vec::new());
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(example);
        }
    }
    batches
}

/// Mean weighted loss of a batch and its gradients.
fn gradients(net: &Net, batch: &[Example], shards: usize) -> Result<(f32, GradStore)> {
    let total: f32 = batch.iter().flat_map(|example| &example.weights[1..]).sum();
    let shard = |i: usize| {
        let examples: Vec<&Example> = batch.iter().skip(i).step_by(shards).collect();
        let loss = (loss_sum(net, &examples)? / f64::from(total))?;
        Ok((loss.to_scalar::<f32>()?, loss.backward()?))
    };
    let results = in_parallel(shards.min(batch.len()), shard)?;
    let mut results = results.into_iter();
    let (mut loss, mut sum) = results.next().context("an empty batch")?;
    let (matrices, norms) = net.parameter_groups();
    for (shard_loss, gradients) in results {
        loss += shard_loss;
        for var in matrices.iter().chain(&norms) {
            if let (Some(a), Some(b)) = (sum.get(var), gradients.get(var)) {
                let added = (a + b)?;
                sum.insert(var, added);
            }
        }
    }
    Ok((loss, sum))
}

/// Results of `work` for `0..count`, each on a thread of its own.
pub(crate) fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|i| scope.spawn(move || work(i))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<T>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

/// Sum of the weighted losses of sequences, padded to the longest.
fn loss_sum(net: &Net, examples: &[&Example]) -> Result<Tensor> {
    let length = examples.iter().map(|example| example.ids.len()).max().unwrap_or(1) - 1;
    let rows = examples.len();
    let (mut inputs, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for example in examples {
        let used = example.ids.len() - 1;
        let padding = std::iter::repeat_n(0, length - used);
        inputs.extend(example.ids[..used].iter().copied().chain(padding.clone()));
        targets.extend(example.ids[1..].iter().copied().chain(padding));
        weights.extend(example.weights[1..].iter().copied().chain(std::iter::repeat_n(0.0, length - used)));
    }
    let device = &Device::Cpu;
    let logits = net.forward(&Tensor::from_vec(inputs, (rows, length), device)?)?;
    let losses = token_losses(&logits, &Tensor::from_vec(targets, rows * length, device)?)?;
    Ok((losses * Tensor::from_vec(weights, rows * length, device)?)?.sum_all()?)
}

/// Scales the gradients so that their norm over all parameters stays within `limit`.
fn clip(net: &Net, gradients: &mut GradStore, limit: f64) -> Result<()> {
    let (matrices, norms) = net.parameter_groups();
    let vars: Vec<Var> = matrices.into_iter().chain(norms).collect();
    let mut squares = 0.0;
    for gradient in vars.iter().filter_map(|var| gradients.get(var)) {
        squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    anyhow::ensure!(squares.is_finite(), "the gradients are not finite");
    let scale = limit / squares.sqrt();
    if scale < 1.0 {
        for var in &vars {
            if let Some(scaled) = gradients.get(var).map(|gradient| gradient * scale).transpose()? {
                gradients.insert(var, scaled);
            }
        }
    }
    Ok(())
}

/// Reports loss, speed and time left.
struct Progress {
    steps: usize,
    first_step: usize,
    started: Instant,
    tokens: usize,
    /// Losses since the last report.
    losses: Vec<f32>,
}

impl Progress {
    fn new(steps: usize, first_step: usize) -> Self {
        Self { steps, first_step, started: Instant::now(), tokens: 0, losses: Vec::new() }
    }

    fn step(&mut self, step: usize, loss: f32, tokens: usize) {
        self.tokens += tokens;
        self.losses.push(loss);
        let done = step + 1;
        if !done.is_multiple_of(REPORT_EVERY) && done != self.steps {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let left = seconds / (done - self.first_step) as f64 * (self.steps - done) as f64;
        let loss = self.losses.iter().sum::<f32>() / self.losses.len() as f32;
        let (steps, speed) = (self.steps, self.tokens as f64 / seconds);
        eprintln!("step {done}/{steps}  loss {loss:.4}  {speed:.0} tokens/s  {:.1} min left", left / 60.0);
        self.losses.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Shape =
        Shape { vocab: 16, width: 32, ff: 32, layers: 1, heads: 2, kv_heads: 1, context: 16 };

    fn example(length: usize) -> Example {
        Example { ids: (0..length as u32).collect(), weights: vec![1.0; length] }
    }

    #[test]
    fn shards_add_up_to_the_whole() {
        let net = Net::new(SMALL, 1).unwrap();
        let batch: Vec<Example> = [4, 7, 5, 9].map(example).into();
        let (whole, a) = gradients(&net, &batch, 1).unwrap();
        let (halves, b) = gradients(&net, &batch, 2).unwrap();
        assert!((whole - halves).abs() < 1e-5);
        for var in net.parameter_groups().0 {
            let difference = (a.get(&var).unwrap() - b.get(&var).unwrap()).unwrap().abs().unwrap();
            let largest = difference.max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(largest < 1e-5, "{largest}");
        }
    }

    #[test]
    fn batches_stay_within_the_budget_and_lose_nothing() {
        let batches = cut((2..12).map(example).collect(), 24);
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 10);
        for batch in batches {
            let longest = batch.iter().map(|example| example.ids.len()).max().unwrap();
            assert!(batch.len() * longest <= 24);
        }
    }
}
