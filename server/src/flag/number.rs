//! Numbers and booleans as Go's `strconv` reads them with base 0.
//!
//! Promises Go's values and Go's two failures, syntax and range. Knows nothing of flags.

/// Why a text is not a value of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not of the form.
    Syntax,
    /// Of the form, but outside the type.
    Range,
}

/// `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Result<bool, Failure> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Failure::Syntax),
    }
}

/// `strconv.ParseInt(text, 0, 64)`.
pub fn parse_signed(text: &str) -> Result<i64, Failure> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = parse_unsigned(digits, u64::MAX)?;
    if negative {
        0i64.checked_sub_unsigned(magnitude).ok_or(Failure::Range)
    } else {
        i64::try_from(magnitude).map_err(|_| Failure::Range)
    }
}

/// `strconv.ParseUint(text, 0, bits)`, where `maximum` is what the bits hold.
pub fn parse_unsigned(text: &str, maximum: u64) -> Result<u64, Failure> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    if !underscores_fit(digits, prefixed) {
        return Err(Failure::Syntax);
    }
    let mut value: u64 = 0;
    let mut overflow = false;
    let mut seen = false;
    for character in digits.chars().filter(|c| *c != '_') {
        let digit = character.to_digit(radix).ok_or(Failure::Syntax)?;
        seen = true;
        match value
            .checked_mul(u64::from(radix))
            .and_then(|v| v.checked_add(u64::from(digit)))
        {
            Some(next) => value = next,
            None => overflow = true,
        }
    }
    if !seen {
        return Err(Failure::Syntax);
    }
    if overflow || value > maximum {
        Err(Failure::Range)
    } else {
        Ok(value)
    }
}

/// Go allows `_` between digits and after the base's prefix, and only there.
fn underscores_fit(digits: &str, prefixed: bool) -> bool {
    !digits.ends_with('_') && !digits.contains("__") && (prefixed || !digits.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_every_base_of_go() {
        for (text, value) in [
            ("0", Ok(0)),
            ("10", Ok(10)),
            ("+10", Ok(10)),
            ("-10", Ok(-10)),
            ("0x10", Ok(16)),
            ("0b11", Ok(3)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("1_000", Ok(1000)),
            ("0x_10", Ok(16)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Failure::Range)),
            ("99999999999999999999", Err(Failure::Range)),
            ("", Err(Failure::Syntax)),
            ("-", Err(Failure::Syntax)),
            ("x", Err(Failure::Syntax)),
            ("1.5", Err(Failure::Syntax)),
            ("08", Err(Failure::Syntax)),
            ("0x", Err(Failure::Syntax)),
            ("_1", Err(Failure::Syntax)),
            ("1_", Err(Failure::Syntax)),
            ("1__0", Err(Failure::Syntax)),
            (" 1", Err(Failure::Syntax)),
        ] {
            assert_eq!(parse_signed(text), value, "{text:?}");
        }
    }

    #[test]
    fn unsigned_integers_keep_their_bounds() {
        assert_eq!(
            parse_unsigned("4294967295", u32::MAX.into()),
            Ok(4_294_967_295)
        );
        assert_eq!(
            parse_unsigned("4294967296", u32::MAX.into()),
            Err(Failure::Range)
        );
        assert_eq!(parse_unsigned("-1", u64::MAX), Err(Failure::Syntax));
    }

    #[test]
    fn booleans_are_what_go_takes_for_booleans() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(text), Ok(true));
        }
        for text in ["yes", "on", "tRUE", ""] {
            assert_eq!(parse_bool(text), Err(Failure::Syntax));
        }
    }
}
