//! All tasks, document by document.

use serde::Serialize;

use super::ask::{Asked, Question, text_of};
use super::prompt::{Chat, Prompter};
use super::sample::{Line, sha256};
use super::score::Scorer;
use super::{OutputType, Sample, Task, TaskError};
use crate::eval::batch::Journal;
use crate::files::Fnv;
use crate::generate::{CancelHandle, GenerateError, Session};
use crate::model::{LanguageModel, ModelError};
use crate::text::Prompt;

/// What holds for all documents.
#[derive(Clone, Debug, Default)]
pub struct EvaluationOptions {
    /// Documents of each task at most.
    pub limit: Option<usize>,
    /// Which examples are drawn, and how answers are where they are drawn at random.
    pub seed: u64,
    /// The part of the documents to ask about: those whose place in the task is `shard.0` modulo `shard.1`, if that is
    /// not 0.
    pub shard: (usize, usize),
    /// What the model is told before the description of a task.
    pub system: Option<String>,
    /// Differs between models and what else samples depend on.
    pub key: u64,
}

/// How far an evaluation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EvaluationProgress {
    /// Documents asked about, those of earlier runs included.
    pub done: usize,
    /// Documents that there are in this shard.
    pub of: usize,
    /// Documents of earlier runs.
    pub resumed: usize,
}

/// An evaluation that ended.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// In the order of the run, those of earlier runs included.
    pub samples: Vec<Sample>,
    /// Where it ended.
    pub progress: EvaluationProgress,
    /// Whether it was cancelled.
    pub cancelled: bool,
}

/// An evaluation under way.
pub struct Evaluation<'a, M> {
    /// What answers.
    pub session: &'a mut Session<M>,
    /// What is asked.
    pub tasks: &'a [Task],
    /// How prompts become messages, if they do.
    pub chat: Option<Chat<'a>>,
    /// What holds for all documents.
    pub options: &'a EvaluationOptions,
    /// Stops the evaluation; the document under way gets no line.
    pub cancel: &'a CancelHandle,
}

impl<M: LanguageModel> Evaluation<'_, M> {
    /// Asks about the documents, except those that `output` has lines of; `before` are their samples, in order.
    /// `progress` is told after every document.
    ///
    /// # Errors
    /// If a document cannot be asked about, the model fails, or `output` was begun with other documents or settings or
    /// cannot be written.
    pub fn run(
        &mut self,
        output: &mut Journal,
        before: Vec<Sample>,
        progress: &mut dyn FnMut(EvaluationProgress),
    ) -> Result<Finished, TaskError> {
        self.check_names()?;
        let of = self.tasks.iter().map(|task| self.documents(task) * task.pipelines.len()).sum();
        let wanted =
            self.tasks.iter().map(|task| (0..self.documents(task)).filter(|i| self.is_mine(*i)).count());
        let mut finished = Finished::default();
        finished.progress.of = wanted.sum();
        let (run, mut before, mut first) = (self.run_key(), before.into_iter(), 0);
        for task in self.tasks {
            let mut prompter =
                Prompter::new(task, self.chat, self.options.system.as_deref(), self.options.seed);
            for document in 0..self.documents(task) {
                let examples = prompter.examples(document)?;
                let at = At { task, document, index: first + document * task.pipelines.len(), of, run };
                if !self.is_mine(document) {
                    continue;
                }
                let mut done = 0;
                for pipeline in 0..task.pipelines.len() {
                    if !output.is_done(at.index + pipeline, &at.input())? {
                        break;
                    }
                    finished.samples.extend(before.next());
                    done += 1;
                }
                if done == task.pipelines.len() {
                    finished.progress.resumed += 1;
                } else {
                    let asked = prompter.prompt(document, &examples).and_then(|prompt| {
                        let asked = self.ask(&at, &prompt, prompter.target_delimiter())?;
                        self.write(&at, (&prompt, &asked), done, (&mut *output, &mut finished.samples))
                    });
                    match asked {
                        Err(TaskError::Generate(GenerateError::Model(ModelError::Cancelled))) => {
                            finished.cancelled = true;
                            return Ok(finished);
                        }
                        asked => asked?,
                    }
                }
                finished.progress.done += 1;
                progress(finished.progress);
            }
            first += self.documents(task) * task.pipelines.len();
        }
        output.check_all_used()?;
        Ok(finished)
    }

    fn check_names(&self) -> Result<(), TaskError> {
        for (index, task) in self.tasks.iter().enumerate() {
            if self.tasks[..index].iter().any(|other| other.name == task.name) {
                return Err(TaskError::SameName { task: task.name.clone() });
            }
        }
        Ok(())
    }

    fn documents(&self, task: &Task) -> usize {
        task.len().min(self.options.limit.unwrap_or(usize::MAX))
    }

    fn is_mine(&self, document: usize) -> bool {
        let (part, parts) = self.options.shard;
        parts == 0 || document % parts == part
    }

    /// Differs between runs whose samples may differ; shards do not.
    fn run_key(&self) -> u64 {
        let mut hash = Fnv::default();
        let EvaluationOptions { seed, key, system, .. } = self.options;
        hash.add(&key.to_le_bytes());
        hash.add(&seed.to_le_bytes());
        hash.add(&(self.session.context() as u64).to_le_bytes());
        hash.add(system.as_deref().unwrap_or("\0").as_bytes());
        hash.add(&self.chat.map_or(0, |chat| chat.template.fingerprint()).to_le_bytes());
        for task in self.tasks {
            hash.add(task.name.as_bytes());
            for number in [task.fingerprint, task.examples.count as u64, self.documents(task) as u64] {
                hash.add(&number.to_le_bytes());
            }
        }
        hash.finish()
    }

    /// Asks the model about a document and judges what it says.
    fn ask(&mut self, at: &At<'_>, prompt: &Prompt, delimiter: &str) -> Result<Asked, TaskError> {
        let (task, document) = (at.task, at.document);
        let seed = self.options.seed.wrapping_add(at.index as u64);
        let session = &mut *self.session;
        let scorer = Scorer { session, cancel: self.cancel, task: &task.name, document };
        Question { task, document, prompt, delimiter, seed }.ask(scorer)
    }

    /// Writes the lines of a document from pipeline `done` on and reads them as they will be read later.
    fn write(
        &self,
        at: &At<'_>,
        (prompt, asked): (&Prompt, &Asked),
        done: usize,
        (output, samples): (&mut Journal, &mut Vec<Sample>),
    ) -> Result<(), TaskError> {
        let doc = &at.task.documents[at.document];
        let is_rolling = at.task.output == OutputType::LoglikelihoodRolling;
        let hashed = if is_rolling { text_of(&asked.target) } else { prompt.text.clone() };
        let doc_hash = sha256(&serde_json::to_string_pretty(doc).unwrap_or_default());
        let [prompt_hash, target_hash] = [hashed, text_of(&asked.target)].map(|text| sha256(&text));
        let judged = asked.judged.iter().zip(&at.task.pipelines).enumerate().skip(done);
        for (pipeline, ((filtered, values), filters)) in judged {
            let line = Line {
                index: at.index + pipeline,
                of: at.of,
                input: at.input(),
                run: format!("{:016x}", at.run),
                task: &at.task.name,
                doc_id: at.document,
                doc,
                target: &asked.target,
                arguments: &asked.arguments,
                resps: &asked.responses,
                filtered_resps: filtered.clone(),
                filter: &filters.name,
                metrics: at.task.measures.iter().map(|measure| measure.metric.name).collect(),
                doc_hash: &doc_hash,
                prompt_hash: &prompt_hash,
                target_hash: &target_hash,
                values: values.clone(),
            };
            let text = serde_json::to_string(&line).unwrap_or_default();
            let sample = Sample::parse(&text).map_err(|message| TaskError::Sample {
                file: at.task.name.clone(),
                line: line.index,
                message,
            })?;
            output.write(&line)?;
            samples.push(sample);
        }
        Ok(())
    }
}

/// A document's place in the run.
struct At<'a> {
    task: &'a Task,
    document: usize,
    /// Of its first line.
    index: usize,
    /// Lines of the whole run.
    of: usize,
    run: u64,
}

impl At<'_> {
    /// A hash of all that the document's lines depend on.
    fn input(&self) -> String {
        let mut hash = Fnv::default();
        hash.add(&self.run.to_le_bytes());
        hash.add(serde_json::to_string(&self.task.documents[self.document]).unwrap_or_default().as_bytes());
        format!("{:016x}", hash.finish())
    }
}
