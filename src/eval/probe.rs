//! What the machine can do and what the process has taken.

use super::EvalError;
use crate::runtime::{Buffer, Part, Pool};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Fewest passes over the array.
const LEAST_PASSES: usize = 5;
/// Passes are repeated for at least this long.
const LEAST_TIME: Duration = Duration::from_millis(300);
/// Independent sums, so that loads do not wait for additions.
const SUMS: usize = 16;

/// Bytes per second at which `threads` threads together read an array of `bytes` bytes: the best of several
/// passes. Each thread sums its own contiguous part as integers, with as many loads in flight as the
/// processor allows, which is how weights are read.
///
/// # Errors
/// If the array cannot be allocated, or the clock stands still.
pub fn read_bandwidth(bytes: usize, threads: usize) -> Result<f64, EvalError> {
    let words = bytes.div_ceil(size_of::<u64>()).max(1);
    let mut array = Buffer::<u64>::zeroed(words, "the bandwidth probe")?;
    // Pages that were never written may all be the same physical page.
    for (i, word) in array.iter_mut().enumerate() {
        *word = i as u64;
    }
    let mut pool = Pool::new(threads);
    let mut best = Duration::MAX;
    let start = Instant::now();
    let mut passes = 0;
    while passes < LEAST_PASSES || start.elapsed() < LEAST_TIME {
        let total = AtomicU64::new(0);
        let pass = Instant::now();
        pool.run(&|part: Part| {
            total.fetch_add(sum(black_box(&array[part.share(words)])), Relaxed);
        });
        let time = pass.elapsed();
        if time.is_zero() {
            return Err(EvalError::FrozenClock);
        }
        best = best.min(time);
        black_box(total.load(Relaxed));
        passes += 1;
    }
    Ok((words * size_of::<u64>()) as f64 / best.as_secs_f64().max(f64::MIN_POSITIVE))
}

fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; SUMS];
    let chunks = words.chunks_exact(SUMS);
    let rest = chunks.remainder().iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(rest, |total, sum| total.wrapping_add(*sum))
}

/// Most physical memory the process has had so far, in bytes; `None` where the system does not tell.
pub fn peak_rss() -> Option<u64> {
    parse_status(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Physical memory that the process has, in bytes; `None` where the system does not tell.
pub fn resident_rss() -> Option<u64> {
    parse_status(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Share of the program's and its libraries' code and constants that a run without a grammar touches, as a fraction; what
/// is never touched (unwind tables, commands that do not run) is never resident. Measured: at most 0.58, serving 0.62.
const TOUCHED: (u64, u64) = (3, 5);
/// Heap and stacks of the command line, the header and standard streams, in bytes.
const PROCESS_HEAP: u64 = 2 << 20;
/// Stands for code and constants where the system does not tell how large they are.
const UNKNOWN_PROGRAM: u64 = 12 << 20;

/// Memory, in bytes, that the process takes besides what is planned for a model: code, constants, libraries and the heap
/// of the command line. Equal in every run of the same program on the same system.
pub fn program_bytes() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").ok();
    let program = std::env::current_exe().ok();
    let mapped = maps.zip(program).map(|(maps, program)| parse_maps(&maps, &program.to_string_lossy()));
    mapped.filter(|bytes| *bytes > 0).map_or(UNKNOWN_PROGRAM, |bytes| bytes / TOUCHED.1 * TOUCHED.0)
        + PROCESS_HEAP
}

/// Bytes that a Linux file of maps lists for `program` and for shared libraries.
fn parse_maps(maps: &str, program: &str) -> u64 {
    let size = |line: &str| {
        let (range, _) = line.split_once(' ')?;
        // address perms offset dev inode path
        let path = line.splitn(6, ' ').nth(5)?.trim_start();
        let is_code = path == program || (path.starts_with('/') && path.contains(".so"));
        let (start, end) = range.split_once('-').filter(|_| is_code)?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        address(end)?.checked_sub(address(start)?)
    };
    maps.lines().filter_map(size).sum()
}

/// A size of a Linux status file.
fn parse_status(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Bytes of memory that programs can still have; `None` where the system does not say.
pub fn available_bytes() -> Option<u64> {
    memory_info("MemAvailable:")
}

/// Bytes of memory that there are; `None` where the system does not say.
pub fn total_bytes() -> Option<u64> {
    memory_info("MemTotal:")
}

fn memory_info(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_reads_every_word() {
        for words in [0usize, 1, 15, 16, 17, 1000] {
            let values: Vec<u64> = (1..=words as u64).collect();
            assert_eq!(sum(&values), (words * (words + 1) / 2) as u64);
        }
    }

    #[test]
    fn bandwidth_is_plausible() {
        for threads in [1, 2] {
            let speed = read_bandwidth(1 << 20, threads).unwrap();
            assert!((1e7..1e13).contains(&speed), "{speed}");
        }
    }

    #[test]
    fn code_is_counted_and_other_maps_are_not() {
        let maps = "55d0-55d8 r--p 00000000 fe:00 1                          /bin/my program
55d8-55e0 r-xp 00008000 fe:00 1                          /bin/my program
6000-7000 rw-p 00000000 00:00 0                          [heap]
7000-7100 r--p 00000000 fe:00 2                          /models/other.gguf
8000-8010 r-xp 00000000 fe:00 3                          /lib/libc.so.6
9000-9010 rw-p 00000000 00:00 0
";
        assert_eq!(parse_maps(maps, "/bin/my program"), 0x8 + 0x8 + 0x10);
        assert_eq!(parse_maps("broken\n-\nx-y r--p 0 0 0 /bin/p\n9-1 r--p 0 0 0 /bin/p\n", "/bin/p"), 0);
    }

    #[test]
    fn the_peak_is_read_from_the_status_file() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t   1234 kB\nVmRSS:\t 5 kB\n";
        assert_eq!(parse_status(status, "VmHWM:"), Some(1234 * 1024));
        assert_eq!(parse_status(status, "VmRSS:"), Some(5 * 1024));
        for broken in ["", "VmHWM:", "VmHWM:\t1234", "VmHWM:\tmany kB", "VmHWM: 99999999999999999999 kB"] {
            assert_eq!(parse_status(broken, "VmHWM:"), None);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_is_known_here_and_covers_what_was_touched() {
        let mut buffer = Buffer::<u8>::zeroed(64 << 20, "test").unwrap();
        buffer.fill(1);
        assert!(peak_rss().unwrap() > buffer.len() as u64);
        assert!(resident_rss().unwrap() > buffer.len() as u64);
    }
}
