//! One document: what the model is asked about it, as a job, and how what it says is judged.

use serde_json::{Map, Value, json};

use super::filters::Pipeline;
use super::score::{Likelihood, Measured, Said, Scorer};
use super::{OutputType, Task, TaskError};
use crate::ask::keys::shown;
use crate::generate::Job;
use crate::text::Prompt;

/// What a model said about a document.
pub(super) struct Asked {
    pub(super) target: Value,
    /// `[request][text]`
    pub(super) arguments: Value,
    /// `[request][answer]`
    pub(super) responses: Value,
    /// What is judged, and the metrics, by pipeline.
    pub(super) judged: Vec<(Value, Map<String, Value>)>,
}

/// A document with its prompt.
pub(super) struct Question<'a> {
    pub(super) task: &'a Task,
    pub(super) document: usize,
    pub(super) prompt: &'a Prompt,
    /// What stands between the prompt and a choice.
    pub(super) delimiter: &'a str,
    /// Of answers that are drawn at random.
    pub(super) seed: u64,
}

/// A question that was asked.
pub(super) struct Asking {
    target: Value,
    /// Texts whose likelihoods are asked for, where it is not the target's.
    texts: Vec<String>,
    /// Where likelihoods are written.
    pub(super) measured: Option<Measured>,
}

impl Task {
    /// Refuses a document whose right answer nobody could give, or whose texts cannot be made.
    pub(super) fn check(&self, document: usize) -> Result<(), TaskError> {
        let place = self.place(document);
        self.text.as_ref().map(|text| text.text(place)).transpose()?;
        let target = self.target.target(place, self.choices.is_some())?;
        let Some(choices) = &self.choices else { return Ok(()) };
        let choices = choices.choices(place)?;
        let possible = |target: &Value| match target {
            // A filter may make an answer of another text.
            Value::String(text) => self.output != OutputType::MultipleChoice || choices.contains(text),
            target => target.as_u64().is_some_and(|index| index < choices.len() as u64),
        };
        let is_possible = match &target {
            Value::Array(targets) => !targets.is_empty() && targets.iter().all(possible),
            target => possible(target),
        };
        if is_possible {
            return Ok(());
        }
        let (task, found, choices) = (self.name.clone(), shown(&target), choices.len());
        Err(TaskError::Gold { task, document, found, choices })
    }
}

impl Question<'_> {
    /// The job that answers the question.
    pub(super) fn ask(&self, scorer: &Scorer<'_>) -> Result<(Asking, Job<'static>), TaskError> {
        let task = self.task;
        let target = task.target.target(task.place(self.document), task.choices.is_some())?;
        let mut texts = vec![];
        let predicted = match task.output {
            OutputType::MultipleChoice => {
                texts.extend(self.choices()?.iter().map(|choice| format!("{}{choice}", self.delimiter)));
                let continuations = texts.iter().map(|text| scorer.continuation(self.prompt, text));
                continuations.collect::<Result<_, _>>()?
            }
            OutputType::Loglikelihood => vec![scorer.continuation(self.prompt, &text_of(&target))?],
            OutputType::LoglikelihoodRolling => scorer.rolling(&text_of(&target))?,
            OutputType::GenerateUntil => {
                let job = scorer.generate(self.prompt, &task.generation, self.seed)?;
                return Ok((Asking { target, texts, measured: None }, job));
            }
        };
        let (job, measured) = scorer.measure(predicted);
        Ok((Asking { target, texts, measured: Some(measured) }, job))
    }

    /// Judges what the model said.
    pub(super) fn judge(&self, asking: Asking, said: &Said) -> Result<Asked, TaskError> {
        let Asking { target, texts, .. } = asking;
        match (self.task.output, said) {
            (OutputType::MultipleChoice, Said::Likelihoods(found)) => {
                self.judge_choice(target, &texts, found)
            }
            (OutputType::Loglikelihood, Said::Likelihoods(found)) => {
                Ok(self.judge_continuation(target, found.first().copied().unwrap_or_default()))
            }
            (_, Said::Likelihoods(found)) => {
                Ok(self.judge_whole(target, found.iter().map(|found| found.sum).sum()))
            }
            (_, Said::Answer(answer)) => self.judge_answer(target, answer),
        }
    }

    fn choices(&self) -> Result<Vec<String>, TaskError> {
        let place = self.task.place(self.document);
        self.task.choices.as_ref().map_or(Ok(vec![]), |field| field.choices(place))
    }

    fn judge_choice(
        &self,
        target: Value,
        texts: &[String],
        found: &[Likelihood],
    ) -> Result<Asked, TaskError> {
        let found: Vec<(f64, bool)> = found.iter().map(|found| (found.sum, found.greedy)).collect();
        let values = judge_choices(self.task, &self.choices()?, &found, &target);
        Ok(Asked {
            target,
            arguments: texts.iter().map(|text| json!([self.prompt.text, text])).collect(),
            responses: found.iter().map(|found| json!([found])).collect(),
            judged: vec![(json!(found), values)],
        })
    }

    fn judge_continuation(&self, target: Value, found: Likelihood) -> Asked {
        let text = text_of(&target);
        let values = measured(self.task, |name| match name {
            "perplexity" => json!(found.sum),
            _ => json!(u8::from(found.greedy)),
        });
        let pair = json!([found.sum, found.greedy]);
        Asked {
            target,
            arguments: json!([[self.prompt.text, text]]),
            responses: json!([[pair]]),
            judged: vec![(json!([pair]), values)],
        }
    }

    fn judge_whole(&self, target: Value, sum: f64) -> Asked {
        let text = text_of(&target);
        let values = measured(self.task, |name| match name {
            "word_perplexity" => json!([sum, words(&text)]),
            _ => json!([sum, text.len()]),
        });
        Asked {
            target,
            arguments: json!([[text]]),
            responses: json!([[sum]]),
            judged: vec![(json!([sum]), values)],
        }
    }

    fn judge_answer(&self, target: Value, answer: &str) -> Result<Asked, TaskError> {
        let task = self.task;
        let targets = self.targets(&target)?;
        let place = task.place(self.document);
        let judge = |pipeline: &Pipeline| {
            let filtered = pipeline.apply(answer, place.document).map_err(|message| TaskError::Field {
                task: task.name.clone(),
                key: "filter_list",
                document: self.document,
                message,
            })?;
            let values = task
                .measures
                .iter()
                .map(|measure| (measure.metric.name.to_owned(), measure.answer(&filtered, &targets)));
            Ok((json!([filtered]), values.collect()))
        };
        let judged = task.pipelines.iter().map(judge).collect::<Result<_, TaskError>>()?;
        let until = json!({"until": task.generation.until, "temperature": task.generation.temperature});
        let arguments = json!([[self.prompt.text, until]]);
        Ok(Asked { target, arguments, responses: json!([[answer]]), judged })
    }

    /// The texts that are right.
    fn targets(&self, target: &Value) -> Result<Vec<String>, TaskError> {
        if self.task.choices.is_some() {
            let index = target.as_u64().and_then(|index| usize::try_from(index).ok());
            let choices = self.choices()?;
            return Ok(index.and_then(|index| choices.get(index).cloned()).into_iter().collect());
        }
        match target {
            Value::Array(targets) => Ok(targets.iter().map(text_of).collect()),
            target => Ok(vec![text_of(target)]),
        }
    }
}

/// The metrics of a task by name.
fn measured(task: &Task, value: impl Fn(&str) -> Value) -> Map<String, Value> {
    let names = task.measures.iter().map(|measure| measure.metric.name);
    names.map(|name| (name.to_owned(), value(name))).collect()
}

/// Whether the most likely choice is a right one, by each metric. Of equals the first counts.
fn judge_choices(
    task: &Task,
    choices: &[String],
    found: &[(f64, bool)],
    target: &Value,
) -> Map<String, Value> {
    let index = |value: &Value| match value {
        Value::String(text) => choices.iter().position(|choice| choice == text),
        value => value.as_u64().and_then(|index| usize::try_from(index).ok()),
    };
    let right: Vec<usize> = match target {
        Value::Array(targets) => targets.iter().filter_map(index).collect(),
        target => index(target).into_iter().collect(),
    };
    measured(task, |name| {
        let length = |choice: &String| match name {
            "acc_norm" => choice.chars().count() as f64,
            "acc_bytes" => choice.len() as f64,
            _ => 1.0,
        };
        let scores = found.iter().zip(choices).map(|((sum, _), choice)| sum / length(choice));
        let best = scores.enumerate().fold((0, f64::NEG_INFINITY), |best, (index, score)| {
            if score > best.1 { (index, score) } else { best }
        });
        json!(f64::from(right.contains(&best.0)))
    })
}

/// A target as text.
pub(super) fn text_of(target: &Value) -> String {
    target.as_str().map_or_else(|| target.to_string(), str::to_owned)
}

/// Parts between white space, those at the ends included, as Python's `re.split` counts them.
fn words(text: &str) -> usize {
    let mut words = 1;
    let mut was_space = false;
    for c in text.chars() {
        let is_space = c.is_whitespace();
        words += usize::from(is_space && !was_space);
        was_space = is_space;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_python_splits() {
        for (text, count) in [("", 1), ("a", 1), ("a b", 2), (" a\n\nb ", 4), ("  ", 2)] {
            assert_eq!(words(text), count, "{text:?}");
        }
    }
}
