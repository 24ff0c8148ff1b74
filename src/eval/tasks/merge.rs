//! Files of samples, read again.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::{Sample, TaskError};
use crate::files::{Line, Lines, open};

/// Most samples of all files together.
const MAX_SAMPLES: usize = 1 << 22;
/// Longest line.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// A sample with its line.
#[derive(Clone, Debug)]
pub struct MergedLine {
    /// What is read of it.
    pub sample: Sample,
    /// As it was written, without line end.
    pub line: String,
}

/// The samples of a file. Part of a line at its end, as a power cut leaves it, is not read.
///
/// # Errors
/// If the file cannot be read or a line is no sample.
pub fn read_samples(path: &Path) -> Result<Vec<MergedLine>, TaskError> {
    let file = path.display().to_string();
    let mut reader = Lines::new(BufReader::new(open(path)?), &file, MAX_LINE_BYTES);
    let mut lines = vec![];
    while let Some(Line { number, text, has_end: true, .. }) = reader.next()? {
        if lines.len() >= MAX_SAMPLES {
            return Err(TaskError::TooMany { file, what: "samples", limit: MAX_SAMPLES });
        }
        let bad = |message: String| TaskError::Sample { file: file.clone(), line: number, message };
        lines.push(MergedLine { sample: Sample::parse(text).map_err(bad)?, line: text.to_owned() });
    }
    Ok(lines)
}

/// The samples of a run in shards, in the order of the run in one piece.
///
/// # Errors
/// If a file cannot be read, the files are not of one run, or a sample is missing or there twice.
pub fn merge(paths: &[PathBuf]) -> Result<Vec<MergedLine>, TaskError> {
    let mut found: Vec<(usize, MergedLine)> = vec![];
    for (file, path) in paths.iter().enumerate() {
        for (at, line) in read_samples(path)?.into_iter().enumerate() {
            let same = |other: &Sample| other.run == line.sample.run && other.of == line.sample.of;
            if found.first().is_some_and(|(_, first)| !same(&first.sample)) {
                return Err(TaskError::OtherRun { file: path.display().to_string(), line: at + 1 });
            }
            found.push((file, line));
            if found.len() > MAX_SAMPLES {
                let file = path.display().to_string();
                return Err(TaskError::TooMany { file, what: "samples", limit: MAX_SAMPLES });
            }
        }
    }
    found.sort_by_key(|(_, line)| line.sample.index);
    let name = |file: usize| paths[file].display().to_string();
    for pair in found.windows(2) {
        if pair[0].1.sample.index == pair[1].1.sample.index {
            let index = pair[0].1.sample.index;
            return Err(TaskError::Twice { index, file: name(pair[0].0), other: name(pair[1].0) });
        }
    }
    let of = found.first().map_or(1, |(_, line)| line.sample.of);
    let first = found.iter().enumerate().find(|(at, (_, line))| line.sample.index != *at);
    match first.map(|(at, _)| at).or((found.len() < of).then_some(found.len())) {
        Some(first) => Err(TaskError::Missing { missing: of - found.len(), of, first }),
        None => Ok(found.into_iter().map(|(_, line)| line).collect()),
    }
}
