//! Results of an evaluation.

use serde::Serialize;

use crate::cli::output;
use crate::eval::tasks::{Comparison, Excerpt, Outcome, Sample, Verdict, aggregate};

/// What was asked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ModelInfo {
    pub(super) name: String,
    pub(super) file: String,
    /// That asking took.
    pub(super) seconds: f64,
}

/// A document of a task, for the page.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) task: String,
    pub(super) filter: String,
    pub(super) doc_id: usize,
    pub(super) excerpt: Excerpt,
}

/// All that there is to say.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) results: Vec<Outcome>,
    /// Of the first of two that are compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) others: Vec<Outcome>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) comparisons: Vec<Comparison>,
    /// Documents that could not be asked about, by filter; results are of the others.
    pub(super) failed: usize,
    /// Why the first of them could not.
    #[serde(skip)]
    pub(super) failure: Option<String>,
    /// Empty for merged shards.
    pub(super) models: Vec<ModelInfo>,
    #[serde(skip)]
    pub(super) documents: Vec<Shown>,
}

impl Report {
    pub(super) fn new(samples: &[Sample], models: Vec<ModelInfo>) -> Report {
        let shown = |sample: &Sample| Shown {
            task: sample.task.clone(),
            filter: sample.filter.clone(),
            doc_id: sample.doc_id,
            excerpt: sample.excerpt.clone(),
        };
        Report {
            results: aggregate(samples),
            others: vec![],
            comparisons: vec![],
            failed: samples.iter().filter(|sample| sample.error.is_some()).count(),
            failure: samples.iter().find_map(|sample| sample.error.clone()),
            models,
            documents: samples.iter().filter(|sample| sample.error.is_none()).map(shown).collect(),
        }
    }

    /// Says how many documents could not be asked about, and why the first.
    pub(super) fn note_failures(&self) {
        match (&self.failure, self.failed) {
            (_, 0) => {}
            (Some(failure), 1) => output::say(&format!("smolt: 1 document is not in the results: {failure}")),
            (failure, count) => {
                let first =
                    failure.as_deref().map(|first| format!("; the first: {first}")).unwrap_or_default();
                output::say(&format!("smolt: {count} documents are not in the results{first}"));
            }
        }
    }
}

/// Four digits behind the point, or as many as tell something.
pub(super) fn number(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.1}") } else { format!("{value:.4}") }
}

/// A metric with its filters, as lm-evaluation-harness names them together.
pub(super) fn metric(name: &str, filter: &str) -> String {
    if filter == "none" { name.to_owned() } else { format!("{name},{filter}") }
}

/// What a comparison says, in words.
pub(super) fn verdict(found: &Comparison) -> String {
    let [a, b] = found.values.map(number);
    let [low, high] = found.interval.map(signed);
    let name = metric(found.metric, &found.filter);
    let says = match found.verdict {
        Verdict::Better => "the second is better",
        Verdict::Worse => "the second is worse",
        Verdict::Unclear => "no difference shown; more documents may show one",
        Verdict::Same => "equal on every document",
    };
    let difference = signed(found.difference);
    format!(
        "{} {name}: {a} -> {b}, {difference} (95 % interval {low} to {high}, {} documents): {says}",
        found.task, found.documents
    )
}

fn signed(value: f64) -> String {
    format!("{}{}", if value < 0.0 { "" } else { "+" }, number(value))
}
