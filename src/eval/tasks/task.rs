//! A task, ready to be asked.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::TaskError;
use super::config::{Config, DataFiles, GenerationKwargs, Until};
use super::documents::{self, Document, MAX_FILE_BYTES};
use super::field::{Field, Place};
use super::filters::{Filter, Pipeline};
use super::metrics::Measure;
use crate::files::{Fnv, read_text};

/// Most examples before a document.
pub const MAX_EXAMPLES: usize = 256;
/// Most metrics, filters of a pipeline and pipelines of a task.
const MAX_LIST: usize = 64;
/// Tokens of an answer where a task says nothing.
const DEFAULT_TOKENS: usize = 256;

/// What the model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// Which of several continuations is the most likely.
    MultipleChoice,
    /// How likely one continuation is.
    Loglikelihood,
    /// How likely a whole text is.
    LoglikelihoodRolling,
    /// An answer.
    GenerateUntil,
}

impl OutputType {
    const ALL: [(OutputType, &str); 4] = [
        (OutputType::MultipleChoice, "multiple_choice"),
        (OutputType::Loglikelihood, "loglikelihood"),
        (OutputType::LoglikelihoodRolling, "loglikelihood_rolling"),
        (OutputType::GenerateUntil, "generate_until"),
    ];
}

/// How answers are generated.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    /// Texts that end an answer.
    pub(super) until: Vec<String>,
    /// Tokens of an answer; `None` for the default, or half of the context if that is less.
    pub(super) max_tokens: Option<usize>,
    /// 0 for the most likely token.
    pub(super) temperature: f32,
    pub(super) top_k: usize,
    pub(super) top_p: f32,
}

impl Generation {
    fn new(file: &str, config: Option<&GenerationKwargs>, delimiter: &str) -> Result<Generation, TaskError> {
        let default = GenerationKwargs::default();
        let config = config.unwrap_or(&default);
        let until = match &config.until {
            None => vec![delimiter.to_owned()],
            Some(Until::One(text)) => vec![text.clone()],
            Some(Until::Several(texts)) => texts.clone(),
        };
        let temperature = config.temperature.unwrap_or(0.0);
        let is_drawn = config.do_sample.unwrap_or(temperature > 0.0);
        if is_drawn && temperature == 0.0 && config.temperature.is_some() {
            return Err(TaskError::Key {
                file: file.to_owned(),
                key: "do_sample".to_owned(),
                found: "true at temperature 0".to_owned(),
                expected: "a temperature above 0".to_owned(),
            });
        }
        let drawn = if config.temperature.is_some() { temperature } else { 1.0 };
        Ok(Generation {
            until: until.into_iter().filter(|text| !text.is_empty()).collect(),
            max_tokens: config.max_gen_toks,
            temperature: if is_drawn { drawn } else { 0.0 },
            top_k: config.top_k.unwrap_or(0),
            top_p: config.top_p.unwrap_or(1.0),
        })
    }

    /// Tokens of an answer in a context.
    pub(super) fn tokens(&self, context: usize) -> usize {
        self.max_tokens.unwrap_or(DEFAULT_TOKENS.min(context / 2))
    }
}

/// Which examples precede a document.
#[derive(Debug)]
pub(super) struct Examples {
    pub(super) documents: Vec<Document>,
    /// How many, unless another number is asked for.
    pub(super) count: usize,
    /// The first ones, not ones at random.
    pub(super) first: bool,
    /// They are of the documents that are asked, so that a document must not be its own example.
    pub(super) same_split: bool,
}

/// A task with its documents.
#[derive(Debug)]
pub struct Task {
    /// The name in the results.
    pub name: String,
    /// What is asked.
    pub output: OutputType,
    pub(super) documents: Vec<Document>,
    pub(super) examples: Examples,
    pub(super) text: Option<Field>,
    pub(super) target: Field,
    pub(super) choices: Option<Field>,
    pub(super) description: Option<Field>,
    pub(super) target_delimiter: String,
    pub(super) example_delimiter: String,
    pub(super) measures: Vec<Measure>,
    pub(super) pipelines: Vec<Pipeline>,
    pub(super) generation: Generation,
    /// Differs between task files, documents and examples.
    pub(super) fingerprint: u64,
}

impl Task {
    /// Reads a task: a YAML file, or a JSONL file of documents with `prompt`, `choices` and `answer` (a choice or its
    /// index), with `prompt` and `answer`, or with `text`.
    ///
    /// `examples` replaces the task's own number of examples.
    ///
    /// # Errors
    /// If a file cannot be read, has a key or a value that is not supported, or is over a limit.
    pub fn load(path: &Path, examples: Option<usize>) -> Result<Task, TaskError> {
        let is_jsonl = path.extension().is_some_and(|extension| extension == "jsonl");
        let file = path.display().to_string();
        let (mut config, fingerprint) = if is_jsonl {
            (plain(path)?, 0)
        } else {
            let text = read_text(path, MAX_FILE_BYTES)?;
            let mut hash = Fnv::default();
            hash.add(text.as_bytes());
            (Config::parse(&file, &text)?, hash.finish())
        };
        config.num_fewshot = examples.or(config.num_fewshot);
        let name = config.task.clone().or_else(|| Some(path.file_stem()?.to_string_lossy().into_owned()));
        Loader { file, folder: path.parent().unwrap_or(Path::new("")), config: &config }
            .task(name.unwrap_or_default(), fingerprint)
    }

    /// Documents there are.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are no documents.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    pub(super) fn place(&self, index: usize) -> Place<'_> {
        Place { task: &self.name, index, document: &self.documents[index] }
    }
}

/// The task of documents without a task file, by the fields of the first.
fn plain(path: &Path) -> Result<Config, TaskError> {
    let documents = documents::read(path)?;
    let has = |key: &str| documents[0].contains_key(key);
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let base = Config { dataset_path: file, ..Config::default() };
    if has("prompt") && has("answer") {
        let (output, choices) = if has("choices") {
            ("multiple_choice", json!("choices"))
        } else {
            ("generate_until", Value::Null)
        };
        let (text, target) = (json!("prompt"), json!("answer"));
        let output_type = Some(output.to_owned());
        return Ok(Config {
            output_type,
            doc_to_text: text,
            doc_to_target: target,
            doc_to_choice: choices,
            ..base
        });
    }
    if has("text") {
        let output_type = Some("loglikelihood_rolling".to_owned());
        return Ok(Config { output_type, doc_to_target: json!("text"), ..base });
    }
    Err(TaskError::Key {
        file: path.display().to_string(),
        key: "the fields of its documents".to_owned(),
        found: documents[0].keys().cloned().collect::<Vec<_>>().join(", "),
        expected: "prompt and answer, perhaps choices; or text; else write a task file".to_owned(),
    })
}

/// From a configuration to a task.
struct Loader<'a> {
    file: String,
    folder: &'a Path,
    config: &'a Config,
}

impl Loader<'_> {
    fn key(&self, key: &str, found: impl Into<String>, expected: impl Into<String>) -> TaskError {
        let (found, expected) = (found.into(), expected.into());
        TaskError::Key { file: self.file.clone(), key: key.to_owned(), found, expected }
    }

    fn task(&self, name: String, fingerprint: u64) -> Result<Task, TaskError> {
        let config = self.config;
        let output = self.output()?;
        let split = self.split();
        let documents = self.read(split)?;
        let example = &documents[0];
        let field = |key: &'static str, value: &Value| match value {
            Value::Null => Ok(None),
            value => Field::new(key, value, example).map(Some),
        };
        let required = |key: &str| self.key(key, "missing", "a field's name, a template or a constant");
        let text = field("doc_to_text", &config.doc_to_text)?;
        let target =
            field("doc_to_target", &config.doc_to_target)?.ok_or_else(|| required("doc_to_target"))?;
        let choices = field("doc_to_choice", &config.doc_to_choice)?;
        if text.is_none() && output != OutputType::LoglikelihoodRolling {
            return Err(required("doc_to_text"));
        }
        if choices.is_none() && output == OutputType::MultipleChoice {
            return Err(required("doc_to_choice"));
        }
        let description = config.description.as_ref().filter(|text| !text.is_empty());
        let description =
            description.map(|text| Field::new("description", &json!(text), example)).transpose()?;
        let example_delimiter = config.fewshot_delimiter.clone().unwrap_or("\n\n".to_owned());
        let measures = Measure::all(&self.file, output, config.metric_list.as_deref())?;
        if measures.is_empty() || measures.len() > MAX_LIST {
            let expected = format!("1 to {MAX_LIST} metrics");
            return Err(self.key("metric_list", measures.len().to_string(), expected));
        }
        let examples = self.examples(split)?;
        let mut hash = Fnv::default();
        hash.add(&fingerprint.to_le_bytes());
        for document in documents.iter().chain(&examples.documents) {
            hash.add(serde_json::to_string(document).unwrap_or_default().as_bytes());
        }
        Ok(Task {
            examples,
            target_delimiter: config.target_delimiter.clone().unwrap_or(" ".to_owned()),
            pipelines: self.pipelines(output)?,
            generation: Generation::new(&self.file, config.generation_kwargs.as_ref(), &example_delimiter)?,
            example_delimiter,
            documents,
            name,
            output,
            text,
            target,
            choices,
            description,
            measures,
            fingerprint: hash.finish(),
        })
    }

    fn output(&self) -> Result<OutputType, TaskError> {
        let name = self.config.output_type.as_deref().unwrap_or("generate_until");
        let found = OutputType::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(output, _)| *output).ok_or_else(|| {
            let known = OutputType::ALL.map(|(_, name)| name).join(", ");
            self.key("output_type", name, known)
        })
    }

    /// The split that is asked; none where the documents are in one file.
    fn split(&self) -> Option<&str> {
        self.config.test_split.as_deref().or(self.config.validation_split.as_deref())
    }

    /// The documents of a split.
    fn read(&self, split: Option<&str>) -> Result<Vec<Document>, TaskError> {
        documents::read(&self.path(split)?)
    }

    fn path(&self, split: Option<&str>) -> Result<PathBuf, TaskError> {
        let config = self.config;
        let files = config.dataset_kwargs.as_ref().and_then(|kwargs| kwargs.data_files.as_ref());
        let name = match (config.dataset_path.as_deref(), files) {
            (Some("json"), Some(DataFiles::One(file))) => match split {
                None | Some("train") => file.as_str(),
                Some(split) => {
                    return Err(self.key("the split", split, "train, where data_files is one file"));
                }
            },
            (Some("json"), Some(DataFiles::BySplit(files))) => {
                let split =
                    split.ok_or_else(|| self.key("test_split", "missing", "a split of data_files"))?;
                let file = files.get(split).and_then(Value::as_str);
                file.ok_or_else(|| {
                    self.key("data_files", format!("without {split}"), "a file for each split")
                })?
            }
            (Some("json") | None, _) => {
                return Err(self.key("dataset_kwargs.data_files", "missing", "a file of documents"));
            }
            (Some(file), None) if file.ends_with(".jsonl") => file,
            (Some(path), _) => {
                let expected = "json with dataset_kwargs.data_files, or a JSONL file; nothing is fetched";
                return Err(self.key("dataset_path", path, expected));
            }
        };
        // Beside the task file; else as lm-evaluation-harness does, from the working directory.
        let beside = self.folder.join(name);
        Ok(if beside.exists() || !Path::new(name).exists() { beside } else { PathBuf::from(name) })
    }

    fn examples(&self, split: Option<&str>) -> Result<Examples, TaskError> {
        let config = self.config;
        let fewshot = config.fewshot_config.as_ref();
        let first = match fewshot.and_then(|fewshot| fewshot.sampler.as_deref()) {
            None | Some("default") => false,
            Some("first_n") => true,
            Some(found) => return Err(self.key("fewshot_config.sampler", found, "default, first_n")),
        };
        let count = config.num_fewshot.unwrap_or(0);
        if count > MAX_EXAMPLES {
            return Err(self.key("num_fewshot", count.to_string(), format!("at most {MAX_EXAMPLES}")));
        }
        let own = fewshot.and_then(|fewshot| fewshot.split.as_deref()).or(config.fewshot_split.as_deref());
        let samples = fewshot.and_then(|fewshot| fewshot.samples.as_ref());
        let same_split = own == config.test_split.as_deref();
        let documents = match (own, samples) {
            _ if count == 0 => vec![],
            (None, Some(samples)) => samples.clone(),
            (own, _) => self.read(own.or(config.training_split.as_deref()).or(split))?,
        };
        Ok(Examples { documents, count, first, same_split })
    }

    fn pipelines(&self, output: OutputType) -> Result<Vec<Pipeline>, TaskError> {
        let none = || Pipeline { name: "none".to_owned(), filters: vec![] };
        let Some(configs) = &self.config.filter_list else { return Ok(vec![none()]) };
        if output != OutputType::GenerateUntil {
            return Err(self.key("filter_list", "there", "none, as no text is generated"));
        }
        let longest = configs.iter().map(|config| config.filter.len()).max().unwrap_or(0);
        if configs.is_empty() || configs.len().max(longest) > MAX_LIST {
            return Err(self.key(
                "filter_list",
                configs.len().to_string(),
                format!("1 to {MAX_LIST} filters"),
            ));
        }
        let pipeline = |config: &super::config::PipelineConfig| {
            let filters = config.filter.iter().map(|filter| Filter::new(&self.file, filter));
            let filters = filters.filter_map(Result::transpose).collect::<Result<_, _>>()?;
            Ok(Pipeline { name: config.name.clone(), filters })
        };
        configs.iter().map(pipeline).collect()
    }
}
