//! `strftime_now`: the current time in the fields of C's `strftime`. Always UTC, without a name of the zone.

use std::fmt::Write;
use std::time::SystemTime;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Seconds since 1970-01-01.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) u64);

impl Time {
    pub(super) fn now() -> Time {
        Time(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// The time in `format`, or the directive that is not known. `-` in front of a letter leaves leading zeros
    /// out.
    pub(super) fn format(self, format: &str) -> Result<String, String> {
        let fields = Fields::of(self.0);
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut letter = chars.next();
            let pad = letter != Some('-');
            if !pad {
                letter = chars.next();
            }
            let known = letter.is_some_and(|letter| fields.write(letter, pad, &mut out).is_some());
            if !known {
                return Err(letter.map_or("%".to_owned(), |letter| format!("%{letter}")));
            }
        }
        Ok(out)
    }
}

/// A moment in the calendar.
struct Fields {
    year: u64,
    /// From 0.
    month: usize,
    /// Of the month, from 1.
    day: u64,
    /// Of the year, from 1.
    year_day: u64,
    /// 0 is Sunday.
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Fields {
    fn of(seconds: u64) -> Fields {
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = seconds / 86_400;
        // The calendar repeats every 400 years.
        let (mut year, mut day) = (1970 + days / 146_097 * 400, days % 146_097);
        while day >= 365 + u64::from(is_leap(year)) {
            day -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let year_day = day + 1;
        let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while day >= lengths[month] {
            day -= lengths[month];
            month += 1;
        }
        Fields {
            year,
            month,
            day: day + 1,
            year_day,
            // 1970-01-01 was a Thursday.
            weekday: ((days + 4) % 7) as usize,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// Writes one directive; `None` if it is not known.
    fn write(&self, letter: char, pad: bool, out: &mut String) -> Option<()> {
        let (month, weekday) = (MONTHS[self.month], WEEKDAYS[self.weekday]);
        let month_number = self.month as u64 + 1;
        let hour12 = (self.hour + 11) % 12 + 1;
        let (number, width) = match letter {
            'Y' => (self.year, 1),
            'y' => (self.year % 100, 2),
            'm' => (month_number, 2),
            'd' => (self.day, 2),
            'j' => (self.year_day, 3),
            'H' => (self.hour, 2),
            'I' => (hour12, 2),
            'M' => (self.minute, 2),
            'S' => (self.second, 2),
            'w' => (self.weekday as u64, 1),
            'u' => ((self.weekday as u64 + 6) % 7 + 1, 1),
            _ => {
                match letter {
                    'B' => out.push_str(month),
                    'b' | 'h' => out.push_str(&month[..3]),
                    'A' => out.push_str(weekday),
                    'a' => out.push_str(&weekday[..3]),
                    'p' => out.push_str(if self.hour < 12 { "AM" } else { "PM" }),
                    'e' if pad => write!(out, "{:2}", self.day).ok()?,
                    'e' => write!(out, "{}", self.day).ok()?,
                    'F' => write!(out, "{}-{month_number:02}-{:02}", self.year, self.day).ok()?,
                    'D' | 'x' => {
                        write!(out, "{month_number:02}/{:02}/{:02}", self.day, self.year % 100).ok()?;
                    }
                    'T' | 'X' => {
                        write!(out, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second).ok()?;
                    }
                    'R' => write!(out, "{:02}:{:02}", self.hour, self.minute).ok()?,
                    'Z' | 'z' => {}
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    '%' => out.push('%'),
                    _ => return None,
                }
                return Some(());
            }
        };
        let width = if pad { width } else { 1 };
        write!(out, "{number:0width$}").ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        let day = |format: &str, days: u64| Time(days * 86_400).format(format).unwrap();
        assert_eq!(day("%d %b %Y", 0), "01 Jan 1970");
        assert_eq!(day("%Y-%m-%d %B%%", 19_782), "2024-02-29 February%");
        assert_eq!(day("%d %b %Y", 20_819), "01 Jan 2027");
        assert_eq!(day("%F", 146_097), "2370-01-01");
        let time = Time(1_741_356_309);
        assert_eq!(time.format("%A, %-d %B %Y %H:%M:%S %j %p %I").unwrap(), {
            "Friday, 7 March 2025 14:05:09 066 PM 02"
        });
        assert_eq!(time.format("%R|%T|%X|%D|%x|%e|%-e|%h %b %a").unwrap(), {
            "14:05|14:05:09|14:05:09|03/07/25|03/07/25| 7|7|Mar Mar Fri"
        });
        assert_eq!(time.format("%n%t%%%Z%z").unwrap(), "\n\t%");
        assert_eq!(time.format("%Q").unwrap_err(), "%Q");
        assert_eq!(time.format("%").unwrap_err(), "%");
        assert!(!Time(u64::MAX).format("%c").is_ok_and(|text| text.is_empty()));
    }
}
