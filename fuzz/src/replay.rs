//! The seeds of a target and changes of them, the same in every run: what a fuzzer does, without one.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::scratch::Scratch;

/// Longest input, and the longest time that one may take on a busy machine.
const MAX_BYTES: usize = 1 << 14;
const MAX_TIME: Duration = Duration::from_secs(20);
/// Failures after which no more are looked for.
const MAX_FAILURES: usize = 5;
/// Numbers at which readers go wrong.
const NUMBERS: [u64; 12] =
    [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 24, 1 << 61, 1 << 63, u64::MAX];
const WORDS: [&[u8]; 16] = [
    b"null",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"0",
    b"\xFF\xFE\n\n",
    b"{{",
    b"}}",
    b"{%",
    b"[",
    b"{\"",
    b"\\",
    b"\n",
    b"\0",
    "\u{202e}\u{1F600}".as_bytes(),
    b"\xED\xA0\x80",
];

/// Where the seeds are, and what is done with them.
pub(crate) struct Replay<'a> {
    /// Name of the target.
    pub(crate) target: &'a str,
    /// The folder of seeds of all targets.
    pub(crate) seeds: &'a Path,
    /// Changed inputs.
    pub(crate) changes: usize,
    /// Brings what is checked first back into order, so that what is behind it is read.
    pub(crate) mend: fn(&mut [u8], u32),
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end`, which is not reached.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A range of at most `longest` bytes of a text of `len`.
    fn range(&mut self, len: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        start..(start + self.below(longest) + 1).min(len)
    }
}

/// Changes an input once; `other` gives it parts.
fn change(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(data.len() + 1);
    let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
    let width = [1, 2, 4, 8][random.below(4)];
    match random.below(10) {
        0 if at < data.len() => data[at] ^= 1 << random.below(8),
        1 if at < data.len() => data[at] = random.next() as u8,
        2 => {
            let end = (at + width).min(data.len());
            data[at..end].copy_from_slice(&number[..end - at]);
        }
        3 => drop(data.splice(at..at, number[..width].iter().copied())),
        4 => {
            let range = random.range(data.len(), 64);
            data.drain(range);
        }
        5 => data.truncate(at),
        6 => {
            let word = WORDS[random.below(WORDS.len())];
            data.splice(at..at, word.iter().copied());
        }
        7 => {
            let range = random.range(data.len(), 16);
            let times = 1 << random.below(10);
            let repeated = data[range].repeat(times);
            data.splice(at..at, repeated);
        }
        8 => {
            let range = random.range(other.len(), 64);
            let end = (at + random.below(range.len() + 1)).min(data.len());
            data.splice(at..end, other[range].iter().copied());
        }
        _ => {
            let range = random.range(data.len(), 32);
            let moved: Vec<u8> = data.drain(range).collect();
            let at = random.below(data.len() + 1);
            data.splice(at..at, moved);
        }
    }
    data.truncate(MAX_BYTES);
}

fn read(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a seed").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a seed"))).collect()
}

/// What went wrong with an input, if anything did, and whether it was taken.
fn attempt(data: &[u8], target: &mut dyn FnMut(&[u8]) -> Result<bool, String>) -> Result<bool, String> {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| target(data)));
    let time = start.elapsed();
    match result {
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            Err(message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned())
        }
        Ok(Ok(_)) if time > MAX_TIME => Err(format!("it took {time:?}")),
        Ok(result) => result,
    }
}

impl Replay<'_> {
    /// Gives `target` every seed, which it must take unless the seed's name begins with `bad-`, and changes of them,
    /// of which it must take some and refuse some.
    ///
    /// The input that is tried stands in a file (see [`Scratch`]) until it is done with, which tells what an abort was about.
    pub(crate) fn run(&self, target: &mut dyn FnMut(&[u8]) -> Result<bool, String>) {
        let seeds = read(&self.seeds.join(self.target));
        let scratch = Scratch::new(&format!("{}-input", self.target));
        let mut failures = String::new();
        let mut failed = 0;
        let mut report = |name: &str, data: &[u8], error: &str| {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(failures, "{} {name}: {error}\n    {hex}", self.target);
            failed += 1;
            failed >= MAX_FAILURES
        };
        let mut tried = |data: &[u8]| {
            scratch.write("input", data);
            attempt(data, target)
        };
        for (path, data) in &seeds {
            let is_bad = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"bad-"));
            let error = match tried(data) {
                Ok(taken) if taken == is_bad => Some(format!("taken: {taken}")),
                result => result.err(),
            };
            if error.is_some_and(|error| report(&path.display().to_string(), data, &error)) {
                break;
            }
        }
        let mut random = Random(15);
        let (mut taken, mut refused) = (0, 0);
        for number in 0..self.changes {
            let (from, other) = (random.below(seeds.len()), random.below(seeds.len()));
            let mut data = seeds[from].1.clone();
            for _ in 0..1 + random.below(4) {
                change(&mut data, &seeds[other].1, &mut random);
            }
            (self.mend)(&mut data, random.next() as u32);
            match tried(&data) {
                Ok(true) => taken += 1,
                Ok(false) => refused += 1,
                Err(error) if report(&format!("change {number}"), &data, &error) => break,
                Err(_) => {}
            }
        }
        assert!(failed == 0, "inputs (in hex) that failed:\n{failures}");
        eprintln!("{}: {} seeds, {taken} changed inputs taken, {refused} refused", self.target, seeds.len());
        assert!(taken > 0 && refused > 0, "{}: {taken} were taken and {refused} refused", self.target);
    }
}
