//! Moments as signed files name them, and the earliest time that it can be.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use x509_cert::der::DateTime;

use super::Refusal;

/// When this program was not yet built: no clock that says less is believed.
const NOT_BEFORE: &str = "2026-11-28T00:00:00Z";
/// How far ahead of the time floor something may have been made: so long a computer without a clock may have lain in a
/// drawer. What is made later would push the floor of everything that follows.
const MAX_AHEAD: Duration = Duration::from_secs(366 * 24 * 3600);

/// A second of the calendar, of UTC: `2026-11-28T09:30:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(Duration);

impl Time {
    /// Reads RFC 3339 without fractions and offsets.
    ///
    /// # Errors
    /// [`Refusal::Time`] if it is anything else.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let time = text.parse::<DateTime>();
        time.map(|time| Self(time.unix_duration())).map_err(|_| Refusal::Time { found: text.into() })
    }

    /// Returns the second of the system's clock; the first of 1970 for a clock before it.
    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }

    /// Returns the second of a moment.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(Duration::from_secs(since.as_secs()))
    }

    /// Returns when this program was not yet built.
    pub(super) fn built() -> Self {
        Self::parse(NOT_BEFORE).unwrap_or(Self(Duration::ZERO))
    }

    /// Returns the earliest time that it can be: of the clock, of when this program was built, and of the newest signed
    /// thing seen, the latest.
    pub fn floor(clock: SystemTime, seen: Option<Self>) -> Self {
        let built = Self::built();
        Self::of(clock).max(built).max(seen.unwrap_or(built))
    }

    /// Returns whether something made at `self` cannot have been made yet, as far as that can be known.
    pub fn is_in_the_future_of(self, floor: Self) -> bool {
        self.0 > floor.0.saturating_add(MAX_AHEAD)
    }

    /// Returns the moment as the system counts.
    pub fn system(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0
    }

    /// Returns the moment so many days later.
    #[must_use]
    pub fn after_days(self, days: u32) -> Self {
        Self(self.0 + Duration::from_secs(u64::from(days) * 24 * 3600))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match DateTime::from_unix_duration(self.0) {
            Ok(time) => time.fmt(out),
            // After the year 9999.
            Err(_) => write!(out, "{} s after 1970", self.0.as_secs()),
        }
    }
}

impl TryFrom<String> for Time {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        Self::parse(&text)
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_one_form_only() {
        let time = Time::parse("2026-02-28T23:59:59Z").unwrap();
        assert_eq!(time.to_string(), "2026-02-28T23:59:59Z");
        assert_eq!(time.after_days(1).to_string(), "2026-03-01T23:59:59Z");
        for wrong in [
            "",
            "2026-02-29T00:00:00Z",
            "2026-02-28t23:59:59z",
            "2026-02-28T23:59:59+00:00",
            "2026-02-28T23:59:59.5Z",
            "2026-02-28 23:59:59Z",
            "2026-02-28T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "+026-02-28T23:59:59Z",
            "2026-02-28T23:59:59Z ",
            "２０26-02-28T23:59:59Z",
        ] {
            assert!(matches!(Time::parse(wrong), Err(Refusal::Time { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_stands_at_1970_is_not_believed() {
        let built = Time::parse(NOT_BEFORE).unwrap();
        assert_eq!(Time::floor(SystemTime::UNIX_EPOCH, None), built);
        assert_eq!(Time::floor(SystemTime::UNIX_EPOCH, Some(built.after_days(9))), built.after_days(9));
        assert_eq!(Time::floor(built.after_days(20).system(), Some(built)), built.after_days(20));
        assert!(!built.after_days(366).is_in_the_future_of(built));
        assert!(built.after_days(367).is_in_the_future_of(built));
    }
}
