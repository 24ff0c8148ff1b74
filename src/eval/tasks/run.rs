//! All tasks, document by document.

use serde::Serialize;

use super::ask::{Asked, Asking, Question, text_of};
use super::prompt::{Chat, Prompter};
use super::sample::{FailureLine, Line, sha256};
use super::score::Scorer;
use super::{OutputType, Sample, Task, TaskError};
use crate::eval::batch::{Counts, Journal, Place};
use crate::eval::ordered::{Answer, Ordered};
use crate::files::Fnv;
use crate::generate::{CancelHandle, GenerateError, Slots};
use crate::model::ModelError;
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
    /// Whether rolling likelihoods begin with one start token that is not scored. Else they begin as
    /// lm-evaluation-harness begins them: where the tokenizer adds a start token, that is scored after another.
    pub rolling_once: bool,
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
    /// Documents that the model could not be asked about.
    pub failed: usize,
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
pub struct Evaluation<'a> {
    /// What answers, about as many documents at once as there are slots.
    pub slots: &'a mut Slots<'static>,
    /// What is asked.
    pub tasks: &'a [Task],
    /// How prompts become messages, if they do.
    pub chat: Option<Chat<'a>>,
    /// What holds for all documents.
    pub options: &'a EvaluationOptions,
    /// Stops the evaluation; the documents under way get no line.
    pub cancel: &'a CancelHandle,
}

/// A document whose lines are to be written.
struct Pending<'t> {
    at: At<'t>,
    step: Step,
}

enum Step {
    /// Its samples are there.
    Keep(Vec<Sample>),
    /// Why it cannot be asked about.
    Fail(TaskError),
    /// It was asked about.
    Ask(Box<(Prompt, Asking)>),
}

impl<'a> Evaluation<'a> {
    /// Asks about the documents, except those that `output` has samples of. `progress` is told after every document. A
    /// document that the model cannot be asked about gets a line with the reason, and is asked about again next time.
    ///
    /// # Errors
    /// If a task has a document that nobody could answer, the model fails, or `output` was begun with other documents
    /// or settings or cannot be written.
    pub fn run(
        &mut self,
        output: &mut Journal,
        progress: &mut dyn FnMut(EvaluationProgress),
    ) -> Result<Finished, TaskError> {
        self.check_names()?;
        let of = self.tasks.iter().map(|task| self.documents(task) * task.pipelines.len()).sum();
        let (mut finished, run) = (Finished::default(), self.run_key());
        finished.progress.of = self.check(output, of, run)?;
        let mut first = 0;
        for task in self.tasks {
            let ended = self.ask_all(task, (first, of, run), output, &mut finished, progress);
            // After an error or a cancellation some are still under way.
            self.slots.abandon();
            ended?;
            if finished.cancelled {
                return Ok(finished);
            }
            first += self.documents(task) * task.pipelines.len();
        }
        output.finish()?;
        Ok(finished)
    }

    /// Asks about the documents of a task, whose first line is `first` of the run.
    fn ask_all(
        &mut self,
        task: &'a Task,
        (first, of, run): (usize, usize, u64),
        output: &mut Journal,
        finished: &mut Finished,
        progress: &mut dyn FnMut(EvaluationProgress),
    ) -> Result<(), TaskError> {
        let mut prompter = Prompter::new(task, self.chat, self.options.system.as_deref(), self.options.seed);
        let mut pending = Ordered::<Pending<'_>>::new();
        let mut documents = 0..self.documents(task);
        loop {
            while !self.cancel.is_cancelled() && pending.has_room(self.slots) {
                let Some(document) = documents.next() else { break };
                let examples = prompter.examples(document)?;
                let at = At { task, document, index: first + document * task.pipelines.len(), of, run };
                if self.is_mine(document) {
                    let prompt = || prompter.prompt(document, &examples);
                    self.begin(at, prompt, prompter.target_delimiter(), output, &mut pending)?;
                }
            }
            while let Some((document, answer)) = pending.pop() {
                self.write(document, answer, prompter.target_delimiter(), output, finished)?;
                if finished.cancelled {
                    return Ok(());
                }
                progress(finished.progress);
            }
            if pending.is_empty() {
                finished.cancelled = self.cancel.is_cancelled() && !documents.is_empty();
                if finished.cancelled || documents.is_empty() {
                    return Ok(());
                }
                continue;
            }
            pending.step(self.slots);
        }
    }

    /// Begins to ask about a document, if `output` has no samples of it.
    fn begin(
        &mut self,
        at: At<'a>,
        prompt: impl Fn() -> Result<Prompt, TaskError>,
        delimiter: &str,
        output: &mut Journal,
        pending: &mut Ordered<Pending<'a>>,
    ) -> Result<(), TaskError> {
        if let Some(samples) = self.kept(&at, output)? {
            pending.push(Pending { at, step: Step::Keep(samples) });
            return Ok(());
        }
        let asked = prompt().and_then(|prompt| {
            let (asking, job) = self.question(&at, &prompt, delimiter).ask(&self.scorer(&at))?;
            Ok((prompt, asking, job))
        });
        match asked {
            Ok((prompt, asking, job)) => {
                let step = Step::Ask(Box::new((prompt, asking)));
                pending.begin(Pending { at, step }, job, self.slots)?;
            }
            Err(error) if error.is_of_document() => pending.push(Pending { at, step: Step::Fail(error) }),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Judges what was said about a document, and writes its lines.
    fn write(
        &self,
        document: Pending<'_>,
        answer: Option<Answer>,
        delimiter: &str,
        output: &mut Journal,
        finished: &mut Finished,
    ) -> Result<(), TaskError> {
        let Pending { at, step } = document;
        let judged = match step {
            Step::Keep(samples) => {
                for pipeline in 0..at.task.pipelines.len() {
                    output.keep(at.place(pipeline), at.input(pipeline))?;
                }
                finished.samples.extend(samples);
                finished.progress.resumed += 1;
                finished.progress.done += 1;
                return Ok(());
            }
            Step::Fail(error) => Err(error),
            Step::Ask(asked) => {
                let (prompt, asking) = *asked;
                let answer = answer.unwrap_or(Err(GenerateError::Model(ModelError::Cancelled)));
                let said = self.scorer(&at).said(answer, asking.measured.as_ref());
                let judged =
                    said.and_then(|said| self.question(&at, &prompt, delimiter).judge(asking, &said));
                judged.map(|judged| (prompt, judged))
            }
        };
        match judged {
            Ok(judged) => write(&at, &judged, (output, &mut finished.samples))?,
            Err(TaskError::Generate(GenerateError::Model(ModelError::Cancelled))) => {
                finished.cancelled = true;
                return Ok(());
            }
            Err(error) if error.is_of_document() => {
                finished.progress.failed += 1;
                write_failure(&at, &error, (output, &mut finished.samples))?;
            }
            Err(error) => return Err(error),
        }
        finished.progress.done += 1;
        Ok(())
    }

    /// Refuses, before anything is asked, documents that nobody could answer and an output of another run. Gives the
    /// number of documents to ask about.
    fn check(&self, output: &Journal, of: usize, run: u64) -> Result<usize, TaskError> {
        output.check_run(run)?;
        let (mut first, mut counts, mut mine) = (0, Counts::default(), 0);
        for task in self.tasks {
            let documents = self.documents(task);
            for document in (0..documents).filter(|document| self.is_mine(*document)) {
                task.check(document)?;
                let at = At { task, document, index: first + document * task.pipelines.len(), of, run };
                (0..task.pipelines.len()).for_each(|pipeline| output.count(at.input(pipeline), &mut counts));
                mine += 1;
            }
            first += documents * task.pipelines.len();
        }
        // A document is never changed within a run.
        output.check_kept(Counts { new: 0, ..counts })?;
        Ok(mine)
    }

    /// The samples of a document that the output has, if it has all.
    fn kept(&self, at: &At<'_>, output: &Journal) -> Result<Option<Vec<Sample>>, TaskError> {
        let records = (0..at.task.pipelines.len()).map(|pipeline| output.answer(at.input(pipeline)));
        let Some(records) = records.collect::<Option<Vec<_>>>() else { return Ok(None) };
        let samples = records.iter().map(|record| at.read(&output.line(record)?));
        samples.collect::<Result<_, TaskError>>().map(Some)
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
        hash.add(&(self.slots.context() as u64).to_le_bytes());
        hash.add(system.as_deref().unwrap_or("\0").as_bytes());
        hash.add(&self.chat.map_or(0, |chat| chat.template.fingerprint()).to_le_bytes());
        if self.options.rolling_once {
            hash.add(b"rolling once");
        }
        for task in self.tasks {
            hash.add(task.name.as_bytes());
            for number in [task.fingerprint, task.examples.count as u64, self.documents(task) as u64] {
                hash.add(&number.to_le_bytes());
            }
        }
        hash.finish()
    }

    fn question<'q>(&self, at: &At<'q>, prompt: &'q Prompt, delimiter: &'q str) -> Question<'q> {
        let seed = self.options.seed.wrapping_add(at.index as u64);
        Question { task: at.task, document: at.document, prompt, delimiter, seed }
    }

    fn scorer<'q>(&'q self, at: &At<'q>) -> Scorer<'q> {
        Scorer {
            tokenizer: self.slots.tokenizer(),
            context: self.slots.context(),
            cancel: self.cancel,
            layout: self.chat.and_then(|chat| chat.layout),
            task: &at.task.name,
            document: at.document,
            rolling_once: self.options.rolling_once,
        }
    }
}

/// Writes the lines of a document and reads them as they will be read later.
fn write(
    at: &At<'_>,
    (prompt, asked): &(Prompt, Asked),
    (output, samples): (&mut Journal, &mut Vec<Sample>),
) -> Result<(), TaskError> {
    let doc = &at.task.documents[at.document];
    let is_rolling = at.task.output == OutputType::LoglikelihoodRolling;
    let hashed = if is_rolling { text_of(&asked.target) } else { prompt.text.clone() };
    let [prompt_hash, target_hash] = [hashed, text_of(&asked.target)].map(|text| sha256(&text));
    for (pipeline, ((filtered, values), filters)) in asked.judged.iter().zip(&at.task.pipelines).enumerate() {
        let line = Line {
            of: at.of,
            task: &at.task.name,
            doc_id: at.document,
            doc,
            target: &asked.target,
            arguments: &asked.arguments,
            resps: &asked.responses,
            filtered_resps: filtered.clone(),
            filter: &filters.name,
            metrics: at.task.measures.iter().map(|measure| measure.metric.name).collect(),
            doc_hash: &at.doc_hash(),
            prompt_hash: &prompt_hash,
            target_hash: &target_hash,
            values: values.clone(),
        };
        let hashes = (at.input(pipeline), at.run);
        samples.push(at.read(&output.write(at.place(pipeline), hashes, &line)?)?);
    }
    Ok(())
}

/// Writes why there is no answer about a document.
fn write_failure(
    at: &At<'_>,
    error: &TaskError,
    (output, samples): (&mut Journal, &mut Vec<Sample>),
) -> Result<(), TaskError> {
    for (pipeline, filters) in at.task.pipelines.iter().enumerate() {
        let line = FailureLine {
            of: at.of,
            task: &at.task.name,
            doc_id: at.document,
            doc: &at.task.documents[at.document],
            filter: &filters.name,
            doc_hash: &at.doc_hash(),
            error: &error.to_string(),
        };
        let hashes = (at.input(pipeline), at.run);
        samples.push(at.read(&output.write(at.place(pipeline), hashes, &line)?)?);
    }
    Ok(())
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
    /// A hash of all that a line of the document depends on.
    fn input(&self, pipeline: usize) -> u64 {
        let mut hash = Fnv::default();
        hash.add(&self.run.to_le_bytes());
        hash.add(serde_json::to_string(&self.task.documents[self.document]).unwrap_or_default().as_bytes());
        hash.add(&(self.index + pipeline).to_le_bytes());
        hash.finish()
    }

    fn place(&self, pipeline: usize) -> Place {
        Place { index: self.index + pipeline, line: None }
    }

    fn doc_hash(&self) -> String {
        sha256(&serde_json::to_string_pretty(&self.task.documents[self.document]).unwrap_or_default())
    }

    /// Reads a line that was written.
    fn read(&self, line: &str) -> Result<Sample, TaskError> {
        Sample::parse(line).map_err(|message| TaskError::Sample {
            file: self.task.name.clone(),
            line: self.index + 1,
            message,
        })
    }
}
