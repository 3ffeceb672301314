//! The header `grpc-timeout`.

use std::time::Duration;

use crate::grpc::Code;
use crate::status::Refusal;

/// At most eight digits and a unit.
const LONGEST: usize = 9;

/// Reads a value such as `5S` or `200m`.
pub(super) fn parse(value: &[u8]) -> Result<Duration, Refusal> {
    read(value).ok_or_else(|| {
        let text = format!(
            "malformed grpc-timeout: {:?}",
            String::from_utf8_lossy(value)
        );
        Refusal::told(Code::Internal, text)
    })
}

fn read(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || value.len() > LONGEST || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits
        .iter()
        .fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_protocol() {
        assert_eq!(parse(b"5S"), Ok(Duration::from_secs(5)));
        assert_eq!(
            parse(b"99999999H"),
            Ok(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(parse(b"4999912u"), Ok(Duration::from_micros(4_999_912)));
        assert_eq!(parse(b"20m"), Ok(Duration::from_millis(20)));
    }

    #[test]
    fn anything_else_is_malformed() {
        for value in ["", "S", "5", "5s", "-5S", "999999999S", "1.5S"] {
            assert!(parse(value.as_bytes()).is_err(), "{value}");
        }
    }
}
