//! Documents: lines of JSON.

use std::io::BufReader;
use std::path::Path;

use serde_json::{Map, Value};

use super::TaskError;
use crate::ask::keys::{parse, shown};
use crate::files::{Lines, ReadError, open};

/// One item of a data set, by field.
pub type Document = Map<String, Value>;

/// Largest file of documents or of a task.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Bytes of one document.
const MAX_DOCUMENT_BYTES: u64 = 8 << 20;
/// Most documents of a file.
pub const MAX_DOCUMENTS: usize = 1 << 20;
/// Most fields of all documents of a file together.
const MAX_FIELDS: usize = 1 << 10;
/// Most fields that documents lack, whatever they have, and more of them for each that they have.
const MAX_LACKING: usize = 1 << 16;
const LACKING_PER_FIELD: usize = 4;

/// The documents of a file. All get the same fields, in the order in which they first appear; a field that a line
/// lacks is null, as in the data sets of Hugging Face.
pub(super) fn read(path: &Path) -> Result<Vec<Document>, TaskError> {
    let file = path.display().to_string();
    let mut lines = Lines::new(BufReader::new(open(path)?), &file, MAX_DOCUMENT_BYTES);
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
    let given: usize = documents.iter().map(Document::len).sum();
    let lacking = documents.len() * fields.len() - given.min(documents.len() * fields.len());
    let limit = MAX_LACKING + LACKING_PER_FIELD * given;
    if lacking > limit {
        return Err(TaskError::TooMany { file, what: "fields that documents lack", limit });
    }
    for document in documents.iter_mut().filter(|document| !document.keys().eq(fields.keys())) {
        let mut whole = fields.clone();
        whole.extend(std::mem::take(document));
        *document = whole;
    }
    if documents.is_empty() { Err(TaskError::NoDocuments { file }) } else { Ok(documents) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Vec<Document>, TaskError> {
        let path = std::env::temp_dir().join(format!("smolt-documents-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let documents = read(&path);
        let _ = std::fs::remove_file(&path);
        documents
    }

    #[test]
    fn documents_are_bounded() {
        let long = format!("{{}}\n{{\"text\": \"{}\"}}\n", "x".repeat(MAX_DOCUMENT_BYTES as usize));
        let error = read_text("long", &long).unwrap_err();
        assert!(matches!(&error, TaskError::Read(ReadError::LineTooLong { line: 2, .. })), "{error:?}");
        // 2,000 documents would get 1,000 fields each.
        let fields: Vec<String> = (0..1000).map(|index| format!("\"k{index}\": 1")).collect();
        let sparse = format!("{{{}}}\n{}", fields.join(", "), "{\"a\": 1}\n".repeat(2000));
        let error = read_text("sparse", &sparse).unwrap_err();
        assert!(matches!(&error, TaskError::TooMany { what, .. } if what.contains("lack")), "{error:?}");
        let mixed = "{\"a\": 1}\n{\"b\": 2}\n".repeat(1000);
        assert!(read_text("mixed", &mixed).unwrap().iter().all(|document| document.len() == 2));
    }
}
