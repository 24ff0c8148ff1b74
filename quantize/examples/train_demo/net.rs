//! The Llama-shaped network: RMSNorm, grouped-query attention with RoPE, SwiGLU, tied embedding.
//!
//! Parameters carry their GGUF names and are kept as matrices `[out, in]`. RoPE pairs dimension `i` of a
//! head with `i + head_dim / 2`, as Hugging Face checkpoints do; `export` reorders rows for GGUF.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{D, Device, Tensor, Var};
use rand::{Rng, RngExt, SeedableRng, rngs::ChaCha8Rng};

/// Extents of the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) vocab: usize,
    /// Width of the residual stream.
    pub(crate) width: usize,
    /// Width of the feed-forward layer.
    pub(crate) ff: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` query heads.
    pub(crate) kv_heads: usize,
    /// Longest sequence in tokens.
    pub(crate) context: usize,
}

impl Shape {
    pub(crate) const ROPE_THETA: f64 = 10_000.0;
    pub(crate) const NORM_EPS: f64 = 1e-5;

    pub(crate) fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// Every parameter with its extents, in the order of the GGUF file.
    pub(crate) fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let (d, ff, kv) = (self.width, self.ff, self.kv_heads * self.head_dim());
        let mut all = vec![("token_embd.weight".to_owned(), vec![self.vocab, d])];
        for layer in 0..self.layers {
            let rows: [(&str, &[usize]); 9] = [
                ("attn_norm", &[d]),
                ("attn_q", &[d, d]),
                ("attn_k", &[kv, d]),
                ("attn_v", &[kv, d]),
                ("attn_output", &[d, d]),
                ("ffn_norm", &[d]),
                ("ffn_gate", &[ff, d]),
                ("ffn_up", &[ff, d]),
                ("ffn_down", &[d, ff]),
            ];
            all.extend(rows.map(|(name, shape)| (format!("blk.{layer}.{name}.weight"), shape.to_vec())));
        }
        all.push(("output_norm.weight".to_owned(), vec![d]));
        all
    }

    pub(crate) fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

/// The network's parameters and position tables.
pub(crate) struct Net {
    pub(crate) shape: Shape,
    vars: HashMap<String, Var>,
    /// Cosines and sines of the rotation angles, each `[context, head_dim / 2]`.
    rope: (Tensor, Tensor),
}

impl Net {
    /// A network with normally distributed matrices (0.02, output projections less) and norms of one.
    pub(crate) fn new(shape: Shape, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let output_std = 0.02 / (2.0 * shape.layers as f32).sqrt();
        let mut values = HashMap::new();
        for (name, extents) in shape.parameters() {
            let count = extents.iter().product();
            let is_output = name.contains("attn_output") || name.contains("ffn_down");
            let data: Vec<f32> = match extents.len() {
                1 => vec![1.0; count],
                _ => normal(&mut rng, if is_output { output_std } else { 0.02 }).take(count).collect(),
            };
            values.insert(name, Tensor::from_vec(data, extents, &Device::Cpu)?);
        }
        Self::from_tensors(shape, &values)
    }

    /// A network with these parameters.
    pub(crate) fn from_tensors(shape: Shape, values: &HashMap<String, Tensor>) -> Result<Self> {
        let mut vars = HashMap::new();
        for (name, extents) in shape.parameters() {
            let value = values.get(&name).with_context(|| format!("no tensor {name}"))?;
            anyhow::ensure!(value.dims() == extents, "{name}: {:?}, expected {extents:?}", value.dims());
            vars.insert(name, Var::from_tensor(value)?);
        }
        Ok(Self { shape, vars, rope: rope_tables(&shape)? })
    }

    /// The same network with matrices rounded to f16, as the file stores them.
    pub(crate) fn rounded_to_f16(&self) -> Result<Self> {
        let round = |(name, var): (&String, &Var)| {
            let value = match var.dims().len() {
                1 => var.as_detached_tensor(),
                _ => var.as_detached_tensor().to_dtype(candle_core::DType::F16)?,
            };
            Ok((name.clone(), value.to_dtype(candle_core::DType::F32)?))
        };
        Self::from_tensors(self.shape, &self.vars.iter().map(round).collect::<Result<_>>()?)
    }

    /// The parameters by name.
    pub(crate) fn tensors(&self) -> HashMap<String, Tensor> {
        self.vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    }

    /// Matrices, then norms, each in the order of [`Shape::parameters`].
    pub(crate) fn parameter_groups(&self) -> (Vec<Var>, Vec<Var>) {
        let vars = self.shape.parameters().into_iter().map(|(name, _)| self.vars[&name].clone());
        vars.partition(|var| var.dims().len() == 2)
    }

    /// A parameter as `f32` values, row after row.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.weight(name)?.flatten_all()?.to_vec1()?)
    }

    /// Logits `[batch * length, vocab]` of tokens `[batch, length]`.
    pub(crate) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        let embedding = self.weight("token_embd.weight")?;
        let mut x = embedding.index_select(&ids.flatten_all()?, 0)?;
        let mask = causal_mask(length)?;
        for layer in 0..self.shape.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let normed = self.norm(&x, &name("attn_norm"))?;
            x = (x + self.attention(&normed, &name, (batch, length), &mask)?)?;
            let normed = self.norm(&x, &name("ffn_norm"))?;
            x = (x + self.feed_forward(&normed, &name)?)?;
        }
        let x = self.norm(&x, "output_norm.weight")?;
        Ok(x.matmul(&embedding.t()?)?)
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        Ok(self.vars.get(name).with_context(|| format!("no tensor {name}"))?.as_tensor())
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm_slow(x, self.weight(name)?, Shape::NORM_EPS as f32)?)
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        Ok(x.matmul(&self.weight(name)?.t()?)?)
    }

    fn feed_forward(&self, x: &Tensor, name: &impl Fn(&str) -> String) -> Result<Tensor> {
        let gate = self.linear(x, &name("ffn_gate"))?.silu()?;
        let hidden = (gate * self.linear(x, &name("ffn_up"))?)?;
        self.linear(&hidden, &name("ffn_down"))
    }

    /// Attention over `x`, `[batch * length, width]`. Query heads that share a key head are stacked along
    /// the position axis, so that keys and values are not repeated.
    fn attention(
        &self,
        x: &Tensor,
        name: &impl Fn(&str) -> String,
        (batch, length): (usize, usize),
        mask: &Tensor,
    ) -> Result<Tensor> {
        let Shape { heads, kv_heads, width, .. } = self.shape;
        let dim = self.shape.head_dim();
        let stacked = heads / kv_heads * length;
        let split = |x: Tensor, heads| -> Result<Tensor> {
            Ok(x.reshape((batch, length, heads, dim))?.transpose(1, 2)?.contiguous()?)
        };
        let rotate = |x: &Tensor| candle_nn::rotary_emb::rope_slow(x, &self.rope.0, &self.rope.1);
        let q = rotate(&split(self.linear(x, &name("attn_q"))?, heads)?)?;
        let k = rotate(&split(self.linear(x, &name("attn_k"))?, kv_heads)?)?;
        let v = split(self.linear(x, &name("attn_v"))?, kv_heads)?;
        let q = (q.reshape((batch, kv_heads, stacked, dim))? * (dim as f64).powf(-0.5))?;
        let scores = q.matmul(&k.t()?)?.reshape((batch, heads, length, length))?;
        let weights = softmax(&scores.broadcast_add(mask)?)?;
        let mixed = weights.reshape((batch, kv_heads, stacked, length))?.matmul(&v)?;
        let mixed = mixed.reshape((batch, heads, length, dim))?.transpose(1, 2)?;
        self.linear(&mixed.reshape((batch * length, width))?, &name("attn_output"))
    }
}

/// Softmax over the last axis. The maximum only keeps the exponentials finite: it has no gradient.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    Ok(exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?)
}

/// Negative log-likelihood of `targets`, `[rows]`, under `logits`, `[rows, vocab]`.
pub(crate) fn token_losses(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let log_sum = (logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + max)?;
    let chosen = logits.gather(&targets.unsqueeze(1)?, 1)?;
    Ok((log_sum - chosen)?.squeeze(1)?)
}

/// Zero where a position may look, minus infinity where not: `[length, length]`.
fn causal_mask(length: usize) -> Result<Tensor> {
    let rows =
        (0..length).flat_map(|i| (0..length).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }));
    Ok(Tensor::from_iter(rows, &Device::Cpu)?.reshape((length, length))?)
}

fn rope_tables(shape: &Shape) -> Result<(Tensor, Tensor)> {
    let half = shape.head_dim() / 2;
    let frequency = |i: usize| Shape::ROPE_THETA.powf(-(i as f64) / half as f64);
    let angles: Vec<f64> =
        (0..shape.context).flat_map(|p| (0..half).map(move |i| p as f64 * frequency(i))).collect();
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
        Tensor::from_vec(values, (shape.context, half), &Device::Cpu)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}

/// Normally distributed numbers of this deviation (Box-Muller).
fn normal(rng: &mut impl Rng, deviation: f32) -> impl Iterator<Item = f32> {
    std::iter::repeat_with(move || {
        let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
        deviation * (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Shape =
        Shape { vocab: 32, width: 32, ff: 32, layers: 2, heads: 4, kv_heads: 2, context: 16 };

    fn logits(net: &Net, ids: &[u32]) -> Vec<Vec<f32>> {
        let ids = Tensor::from_slice(ids, (1, ids.len()), &Device::Cpu).unwrap();
        net.forward(&ids).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn later_tokens_do_not_change_earlier_logits() {
        let net = Net::new(SMALL, 1).unwrap();
        let (a, b) = (logits(&net, &[1, 2, 3, 4, 5]), logits(&net, &[1, 2, 3, 9, 8]));
        for position in 0..3 {
            for (x, y) in a[position].iter().zip(&b[position]) {
                assert!((x - y).abs() < 1e-6, "position {position}: {x} {y}");
            }
        }
        assert_ne!(a[3], b[3]);
    }

    #[test]
    fn order_matters() {
        let net = Net::new(SMALL, 1).unwrap();
        let (a, b) = (logits(&net, &[1, 2, 3, 4]), logits(&net, &[2, 1, 3, 4]));
        assert!(a[3].iter().zip(&b[3]).any(|(x, y)| (x - y).abs() > 1e-6));
    }

    #[test]
    fn losses_of_equal_logits_are_the_logarithm_of_the_vocabulary() {
        let logits = Tensor::ones((2, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        let targets = Tensor::new(&[3u32, 7], &Device::Cpu).unwrap();
        for loss in token_losses(&logits, &targets).unwrap().to_vec1::<f32>().unwrap() {
            assert!((loss - 8f32.ln()).abs() < 1e-6);
        }
    }
}
