//! What `--min` and `--max` ask for.

use std::str::FromStr;

use crate::cli::error::CliError;
use crate::eval::tasks::Outcome;

/// A limit of a metric, perhaps of one task or filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    task: Option<String>,
    metric: String,
    filter: Option<String>,
    value: f64,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Bound, String> {
        let wrong = || "expected METRIC=VALUE, e.g. acc=0.9 or task/acc=0.9".to_owned();
        let (name, value) = text.rsplit_once('=').ok_or_else(wrong)?;
        let value: f64 = value.parse().map_err(|_| wrong())?;
        let (task, name) = name.rsplit_once('/').map_or((None, name), |(task, name)| (Some(task), name));
        let (metric, filter) =
            name.split_once(',').map_or((name, None), |(name, filter)| (name, Some(filter)));
        if metric.is_empty() || !value.is_finite() {
            return Err(wrong());
        }
        let [task, filter] = [task, filter].map(|part| part.map(str::to_owned));
        Ok(Bound { task, metric: metric.to_owned(), filter, value })
    }
}

impl Bound {
    /// Says of each result that is below, or above, that it is.
    ///
    /// # Errors
    /// If no result is meant.
    pub(super) fn misses(&self, results: &[Outcome], is_min: bool) -> Result<Vec<String>, CliError> {
        let is_meant = |result: &&Outcome| {
            self.metric == result.metric
                && self.task.as_ref().is_none_or(|task| *task == result.task)
                && self.filter.as_ref().is_none_or(|filter| *filter == result.filter)
        };
        let meant: Vec<&Outcome> = results.iter().filter(is_meant).collect();
        if meant.is_empty() {
            let known = results.iter().map(|result| format!("{}/{}", result.task, result.metric));
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(CliError::NoMetric { found: self.metric.clone(), known });
        }
        let is_missed = |result: &&Outcome| {
            if is_min { result.value < self.value } else { result.value > self.value }
        };
        let side = if is_min { "below" } else { "above" };
        let say = |result: &Outcome| {
            format!("{} of {} is {:.4}, {side} {}", result.metric, result.task, result.value, self.value)
        };
        Ok(meant.into_iter().filter(is_missed).map(say).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(task: &str, filter: &str, value: f64) -> Outcome {
        Outcome {
            task: task.to_owned(),
            metric: "acc",
            filter: filter.to_owned(),
            value,
            stderr: None,
            documents: 10,
            higher_is_better: true,
        }
    }

    #[test]
    fn a_bound_means_what_it_names() {
        let results = [outcome("a", "none", 0.5), outcome("b", "none", 0.8), outcome("b", "x", 0.7)];
        let misses = |text: &str| text.parse::<Bound>().unwrap().misses(&results, true).unwrap().len();
        assert_eq!(
            ["acc=0.6", "acc=0.5", "b/acc=0.75", "acc,x=0.75", "b/acc,none=0.8"].map(misses),
            [1, 0, 1, 1, 0]
        );
        let above = "acc=0.6".parse::<Bound>().unwrap().misses(&results, false).unwrap();
        assert_eq!(above, ["acc of b is 0.8000, above 0.6", "acc of b is 0.7000, above 0.6"]);
        assert!("bleu=1".parse::<Bound>().unwrap().misses(&results, true).is_err());
        for text in ["acc", "=1", "acc=x", "acc=nan"] {
            assert!(text.parse::<Bound>().is_err(), "{text}");
        }
    }
}
