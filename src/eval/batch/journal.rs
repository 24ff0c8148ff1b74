//! The output of a batch or an evaluation: one whole line at a time, on the disk before the next item is begun.
//!
//! Every line begins with its place and two hashes, by which the program knows its own files:
//!
//! ```text
//! {"index":4,"line":5,"input":"<of what was asked>","run":"<of the model and the options>",
//! ```
//!
//! A file is gone on with if all its lines begin so; after a power cut it may end with a part of such a line, which is
//! cut off. Lines are found by what was asked, wherever they stand. New ones are added at the end, a later one counts.
//! When all is done and the lines are not in the order of the input, or failures were mended, the file is written anew
//! beside its place and renamed: at every time what was answered is on the disk.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::BatchError;
use crate::console::JsonLines;
use crate::files::{Access, Stream, WriteError, hold, stream, write_stream};

/// Longest line that is read of an output.
const MAX_OUTPUT_LINE: u64 = 64 << 20;
/// Longest place at the start of a line: two numbers of twenty digits.
const MAX_HEAD: u64 = 64;

/// Where lines go.
enum Sink {
    File { file: File, path: PathBuf, end: u64 },
    Stream(Box<dyn Write>),
}

/// Where an item stands in the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Among the items, from 0.
    pub index: usize,
    /// Line of the file, from 1, where that is known.
    pub line: Option<usize>,
}

impl Place {
    fn head(self) -> String {
        let line = self.line.map(|line| format!("\"line\":{line},")).unwrap_or_default();
        format!("{{\"index\":{},{line}", self.index)
    }
}

/// A line that is in the output. What is seldom asked for is read from the file again.
#[derive(Clone, Copy, Debug)]
pub(in crate::eval) struct Record {
    input: u64,
    run: u64,
    /// Offset in the file.
    at: u64,
    /// With the line end.
    bytes: u32,
    /// Whether it says why there is no answer.
    pub(in crate::eval) failed: bool,
}

/// The lines of the finished file.
#[derive(Debug, Default)]
struct Order {
    /// As long as they stand in the file as they are to be, one after the other: where the last of these ends.
    end: u64,
    /// The lines after these, with their places, offsets and bytes.
    rest: Vec<(Place, u64, u32)>,
}

impl Order {
    fn push(&mut self, place: Place, (at, bytes): (u64, u32), has_place: bool) {
        if self.rest.is_empty() && at == self.end && has_place {
            self.end += u64::from(bytes);
        } else {
            self.rest.push((place, at, bytes));
        }
    }
}

/// Items by what the output has of them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::eval) struct Counts {
    /// An answer.
    pub(in crate::eval) kept: usize,
    /// A failure.
    pub(in crate::eval) again: usize,
    /// Nothing.
    pub(in crate::eval) new: usize,
}

/// The output, with what was in it before.
pub struct Journal {
    name: String,
    sink: Sink,
    /// Of each input the last line, by inputs.
    before: Vec<Record>,
    order: Order,
    counts: Counts,
}

impl Journal {
    /// Makes an output that cannot be gone on with.
    pub fn stream(name: &str, sink: Box<dyn Write>) -> Self {
        Self::new(name.to_owned(), Sink::Stream(sink), vec![])
    }

    fn new(name: String, sink: Sink, mut before: Vec<Record>) -> Self {
        before.sort_unstable_by_key(|record| (record.input, record.at));
        before.dedup_by(|later, kept| {
            let is_same = later.input == kept.input;
            if is_same {
                *kept = *later;
            }
            is_same
        });
        before.shrink_to_fit();
        Self { name, sink, before, order: Order::default(), counts: Counts::default() }
    }

    /// The last line about an input.
    fn find(&self, input: u64) -> Option<&Record> {
        let at = self.before.binary_search_by_key(&input, |record| record.input).ok()?;
        self.before.get(at)
    }

    /// Opens the file of a batch, or begins it. Standard output and the like are streams, see [`stream`].
    ///
    /// # Errors
    /// If it cannot be read and written, is a link or no file, another process writes it, or its lines are not those of a
    /// batch.
    pub fn open(path: &Path) -> Result<Self, BatchError> {
        let name = path.display().to_string();
        let fail = |source| BatchError::Write { file: name.clone(), source };
        if let Some(found) = stream(path) {
            let lines = match found.map_err(fail)? {
                Stream::Output => JsonLines::of_output(),
                Stream::Device(device) => JsonLines::of_device(device),
            };
            return Ok(Self::stream(&name, Box::new(lines)));
        }
        let file = hold(path, Access::Usual).map_err(|error| match error {
            WriteError::Locked { file } => BatchError::Locked { file },
            error => BatchError::Replace(error),
        })?;
        let path = fs::canonicalize(path).map_err(fail)?;
        let (records, end) = read(&name, &file)?;
        // What a cut has left of a line goes; the line before may lack its end.
        file.set_len(end).map_err(fail)?;
        Ok(Self::new(name.clone(), Sink::File { file, path, end }, records))
    }

    /// Whether the output is this file.
    pub fn is_file(&self, other: &Path) -> bool {
        match &self.sink {
            Sink::File { path, .. } => fs::canonicalize(other).is_ok_and(|other| other == *path),
            Sink::Stream(_) => false,
        }
    }

    /// Answers that are in the output.
    fn answers(&self) -> impl Iterator<Item = &Record> {
        self.before.iter().filter(|record| !record.failed)
    }

    /// Refuses an output that was begun with another model or other options. Failures bind nobody.
    pub(in crate::eval) fn check_run(&self, run: u64) -> Result<(), BatchError> {
        match self.answers().find(|record| record.run != run) {
            Some(record) => {
                Err(BatchError::OtherRun { file: self.name.clone(), index: self.place(record)?.index })
            }
            None => Ok(()),
        }
    }

    /// Refuses an output that has the answer to an input of another part of the items.
    pub(in crate::eval) fn check_other_shard(&self, input: u64) -> Result<(), BatchError> {
        match self.answer(input) {
            Some(record) => {
                Err(BatchError::OtherShard { file: self.name.clone(), index: self.place(&record)?.index })
            }
            None => Ok(()),
        }
    }

    /// Counts an item by what the output has of it.
    pub(in crate::eval) fn count(&self, input: u64, counts: &mut Counts) {
        match self.find(input) {
            Some(record) if record.failed => counts.again += 1,
            Some(_) => counts.kept += 1,
            None => counts.new += 1,
        }
    }

    /// Refuses an output whose answers would be lost with these items. A changed item gives one answer that has no item
    /// and one item that is new, a mended one a failure and one that is new; if more answers have no item, or none has
    /// one, the input is another.
    pub(in crate::eval) fn check_kept(&self, counts: Counts) -> Result<(), BatchError> {
        let answers = self.answers().count();
        let mended = self.before.len() - answers - counts.again;
        let lost = answers.saturating_sub(counts.kept);
        if lost > counts.new.saturating_sub(mended) || (counts.kept == 0 && answers > 1) {
            return Err(BatchError::OtherInput { file: self.name.clone(), lost, answers });
        }
        Ok(())
    }

    /// The answer to an input, if the output has it.
    pub(in crate::eval) fn answer(&self, input: u64) -> Option<Record> {
        self.find(input).filter(|record| !record.failed).copied()
    }

    /// Whether nothing was in the output.
    pub(in crate::eval) fn is_new(&self) -> bool {
        self.before.is_empty()
    }

    /// Whether the output has a line, be it a failure, about an input.
    pub(in crate::eval) fn has(&self, input: u64) -> bool {
        self.find(input).is_some()
    }

    /// Keeps the line about an input as that of `place`; whether it is a failure.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(in crate::eval) fn keep(&mut self, place: Place, input: u64) -> Result<bool, BatchError> {
        let Some(record) = self.find(input).copied() else { return Ok(false) };
        let mut counts = self.counts;
        self.count(input, &mut counts);
        self.counts = counts;
        let has_place = self.place(&record)? == place;
        self.order.push(place, (record.at, record.bytes), has_place);
        Ok(record.failed)
    }

    /// Reads a line that is in the output.
    pub(in crate::eval) fn line(&self, record: &Record) -> Result<String, BatchError> {
        let Sink::File { file, .. } = &self.sink else { return Ok(String::new()) };
        let bytes =
            read_at(file, record.at, u64::from(record.bytes)).map_err(|source| self.failed(source))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// Reads the place of a line that is in the output.
    fn place(&self, record: &Record) -> Result<Place, BatchError> {
        let Sink::File { file, .. } = &self.sink else { return Ok(Place::default()) };
        let bytes = u64::from(record.bytes).min(MAX_HEAD);
        let head = read_at(file, record.at, bytes).map_err(|source| self.failed(source))?;
        Ok(Head { rest: &head }.place().unwrap_or_default())
    }

    fn failed(&self, source: io::Error) -> BatchError {
        BatchError::Write { file: self.name.clone(), source }
    }

    /// Writes the line of an item: its place and hashes, then the keys of `rest`. It is on the disk when this returns
    /// it.
    pub(in crate::eval) fn write(
        &mut self,
        place: Place,
        (input, run): (u64, u64),
        rest: &impl Serialize,
    ) -> Result<String, BatchError> {
        let rest = serde_json::to_vec(rest).map_err(|error| self.failed(error.into()))?;
        let head = place.head();
        let mut bytes = format!("{head}\"input\":\"{input:016x}\",\"run\":\"{run:016x}\",").into_bytes();
        bytes.extend_from_slice(&rest[1..]);
        bytes.push(b'\n');
        let length =
            u32::try_from(bytes.len()).map_err(|_| self.failed(io::ErrorKind::FileTooLarge.into()))?;
        let mut at = 0;
        let written = match &mut self.sink {
            Sink::File { file, end, .. } => {
                at = *end;
                let written = file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&bytes));
                *end += bytes.len() as u64;
                written.and_then(|()| file.sync_data())
            }
            Sink::Stream(stream) => stream.write_all(&bytes).and_then(|()| stream.flush()),
        };
        written.map_err(|source| self.failed(source))?;
        let mut counts = self.counts;
        self.count(input, &mut counts);
        self.counts = counts;
        if matches!(self.sink, Sink::File { .. }) {
            self.order.push(place, (at, length), true);
        }
        bytes.pop();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Brings the lines of a finished run into the order of the input, one for each item.
    ///
    /// # Errors
    /// If answers would be lost, and if the file cannot be written; it then stays as it is.
    pub(in crate::eval) fn finish(&mut self) -> Result<(), BatchError> {
        let Sink::File { file, path, end } = &self.sink else { return Ok(()) };
        let Order { end: in_order, rest } = &self.order;
        if rest.is_empty() && in_order == end {
            return Ok(());
        }
        self.check_kept(self.counts)?;
        let written = write_stream(path, Access::Usual, |out| {
            let mut first = file;
            first.seek(SeekFrom::Start(0))?;
            if io::copy(&mut first.take(*in_order), out)? != *in_order {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest.iter().try_for_each(|(place, at, bytes)| {
                let line = read_at(file, *at, u64::from(*bytes))?;
                let mut parser = Head { rest: &line };
                let _ = parser.place();
                out.write_all(place.head().as_bytes())?;
                out.write_all(parser.rest)
            })
        });
        Ok(written?)
    }
}

fn read_at(mut file: &File, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = vec![0; bytes as usize];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut read)?;
    Ok(read)
}

/// The whole lines of a file, and where they end.
fn read(name: &str, file: &File) -> Result<(Vec<Record>, u64), BatchError> {
    let fail = |source| BatchError::Write { file: name.to_owned(), source };
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    let (mut records, mut end) = (vec![], 0);
    loop {
        line.clear();
        (&mut reader).take(MAX_OUTPUT_LINE).read_until(b'\n', &mut line).map_err(fail)?;
        let foreign = || BatchError::Foreign { file: name.to_owned(), line: records.len() + 1 };
        if !line.ends_with(b"\n") {
            // Of a first line there must be enough to know it.
            let is_known = !records.is_empty() || line.is_empty() || Head { rest: &line }.place().is_some();
            let is_cut = is_known && is_part(&line) && (line.len() as u64) < MAX_OUTPUT_LINE;
            return if is_cut { Ok((records, end)) } else { Err(foreign()) };
        }
        let record = record(&line, end).ok_or_else(foreign)?;
        end += line.len() as u64;
        records.push(record);
    }
}

/// Reads the start of a line and whether it is a failure.
fn record(line: &[u8], at: u64) -> Option<Record> {
    #[derive(Deserialize)]
    struct Failure {
        error: Option<serde::de::IgnoredAny>,
    }
    let mut parser = Head { rest: line };
    parser.place()?;
    let input = parser.hash("\"input\":\"")?;
    let run = parser.hash("\"run\":\"")?;
    let failure: Failure = serde_json::from_slice(line).ok()?;
    let bytes = u32::try_from(line.len()).ok()?;
    Some(Record { input, run, at, bytes, failed: failure.error.is_some() })
}

/// Whether bytes are how a line may begin, as far as they go.
fn is_part(line: &[u8]) -> bool {
    let mut parser = Head { rest: line };
    let is_whole = parser
        .place()
        .and_then(|_| parser.hash("\"input\":\""))
        .and_then(|_| parser.hash("\"run\":\""))
        .is_some();
    // What a parser stopped in must be the start of what it expected.
    is_whole || parser.rest.is_empty() || {
        let hex = |prefix: &str| {
            let rest = parser.rest.strip_prefix(prefix.as_bytes());
            rest.is_some_and(|rest| rest.len() < 18 && rest.iter().take(16).all(u8::is_ascii_hexdigit))
                || prefix.as_bytes().starts_with(parser.rest)
        };
        let number = |prefix: &str| {
            let rest = parser.rest.strip_prefix(prefix.as_bytes());
            rest.is_some_and(|rest| rest.iter().all(u8::is_ascii_digit))
                || prefix.as_bytes().starts_with(parser.rest)
        };
        number("{\"index\":") || number("\"line\":") || hex("\"input\":\"") || hex("\"run\":\"")
    }
}

/// Reads the start of a line.
struct Head<'a> {
    rest: &'a [u8],
}

impl Head<'_> {
    /// A number after a prefix, with the comma after it.
    fn number(&mut self, prefix: &str) -> Option<usize> {
        let rest = self.rest.strip_prefix(prefix.as_bytes())?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let after = rest[digits..].strip_prefix(b",")?;
        let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        self.rest = after;
        Some(number)
    }

    fn place(&mut self) -> Option<Place> {
        let index = self.number("{\"index\":")?;
        Some(Place { index, line: self.number("\"line\":") })
    }

    /// Sixteen digits after a prefix, with the quote and comma after them.
    fn hash(&mut self, prefix: &str) -> Option<u64> {
        let rest = self.rest.strip_prefix(prefix.as_bytes())?;
        let digits = std::str::from_utf8(rest.get(..16)?).ok()?;
        let after = rest[16..].strip_prefix(b"\",")?;
        let hash = u64::from_str_radix(digits, 16).ok()?;
        self.rest = after;
        Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"{"index":12,"line":13,"input":"0123456789abcdef","run":"fedcba9876543210","text":"a"}"#;

    #[test]
    fn lines_are_known_by_their_start_wherever_they_are_cut() {
        let line = format!("{LINE}\n");
        let found = record(line.as_bytes(), 7).unwrap();
        assert_eq!((found.input, found.run), (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210));
        assert_eq!((found.at, found.bytes as usize, found.failed), (7, line.len(), false));
        let mut head = Head { rest: line.as_bytes() };
        assert_eq!(head.place(), Some(Place { index: 12, line: Some(13) }));
        assert!(head.rest.starts_with(b"\"input\""));
        for cut in 0..LINE.len() {
            assert!(is_part(&LINE.as_bytes()[..cut]), "{}", &LINE[..cut]);
        }
        let failed = line.replace("\"text\":\"a\"", "\"error\":\"b\"");
        assert!(record(failed.as_bytes(), 0).unwrap().failed);
        let none = line.replace("\"text\":\"a\"", "\"error\":null");
        assert!(!record(none.as_bytes(), 0).unwrap().failed);
    }

    #[test]
    fn other_texts_are_not_lines_of_a_batch() {
        for text in [
            "my precious note",
            "{",
            r#"{"index":12,"input":"what is asked","#,
            r#"{"index":1, "line":2"#,
            r#"{"prompt": "a"}"#,
            r#"{"index":12,"input":"0123456789abcdeX"#,
            r#"{"index":12,"input":"0123456789abcdef"}"#,
        ] {
            assert!(text == "{" || !is_part(text.as_bytes()), "{text}");
            assert!(record(format!("{text}\n").as_bytes(), 0).is_none(), "{text}");
        }
    }

    /// A journal in a file of its own, which goes with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("smolt-journal-{}-{name}", std::process::id())))
        }

        fn open(&self) -> Journal {
            Journal::open(&self.0).unwrap()
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.0).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn at(index: usize, line: usize) -> Place {
        Place { index, line: Some(line) }
    }

    fn write(journal: &mut Journal, place: Place, input: u64, failed: bool) -> String {
        let key = if failed { "error" } else { "text" };
        let rest = serde_json::json!({ key: input.to_string() });
        journal.write(place, (input, 7), &rest).unwrap()
    }

    #[test]
    fn what_was_written_is_found_again() {
        let scratch = Scratch::new("found");
        let mut journal = scratch.open();
        assert!(journal.is_new() && journal.is_file(&scratch.0) && !journal.is_file(Path::new("/")));
        let first = write(&mut journal, at(0, 1), 10, false);
        let second = write(&mut journal, at(1, 2), 11, true);
        assert_eq!(scratch.text(), format!("{first}\n{second}\n"));
        drop(journal);
        let journal = scratch.open();
        assert!(!journal.is_new() && journal.has(10) && journal.has(11) && !journal.has(12));
        assert_eq!(journal.line(&journal.answer(10).unwrap()).unwrap(), first);
        assert!(journal.answer(11).is_none(), "a failure is no answer");
        journal.check_run(7).unwrap();
        assert!(matches!(journal.check_run(8), Err(BatchError::OtherRun { index: 0, .. })));
        journal.check_other_shard(11).unwrap();
        assert!(matches!(journal.check_other_shard(10), Err(BatchError::OtherShard { index: 0, .. })));
        let mut counts = Counts::default();
        [10, 11, 12].into_iter().for_each(|input| journal.count(input, &mut counts));
        assert_eq!((counts.kept, counts.again, counts.new), (1, 1, 1));
    }

    #[test]
    fn lines_come_into_the_order_of_the_items_and_get_their_places() {
        let scratch = Scratch::new("order");
        let mut journal = scratch.open();
        let second = write(&mut journal, at(1, 2), 11, false);
        let first = write(&mut journal, at(0, 1), 10, false);
        journal.finish().unwrap();
        assert_eq!(scratch.text(), format!("{second}\n{first}\n"), "as long as nobody says what is first");
        drop(journal);
        let mut journal = scratch.open();
        for (index, input) in [10, 11, 12].into_iter().enumerate() {
            assert!(!journal.keep(at(index, index + 1), input).unwrap());
        }
        journal.finish().unwrap();
        assert_eq!(scratch.text(), format!("{first}\n{second}\n"));
        drop(journal);
        // The same items, a line further down.
        let mut journal = scratch.open();
        journal.keep(at(0, 2), 10).unwrap();
        journal.keep(at(1, 3), 11).unwrap();
        journal.finish().unwrap();
        let moved = |line: &str, from: &str, to: &str| line.replace(from, to);
        let expected =
            [moved(&first, "\"line\":1", "\"line\":2"), moved(&second, "\"line\":2", "\"line\":3")];
        assert_eq!(scratch.text(), format!("{}\n{}\n", expected[0], expected[1]));
    }

    #[test]
    fn a_mended_failure_comes_to_its_place() {
        let scratch = Scratch::new("mended");
        let mut journal = scratch.open();
        let inputs = [10, 11, 12];
        let places = [at(0, 1), at(1, 2), at(2, 3)];
        let mut lines: Vec<String> =
            (0..3).map(|index| write(&mut journal, places[index], inputs[index], index == 1)).collect();
        journal.finish().unwrap();
        drop(journal);
        let mut journal = scratch.open();
        assert!(!journal.keep(places[0], 10).unwrap());
        assert!(journal.has(11) && journal.answer(11).is_none());
        lines[1] = write(&mut journal, places[1], 11, false);
        assert!(!journal.keep(places[2], 12).unwrap());
        journal.finish().unwrap();
        assert_eq!(scratch.text(), lines.join("\n") + "\n");
        // Two lines about one input: the later one counts.
        drop(journal);
        let mut journal = scratch.open();
        write(&mut journal, places[1], 11, true);
        drop(journal);
        let mut journal = scratch.open();
        assert!(journal.answer(11).is_none() && journal.keep(places[1], 11).unwrap());
    }

    /// A run from the first item to the last remembers no line, and one that goes on only those that were there.
    #[test]
    fn lines_in_order_are_not_kept_in_memory() {
        let scratch = Scratch::new("memory");
        let mut journal = scratch.open();
        (0..5).for_each(|index| drop(write(&mut journal, at(index, index + 1), index as u64, false)));
        assert!(journal.before.is_empty() && journal.order.rest.is_empty());
        drop(journal);
        let mut journal = scratch.open();
        (0..5).for_each(|index| assert!(!journal.keep(at(index, index + 1), index as u64).unwrap()));
        (5..9).for_each(|index| drop(write(&mut journal, at(index, index + 1), index as u64, false)));
        assert_eq!((journal.before.len(), journal.order.rest.len()), (5, 0));
        let text = scratch.text();
        journal.finish().unwrap();
        assert_eq!((scratch.text(), text.lines().count()), (text, 9));
    }

    #[test]
    fn answers_without_items_are_counted() {
        let scratch = Scratch::new("kept");
        let mut journal = scratch.open();
        write(&mut journal, at(0, 1), 10, false);
        drop(journal);
        let counts = |kept, again, new| Counts { kept, again, new };
        let mut journal = scratch.open();
        journal.check_kept(counts(0, 0, 1)).unwrap();
        assert!(journal.check_kept(counts(0, 0, 0)).is_err(), "an answer would be lost");
        write(&mut journal, at(1, 2), 11, false);
        drop(journal);
        let journal = scratch.open();
        journal.check_kept(counts(1, 0, 1)).unwrap();
        assert!(journal.check_kept(counts(1, 0, 0)).is_err());
        assert!(journal.check_kept(counts(0, 0, 2)).is_err(), "nothing is as it was");
    }
}
