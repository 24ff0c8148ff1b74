//! Models split over several files, `NAME-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` writes them.
//!
//! Each part is a GGUF file with some of the tensors; the first has the keys of the whole. The parts are found by their
//! names beside the one that was named.

use std::path::{Path, PathBuf};

use super::reader::Part;
use super::{GgufError, MAX_PARTS, MAX_TENSORS, Value};

/// Key of the number of parts.
const COUNT_KEY: &str = "split.count";
/// Key of a part's number, from 0.
const NUMBER_KEY: &str = "split.no";
/// Key of the number of tensors of all parts.
const TENSORS_KEY: &str = "split.tensors.count";
/// Keys that are of the files, not of the model, begin with this.
pub(super) const PREFIX: &str = "split.";
/// Digits of a number in a name.
const DIGITS: usize = 5;

/// Which part of how many a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From 0.
    number: u32,
    count: u32,
}

impl Place {
    /// Reads what a file says of itself; `None` if it is a whole model.
    pub(super) fn of(part: &Part) -> Result<Option<Self>, GgufError> {
        let Some(count) = number(part, COUNT_KEY)?.filter(|count| *count > 1) else { return Ok(None) };
        let (file, key) = (part.name.clone(), COUNT_KEY.to_owned());
        if count > MAX_PARTS {
            let (expected, found) = ("at most 1024 parts", count.to_string());
            return Err(GgufError::WrongType { file, key, expected, found });
        }
        let number = number(part, NUMBER_KEY)?;
        let number =
            number.ok_or(GgufError::MissingKey { file: file.clone(), key: NUMBER_KEY.to_owned() })?;
        if number >= count {
            let (key, found) = (NUMBER_KEY.to_owned(), number.to_string());
            return Err(GgufError::WrongType { file, key, expected: "less than split.count", found });
        }
        Ok(Some(Self { number, count }))
    }

    /// Parts of the whole.
    pub(super) fn count(self) -> u32 {
        self.count
    }
}

/// An integer of a part's header.
fn number(part: &Part, key: &str) -> Result<Option<u32>, GgufError> {
    let Some(value) = part.get(key) else { return Ok(None) };
    value.as_u32().map(Some).ok_or_else(|| GgufError::WrongType {
        file: part.name.clone(),
        key: key.to_owned(),
        expected: "an integer from 0 to 4294967295",
        found: value.to_string(),
    })
}

/// Opens all parts of the model of which `part` at `path` is one, the first first.
pub(super) fn open(path: &Path, part: Part, place: Place) -> Result<Vec<Part>, GgufError> {
    let Place { number, count } = place;
    let paths = siblings(path, place).ok_or_else(|| GgufError::PartName {
        file: part.name.clone(),
        number: number + 1,
        count,
        expected: name_end(number, count),
    })?;
    let mut named = Some(part);
    let mut parts = Vec::with_capacity(count as usize);
    for (own, path) in (0..count).zip(&paths) {
        let part = match named.take_if(|_| own == number) {
            Some(part) => part,
            None => match Part::open(path) {
                Err(GgufError::NotFound { file }) => {
                    return Err(GgufError::MissingPart { file, number: own + 1, count });
                }
                opened => opened?,
            },
        };
        if Place::of(&part)? != Some(Place { number: own, count }) {
            return Err(GgufError::OtherPart { file: part.name, number: own + 1, count });
        }
        parts.push(part);
    }
    check_tensors(&parts)?;
    Ok(parts)
}

/// The paths of all parts, from the path of one; `None` if its name does not tell its place.
fn siblings(path: &Path, place: Place) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?;
    let end = name_end(place.number, place.count);
    let at = name.len().checked_sub(end.len())?;
    let (stem, own) = (name.get(..at)?, name.get(at..)?);
    if !own.eq_ignore_ascii_case(&end) {
        return None;
    }
    // As it is written: perhaps in capitals.
    let extension = &own[own.len() - ".gguf".len()..];
    let numbers = |number: u32| {
        let end = name_end(number, place.count);
        format!("{stem}{}{extension}", end.trim_end_matches(".gguf"))
    };
    Some((0..place.count).map(|number| path.with_file_name(numbers(number))).collect())
}

fn name_end(number: u32, count: u32) -> String {
    format!("-{:0DIGITS$}-of-{count:0DIGITS$}.gguf", number + 1)
}

/// Refuses tensors that are in two parts, too many, or not as many as the first part says.
fn check_tensors(parts: &[Part]) -> Result<(), GgufError> {
    let file = || parts[0].name.clone();
    let mut all: Vec<(&str, usize)> = vec![];
    for (number, part) in parts.iter().enumerate() {
        all.extend(part.header.tensors.iter().map(|info| (info.name.as_str(), number)));
    }
    all.sort_unstable();
    if let Some(pair) = all.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let (tensor, other) = (pair[0].0.to_owned(), parts[pair[0].1].name.clone());
        return Err(GgufError::TensorInParts { file: parts[pair[1].1].name.clone(), tensor, other });
    }
    let found = all.len() as u64;
    let expected = parts[0].get(TENSORS_KEY).as_ref().and_then(Value::as_integer);
    let expected = expected.map_or(found, |count| u64::try_from(count).unwrap_or(0));
    if found != expected || found > MAX_TENSORS {
        let expected = expected.min(MAX_TENSORS);
        return Err(GgufError::PartTensors { file: file(), expected, found });
    }
    Ok(())
}
