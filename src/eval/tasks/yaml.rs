//! Task files as they are written: YAML with the files that it includes, each key with its place.
//!
//! Keys of a file replace those of the files that it includes, and of these a later file those of an earlier one, as
//! lm-evaluation-harness merges them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::TaskError;
use crate::files::{Fnv, read_text};

/// Largest task file.
const MAX_TASK_BYTES: u64 = 1 << 20;
/// Most files that one task is made of.
const MAX_FILES: usize = 32;
/// What stands for a function of Python.
pub(super) const FUNCTION: &str = "!function ";

/// A task file with what it includes.
#[derive(Debug, Default)]
pub(super) struct TaskFile {
    pub(super) keys: Map<String, Value>,
    origins: HashMap<String, Origin>,
    /// Differs between texts.
    pub(super) fingerprint: u64,
    name: String,
}

/// Where a key stands.
#[derive(Clone, Debug)]
struct Origin {
    file: PathBuf,
    line: Option<usize>,
}

impl TaskFile {
    /// Makes one of keys that stand in no file.
    pub(super) fn of(name: String, keys: Map<String, Value>) -> TaskFile {
        TaskFile { keys, name, ..TaskFile::default() }
    }

    /// Reads a file and what it includes.
    ///
    /// # Errors
    /// If a file cannot be read, is too large or no mapping, or includes itself.
    pub(super) fn read(path: &Path) -> Result<TaskFile, TaskError> {
        let mut reader = Reader { above: vec![], files: 0, hash: Fnv::default() };
        let (keys, origins) = reader.read(path)?;
        Ok(TaskFile { keys, origins, fingerprint: reader.hash.finish(), name: path.display().to_string() })
    }

    /// The file and line of a key, for messages; of a key within others that of the outermost one.
    pub(super) fn place(&self, key: &str) -> String {
        let outermost = key.split(['.', '[']).next().unwrap_or(key);
        match self.origins.get(outermost) {
            Some(Origin { file, line: Some(line) }) => format!("{}, line {line}", file.display()),
            Some(Origin { file, .. }) => file.display().to_string(),
            None => self.name.clone(),
        }
    }

    /// The folder of the file in which a key stands.
    pub(super) fn folder(&self, key: &str) -> Option<&Path> {
        self.origins.get(key).and_then(|origin| origin.file.parent())
    }
}

struct Reader {
    /// Files that include the one being read, outermost first.
    above: Vec<PathBuf>,
    files: usize,
    hash: Fnv,
}

type Read = (Map<String, Value>, HashMap<String, Origin>);

impl Reader {
    fn read(&mut self, path: &Path) -> Result<Read, TaskError> {
        let file = path.display().to_string();
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(TaskError::TooMany { file, what: "included files", limit: MAX_FILES });
        }
        let known = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.above.contains(&known) {
            return Err(TaskError::Cycle { file });
        }
        let text = read_text(path, MAX_TASK_BYTES)?;
        self.hash.add(text.as_bytes());
        let mut own = parse(&file, &text)?;
        let at_include =
            line_of(&text, "include").map_or_else(|| file.clone(), |line| format!("{file}, line {line}"));
        let includes = included(&at_include, own.remove("include"))?;
        self.above.push(known);
        let (mut keys, mut origins) = Read::default();
        for include in includes {
            let read = self.read(&path.parent().unwrap_or(Path::new("")).join(include));
            let (more, places) = read.map_err(|error| match error {
                TaskError::Read(error) => TaskError::Include { file: at_include.clone(), error },
                error => error,
            })?;
            for (key, value) in more.into_iter().filter(|(key, _)| key != "task_list") {
                keys.insert(key, value);
            }
            origins.extend(places);
        }
        self.above.pop();
        for (key, value) in own {
            let origin = Origin { file: path.to_owned(), line: line_of(&text, &key) };
            origins.insert(key.clone(), origin);
            keys.insert(key, value);
        }
        Ok((keys, origins))
    }
}

fn included(file: &str, value: Option<Value>) -> Result<Vec<String>, TaskError> {
    let refuse = |value: &Value| TaskError::Key {
        file: file.to_owned(),
        key: "include".to_owned(),
        found: crate::ask::keys::shown(value),
        expected: "a file or a list of files".to_owned(),
    };
    match value {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::String(file)) => Ok(vec![file]),
        Some(Value::Array(files)) => {
            let name = |value: Value| value.as_str().map(str::to_owned).ok_or_else(|| refuse(&value));
            files.into_iter().map(name).collect()
        }
        Some(other) => Err(refuse(&other)),
    }
}

/// Reads the keys of one file. A function of Python becomes a text that begins with [`FUNCTION`].
fn parse(file: &str, text: &str) -> Result<Map<String, Value>, TaskError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        // As in lm-evaluation-harness.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
    };
    let text = quote_functions(text);
    serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error| TaskError::Yaml { file: file.to_owned(), message: error.to_string() })
}

/// Puts `!function name` in quotes where it is the value of a key.
fn quote_functions(text: &str) -> String {
    let quote = |line: &str| {
        let (before, rest) = line.split_once(FUNCTION)?;
        let name = rest.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._".contains(c));
        let key = before.trim_end().strip_suffix(':')?.trim_start().trim_start_matches("- ");
        let key = key.trim_matches(['"', '\'']);
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
        (is_key && is_name).then(|| format!("{before}\"{FUNCTION}{name}\""))
    };
    let lines = text.split_inclusive('\n').map(|line| match quote(line) {
        Some(quoted) => quoted + if line.ends_with('\n') { "\n" } else { "" },
        None => line.to_owned(),
    });
    lines.collect()
}

/// The line of a key that is not within another.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let is_key = |line: &str| {
        let line = line.trim_start_matches(['"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    text.lines().position(is_key).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_become_texts_and_nothing_else_does() {
        let text = "process_docs: !function utils.process # why\nmetric_list:\n  - metric: acc\n    aggregation: !function a.b\n  - metric: !function 'c.d'\nnote: \"say: !function x\"\n";
        let keys = parse("task.yaml", text).unwrap();
        assert_eq!(keys["process_docs"], "!function utils.process");
        assert_eq!(keys["metric_list"][0]["aggregation"], "!function a.b");
        assert_eq!(keys["metric_list"][1]["metric"], "!function c.d");
        assert_eq!(keys["note"], "say: !function x");
        assert_eq!(line_of(text, "metric_list"), Some(2));
        assert!(parse("task.yaml", "a: !other x\n").is_err());
    }
}
