//! Metrics, as lm-evaluation-harness 0.4 defines them.
//!
//! Of every document a metric keeps numbers that can be summed over documents ([`Sums`]); the value over many
//! documents is a function of the sums. So shards, resamples and comparisons need no answers, only sums.
//!
//! | metric | of a document | over documents |
//! |---|---|---|
//! | `acc` | the most likely choice is the right one; for `loglikelihood`, each token is the most likely | mean |
//! | `acc_norm`, `acc_bytes` | as `acc`, by log-likelihood per character or byte of the choice | mean |
//! | `exact_match` | the answer is the target | mean |
//! | `f1_token` | F1 of the words of answer and target (SQuAD, Rajpurkar et al. 2016) | mean |
//! | `bleu` | answer and target | corpus BLEU |
//! | `chrf` | answer and target | corpus chrF |
//! | `perplexity` | log-likelihood of the target | exp of minus the mean |
//! | `word_perplexity`, `byte_perplexity` | log-likelihood, words or bytes | exp of minus the mean by weight |
//! | `bits_per_byte` | log-likelihood, bytes | minus the mean by weight, over ln 2 |

use std::collections::HashMap;

use serde_json::{Value, json};

use super::config::MetricConfig;
use super::filters::Pattern;
use super::{OutputType, TaskError};
use super::{bleu, chrf};

/// What a metric keeps of a document, or of many.
pub type Sums = chrf::Counts;

/// From sums to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Sum and count.
    Mean,
    /// Sum of log-likelihoods and count.
    Perplexity,
    /// Sum of log-likelihoods and of weights.
    WeightedPerplexity,
    /// Sum of log-likelihoods and of bytes.
    BitsPerByte,
    /// As in `bleu`.
    Bleu,
    /// As in `chrf`.
    Chrf,
}

impl Aggregation {
    /// The name in task files.
    fn name(self) -> &'static str {
        match self {
            Aggregation::Mean => "mean",
            Aggregation::Perplexity => "perplexity",
            Aggregation::WeightedPerplexity => "weighted_perplexity",
            Aggregation::BitsPerByte => "bits_per_byte",
            Aggregation::Bleu => "bleu",
            Aggregation::Chrf => "chrf",
        }
    }

    /// The value over the documents that were summed.
    pub fn finish(self, sums: &Sums) -> f64 {
        let mean = sums[0] / sums[1];
        match self {
            Aggregation::Mean => mean,
            Aggregation::Perplexity | Aggregation::WeightedPerplexity => (-mean).exp(),
            Aggregation::BitsPerByte => -mean / std::f64::consts::LN_2,
            Aggregation::Bleu => {
                let mut counts = bleu::Counts::default();
                counts.iter_mut().zip(sums).for_each(|(count, sum)| *count = *sum);
                bleu::score(&counts)
            }
            Aggregation::Chrf => chrf::score(sums),
        }
    }

    /// The sums of a document, from its value in a sample; `None` if that is no such value.
    fn sums(self, value: &Value) -> Option<Sums> {
        let mut sums = Sums::default();
        match self {
            Aggregation::Mean | Aggregation::Perplexity => {
                (sums[0], sums[1]) = (number(value)?, 1.0);
            }
            Aggregation::WeightedPerplexity | Aggregation::BitsPerByte => {
                (sums[0], sums[1]) = (number(value.get(0)?)?, number(value.get(1)?)?);
            }
            Aggregation::Bleu | Aggregation::Chrf => {
                let references = match value.get(0)? {
                    Value::String(reference) => vec![reference.as_str()],
                    list => list.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
                };
                let answer = value.get(1)?.as_str()?;
                if self == Aggregation::Chrf {
                    return Some(chrf::counts(answer, &references));
                }
                let counts = bleu::counts(answer, &references);
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = count);
            }
        }
        Some(sums)
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or(value.as_bool().map(f64::from)).filter(|number| number.is_finite())
}

/// A row of the table of metrics.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// The name in task files and results.
    pub name: &'static str,
    /// From documents to a value.
    pub aggregation: Aggregation,
    /// Whether more is better.
    pub higher_is_better: bool,
    outputs: &'static [OutputType],
    /// Whether it is measured where a task names no metrics.
    is_default: bool,
}

const fn row(
    name: &'static str,
    aggregation: Aggregation,
    outputs: &'static [OutputType],
    is_default: bool,
) -> Metric {
    let higher_is_better = matches!(aggregation, Aggregation::Mean | Aggregation::Bleu | Aggregation::Chrf);
    Metric { name, aggregation, higher_is_better, outputs, is_default }
}

/// All metrics.
pub static METRICS: [Metric; 11] = {
    use OutputType::{GenerateUntil, Loglikelihood, LoglikelihoodRolling, MultipleChoice};
    [
        row("perplexity", Aggregation::Perplexity, &[Loglikelihood], true),
        row("acc", Aggregation::Mean, &[MultipleChoice, Loglikelihood], true),
        row("acc_norm", Aggregation::Mean, &[MultipleChoice], true),
        row("acc_bytes", Aggregation::Mean, &[MultipleChoice], false),
        row("exact_match", Aggregation::Mean, &[GenerateUntil], true),
        row("f1_token", Aggregation::Mean, &[GenerateUntil], false),
        row("bleu", Aggregation::Bleu, &[GenerateUntil], false),
        row("chrf", Aggregation::Chrf, &[GenerateUntil], false),
        row("word_perplexity", Aggregation::WeightedPerplexity, &[LoglikelihoodRolling], true),
        row("byte_perplexity", Aggregation::WeightedPerplexity, &[LoglikelihoodRolling], true),
        row("bits_per_byte", Aggregation::BitsPerByte, &[LoglikelihoodRolling], true),
    ]
};

impl Metric {
    /// The metric of this name.
    pub fn named(name: &str) -> Option<&'static Metric> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// The sums of a document, from its value in a sample; `None` if that is no such value.
    pub fn sums(&self, value: &Value) -> Option<Sums> {
        self.aggregation.sums(value)
    }
}

/// A metric with the options of a task.
#[derive(Debug)]
pub(super) struct Measure {
    pub(super) metric: &'static Metric,
    ignored: Vec<Pattern>,
    case: bool,
    punctuation: bool,
    numbers: bool,
}

impl Measure {
    /// The metrics of a task.
    pub(super) fn all(
        file: &str,
        output: OutputType,
        configs: Option<&[MetricConfig]>,
    ) -> Result<Vec<Measure>, TaskError> {
        let Some(configs) = configs else {
            let defaults = METRICS.iter().filter(|row| row.is_default && row.outputs.contains(&output));
            return Ok(defaults.map(Measure::plain).collect());
        };
        configs.iter().map(|config| Measure::new(file, output, config)).collect()
    }

    fn plain(metric: &'static Metric) -> Measure {
        Measure { metric, ignored: vec![], case: false, punctuation: false, numbers: false }
    }

    fn new(file: &str, output: OutputType, config: &MetricConfig) -> Result<Measure, TaskError> {
        let refuse = |key: &str, found: &str, expected: String| {
            let [file, key, found] = [file, key, found].map(str::to_owned);
            Err(TaskError::Key { file, key, found, expected })
        };
        let rows = || METRICS.iter().filter(|row| row.outputs.contains(&output));
        let Some(metric) = rows().find(|row| row.name == config.metric) else {
            let known: Vec<&str> = rows().map(|row| row.name).collect();
            return refuse("metric", &config.metric, known.join(", "));
        };
        let aggregation = metric.aggregation.name();
        match (&config.aggregation, config.higher_is_better) {
            (Some(found), _) if found != aggregation => {
                refuse(&format!("aggregation of {}", metric.name), found, aggregation.to_owned())
            }
            (_, Some(found)) if found != metric.higher_is_better => {
                let key = format!("higher_is_better of {}", metric.name);
                refuse(&key, &found.to_string(), metric.higher_is_better.to_string())
            }
            _ => {
                let patterns = config.regexes_to_ignore.iter();
                let ignored = patterns.map(|pattern| Pattern::new(file, "regexes_to_ignore", pattern));
                Ok(Measure {
                    ignored: ignored.collect::<Result<_, _>>()?,
                    case: config.ignore_case,
                    punctuation: config.ignore_punctuation,
                    numbers: config.ignore_numbers,
                    metric,
                })
            }
        }
    }

    /// What `exact_match` compares.
    fn plain_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for regex in &self.ignored {
            text = regex.remove(&text);
        }
        if self.case {
            text = text.to_lowercase();
        }
        let is_kept =
            |c: &char| !(self.punctuation && c.is_ascii_punctuation() || self.numbers && c.is_ascii_digit());
        text.chars().filter(is_kept).collect()
    }

    /// The value of an answer for its targets, of which one is enough.
    pub(super) fn answer(&self, answer: &str, targets: &[String]) -> Value {
        match self.metric.name {
            "bleu" | "chrf" => match targets {
                [target] => json!([target, answer]),
                targets => json!([targets, answer]),
            },
            "f1_token" => json!(targets.iter().map(|target| f1(answer, target)).fold(0.0, f64::max)),
            _ => {
                let answer = self.plain_text(answer);
                let is_match = targets.iter().any(|target| self.plain_text(target) == answer);
                json!(f64::from(is_match))
            }
        }
    }
}

/// F1 of words, without case, ASCII punctuation and articles.
fn f1(answer: &str, target: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
        text.split_whitespace().filter(|word| !["a", "an", "the"].contains(word)).map(str::to_owned).collect()
    };
    let (answer, target) = (words(answer), words(target));
    if answer.is_empty() || target.is_empty() {
        return f64::from(answer.is_empty() && target.is_empty());
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    target.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut common = 0;
    for word in &answer {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    2.0 * f64::from(common) / (answer.len() + target.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::yaml::TaskFile;
    use super::*;

    fn config(yaml: &str) -> MetricConfig {
        let task: serde_json::Map<String, Value> =
            serde_saphyr::from_str(&format!("metric_list: [{}]", inline(yaml))).unwrap();
        let config = Config::new(TaskFile::of("task.yaml".to_owned(), task)).unwrap();
        config.metric_list.unwrap().remove(0)
    }

    fn inline(yaml: &str) -> String {
        if yaml.starts_with('{') { yaml.to_owned() } else { format!("{{{yaml}}}") }
    }

    fn measure(yaml: &str) -> Measure {
        Measure::new("task.yaml", OutputType::GenerateUntil, &config(yaml)).unwrap()
    }

    #[test]
    fn exact_match_ignores_what_it_is_told_to() {
        let one = |measure: &Measure, answer: &str, target: &str| {
            measure.answer(answer, &[target.to_owned()]) == json!(1.0)
        };
        let strict = measure("metric: exact_match");
        assert!(one(&strict, "Yes.", "Yes.") && !one(&strict, "yes.", "Yes."));
        let loose = measure("{metric: exact_match, ignore_case: true, ignore_punctuation: true}");
        assert!(one(&loose, "yes!", "Yes.") && !one(&loose, "yes 1", "Yes 2"));
        let numbers = measure("{metric: exact_match, ignore_numbers: true}");
        assert!(one(&numbers, "yes 1", "yes 2"));
        let regexes = measure("{metric: exact_match, regexes_to_ignore: [\",\", \"\\\\$\"]}");
        assert!(one(&regexes, "$1,000", "1000"));
        assert_eq!(strict.answer("b", &["a".to_owned(), "b".to_owned()]), json!(1.0));
    }

    /// Of "red blue" and "blue green lamps" one word is common: 2 * 1 / (2 + 3).
    #[test]
    fn f1_by_hand() {
        assert_eq!(f1("The red, blue!", "blue green lamps"), 0.4);
        assert_eq!(f1("a the", ""), 1.0);
        assert_eq!(f1("lamp", ""), 0.0);
        assert_eq!(f1("b b b", "b"), 0.5);
    }

    #[test]
    fn values_over_documents_by_hand() {
        let sums = |pair: [f64; 2]| {
            let mut sums = Sums::default();
            sums[..2].copy_from_slice(&pair);
            sums
        };
        assert_eq!(Aggregation::Mean.finish(&sums([3.0, 4.0])), 0.75);
        assert!((Aggregation::Perplexity.finish(&sums([-2.0 * 5f64.ln(), 2.0])) - 5.0).abs() < 1e-12);
        assert!((Aggregation::BitsPerByte.finish(&sums([-6.0 * 2f64.ln(), 3.0])) - 2.0).abs() < 1e-12);
        assert_eq!(Metric::named("acc").unwrap().sums(&json!(true)).unwrap()[..2], [1.0, 1.0]);
        assert_eq!(Metric::named("acc").unwrap().sums(&json!("x")), None);
        assert_eq!(Metric::named("bleu").unwrap().sums(&json!(["a b", "a"])).unwrap()[..3], [1.0, 2.0, 1.0]);
    }

    #[test]
    fn metrics_that_do_not_fit_are_refused() {
        for yaml in [
            "metric: acc",
            "metric: ter",
            "{metric: exact_match, aggregation: median}",
            "{metric: exact_match, higher_is_better: false}",
        ] {
            let error = Measure::new("task.yaml", OutputType::GenerateUntil, &config(yaml)).unwrap_err();
            assert!(error.to_string().starts_with("task.yaml: "), "{error}");
        }
    }
}
