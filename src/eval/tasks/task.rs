//! A task, ready to be asked.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::{Config, DataFiles, GenerationKwargs};
use super::documents::{self, Document};
use super::field::{Field, Place};
use super::filters::Pipeline;
use super::metrics::Measure;
use super::yaml::TaskFile;
use super::{OutputType, TaskError};
use crate::files::Fnv;

/// Most examples before a document.
pub const MAX_EXAMPLES: usize = 256;
/// Most metrics, filters of a pipeline and pipelines of a task.
const MAX_LIST: usize = 64;
/// Tokens of an answer where a task says nothing.
const DEFAULT_TOKENS: usize = 256;

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
    fn new(file: &str, config: &GenerationKwargs, delimiter: &str) -> Result<Generation, TaskError> {
        let until = config.until.clone().unwrap_or_else(|| vec![delimiter.to_owned()]);
        let temperature = config.temperature.unwrap_or(0.0);
        let is_drawn = config.do_sample.unwrap_or(temperature > 0.0);
        if is_drawn && temperature == 0.0 && config.temperature.is_some() {
            return Err(TaskError::Key {
                file: file.to_owned(),
                key: "generation_kwargs.do_sample".to_owned(),
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
    /// What every answer begins with.
    pub(super) prefix: Option<Field>,
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
        let mut config = config(path)?;
        config.num_fewshot = examples.or(config.num_fewshot);
        Loader { folder: path.parent().unwrap_or(Path::new("")), config: &config }.task(path)
    }

    /// Checks a task file without its documents: whether there are such, and what they hold, is not looked at.
    ///
    /// # Errors
    /// Why it could not be run, whatever its documents.
    pub fn check_file(path: &Path) -> Result<(), TaskError> {
        let config = config(path)?;
        let loader = Loader { folder: path.parent().unwrap_or(Path::new("")), config: &config };
        loader.parts(&Document::new())?;
        match loader.path(loader.split()) {
            Err(TaskError::Remote { file, path }) => Err(TaskError::Remote { file, path }),
            _ if config.task.is_none() => Err(TaskError::Partial { file: path.display().to_string() }),
            path => path.map(drop),
        }
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

/// Reads a task file; of a JSONL file makes one.
fn config(path: &Path) -> Result<Config, TaskError> {
    match path.extension() {
        Some(extension) if extension == "jsonl" => plain(path),
        _ => Config::new(TaskFile::read(path)?),
    }
}

/// The task of documents without a task file, by the fields of the first.
fn plain(path: &Path) -> Result<Config, TaskError> {
    let documents = documents::read(path)?;
    let has = |key: &str| documents[0].contains_key(key);
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = path.display().to_string();
    let base =
        Config { dataset_path: file, file: TaskFile::of(name, serde_json::Map::new()), ..Config::default() };
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
    folder: &'a Path,
    config: &'a Config,
}

/// What a task file says, without its documents.
struct Parts {
    output: OutputType,
    text: Option<Field>,
    target: Field,
    choices: Option<Field>,
    description: Option<Field>,
    prefix: Option<Field>,
    measures: Vec<Measure>,
    pipelines: Vec<Pipeline>,
    generation: Generation,
}

impl Loader<'_> {
    fn key(&self, key: &str, found: impl Into<String>, expected: impl Into<String>) -> TaskError {
        let (found, expected) = (found.into(), expected.into());
        TaskError::Key { file: self.config.file.place(key), key: key.to_owned(), found, expected }
    }

    /// Reads all but the documents, of which `example` is one.
    fn parts(&self, example: &Document) -> Result<Parts, TaskError> {
        let config = self.config;
        let place = |key| config.file.place(key);
        let output = self.output()?;
        let field = |key: &'static str, value: &Value| match value {
            Value::Null => Ok(None),
            value => Field::new(key, value, example)
                .map(Some)
                .map_err(|error| self.key(key, crate::ask::keys::shown(value), error.to_string())),
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
        let optional = |key: &'static str, text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => field(key, &json!(text)),
        };
        let measures = Measure::all(&place("metric_list"), output, config.metric_list.as_deref())?;
        if measures.is_empty() || measures.len() > MAX_LIST {
            let expected = format!("1 to {MAX_LIST} metrics");
            return Err(self.key("metric_list", measures.len().to_string(), expected));
        }
        let kwargs = &config.generation_kwargs;
        self.sampler()?;
        Ok(Parts {
            output,
            text,
            target,
            choices,
            description: optional("description", &config.description)?,
            prefix: optional("gen_prefix", &config.gen_prefix)?,
            measures,
            pipelines: self.pipelines()?,
            generation: Generation::new(&place("generation_kwargs"), kwargs, self.example_delimiter())?,
        })
    }

    fn task(&self, path: &Path) -> Result<Task, TaskError> {
        let config = self.config;
        // Before the documents, which may be large or missing.
        self.parts(&Document::new())?;
        let split = self.split();
        let documents = self.read(split)?;
        let parts = self.parts(&documents[0])?;
        let examples = self.examples(split)?;
        let name = config.task.clone().or_else(|| Some(path.file_stem()?.to_string_lossy().into_owned()));
        let mut hash = Fnv::default();
        hash.add(&config.file.fingerprint.to_le_bytes());
        for document in documents.iter().chain(&examples.documents) {
            hash.add(serde_json::to_string(document).unwrap_or_default().as_bytes());
        }
        let Parts { output, text, target, choices, description, prefix, measures, pipelines, generation } =
            parts;
        Ok(Task {
            name: name.unwrap_or_default(),
            target_delimiter: config.target_delimiter.clone().unwrap_or(" ".to_owned()),
            example_delimiter: self.example_delimiter().to_owned(),
            fingerprint: hash.finish(),
            output,
            documents,
            examples,
            text,
            target,
            choices,
            description,
            prefix,
            measures,
            pipelines,
            generation,
        })
    }

    fn example_delimiter(&self) -> &str {
        self.config.fewshot_delimiter.as_deref().unwrap_or("\n\n")
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
        let (key, name) = match (config.dataset_path.as_deref(), &config.data_files) {
            (Some("json"), Some(DataFiles::One(file))) => match split {
                None | Some("train") => ("dataset_kwargs", file.as_str()),
                Some(split) => {
                    return Err(self.key("test_split", split, "train, where data_files is one file"));
                }
            },
            (Some("json"), Some(DataFiles::BySplit(files))) => {
                let split =
                    split.ok_or_else(|| self.key("test_split", "missing", "a split of data_files"))?;
                let file = files.get(split).map(|file| match file {
                    Value::Array(files) if files.len() == 1 => &files[0],
                    file => file,
                });
                let file = file.and_then(Value::as_str).ok_or_else(|| {
                    self.key(
                        "dataset_kwargs.data_files",
                        format!("without a file {split}"),
                        "one file for each split",
                    )
                });
                ("dataset_kwargs", file?)
            }
            (Some("json") | None, _) => {
                return Err(self.key("dataset_kwargs.data_files", "missing", "a file of documents"));
            }
            (Some(file), None) if file.ends_with(".jsonl") => ("dataset_path", file),
            (Some(path), _) => {
                return Err(TaskError::Remote {
                    file: config.file.place("dataset_path"),
                    path: path.to_owned(),
                });
            }
        };
        if name.contains("://") {
            return Err(TaskError::Remote { file: config.file.place(key), path: name.to_owned() });
        }
        // Beside the task file, or the one that names it; else as lm-evaluation-harness does, from the working directory.
        let beside = self.folder.join(name);
        let included = config.file.folder(key).map(|folder| folder.join(name));
        let places = [Some(beside.clone()), included, Some(PathBuf::from(name))];
        Ok(places.into_iter().flatten().find(|path| path.exists()).unwrap_or(beside))
    }

    /// Whether the examples are the first ones.
    fn sampler(&self) -> Result<bool, TaskError> {
        match self.config.fewshot_config.as_ref().and_then(|fewshot| fewshot.sampler.as_deref()) {
            None | Some("default") => Ok(false),
            Some("first_n") => Ok(true),
            Some(found) => Err(self.key("fewshot_config.sampler", found, "default, first_n")),
        }
    }

    fn examples(&self, split: Option<&str>) -> Result<Examples, TaskError> {
        let config = self.config;
        let fewshot = config.fewshot_config.as_ref();
        let first = self.sampler()?;
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

    fn pipelines(&self) -> Result<Vec<Pipeline>, TaskError> {
        let none = || Pipeline { name: "none".to_owned(), filters: vec![] };
        let Some(configs) = &self.config.filter_list else { return Ok(vec![none()]) };
        if self.output()? != OutputType::GenerateUntil {
            return Err(self.key("filter_list", "there", "none, as no text is generated"));
        }
        let longest = configs.iter().map(|config| config.filters.len()).max().unwrap_or(0);
        if configs.is_empty() || configs.len().max(longest) > MAX_LIST {
            return Err(self.key(
                "filter_list",
                configs.len().to_string(),
                format!("1 to {MAX_LIST} filters"),
            ));
        }
        let place = self.config.file.place("filter_list");
        configs.iter().map(|config| Pipeline::new(&place, config)).collect()
    }
}
