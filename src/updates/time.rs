//! Times as people read them.

const DAY: u64 = 86_400;

/// Shows seconds since 1970 as a date and a time (UTC).
pub(super) fn show(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let Some((year, month, day)) = date(days) else { return format!("{seconds} s after 1970") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day after 1970, in the calendar that begins its years in March, whose days of leap come last.
fn date(days: u64) -> Option<(u64, u64, u64)> {
    // Up to the year 9999.
    let shifted = days.checked_add(719_468).filter(|shifted| *shifted < 3_652_365)?;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Some((era * 400 + year_of_era + u64::from(month <= 2), month, day))
}

#[cfg(test)]
mod tests {
    use super::show;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_917_259, "2026-11-29T01:54:19Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (u64::MAX, "18446744073709551615 s after 1970"),
        ] {
            assert_eq!(show(seconds), shown);
        }
    }
}
