//! Counts of starts, ends and answers, where the user wants them kept.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::args::ModelArgs;
use super::error::Exit;
use super::output::{note, with_causes};
use crate::generate::{Tally, tally};
use crate::stats::Stats;

/// The variable that names the file.
const VARIABLE: &str = "SMOLT_STATS";

/// Finds one of the counts.
pub(super) type Count = fn(&mut Stats) -> &mut u64;

/// What this process counts, and how much of it is kept already.
struct Counting {
    file: Option<PathBuf>,
    start: Option<Count>,
    kept: Tally,
}

static COUNTING: Mutex<Counting> = Mutex::new(Counting { file: None, start: None, kept: Tally::NOTHING });

/// The file where counts are kept, if one is named.
pub(super) fn file() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|name: &OsString| !name.is_empty()).map(PathBuf::from)
}

/// Begins to count a command that answers, with this model; `start` is the count of its starts.
pub(super) fn count_start(start: Count, model: &ModelArgs) {
    let mut counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    (counting.file, counting.start) = (file().or_else(|| model.stored.counts()), Some(start));
}

/// Keeps what was counted so far, if it is wanted. A start is kept once.
#[cfg(feature = "serve")]
pub(super) fn keep() {
    add(Stats::default());
}

/// Keeps what was counted, and how the command ended.
pub(super) fn count_end(exit: Exit) {
    let mut stats = Stats::default();
    *stats.ends.of(exit as i32) += 1;
    add(stats);
}

fn add(mut stats: Stats) {
    let mut counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(file) = counting.file.clone() else { return };
    if let Some(start) = counting.start.take() {
        *start(&mut stats) += 1;
    }
    let all = tally();
    stats.answers = all;
    stats.answers.subtract(&counting.kept);
    counting.kept = all;
    if let Err(error) = stats.add_to(&file) {
        // Answers are worth more than their number.
        counting.file = None;
        note(format_args!("nothing is counted: {}", with_causes(&error)));
    }
}
