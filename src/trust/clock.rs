//! The time, where it can be known.

use std::time::SystemTime;

use super::Time;

/// Returns the time of the system's clock. A board without a battery begins at 1970, or at the last time it was up to; what
/// is before this program existed is no time.
pub fn system_clock() -> Option<SystemTime> {
    plausible(SystemTime::now())
}

/// The time, unless it cannot be.
fn plausible(time: SystemTime) -> Option<SystemTime> {
    (Time::of(time) >= Time::built()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_clock_that_was_never_set_tells_nothing() {
        assert!(system_clock().is_some(), "the clock of this computer is wrong");
        assert_eq!(plausible(UNIX_EPOCH + Duration::from_secs(1_000_000)), None);
        let set = Time::built().system();
        assert_eq!(plausible(set), Some(set));
        assert_eq!(plausible(set - Duration::from_secs(1)), None);
    }
}
