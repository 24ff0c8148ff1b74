//! Task files: the part of lm-evaluation-harness' YAML that needs no Python. What is not here is refused, not ignored.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::TaskError;

/// Largest task file.
const MAX_TASK_BYTES: usize = 1 << 20;

/// A task file as it is written. Keys and meanings are those of lm-evaluation-harness 0.4.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    pub(super) task: Option<String>,
    /// Not used.
    pub(super) task_alias: Option<String>,
    /// Not used.
    pub(super) tag: Value,
    /// Not used.
    pub(super) metadata: Value,
    /// `json`, or a file of documents.
    pub(super) dataset_path: Option<String>,
    /// Only null.
    pub(super) dataset_name: Option<String>,
    pub(super) dataset_kwargs: Option<DatasetKwargs>,
    pub(super) training_split: Option<String>,
    pub(super) validation_split: Option<String>,
    pub(super) test_split: Option<String>,
    pub(super) fewshot_split: Option<String>,
    pub(super) doc_to_text: Value,
    pub(super) doc_to_target: Value,
    pub(super) doc_to_choice: Value,
    pub(super) description: Option<String>,
    pub(super) target_delimiter: Option<String>,
    pub(super) fewshot_delimiter: Option<String>,
    pub(super) fewshot_config: Option<FewshotConfig>,
    pub(super) num_fewshot: Option<usize>,
    pub(super) output_type: Option<String>,
    pub(super) metric_list: Option<Vec<MetricConfig>>,
    pub(super) generation_kwargs: Option<GenerationKwargs>,
    pub(super) filter_list: Option<Vec<PipelineConfig>>,
    /// Only 1.
    pub(super) repeats: Option<usize>,
    /// Only false.
    pub(super) should_decontaminate: bool,
}

/// Where the documents are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DatasetKwargs {
    /// A file, or files by split.
    pub(super) data_files: Option<DataFiles>,
}

/// A file, which is the split `train`, or a file by split.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum DataFiles {
    One(String),
    BySplit(Map<String, Value>),
}

/// Which examples precede a document.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FewshotConfig {
    /// `default` (at random) or `first_n`.
    pub(super) sampler: Option<String>,
    pub(super) split: Option<String>,
    /// Examples in place of a split.
    pub(super) samples: Option<Vec<Map<String, Value>>>,
}

/// A metric and its options.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricConfig {
    pub(super) metric: String,
    pub(super) aggregation: Option<String>,
    pub(super) higher_is_better: Option<bool>,
    #[serde(default)]
    pub(super) ignore_case: bool,
    #[serde(default)]
    pub(super) ignore_punctuation: bool,
    #[serde(default)]
    pub(super) ignore_numbers: bool,
    pub(super) regexes_to_ignore: Option<Vec<String>>,
}

/// How answers are generated.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GenerationKwargs {
    pub(super) until: Option<Until>,
    #[serde(alias = "max_new_tokens", alias = "max_tokens", alias = "max_completion_tokens")]
    pub(super) max_gen_toks: Option<usize>,
    pub(super) do_sample: Option<bool>,
    pub(super) temperature: Option<f32>,
    pub(super) top_k: Option<usize>,
    pub(super) top_p: Option<f32>,
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Until {
    One(String),
    Several(Vec<String>),
}

/// Filters that an answer passes through, with their name in the results.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineConfig {
    pub(super) name: String,
    pub(super) filter: Vec<FilterConfig>,
}

/// A filter and its options.
#[derive(Debug, Deserialize)]
#[serde(tag = "function", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum FilterConfig {
    Regex {
        #[serde(default = "default_pattern")]
        regex_pattern: String,
        #[serde(default)]
        group_select: i64,
        #[serde(default = "default_fallback")]
        fallback: String,
    },
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map {
        mapping_dict: Map<String, Value>,
        #[serde(default)]
        default_value: Value,
    },
    TakeFirst,
}

fn default_pattern() -> String {
    r"#### (\-?[0-9\.\,]+)".to_owned()
}

fn default_fallback() -> String {
    "[invalid]".to_owned()
}

impl Config {
    /// Reads a task file.
    pub(super) fn parse(file: &str, text: &str) -> Result<Config, TaskError> {
        if text.len() > MAX_TASK_BYTES {
            let (found, limit) = (text.len() as u64, MAX_TASK_BYTES as u64);
            return Err(TaskError::TooLarge { file: file.to_owned(), found, limit });
        }
        let options = serde_saphyr::options! {
            strict_booleans: true,
            reject_unsupported_tags: true,
            with_snippet: false,
        };
        let config: Config = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| TaskError::Yaml { file: file.to_owned(), message: error.to_string() })?;
        let refuse = |key: &str, found: String, expected: &str| {
            let [file, key, expected] = [file, key, expected].map(str::to_owned);
            Err(TaskError::Key { file, key, found, expected })
        };
        if let Some(name) = &config.dataset_name {
            return refuse("dataset_name", name.clone(), "null: documents are read from files");
        }
        match config.repeats {
            Some(repeats) if repeats != 1 => refuse("repeats", repeats.to_string(), "1"),
            _ if config.should_decontaminate => refuse("should_decontaminate", "true".into(), "false"),
            _ => Ok(config),
        }
    }
}
