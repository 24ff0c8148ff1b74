//! The scores of a SentencePiece vocabulary.

use std::ops::Range;

/// A score for each token.
///
/// In most vocabularies the scores of nearly all tokens fall by one from each to the next; those need no memory.
pub(super) struct Scores {
    before: Box<[f32]>,
    /// The first score of the tokens that follow, and how many there are.
    first: f32,
    run: usize,
    after: Box<[f32]>,
}

impl Scores {
    /// Heap bytes for these scores.
    pub(super) fn planned_bytes(scores: impl Iterator<Item = f32> + Clone) -> u64 {
        let others = scores.clone().count() - longest_run(scores).0.len();
        (others * size_of::<f32>()) as u64
    }

    pub(super) fn new(scores: impl Iterator<Item = f32> + Clone) -> Scores {
        let (run, first) = longest_run(scores.clone());
        let before = scores.clone().take(run.start).collect();
        Scores { before, first, run: run.len(), after: scores.skip(run.end).collect() }
    }

    /// The score of a token of the vocabulary.
    pub(super) fn get(&self, id: u32) -> f32 {
        let id = id as usize;
        let Some(at) = id.checked_sub(self.before.len()) else { return self.before[id] };
        match at.checked_sub(self.run) {
            None => self.first - at as f32,
            Some(at) => self.after[at],
        }
    }
}

/// A long run of scores in which that at `at` is `first - at`, and its first.
fn longest_run(scores: impl Iterator<Item = f32>) -> (Range<usize>, f32) {
    let (mut longest, mut longest_first) = (0..0, 0.0);
    let (mut start, mut first) = (0, 0.0);
    for (at, score) in scores.enumerate() {
        if at == 0 || score != first - (at - start) as f32 {
            (start, first) = (at, score);
        }
        if at + 1 - start > longest.len() {
            (longest, longest_first) = (start..at + 1, first);
        }
    }
    (longest, longest_first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_file_and_runs_take_no_memory() {
        let run = |first: f32, count: u16| (0..count).map(move |at| first - f32::from(at));
        for (scores, others) in [
            (vec![], 0),
            (vec![-3.5], 0),
            (vec![0.0; 5], 4),
            (run(7.5, 100).collect(), 0),
            ([-1e3; 6].into_iter().chain(run(-0.0, 5000)).chain([-1e3, 4.0]).collect(), 8),
            (run(0.0, 3).chain(run(10.0, 4)).chain(run(5.5, 3)).collect(), 6),
            // Beyond exact integers what is told counts, rounded.
            (vec![-16_777_216.0, -16_777_216.0, -16_777_218.0], 0),
            (vec![1.0, -2.0, 0.25, -1e-40], 3),
        ] {
            let kept = Scores::new(scores.iter().copied());
            assert_eq!(Scores::planned_bytes(scores.iter().copied()), 4 * others, "{scores:?}");
            assert_eq!(4 * (kept.before.len() + kept.after.len()) as u64, 4 * others);
            for (id, score) in (0..).zip(&scores) {
                assert_eq!(kept.get(id), *score, "{id} of {scores:?}");
            }
        }
    }
}
