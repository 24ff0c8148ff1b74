//! From samples to results.

use serde::Serialize;

use super::metrics::{Aggregation, Metric, Sums};
use super::random::PythonRandom;
use super::sample::Sample;

/// Resamples for the standard error of a metric that is no mean, and of BLEU and chrF; those of lm-evaluation-harness with
/// `bootstrap_iters` of this number.
const RESAMPLES: [usize; 2] = [1000, 100];

/// A metric over the documents of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The task's name.
    pub task: String,
    /// The metric's name.
    pub metric: &'static str,
    /// The name of the filters.
    pub filter: String,
    /// The value over all documents.
    pub value: f64,
    /// Its standard error: of a mean, the sample deviation over the root of the number of documents; else the deviation
    /// over resamples. `None` for a single document.
    pub stderr: Option<f64>,
    /// Documents.
    pub documents: usize,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// Samples of one task, filter and metric.
pub(super) struct Group<'s> {
    pub(super) task: &'s str,
    pub(super) filter: &'s str,
    pub(super) metric: &'static Metric,
    pub(super) sums: Vec<Sums>,
}

/// Samples by task, filter and metric, in the order in which these first appear.
pub(super) fn groups(samples: &[Sample]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = vec![];
    for sample in samples {
        for (metric, sums) in &sample.sums {
            let is_same = |group: &&mut Group<'_>| {
                group.task == sample.task && group.filter == sample.filter && group.metric.name == metric.name
            };
            match groups.iter_mut().find(is_same) {
                Some(group) => group.sums.push(*sums),
                None => groups.push(Group {
                    task: &sample.task,
                    filter: &sample.filter,
                    metric,
                    sums: vec![*sums],
                }),
            }
        }
    }
    groups
}

/// Adds up.
pub(super) fn total<'s>(sums: impl Iterator<Item = &'s Sums>) -> Sums {
    let mut total = Sums::default();
    for sums in sums {
        total.iter_mut().zip(sums).for_each(|(total, value)| *total += value);
    }
    total
}

/// The results of samples that are in the order of their run.
pub fn aggregate(samples: &[Sample]) -> Vec<Outcome> {
    let outcome = |group: Group<'_>| Outcome {
        task: group.task.to_owned(),
        metric: group.metric.name,
        filter: group.filter.to_owned(),
        value: group.metric.aggregation.finish(&total(group.sums.iter())),
        stderr: standard_error(group.metric.aggregation, &group.sums),
        documents: group.sums.len(),
        higher_is_better: group.metric.higher_is_better,
    };
    groups(samples).into_iter().map(outcome).collect()
}

fn standard_error(aggregation: Aggregation, sums: &[Sums]) -> Option<f64> {
    let count = sums.len();
    if count < 2 {
        return None;
    }
    if aggregation == Aggregation::Mean {
        let values: Vec<f64> = sums.iter().map(|sums| sums[0]).collect();
        return Some(deviation(&values) / (count as f64).sqrt());
    }
    let mut random = PythonRandom::new(0);
    let is_slow = matches!(aggregation, Aggregation::Bleu | Aggregation::Chrf);
    let resamples = RESAMPLES[usize::from(is_slow)];
    let resample = |_| {
        let drawn: Vec<usize> = (0..count).map(|_| random.choice(count)).collect();
        aggregation.finish(&total(drawn.into_iter().map(|index| &sums[index])))
    };
    Some(deviation(&(0..resamples).map(resample).collect::<Vec<_>>()))
}

/// Sample standard deviation.
fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 1, 0, 1, 1: deviations 0.25, -0.75, 0.25, 0.25, squares 0.75, sqrt(0.75 / 3) / sqrt 4 = 0.25.
    #[test]
    fn the_standard_error_of_a_mean_by_hand() {
        let sums = [1.0, 0.0, 1.0, 1.0].map(|value| {
            let mut sums = Sums::default();
            (sums[0], sums[1]) = (value, 1.0);
            sums
        });
        assert!((standard_error(Aggregation::Mean, &sums).unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(standard_error(Aggregation::Mean, &sums[..1]), None);
    }
}
