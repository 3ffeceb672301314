//! `2026-11-23T20:40:52.419025Z`: the time of a line, in UTC with microseconds.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// Appends the time of a line.
pub(super) fn append(text: &mut String, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (year, month, day, second) = civil(since.as_secs());
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    );
}

/// The time in the name of a rotated file: `2026-11-23T20-40-52.419`.
pub(super) fn of_file(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (year, month, day, second) = civil(since.as_secs());
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}-{:02}-{:02}.{:03}",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// Year, month and day of the Gregorian calendar, and the second of that day.
fn civil(seconds: u64) -> (u64, u64, u64, u64) {
    // Days since 0000-03-01, so that the leap day ends a year.
    let days = seconds / DAY + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day, seconds % DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_microseconds() {
        for (microseconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (1_795_466_452_419_025, "2026-11-23T20:40:52.419025Z"),
            (4_102_444_800_000_000, "2100-01-01T00:00:00.000000Z"),
        ] {
            let mut written = String::new();
            append(
                &mut written,
                UNIX_EPOCH + Duration::from_micros(microseconds),
            );
            assert_eq!(written, text);
        }
        assert_eq!(
            of_file(UNIX_EPOCH + Duration::from_millis(1_795_466_452_419)),
            "2026-11-23T20-40-52.419"
        );
    }
}
