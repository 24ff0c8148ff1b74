//! Counts of what a computer's models did, in one small file: numbers alone, nothing that was said, and no name.
//!
//! Several processes may add to one file. What is there and no file of counts is not touched.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files::{Access, ReadError, WriteError, hold, read_text, write_stream};
use crate::generate::Tally;

/// Largest file, in bytes.
pub const MAX_BYTES: u64 = 4096;
/// What a file begins with.
const FORMAT: &str = "smolt-stats/1";
/// How often a file that another process holds is tried, and how long is waited between.
const TRIES: u32 = 50;
const WAIT: Duration = Duration::from_millis(10);

/// Why counts cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum StatsError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{file}: does not hold counts of this program")]
    Foreign { file: String },
}

/// All counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Runs of the program by command.
    pub starts: Starts,
    /// How they ended.
    pub ends: Ends,
    /// Their answers.
    pub answers: Tally,
}

/// Runs of the program by command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names of the commands")]
pub struct Starts {
    pub run: u64,
    pub chat: u64,
    pub batch: u64,
    pub eval: u64,
    pub serve: u64,
}

/// How runs of the program ended, by their exit codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ends {
    /// 0.
    pub done: u64,
    /// 1.
    pub failed: u64,
    /// 2.
    pub usage: u64,
    /// 3.
    pub model: u64,
    /// 4.
    pub memory: u64,
    /// 5.
    pub threshold: u64,
    /// 6.
    pub unfinished: u64,
    /// Signals.
    pub stopped: u64,
    /// Every other code.
    pub other: u64,
}

/// A file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: String,
    starts: Starts,
    ends: Ends,
    answers: Tally,
}

impl Ends {
    /// The count of an exit code.
    pub fn of(&mut self, code: i32) -> &mut u64 {
        match code {
            0 => &mut self.done,
            1 => &mut self.failed,
            2 => &mut self.usage,
            3 => &mut self.model,
            4 => &mut self.memory,
            5 => &mut self.threshold,
            6 => &mut self.unfinished,
            129 | 130 | 143 => &mut self.stopped,
            _ => &mut self.other,
        }
    }

    fn counts(&mut self) -> [&mut u64; 9] {
        [
            &mut self.done,
            &mut self.failed,
            &mut self.usage,
            &mut self.model,
            &mut self.memory,
            &mut self.threshold,
            &mut self.unfinished,
            &mut self.stopped,
            &mut self.other,
        ]
    }
}

impl Starts {
    fn counts(&mut self) -> [&mut u64; 5] {
        [&mut self.run, &mut self.chat, &mut self.batch, &mut self.eval, &mut self.serve]
    }
}

impl Stats {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or does not hold counts.
    pub fn read(path: &Path) -> Result<Stats, StatsError> {
        let text = read_text(path, MAX_BYTES)?;
        Stats::parse(&text).ok_or_else(|| StatsError::Foreign { file: path.display().to_string() })
    }

    fn parse(text: &str) -> Option<Stats> {
        let content: Content = serde_json::from_str(text).ok()?;
        let Content { format, starts, ends, answers } = content;
        (format == FORMAT).then_some(Stats { starts, ends, answers })
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Stats) {
        let mut other = *other;
        let own = self.starts.counts().into_iter().chain(self.ends.counts());
        for (own, other) in own.zip(other.starts.counts().into_iter().chain(other.ends.counts())) {
            *own = own.saturating_add(*other);
        }
        self.answers.add(&other.answers);
    }

    /// Adds these counts to a file, which is made if there is none. What another process adds meanwhile stays.
    ///
    /// # Errors
    /// If the disk refuses, another process holds the file all the time, or what is there is no file of counts.
    pub fn add_to(&self, path: &Path) -> Result<(), StatsError> {
        let mut tries = 0;
        let _held = loop {
            match hold(path, Access::Usual) {
                Err(WriteError::Locked { .. }) if tries < TRIES => tries += 1,
                held => break held?,
            }
            std::thread::sleep(WAIT);
        };
        let mut all = match read_text(path, MAX_BYTES) {
            Ok(text) if text.is_empty() => Stats::default(),
            // Only the end of a file of counts can be lost: it is written whole.
            Ok(text) => {
                Stats::parse(&text).ok_or_else(|| StatsError::Foreign { file: path.display().to_string() })?
            }
            Err(error) => return Err(error.into()),
        };
        all.add(self);
        all.write(path)
    }

    fn write(&self, path: &Path) -> Result<(), StatsError> {
        let Stats { starts, ends, answers } = *self;
        let content = Content { format: FORMAT.to_owned(), starts, ends, answers };
        Ok(write_stream(path, Access::Usual, |out| {
            serde_json::to_writer(&mut *out, &content)?;
            out.write_all(b"\n")
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder = std::env::temp_dir().join(format!("smolt-stats-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Scratch(folder)
        }

        fn file(&self) -> PathBuf {
            self.0.join("stats")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn one() -> Stats {
        let answers = Tally { tokens: 3, ..Tally::default() };
        let mut one = Stats { answers, ..Stats::default() };
        one.starts.run = 1;
        *one.ends.of(0) += 1;
        one
    }

    #[test]
    fn counts_of_many_processes_add_up() {
        let scratch = Scratch::new("many");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| one().add_to(&scratch.file()).unwrap()));
            }
        });
        let all = Stats::read(&scratch.file()).unwrap();
        assert_eq!((all.starts.run, all.ends.done, all.answers.tokens), (100, 100, 300));
    }

    #[test]
    fn exit_codes_have_their_counts() {
        let mut ends = Ends::default();
        for code in [0, 1, 2, 3, 4, 5, 6, 129, 130, 143, 77, -1] {
            *ends.of(code) += 1;
        }
        let ends = ends.counts().map(|count| *count);
        assert_eq!(ends, [1, 1, 1, 1, 1, 1, 1, 3, 2]);
    }

    #[test]
    fn the_largest_counts_fit() {
        let scratch = Scratch::new("large");
        let mut most = Stats::default();
        most.starts.counts().into_iter().chain(most.ends.counts()).for_each(|count| *count = u64::MAX);
        let number = u64::MAX;
        most.answers = Tally {
            stop: number,
            length: number,
            loops: number,
            cancelled: number,
            read_tokens: number,
            cached_tokens: number,
            tokens: number,
            first_token: [number; 10],
            rate: [number; 10],
        };
        most.add_to(&scratch.file()).unwrap();
        assert!(std::fs::metadata(scratch.file()).unwrap().len() <= MAX_BYTES);
        one().add_to(&scratch.file()).unwrap();
        assert_eq!(Stats::read(&scratch.file()).unwrap(), most, "numbers end where they end");
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        let scratch = Scratch::new("foreign");
        let other = r#"{"format":"smolt-stats/1","starts":{"name":1}}"#;
        for text in ["a letter", "{}", r#"{"format":"other"}"#, other, &"x".repeat(5000)] {
            std::fs::write(scratch.file(), text).unwrap();
            assert!(one().add_to(&scratch.file()).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(scratch.file()).unwrap(), text);
        }
        #[cfg(unix)]
        {
            std::fs::remove_file(scratch.file()).unwrap();
            std::os::unix::fs::symlink(scratch.0.join("elsewhere"), scratch.file()).unwrap();
            let refused = one().add_to(&scratch.file()).unwrap_err();
            assert!(matches!(refused, StatsError::Write(WriteError::Link { .. })), "{refused}");
            assert!(!scratch.0.join("elsewhere").exists());
        }
    }
}
