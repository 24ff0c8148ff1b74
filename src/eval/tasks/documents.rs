//! Documents: lines of JSON.

use std::io::BufReader;
use std::path::Path;

use serde_json::{Map, Value};

use super::TaskError;
use crate::eval::keys::{parse, shown};
use crate::files::{Lines, ReadError, open};

/// One item of a data set, by field.
pub type Document = Map<String, Value>;

/// Largest file of documents or of a task.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Most documents of a file.
pub const MAX_DOCUMENTS: usize = 1 << 20;
/// Most fields of all documents of a file together.
const MAX_FIELDS: usize = 1 << 10;

/// The documents of a file. All get the same fields, in the order in which they first appear; a field that a line
/// lacks is null, as in the data sets of Hugging Face.
pub(super) fn read(path: &Path) -> Result<Vec<Document>, TaskError> {
    let file = path.display().to_string();
    let mut lines = Lines::new(BufReader::new(open(path)?), &file, MAX_FILE_BYTES);
    let mut documents = vec![];
    let mut fields = Document::new();
    while let Some(line) = lines.next_filled()? {
        if line.offset + line.text.len() as u64 > MAX_FILE_BYTES {
            return Err(ReadError::TooLong { name: file, limit: MAX_FILE_BYTES }.into());
        }
        let fail = |message: String| TaskError::Document { file: file.clone(), line: line.number, message };
        let document = match parse(line.text).map_err(|error| fail(error.to_string()))? {
            Value::Object(document) => document,
            other => return Err(fail(format!("found {}", shown(&other)))),
        };
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
