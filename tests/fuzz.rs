//! What the fuzz targets do, in the normal tests: with their seeds and a fixed number of changes of them, the same in
//! every run. `scripts/fuzz.sh` looks further.
//!
//! A program of its own: the counters see every thread, and so does the hook for panics.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(unreachable_pub, reason = "the library of the fuzz targets has them public")]
#[path = "../fuzz/src/bodies.rs"]
mod bodies;
mod counting;
#[path = "../fuzz/src/input.rs"]
mod input;
#[allow(unreachable_pub, reason = "the library of the fuzz targets has them public")]
#[path = "../fuzz/src/models.rs"]
mod models;
#[cfg(feature = "trust")]
#[allow(unreachable_pub, reason = "the library of the fuzz targets has them public")]
#[path = "../fuzz/src/package.rs"]
mod package;
#[path = "../fuzz/src/replay.rs"]
mod replay;
#[path = "../fuzz/src/scratch.rs"]
mod scratch;
#[allow(unreachable_pub, reason = "the library of the fuzz targets has them public")]
#[path = "../fuzz/src/signature.rs"]
mod signature;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{LazyLock, Mutex, PoisonError};

use counting::{CALLS, LIVE, PEAK};
use replay::Replay;

/// Most memory that one input may take, in all.
const MAX_BYTES: usize = 64 << 20;

/// The last panic, be it one that the program catches: that of a library, in a thread.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// One target runs at a time, since the counters are of all.
static TURN: LazyLock<Mutex<()>> = LazyLock::new(|| {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string());
        usual(panic);
    }));
    Mutex::new(())
});

fn replay(target: &str, changes: usize, body: fn(&[u8]) -> bool) {
    replay_mended(target, changes, |_, _| (), body);
}

fn replay_mended(target: &str, changes: usize, mend: fn(&mut [u8], u32), body: fn(&[u8]) -> bool) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    PANIC.lock().unwrap().take();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    Replay { target, seeds: &seeds, changes, mend }.run(&mut |data| {
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let taken = body(data);
        if let Some(panic) = PANIC.lock().unwrap().take() {
            return Err(panic);
        }
        let peak = PEAK.load(Relaxed) - before;
        if peak > MAX_BYTES { Err(format!("it took {peak} bytes of memory")) } else { Ok(taken) }
    });
    assert!(CALLS.load(Relaxed) > 0, "memory is not counted");
}

#[test]
fn gguf() {
    replay_mended("gguf", 20_000, models::mend, bodies::gguf);
}

#[test]
fn load() {
    replay("load", 2000, bodies::load);
}

#[test]
fn tokenizer() {
    replay("tokenizer", 1000, bodies::tokenizer);
}

#[test]
fn template() {
    replay("template", 2000, bodies::template);
}

#[test]
fn grammar() {
    replay("grammar", 500, bodies::grammar);
}

#[test]
fn session() {
    replay("session", 5000, bodies::session);
}

#[test]
fn task() {
    replay("task", 1000, bodies::task);
}

#[test]
fn batch() {
    replay("batch", 5000, bodies::batch);
}

#[cfg(feature = "trust")]
#[test]
fn package() {
    replay("package", 5000, package::package);
}

#[test]
fn signature() {
    replay("signature", 2000, signature::signature);
}
