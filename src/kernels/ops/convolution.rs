//! Short causal convolutions.

use super::{Executor, Shared};
use std::ops::Range;

/// A convolution over the last positions, channel by channel: the sum of `kernel[tap] * x` at them, the last tap
/// for the token itself. With gates (LFM2: arXiv 2511.23404), `x` is `before * value` and the sum is multiplied
/// with `behind`.
#[derive(Debug)]
pub struct Convolution<'a> {
    /// `[token][stride]`
    pub inputs: &'a [f32],
    /// Values per token of the inputs.
    pub stride: usize,
    /// Where the values of a token begin in its inputs, `[dim]`.
    pub values: usize,
    /// Where the gates before and behind begin, `[dim]` each.
    pub gates: Option<[usize; 2]>,
    /// `[channel][tap]`
    pub kernel: &'a [f32],
    /// `[channel]`, added to the sum.
    pub bias: Option<&'a [f32]>,
    /// `x` of the latest positions, `[position % slots][dim]`, with at least as many slots as there are tokens and
    /// positions that the first of them sees. That of the tokens is written.
    pub ring: &'a mut [f32],
    /// Channels.
    pub dim: usize,
    /// Position of the first token.
    pub position: usize,
    /// `[token][dim]`
    pub out: &'a mut [f32],
}

/// Channels below which one thread has them done before others are awake.
const FEW: usize = 1 << 13;

impl Executor {
    /// Convolves.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn convolve(&mut self, convolution: &mut Convolution<'_>) {
        let Convolution { inputs, stride, values, gates, kernel, bias, dim, position, .. } = *convolution;
        let (out, ring) = (&mut *convolution.out, &mut *convolution.ring);
        let (tokens, taps, slots) = (out.len() / dim, kernel.len() / dim, ring.len() / dim);
        assert_eq!((out.len(), kernel.len()), (tokens * dim, taps * dim), "output and kernel");
        assert_eq!(inputs.len(), tokens * stride, "inputs");
        assert!([Some([values; 2]), gates].iter().flatten().flatten().all(|at| at + dim <= stride), "parts");
        assert!(bias.is_none_or(|bias| bias.len() == dim), "bias");
        assert!(ring.len() == slots * dim && slots + 1 >= tokens + taps && taps > 0, "ring");
        let few = tokens * dim <= FEW;
        let stage = Stage {
            inputs,
            stride,
            values,
            gates,
            kernel,
            bias,
            ring: Shared::new(ring),
            out: Shared::new(out),
            shape: [dim, tokens, taps, slots],
            position,
        };
        if few {
            // SAFETY: no other thread is at work.
            return unsafe { stage.run(0..dim) };
        }
        self.pool.run_with(&mut self.scratch, &|part, _| {
            // SAFETY: each channel belongs to one part.
            unsafe { stage.run(part.share(dim)) };
        });
    }
}

struct Stage<'a> {
    inputs: &'a [f32],
    stride: usize,
    values: usize,
    gates: Option<[usize; 2]>,
    kernel: &'a [f32],
    bias: Option<&'a [f32]>,
    ring: Shared<'a, f32>,
    out: Shared<'a, f32>,
    /// Channels, tokens, taps and slots of the ring.
    shape: [usize; 4],
    position: usize,
}

impl Stage<'_> {
    /// # Safety
    /// No other thread uses these channels.
    unsafe fn run(&self, channels: Range<usize>) {
        let [dim, tokens, taps, slots] = self.shape;
        let at = |row: usize| row * dim + channels.start..row * dim + channels.end;
        for token in 0..tokens {
            let position = self.position + token;
            let input = |start: usize| &self.inputs[token * self.stride + start..][channels.clone()];
            // SAFETY: the channels are ours by contract.
            let (out, newest) = unsafe { (self.out.part(at(token)), self.ring.part(at(position % slots))) };
            newest.copy_from_slice(input(self.values));
            if let Some([before, _]) = self.gates {
                newest.iter_mut().zip(input(before)).for_each(|(x, gate)| *x *= gate);
            }
            match self.bias {
                Some(bias) => out.copy_from_slice(&bias[channels.clone()]),
                None => out.fill(0.0),
            }
            for tap in (taps - 1).saturating_sub(position)..taps {
                // SAFETY: as above; `newest` is not used any more.
                let x = unsafe { self.ring.read(at((position + tap + 1 - taps) % slots)) };
                let weights = self.kernel[channels.start * taps..channels.end * taps].chunks_exact(taps);
                for ((out, x), weights) in out.iter_mut().zip(x).zip(weights) {
                    *out += weights[tap] * x;
                }
            }
            if let Some([_, behind]) = self.gates {
                out.iter_mut().zip(input(behind)).for_each(|(x, gate)| *x *= gate);
            }
        }
    }
}
