//! Durations as Go writes them: `1h0m0s`, `100ms`, `1us`, `-1.5h`.
//!
//! Promises to read what Go's `time.ParseDuration` reads and to print what `Duration.String` prints,
//! with its error texts. Knows nothing of flags.

use std::fmt;
use std::time::Duration;

/// Nanoseconds with a sign, as Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub i64);

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go's text of what is wrong with a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a duration at all.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that Go does not know.
    #[error("time: unknown unit {unit:?} in duration {duration:?}")]
    UnknownUnit {
        /// What stands where the unit belongs.
        unit: String,
        /// The whole text.
        duration: String,
    },
}

impl GoDuration {
    /// A duration of whole milliseconds.
    pub const fn from_millis(milliseconds: i64) -> Self {
        Self(milliseconds * 1_000_000)
    }

    /// A duration of whole seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// The same length for the standard library; `None` where it is negative.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }

    /// The same length where it is above zero.
    pub fn positive(self) -> Option<Duration> {
        self.to_std().filter(|duration| !duration.is_zero())
    }

    /// Reads what `time.ParseDuration` reads.
    ///
    /// # Errors
    /// With Go's text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Invalid(text.to_owned());
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (nanoseconds, after) = Self::parse_term(text, rest)?;
            total = total
                .checked_add(nanoseconds)
                .filter(|sum| *sum <= 1 << 63)
                .ok_or_else(invalid)?;
            rest = after;
        }
        if negative {
            return Ok(Self((total as i64).wrapping_neg()));
        }
        i64::try_from(total).map(Self).map_err(|_| invalid())
    }

    /// One number with its unit at the start of `rest`: its nanoseconds, and what follows.
    fn parse_term<'a>(text: &str, rest: &'a str) -> Result<(u64, &'a str), Error> {
        let invalid = || Error::Invalid(text.to_owned());
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let whole_length = digits(rest);
        let (whole, mut rest) = rest.split_at(whole_length);
        let mut fraction = "";
        let mut pointed = false;
        if let Some(after) = rest.strip_prefix('.') {
            pointed = true;
            (fraction, rest) = after.split_at(digits(after));
        }
        if whole.is_empty() && (!pointed || fraction.is_empty()) {
            return Err(invalid());
        }
        let unit_length = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit_length);
        if unit.is_empty() {
            return Err(Error::MissingUnit(text.to_owned()));
        }
        let scale = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale)
            .ok_or_else(|| Error::UnknownUnit {
                unit: unit.to_owned(),
                duration: text.to_owned(),
            })?;
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let nanoseconds = whole
            .checked_mul(scale)
            .filter(|n| *n <= 1 << 63)
            .ok_or_else(invalid)?;
        let nanoseconds = nanoseconds + fraction_of(fraction, scale);
        Ok((nanoseconds, rest))
    }
}

/// Nanoseconds of the digits behind the point, rounded as Go rounds: digits that do not fit are dropped.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut value: u64 = 0;
    let mut scale = 1.0;
    for digit in digits.bytes() {
        let next = value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'));
        if next > i64::MAX as u64 {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match magnitude {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{magnitude}ns"),
            1_000..1_000_000 => write!(f, "{}\u{b5}s", decimal(magnitude, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", decimal(magnitude, 1_000_000)),
            _ => {
                let minutes = magnitude / 60_000_000_000;
                let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000);
                match (minutes / 60, minutes % 60) {
                    (0, 0) => write!(f, "{seconds}s"),
                    (0, minutes) => write!(f, "{minutes}m{seconds}s"),
                    (hours, minutes) => write!(f, "{hours}h{minutes}m{seconds}s"),
                }
            }
        }
    }
}

/// `value / unit` as a decimal number without trailing zeros.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{part:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-5s", -5_000_000_000),
            ("1h0m0s", 3_600_000_000_000),
            ("100ms", 100_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("1ns", 1),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h2m3.004s", 3_723_004_000_000),
            ("0.000000001s", 1),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(
                GoDuration::parse(text),
                Ok(GoDuration(nanoseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("foo", "time: invalid duration \"foo\""),
            (".s", "time: invalid duration \".s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("-1", "time: missing unit in duration \"-1\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1S", "time: unknown unit \"S\" in duration \"1S\""),
            ("1s5", "time: missing unit in duration \"1s5\""),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
            (
                "99999999999999999999s",
                "time: invalid duration \"99999999999999999999s\"",
            ),
        ] {
            assert_eq!(
                GoDuration::parse(text).map_err(|e| e.to_string()),
                Err(error.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (7_200_000_000_000, "2h0m0s"),
            (60_000_000_000, "1m0s"),
            (-5_000_000_000, "-5s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(GoDuration(nanoseconds).to_string(), text);
        }
    }
}
