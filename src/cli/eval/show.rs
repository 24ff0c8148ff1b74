//! Results as a table or JSON.

use std::path::Path;

use serde::Serialize;

use super::page;
use crate::cli::error::CliError;
use crate::cli::output;
use crate::eval::tasks::{Comparison, Excerpt, Outcome, Sample, Verdict, aggregate};
use crate::files::write_whole;

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

    /// To standard output, and to a page if there shall be one.
    pub(super) fn write(&self, json: bool, page: Option<&Path>) -> Result<(), CliError> {
        if let Some(path) = page {
            page::check(path)?;
            write_whole(path, page::page(self).as_bytes())?;
        }
        if json {
            return output::write_json(self);
        }
        let text = if self.comparisons.is_empty() { self.table() } else { self.verdicts() };
        // Names of tasks and filters come from files.
        let lines = text.lines().map(|line| output::printable(line).into_owned() + "\n");
        output::table(&lines.collect::<String>())
    }

    fn table(&self) -> String {
        let head = ["task", "metric", "value", "stderr", "documents"].map(str::to_owned);
        let rows = self.results.iter().map(|result| {
            let stderr = result.stderr.map_or_else(|| "-".to_owned(), number);
            [
                result.task.clone(),
                metric(result.metric, &result.filter),
                number(result.value),
                stderr,
                result.documents.to_string(),
            ]
        });
        columns(std::iter::once(head).chain(rows).collect())
    }

    fn verdicts(&self) -> String {
        let lines: Vec<String> = self.comparisons.iter().map(verdict).collect();
        lines.join("\n") + "\n"
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

/// Columns, the numbers to the right.
fn columns(rows: Vec<[String; 5]>) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| {
            if at < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
