//! Short causal convolutions between two gates.

use super::{Executor, Shared};
use std::ops::Range;

/// A convolution over the last positions, channel by channel: with `bx = before * value` at each position,
/// `behind * sum(kernel[tap] * bx)`, the last tap for the token itself (LFM2: arXiv 2511.23404).
#[derive(Debug)]
pub struct Convolution<'a> {
    /// `[token][before, behind, value][dim]`
    pub inputs: &'a [f32],
    /// `[channel][tap]`
    pub kernel: &'a [f32],
    /// `bx` of the latest positions, `[position % slots][dim]`, with at least as many slots as there are tokens
    /// and positions that the first of them sees. That of the tokens is written.
    pub ring: &'a mut [f32],
    /// Values per token.
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
        let Convolution { inputs, kernel, ref mut ring, dim, position, ref mut out } = *convolution;
        let (tokens, taps, slots) = (out.len() / dim, kernel.len() / dim, ring.len() / dim);
        assert_eq!(out.len(), tokens * dim, "output");
        assert_eq!((inputs.len(), kernel.len()), (3 * out.len(), taps * dim), "inputs and kernel");
        assert!(ring.len() == slots * dim && slots + 1 >= tokens + taps && taps > 0, "ring");
        let stage = Stage {
            inputs,
            kernel,
            ring: Shared::new(ring),
            out: Shared::new(out),
            shape: [dim, tokens, taps, slots],
            position,
        };
        if tokens * dim <= FEW {
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
    kernel: &'a [f32],
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
        for token in 0..tokens {
            let position = self.position + token;
            let row = |part: usize| &self.inputs[(3 * token + part) * dim..][channels.clone()];
            let at = |row: usize| row * dim + channels.start..row * dim + channels.end;
            // SAFETY: the channels are ours by contract.
            let (out, newest) = unsafe { (self.out.part(at(token)), self.ring.part(at(position % slots))) };
            for ((bx, before), value) in newest.iter_mut().zip(row(0)).zip(row(2)) {
                *bx = before * value;
            }
            out.fill(0.0);
            for tap in (taps - 1).saturating_sub(position)..taps {
                // SAFETY: as above; `newest` is not used any more.
                let bx = unsafe { self.ring.read(at((position + tap + 1 - taps) % slots)) };
                let weights = self.kernel[channels.start * taps..channels.end * taps].chunks_exact(taps);
                for ((out, bx), weights) in out.iter_mut().zip(bx).zip(weights) {
                    *out += weights[tap] * bx;
                }
            }
            for (out, behind) in out.iter_mut().zip(row(1)) {
                *out *= behind;
            }
        }
    }
}
