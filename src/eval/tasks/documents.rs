//! Documents: lines of JSON.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::TaskError;

/// One item of a data set, by field.
pub type Document = Map<String, Value>;

/// Largest file of documents or of a task.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Most documents of a file.
pub const MAX_DOCUMENTS: usize = 1 << 20;
/// Most fields of all documents of a file together.
const MAX_FIELDS: usize = 1 << 10;

/// The text of a file of at most [`MAX_FILE_BYTES`].
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String, TaskError> {
    let file = path.display().to_string();
    let fail = |source| TaskError::Read { file: file.clone(), source };
    let mut text = String::new();
    let read = File::open(path).map_err(fail)?.take(limit + 1).read_to_string(&mut text).map_err(fail)?;
    match read as u64 {
        found if found > limit => Err(TaskError::TooLarge { file, found, limit }),
        _ => Ok(text),
    }
}

/// The documents of a file. All get the same fields, in the order in which they first appear; a field that a line
/// lacks is null, as in the data sets of Hugging Face.
pub(super) fn read(path: &Path) -> Result<Vec<Document>, TaskError> {
    let file = path.display().to_string();
    let fail = |source| TaskError::Read { file: file.clone(), source };
    let reader = BufReader::new(File::open(path).map_err(fail)?.take(MAX_FILE_BYTES + 1));
    let (mut documents, mut bytes) = (vec![], 0);
    let mut fields = Document::new();
    for (index, line) in reader.lines().enumerate() {
        let line = line.map_err(fail)?;
        bytes += line.len() as u64 + 1;
        if bytes > MAX_FILE_BYTES {
            return Err(TaskError::TooLarge { file, found: bytes, limit: MAX_FILE_BYTES });
        }
        if line.trim().is_empty() {
            continue;
        }
        let document: Document = serde_json::from_str(&line).map_err(|error| TaskError::Document {
            file: file.clone(),
            line: index + 1,
            message: error.to_string(),
        })?;
        for key in document.keys().filter(|key| !key.is_empty()) {
            if !fields.contains_key(key) {
                fields.insert(key.clone(), Value::Null);
            }
        }
        documents.push(document);
        for (found, limit, what) in
            [(documents.len(), MAX_DOCUMENTS, "documents"), (fields.len(), MAX_FIELDS, "fields")]
        {
            if found > limit {
                return Err(TaskError::TooMany { file, what, limit });
            }
        }
    }
    for document in documents.iter_mut().filter(|document| !document.keys().eq(fields.keys())) {
        let mut whole = fields.clone();
        whole.extend(std::mem::take(document));
        *document = whole;
    }
    if documents.is_empty() { Err(TaskError::NoDocuments { file }) } else { Ok(documents) }
}
