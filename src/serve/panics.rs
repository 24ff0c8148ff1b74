//! Failures of the program: counted, and told of without the texts that were worked on.

use std::panic::{PanicHookInfo, set_hook};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// From now on tells `note` of every failure of this process: where, and no more. What else is known of it may quote what
/// was asked or answered, which belongs in no log.
pub fn watch_panics(note: impl Fn(&str) + Send + Sync + 'static) {
    IS_WATCHED.store(true, Ordering::Relaxed);
    set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        note(&format!("the program failed at {place}; what was worked on there is lost, the rest goes on"));
    }));
}

/// Counts a failure that was caught, unless all are counted where they happen.
pub(super) fn caught() {
    if !IS_WATCHED.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

/// Failures so far.
pub(super) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}
