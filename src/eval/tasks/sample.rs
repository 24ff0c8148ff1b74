//! Samples: what the model was asked about a document, what it answered and how that was judged. A line of JSON each, with
//! the keys of lm-evaluation-harness and, before them, the line's place in the run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::documents::Document;
use super::metrics::{Metric, Sums};

/// Characters of a text that a report shows.
const SHOWN_CHARS: usize = 600;

/// A line to be written, after its place and hashes.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    /// Lines of the whole run.
    pub(super) of: usize,
    pub(super) task: &'a str,
    /// Place in the task.
    pub(super) doc_id: usize,
    pub(super) doc: &'a Document,
    pub(super) target: &'a Value,
    pub(super) arguments: &'a Value,
    pub(super) resps: &'a Value,
    pub(super) filtered_resps: Value,
    pub(super) filter: &'a str,
    pub(super) metrics: Vec<&'static str>,
    pub(super) doc_hash: &'a str,
    pub(super) prompt_hash: &'a str,
    pub(super) target_hash: &'a str,
    /// The metrics.
    #[serde(flatten)]
    pub(super) values: Map<String, Value>,
}

/// The line of a document that the model could not be asked about.
#[derive(Serialize)]
pub(super) struct FailureLine<'a> {
    pub(super) of: usize,
    pub(super) task: &'a str,
    pub(super) doc_id: usize,
    pub(super) doc: &'a Document,
    pub(super) filter: &'a str,
    pub(super) doc_hash: &'a str,
    /// Why.
    pub(super) error: &'a str,
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a report shows of a sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Excerpt {
    /// The end of the prompt.
    pub prompt: String,
    /// What was expected.
    pub target: String,
    /// What was answered: a text, or the log-likelihoods of the choices.
    pub answer: String,
    /// The metrics, as numbers.
    pub values: Vec<(&'static str, f64)>,
}

/// A sample, as far as results need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Place in the whole run, from 0.
    pub index: usize,
    /// Samples of the whole run.
    pub of: usize,
    /// Equal for all samples of a run.
    pub run: String,
    /// The task's name.
    pub task: String,
    /// The name of the filters.
    pub filter: String,
    /// Place in the task.
    pub doc_id: usize,
    /// Tells documents apart.
    pub doc_hash: String,
    /// Why the model could not be asked; there are no sums then.
    pub error: Option<String>,
    /// What the document adds to each metric.
    pub sums: Vec<(&'static Metric, Sums)>,
    /// For a report.
    pub excerpt: Excerpt,
}

#[derive(Deserialize)]
struct Read {
    index: usize,
    of: usize,
    run: String,
    task: String,
    doc_id: usize,
    doc_hash: String,
    filter: String,
    error: Option<String>,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default)]
    target: Value,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    filtered_resps: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Sample {
    /// Reads a line.
    ///
    /// # Errors
    /// Why it is no sample.
    pub(super) fn parse(line: &str) -> Result<Sample, String> {
        let read: Read = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if read.index >= read.of {
            return Err(format!("index is {}, of is {}", read.index, read.of));
        }
        if read.error.is_none() && read.metrics.is_empty() {
            return Err("it has neither metrics nor error".to_owned());
        }
        let mut sums = vec![];
        for name in &read.metrics {
            let metric = Metric::named(name).ok_or_else(|| format!("there is no metric {name:?}"))?;
            let value = read.rest.get(name).and_then(|value| metric.sums(value));
            sums.push((metric, value.ok_or_else(|| format!("{name} has no value"))?));
        }
        let prompt = read.arguments.pointer("/0/0").and_then(Value::as_str).unwrap_or_default();
        let values = sums.iter().map(|(metric, sums)| (metric.name, metric.aggregation.finish(sums)));
        let excerpt = Excerpt {
            prompt: tail(prompt),
            target: tail(&plain(&read.target)),
            answer: tail(&plain(&read.filtered_resps)),
            values: values.collect(),
        };
        let Read { index, of, run, task, filter, doc_id, doc_hash, error, .. } = read;
        Ok(Sample { index, of, run, task, filter, doc_id, doc_hash, error, sums, excerpt })
    }
}

/// A text as it is; of one text in a list, that; else JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => match items.as_slice() {
            [Value::String(text)] => text.clone(),
            _ => value.to_string(),
        },
        _ => value.to_string(),
    }
}

fn tail(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(SHOWN_CHARS);
    text.chars().skip(skipped).collect()
}
