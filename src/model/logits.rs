//! Logits as a model gives them.

use crate::kernels::ops::{LOGIT_BLOCK, peak};

/// The logits after one token.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    /// `[vocab]`
    pub values: &'a [f32],
    /// The largest of every 64 values, positive infinity where one is not a number, so that readers who want only large
    /// logits can pass over most blocks.
    pub peaks: &'a [f32],
}

impl<'a> Logits<'a> {
    /// Finds the peaks of `values`.
    pub fn scan(values: &'a [f32], peaks: &'a mut Vec<f32>) -> Logits<'a> {
        peaks.clear();
        peaks.extend(values.chunks(LOGIT_BLOCK).map(peak));
        Logits { values, peaks }
    }

    /// The blocks with their peaks: `(id of the first, peak, values)`.
    pub fn blocks(self) -> impl Iterator<Item = (u32, f32, &'a [f32])> {
        let blocks = self.values.chunks(LOGIT_BLOCK).zip(self.peaks);
        (0u32..).step_by(LOGIT_BLOCK).zip(blocks).map(|(id, (block, peak))| (id, *peak, block))
    }
}

/// The logits after several tokens.
#[derive(Clone, Copy, Debug)]
pub struct LogitRows<'a> {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// `[row][vocab]`
    pub values: &'a [f32],
    /// `[row][block]`, as in [`Logits`].
    pub peaks: &'a [f32],
}

impl<'a> LogitRows<'a> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Cuts off the first `rows`, which must be there.
    pub fn split_at(self, rows: usize) -> (LogitRows<'a>, LogitRows<'a>) {
        let (values, other_values) = self.values.split_at(rows * self.vocab);
        let (peaks, other_peaks) = self.peaks.split_at(rows * logit_blocks(self.vocab));
        let vocab = self.vocab;
        (LogitRows { vocab, values, peaks }, LogitRows { vocab, values: other_values, peaks: other_peaks })
    }

    /// The rows, in order.
    pub fn rows(self) -> impl Iterator<Item = Logits<'a>> {
        let rows = self.values.chunks_exact(self.vocab);
        rows.zip(self.peaks.chunks_exact(logit_blocks(self.vocab)))
            .map(|(values, peaks)| Logits { values, peaks })
    }
}

/// Peaks of `vocab` logits.
pub fn logit_blocks(vocab: usize) -> usize {
    vocab.div_ceil(LOGIT_BLOCK)
}
