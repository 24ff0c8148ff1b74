//! Short causal convolutions.

use super::{Executor, Shared};
use std::ops::Range;

/// What a convolution remembers of a sequence with new positions.
pub struct Ring<'a> {
    /// `x` of the latest positions, `[position % slots][dim]`, with at least as many slots as there are new tokens
    /// and positions that the first of them sees. That of the tokens is written.
    inputs: Shared<'a, f32>,
    /// Position of the first new token.
    position: usize,
    /// Rows of the new tokens in inputs and output.
    rows: Range<usize>,
}

impl<'a> Ring<'a> {
    /// The tokens at `rows` are to follow the first `position` ones in this ring.
    pub fn new(inputs: &'a mut [f32], position: usize, rows: Range<usize>) -> Self {
        Self { inputs: Shared::new(inputs), position, rows }
    }
}

/// A convolution over the last positions, channel by channel: the sum of `kernel[tap] * x` at them, the last tap
/// for the token itself. With gates (LFM2: arXiv 2511.23404), `x` is `before * value` and the sum is multiplied
/// with `behind`.
pub struct Convolution<'a, 'c> {
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
    /// The sequences; their rows follow each other from 0 on.
    pub sequences: &'a [Ring<'c>],
    /// Channels.
    pub dim: usize,
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
    pub fn convolve(&mut self, convolution: &mut Convolution<'_, '_>) {
        let Convolution { inputs, stride, values, gates, kernel, bias, dim, sequences, .. } = *convolution;
        let out = &mut *convolution.out;
        let (tokens, taps) = (out.len() / dim, kernel.len() / dim);
        assert_eq!((out.len(), kernel.len()), (tokens * dim, taps * dim), "output and kernel");
        assert_eq!(inputs.len(), tokens * stride, "inputs");
        assert!([Some([values; 2]), gates].iter().flatten().flatten().all(|at| at + dim <= stride), "parts");
        assert!(bias.is_none_or(|bias| bias.len() == dim), "bias");
        let mut next = 0;
        for Ring { inputs, rows, .. } in sequences {
            let slots = inputs.len / dim;
            assert!(inputs.len == slots * dim && slots + 1 >= rows.len() + taps && taps > 0, "ring");
            assert_eq!(rows.start, next, "rows of sequences");
            next = rows.end;
        }
        assert_eq!(next, tokens, "a sequence for each token");
        let few = tokens * dim <= FEW;
        let stage = Stage {
            inputs,
            stride,
            values,
            gates,
            kernel,
            bias,
            sequences,
            out: Shared::new(out),
            dim,
            taps,
        };
        if few {
            // SAFETY: no other thread is at work.
            return unsafe { stage.run(&(0..dim)) };
        }
        self.pool.run_with(&mut self.scratch, &|part, _| {
            // SAFETY: each channel belongs to one part.
            unsafe { stage.run(&part.share(dim)) };
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
    sequences: &'a [Ring<'a>],
    out: Shared<'a, f32>,
    dim: usize,
    taps: usize,
}

impl Stage<'_> {
    /// # Safety
    /// No other thread uses these channels.
    unsafe fn run(&self, channels: &Range<usize>) {
        for ring in self.sequences {
            // SAFETY: the caller's contract.
            unsafe { self.run_sequence(ring, channels) };
        }
    }

    /// # Safety
    /// No other thread uses these channels.
    unsafe fn run_sequence(&self, ring: &Ring<'_>, channels: &Range<usize>) {
        let (dim, taps, slots) = (self.dim, self.taps, ring.inputs.len / self.dim);
        let at = |row: usize| row * dim + channels.start..row * dim + channels.end;
        for (token, position) in ring.rows.clone().zip(ring.position..) {
            let input = |start: usize| &self.inputs[token * self.stride + start..][channels.clone()];
            // SAFETY: the channels are ours by contract.
            let (out, newest) = unsafe { (self.out.part(at(token)), ring.inputs.part(at(position % slots))) };
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
                let x = unsafe { ring.inputs.read(at((position + tap + 1 - taps) % slots)) };
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
