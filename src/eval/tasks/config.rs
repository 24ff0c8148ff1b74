//! Task files: the part of lm-evaluation-harness' YAML that needs no Python. What is not here is refused, not ignored.

use serde_json::{Map, Value};

use super::TaskError;
use super::yaml::{FUNCTION, TaskFile};
use crate::ask::keys::{Field, KeyError, Keys};

/// Keys that change neither what is asked nor how it is judged.
const NOT_USED: [&str; 8] = [
    "tag",
    "task_alias",
    "group_alias",
    "metadata",
    "dataset_name",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "recipe",
];

/// Keys of which only one value can be had.
const FIXED: [(&str, &str); 5] = [
    ("doc_to_image", "nothing: the model sees no pictures"),
    ("doc_to_audio", "nothing: the model hears nothing"),
    ("use_prompt", "nothing: prompts of other collections are not read"),
    ("custom_dataset", "nothing: documents are read from files"),
    ("unsafe_code", "false: code is not run"),
];

/// A task as it is written. Keys and meanings are those of lm-evaluation-harness 0.4.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) file: TaskFile,
    pub(super) task: Option<String>,
    /// `json`, or a file of documents.
    pub(super) dataset_path: Option<String>,
    pub(super) data_files: Option<DataFiles>,
    pub(super) training_split: Option<String>,
    pub(super) validation_split: Option<String>,
    pub(super) test_split: Option<String>,
    pub(super) fewshot_split: Option<String>,
    pub(super) doc_to_text: Value,
    pub(super) doc_to_target: Value,
    pub(super) doc_to_choice: Value,
    pub(super) gen_prefix: Option<String>,
    pub(super) description: Option<String>,
    pub(super) target_delimiter: Option<String>,
    pub(super) fewshot_delimiter: Option<String>,
    pub(super) fewshot_config: Option<FewshotConfig>,
    pub(super) num_fewshot: Option<usize>,
    pub(super) output_type: Option<String>,
    pub(super) metric_list: Option<Vec<MetricConfig>>,
    pub(super) generation_kwargs: GenerationKwargs,
    pub(super) filter_list: Option<Vec<PipelineConfig>>,
}

/// A file, which is the split `train`, or a file by split.
#[derive(Debug)]
pub(super) enum DataFiles {
    One(String),
    BySplit(Map<String, Value>),
}

/// Which examples precede a document.
#[derive(Debug, Default)]
pub(super) struct FewshotConfig {
    /// `default` (at random) or `first_n`.
    pub(super) sampler: Option<String>,
    pub(super) split: Option<String>,
    /// Examples in place of a split.
    pub(super) samples: Option<Vec<Map<String, Value>>>,
}

/// A metric and its options.
#[derive(Debug, Default)]
pub(super) struct MetricConfig {
    pub(super) metric: String,
    pub(super) aggregation: Option<String>,
    pub(super) higher_is_better: Option<bool>,
    pub(super) ignore_case: bool,
    pub(super) ignore_punctuation: bool,
    pub(super) ignore_numbers: bool,
    pub(super) regexes_to_ignore: Vec<String>,
}

/// How answers are generated.
#[derive(Debug, Default)]
pub(super) struct GenerationKwargs {
    pub(super) until: Option<Vec<String>>,
    pub(super) max_gen_toks: Option<usize>,
    pub(super) do_sample: Option<bool>,
    pub(super) temperature: Option<f32>,
    pub(super) top_k: Option<usize>,
    pub(super) top_p: Option<f32>,
}

/// Filters that an answer passes through, with their name in the results.
#[derive(Debug)]
pub(super) struct PipelineConfig {
    pub(super) name: String,
    pub(super) filters: Vec<FilterConfig>,
}

/// A filter and its options.
#[derive(Debug)]
pub(super) enum FilterConfig {
    Regex(PatternConfig),
    MultiChoiceRegex {
        pattern: PatternConfig,
        ignore_case: bool,
        ignore_punctuation: bool,
        ignored: Vec<String>,
    },
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map {
        mapping_dict: Map<String, Value>,
        default_value: Value,
    },
    TakeFirst,
}

/// What is looked for in an answer.
#[derive(Debug)]
pub(super) struct PatternConfig {
    pub(super) pattern: String,
    pub(super) select: i64,
    pub(super) fallback: String,
}

impl Config {
    /// Reads the keys of a task file.
    pub(super) fn new(mut file: TaskFile) -> Result<Config, TaskError> {
        let mut keys = Keys::new(std::mem::take(&mut file.keys));
        let read = refuse_group(&mut keys, &file).and_then(|()| {
            refuse_functions(&keys, &file)?;
            read(&mut keys).map_err(|error| TaskError::Keys { file: file.place(error.key()), error })
        });
        let config = read?;
        keys.finish(&[]).map_err(|error| TaskError::Keys { file: file.place(error.key()), error })?;
        Ok(Config { file, ..config })
    }
}

/// Refuses a file that names tasks, or is only to be included.
fn refuse_group(keys: &mut Keys, file: &TaskFile) -> Result<(), TaskError> {
    if keys.get("group").is_none() && !keys.get("task").is_some_and(Value::is_array) {
        return Ok(());
    }
    let name = |task: &Value| match task {
        Value::String(name) => Some(name.clone()),
        task => task.get("task").and_then(Value::as_str).map(str::to_owned),
    };
    let tasks = keys.get("task").and_then(Value::as_array).into_iter().flatten().filter_map(name);
    Err(TaskError::Group { file: file.place("group"), tasks: tasks.collect() })
}

/// Refuses functions of Python in keys that are used.
fn refuse_functions(keys: &Keys, file: &TaskFile) -> Result<(), TaskError> {
    let used = keys.iter().filter(|(key, _)| !NOT_USED.contains(&key.as_str()));
    for (key, value) in used {
        if key == "class" {
            let function = crate::ask::keys::shown(value);
            return Err(TaskError::Python { file: file.place(key), key: key.clone(), function });
        }
        if let Some((path, function)) = function(key.clone(), value) {
            return Err(TaskError::Python { file: file.place(key), key: path, function });
        }
    }
    Ok(())
}

/// The first function in a value, with its place.
fn function(path: String, value: &Value) -> Option<(String, String)> {
    match value {
        Value::String(text) => text.strip_prefix(FUNCTION).map(|name| (path, name.to_owned())),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(at, item)| function(format!("{path}[{at}]"), item))
        }
        Value::Object(map) => map.iter().find_map(|(key, item)| function(format!("{path}.{key}"), item)),
        _ => None,
    }
}

fn read(keys: &mut Keys) -> Result<Config, KeyError> {
    NOT_USED.iter().for_each(|key| drop(keys.take(key)));
    for (key, expected) in FIXED {
        if let Some(field) = keys.take(key).filter(|field| field.value != false) {
            return Err(field.expected(expected));
        }
    }
    if let Some(repeats) = keys.take("repeats").filter(|repeats| repeats.value != 1) {
        return Err(repeats.expected("1"));
    }
    let data_files = match keys.take("dataset_kwargs") {
        Some(kwargs) => data_files(kwargs)?,
        None => None,
    };
    for key in ["process_docs", "process_results"] {
        if let Some(field) = keys.take(key) {
            return Err(field.expected("nothing: functions of Python are not run"));
        }
    }
    let metrics = keys.take("metric_list").map(|field| list_of(field, metric));
    let pipelines = keys.take("filter_list").map(|field| list_of(field, pipeline));
    Ok(Config {
        file: TaskFile::default(),
        task: text(keys, "task")?,
        dataset_path: text(keys, "dataset_path")?,
        data_files,
        training_split: text(keys, "training_split")?,
        validation_split: text(keys, "validation_split")?,
        test_split: text(keys, "test_split")?,
        fewshot_split: text(keys, "fewshot_split")?,
        doc_to_text: value(keys, "doc_to_text"),
        doc_to_target: value(keys, "doc_to_target"),
        doc_to_choice: value(keys, "doc_to_choice"),
        gen_prefix: text(keys, "gen_prefix")?,
        description: text(keys, "description")?,
        target_delimiter: text(keys, "target_delimiter")?,
        fewshot_delimiter: text(keys, "fewshot_delimiter")?,
        fewshot_config: keys.take("fewshot_config").map(fewshot).transpose()?,
        num_fewshot: keys.take("num_fewshot").map(Field::count).transpose()?,
        output_type: text(keys, "output_type")?,
        metric_list: metrics.transpose()?,
        generation_kwargs: keys.take("generation_kwargs").map(generation).transpose()?.unwrap_or_default(),
        filter_list: pipelines.transpose()?,
    })
}

fn text(keys: &mut Keys, key: &'static str) -> Result<Option<String>, KeyError> {
    keys.take(key).map(Field::text).transpose()
}

fn value(keys: &mut Keys, key: &'static str) -> Value {
    keys.take(key).map_or(Value::Null, |field| field.value)
}

fn list_of<T>(field: Field, read: impl Fn(Field) -> Result<T, KeyError>) -> Result<Vec<T>, KeyError> {
    field.list("a list")?.into_iter().map(read).collect()
}

fn data_files(kwargs: Field) -> Result<Option<DataFiles>, KeyError> {
    let mut keys = kwargs.object("an object such as {data_files: {test: documents.jsonl}}")?;
    for key in ["trust_remote_code", "revision", "cache_dir", "token", "verification_mode"] {
        drop(keys.take(key));
    }
    let Some(files) = keys.take("data_files") else { return keys.finish(&[]).map(|()| None) };
    keys.finish(&[])?;
    match files.value {
        Value::String(file) => Ok(Some(DataFiles::One(file))),
        Value::Object(map) => Ok(Some(DataFiles::BySplit(map))),
        _ => Err(files.expected("a file, or a file for each split")),
    }
}

fn fewshot(field: Field) -> Result<FewshotConfig, KeyError> {
    let mut keys = field.object("an object with sampler, split or samples")?;
    let config = FewshotConfig {
        sampler: text(&mut keys, "sampler")?,
        split: text(&mut keys, "split")?,
        samples: keys
            .take("samples")
            .map(|field| list_of(field, |sample| sample.map("an object of fields and values")))
            .transpose()?,
    };
    keys.finish(&[])?;
    Ok(config)
}

fn metric(field: Field) -> Result<MetricConfig, KeyError> {
    let mut keys = field.object("an object with metric")?;
    let flag = |keys: &mut Keys, key| keys.take(key).map(Field::flag).transpose();
    let config = MetricConfig {
        metric: keys.need("metric", "the name of a metric")?.text()?,
        aggregation: text(&mut keys, "aggregation")?,
        higher_is_better: flag(&mut keys, "higher_is_better")?,
        ignore_case: flag(&mut keys, "ignore_case")?.unwrap_or(false),
        ignore_punctuation: flag(&mut keys, "ignore_punctuation")?.unwrap_or(false),
        ignore_numbers: flag(&mut keys, "ignore_numbers")?.unwrap_or(false),
        regexes_to_ignore: keys.take("regexes_to_ignore").map(Field::texts).transpose()?.unwrap_or_default(),
    };
    // Of groups, not of tasks.
    drop(keys.take("weight_by_size"));
    if let Some(field) = keys.take("hf_evaluate").filter(|field| field.value != false) {
        return Err(field.expected("false: other collections of metrics are not read"));
    }
    keys.finish(&[])?;
    Ok(config)
}

fn generation(field: Field) -> Result<GenerationKwargs, KeyError> {
    let mut keys = field.object("an object with until, max_gen_toks and the like")?;
    let tokens = ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"];
    let config = GenerationKwargs {
        until: keys.take("until").map(Field::texts).transpose()?,
        max_gen_toks: keys.take_any(&tokens)?.map(Field::count).transpose()?,
        do_sample: keys.take("do_sample").map(Field::flag).transpose()?,
        temperature: keys.take("temperature").map(Field::number).transpose()?,
        top_k: keys.take("top_k").map(Field::count).transpose()?,
        top_p: keys.take("top_p").map(Field::number).transpose()?,
    };
    if let Some(beams) = keys.take("num_beams").filter(|beams| beams.value != 1) {
        return Err(beams.expected("1"));
    }
    keys.finish(&[])?;
    Ok(config)
}

fn pipeline(field: Field) -> Result<PipelineConfig, KeyError> {
    let mut keys = field.object("an object with name and filter")?;
    let config = PipelineConfig {
        name: keys.need("name", "a text")?.text()?,
        filters: list_of(keys.need("filter", "a list of filters")?, filter)?,
    };
    keys.finish(&[])?;
    Ok(config)
}

fn filter(field: Field) -> Result<FilterConfig, KeyError> {
    let mut keys = field.object("an object with function")?;
    let function = keys.need("function", "the name of a filter")?;
    let flag = |keys: &mut Keys, key| keys.take(key).map(Field::flag).transpose();
    let config = match function.value.as_str() {
        Some("regex") => FilterConfig::Regex(pattern(&mut keys)?),
        Some("multi_choice_regex") => FilterConfig::MultiChoiceRegex {
            pattern: pattern(&mut keys)?,
            ignore_case: flag(&mut keys, "ignore_case")?.unwrap_or(false),
            ignore_punctuation: flag(&mut keys, "ignore_punctuation")?.unwrap_or(false),
            ignored: keys.take("regexes_to_ignore").map(Field::texts).transpose()?.unwrap_or_default(),
        },
        Some("remove_whitespace") => FilterConfig::RemoveWhitespace,
        Some("lowercase") => FilterConfig::Lowercase,
        Some("uppercase") => FilterConfig::Uppercase,
        Some("map") => FilterConfig::Map {
            mapping_dict: keys.need("mapping_dict", "an object of texts")?.map("an object of texts")?,
            default_value: value(&mut keys, "default_value"),
        },
        Some("take_first") => FilterConfig::TakeFirst,
        _ => {
            return Err(function.expected(
                "regex, multi_choice_regex, remove_whitespace, lowercase, uppercase, map or take_first",
            ));
        }
    };
    keys.finish(&[])?;
    Ok(config)
}

fn pattern(keys: &mut Keys) -> Result<PatternConfig, KeyError> {
    let select = match keys.take("group_select") {
        Some(field) => field.value.as_i64().ok_or_else(|| field.expected("a whole number"))?,
        None => 0,
    };
    Ok(PatternConfig {
        pattern: text(keys, "regex_pattern")?.unwrap_or_else(|| r"#### (\-?[0-9\.\,]+)".to_owned()),
        select,
        fallback: text(keys, "fallback")?.unwrap_or_else(|| "[invalid]".to_owned()),
    })
}
