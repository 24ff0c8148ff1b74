//! Two runs over the same documents: whether one is better, and how certain that is.
//!
//! Documents differ more than models do, so differences are taken document by document: the documents are drawn again with
//! replacement many times, each time for both runs alike (paired bootstrap; Efron and Tibshirani 1993). The interval holds
//! the middle 95 % of the differences.

use serde::Serialize;

use super::aggregate::{groups, total};
use super::random::PythonRandom;
use super::{Sample, TaskError};
use crate::eval::stats::quantile;

/// Times that documents are drawn again.
const RESAMPLES: usize = 2000;
const SEED: u64 = 1234;
/// Share of differences below and above the interval.
const TAIL: f64 = 0.025;

/// What can be said of the second run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval is on the better side of 0.
    Better,
    /// The interval is on the worse side of 0.
    Worse,
    /// The interval holds 0: more documents are needed to tell.
    Unclear,
    /// No document differs.
    Same,
}

/// A metric of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The task's name.
    pub task: String,
    /// The metric's name.
    pub metric: &'static str,
    /// The name of the filters.
    pub filter: String,
    /// Of the first and the second run.
    pub values: [f64; 2],
    /// Second minus first.
    pub difference: f64,
    /// The 95 % interval of the difference.
    pub interval: [f64; 2],
    /// Documents.
    pub documents: usize,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// What can be said of the second run.
    pub verdict: Verdict,
}

/// Compares two runs, metric by metric. Documents that one of them could not be asked about are left out of both.
///
/// # Errors
/// If they are not of the same documents, tasks and metrics.
pub fn compare(first: &[Sample], second: &[Sample]) -> Result<Vec<Comparison>, TaskError> {
    let place = |sample: &Sample| {
        let metrics: Vec<&str> = sample.sums.iter().map(|(metric, _)| metric.name).collect();
        (sample.task.clone(), sample.filter.clone(), sample.doc_id, sample.doc_hash.clone(), metrics)
    };
    let (mut both_first, mut both_second) = (vec![], vec![]);
    for (a, b) in first.iter().zip(second).filter(|(a, b)| a.error.is_none() && b.error.is_none()) {
        both_first.push(a.clone());
        both_second.push(b.clone());
    }
    let is_same_length = first.len() == second.len();
    let (first, second) = (both_first.as_slice(), both_second.as_slice());
    if !is_same_length || first.iter().zip(second).any(|(a, b)| place(a) != place(b)) {
        let unpaired = first.iter().zip(second).find(|(a, b)| place(a) != place(b)).map(|(a, _)| a);
        let task = unpaired.or(first.last()).map_or(String::new(), |sample| sample.task.clone());
        return Err(TaskError::NotPaired { task });
    }
    let (first, second) = (groups(first), groups(second));
    Ok(first.iter().zip(&second).map(|(a, b)| pair(a, b)).collect())
}

fn pair(first: &super::aggregate::Group<'_>, second: &super::aggregate::Group<'_>) -> Comparison {
    let (metric, count) = (first.metric, first.sums.len());
    let value = |sums: &[super::Sums], drawn: &mut dyn Iterator<Item = usize>| {
        metric.aggregation.finish(&total(drawn.map(|index| &sums[index])))
    };
    let values = [&first.sums, &second.sums].map(|sums| value(sums, &mut (0..count)));
    let mut random = PythonRandom::new(SEED);
    let mut drawn = vec![0; count];
    let mut differences: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            drawn.iter_mut().for_each(|index| *index = random.choice(count));
            let of = |sums: &[super::Sums]| value(sums, &mut drawn.iter().copied());
            of(&second.sums) - of(&first.sums)
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    let interval = [TAIL, 1.0 - TAIL].map(|share| quantile(&differences, share).unwrap_or(f64::NAN));
    let is_up = interval[0] > 0.0;
    let verdict = if first.sums == second.sums {
        Verdict::Same
    } else if interval[0] <= 0.0 && interval[1] >= 0.0 {
        Verdict::Unclear
    } else if is_up == metric.higher_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    };
    Comparison {
        task: first.task.to_owned(),
        metric: metric.name,
        filter: first.filter.to_owned(),
        values,
        difference: values[1] - values[0],
        interval,
        documents: count,
        higher_is_better: metric.higher_is_better,
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Metric, Sums};
    use super::*;

    fn samples(metric: &str, values: &[f64]) -> Vec<Sample> {
        let metric = Metric::named(metric).unwrap();
        let sample = |(doc_id, value): (usize, &f64)| {
            let mut sums = Sums::default();
            (sums[0], sums[1]) = (*value, 1.0);
            Sample {
                index: doc_id,
                of: values.len(),
                run: String::new(),
                task: "task".to_owned(),
                filter: "none".to_owned(),
                doc_id,
                doc_hash: doc_id.to_string(),
                error: None,
                sums: vec![(metric, sums)],
                excerpt: Default::default(),
            }
        };
        values.iter().enumerate().map(sample).collect()
    }

    fn verdict(metric: &str, first: &[f64], second: &[f64]) -> Comparison {
        compare(&samples(metric, first), &samples(metric, second)).unwrap().remove(0)
    }

    #[test]
    fn verdicts_are_certain_or_withheld() {
        let good = [1.0; 40];
        let mut bad = good;
        bad[..15].fill(0.0);
        let mut slip = good;
        slip[7] = 0.0;
        assert_eq!(verdict("acc", &good, &bad).verdict, Verdict::Worse);
        assert_eq!(verdict("acc", &bad, &good).verdict, Verdict::Better);
        assert_eq!(verdict("acc", &good, &slip).verdict, Verdict::Unclear);
        assert_eq!(verdict("acc", &good, &good).verdict, Verdict::Same);
        // Less perplexity is better, and log-likelihoods are its negative.
        assert_eq!(verdict("perplexity", &bad, &good).verdict, Verdict::Better);
    }

    /// Pairs see what the spread over documents hides: a difference of 0.01 of each where documents differ by 1.
    #[test]
    fn differences_are_taken_document_by_document() {
        let first: Vec<f64> = (0..50).map(|i| f64::from(i % 2)).collect();
        let second: Vec<f64> = first.iter().map(|value| value - 0.01).collect();
        let found = verdict("f1_token", &first, &second);
        assert_eq!(found.verdict, Verdict::Worse);
        assert!((found.difference + 0.01).abs() < 1e-12);
        assert!(found.interval.iter().all(|end| (end + 0.01).abs() < 1e-9), "{:?}", found.interval);
    }

    /// The interval of the mean of 100 differences of deviation 1 is about 1.96 / 10 to either side.
    #[test]
    fn the_interval_is_as_wide_as_theory_says() {
        let zeros = [0.0; 100];
        let ones: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let [low, high] = verdict("f1_token", &zeros, &ones).interval;
        assert!((0.17..0.22).contains(&high) && (-0.22..-0.17).contains(&low), "{low} {high}");
    }

    #[test]
    fn other_documents_are_not_compared() {
        let (mut first, second) = (samples("acc", &[1.0, 0.0]), samples("acc", &[1.0, 0.0]));
        first[1].doc_hash = "other".to_owned();
        assert!(matches!(compare(&first, &second), Err(TaskError::NotPaired { .. })));
        assert!(matches!(compare(&first[..1], &second), Err(TaskError::NotPaired { .. })));
    }
}
