//! Times as people read them.

use std::time::{Duration, SystemTime};

use crate::trust::Time;

/// Shows seconds since 1970 as a date and a time (UTC).
pub(super) fn show(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.map_or_else(|| format!("{seconds} s after 1970"), |time| Time::of(time).to_string())
}

/// The seconds since 1970 of a moment.
pub(super) fn seconds(time: Time) -> u64 {
    time.system().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
