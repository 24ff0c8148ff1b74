//! Biases of single tokens, and penalties of those that were said.

use std::collections::HashMap;

use crate::generate::{FilterError, LogitFilter};

/// Tokens that may have a bias.
pub(crate) const MAX_BIASES: usize = 1024;

/// Changes logits, then lets a rule see them.
pub(super) struct Biased {
    inner: Option<Box<dyn LogitFilter>>,
    biases: Vec<(u32, f32)>,
    /// Taken from a token's logit for every time it was said.
    frequency: f32,
    /// Taken from a token's logit if it was said.
    presence: f32,
    said: HashMap<u32, u32>,
}

impl Biased {
    pub(super) fn new(
        inner: Option<Box<dyn LogitFilter>>,
        biases: &[(u32, f32)],
        frequency: f32,
        presence: f32,
    ) -> Self {
        Self { inner, biases: biases.to_vec(), frequency, presence, said: HashMap::new() }
    }
}

impl LogitFilter for Biased {
    fn start(&mut self, prompt: &[u32]) {
        if let Some(inner) = &mut self.inner {
            inner.start(prompt);
        }
    }

    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        for (id, bias) in &self.biases {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit += bias;
            }
        }
        for (id, times) in &self.said {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit -= self.frequency * *times as f32 + self.presence;
            }
        }
        self.inner.as_mut().map_or(Ok(()), |inner| inner.apply(logits))
    }

    fn settle(&mut self, token: u32, room: usize) -> Result<u32, FilterError> {
        self.inner.as_mut().map_or(Ok(token), |inner| inner.settle(token, room))
    }

    fn accept(&mut self, token: u32) -> Result<(), FilterError> {
        *self.said.entry(token).or_default() += 1;
        self.inner.as_mut().map_or(Ok(()), |inner| inner.accept(token))
    }

    fn is_done(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.is_done())
    }

    fn is_whole(&mut self) -> bool {
        self.inner.as_mut().is_none_or(|inner| inner.is_whole())
    }

    fn is_free(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.is_free())
    }

    fn end_reasoning(&mut self) -> bool {
        self.inner.as_mut().is_some_and(|inner| inner.end_reasoning())
    }

    fn has_part(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.has_part())
    }

    fn least_tokens(&self) -> usize {
        self.inner.as_ref().map_or(0, |inner| inner.least_tokens())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_were_said_lose_by_how_often_and_whether() {
        let mut filter = Biased::new(None, &[(2, 1.5), (9, 1.0)], 0.5, 0.25);
        filter.accept(1).unwrap();
        filter.accept(1).unwrap();
        let mut logits = [0.0, 3.0, 1.0];
        filter.apply(&mut logits).unwrap();
        assert_eq!(logits, [0.0, 3.0 - 1.25, 2.5]);
        assert!(filter.is_whole() && !filter.is_done());
    }
}
