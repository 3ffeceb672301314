//! `--auth-token` and `--bcrypt-cost`; follows `decomposeOpts` and `NewTokenProvider` in `server/auth/store.go`.

use std::collections::BTreeMap;

use super::{AuthToken, Invalid};
use crate::logging::Note;

const BCRYPT_MIN: u64 = 4;
const BCRYPT_MAX: u64 = 31;
const BCRYPT_DEFAULT: u32 = 10;

/// # Errors
/// Where the type is unknown, an option is not `name=value`, or one stands twice.
pub(super) fn token(text: &str) -> Result<AuthToken, Invalid> {
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    for part in parts {
        let pair: Vec<_> = part.split('=').collect();
        let [name, value] = pair[..] else {
            return Err(Invalid::AuthOptions);
        };
        if options.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Invalid::AuthOptions);
        }
    }
    match kind {
        "simple" => Ok(AuthToken::Simple),
        "jwt" if options.contains_key("sign-method") => Ok(AuthToken::Jwt(options)),
        "" => Ok(AuthToken::None),
        _ => Err(Invalid::AuthOptions),
    }
}

/// The cost, or etcd's default and a warning where it is none.
pub(super) fn bcrypt_cost(given: u64, notes: &mut Vec<Note>) -> u32 {
    if (BCRYPT_MIN..=BCRYPT_MAX).contains(&given) {
        return given as u32;
    }
    notes.push(
        Note::warn("use default bcrypt cost instead of the invalid given cost")
            .with("min-cost", BCRYPT_MIN)
            .with("max-cost", BCRYPT_MAX)
            .with("default-cost", BCRYPT_DEFAULT)
            .with("given-cost", given),
    );
    BCRYPT_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_and_its_options_are_taken_apart() {
        assert_eq!(token("simple").expect("a token"), AuthToken::Simple);
        assert_eq!(token("").expect("no token"), AuthToken::None);
        let Ok(AuthToken::Jwt(options)) = token("jwt,sign-method=HS256,ttl=10m") else {
            panic!()
        };
        assert_eq!(options["ttl"], "10m");
        for text in [
            "foo",
            "jwt",
            "jwt,ttl=10m",
            "simple,a",
            "simple,a=b=c",
            "jwt,sign-method=a,sign-method=b",
        ] {
            assert_eq!(
                token(text).expect_err(text).to_string(),
                "auth: invalid auth options"
            );
        }
    }

    #[test]
    fn a_cost_outside_of_bcrypt_becomes_the_default() {
        let mut notes = Vec::new();
        assert_eq!(
            (
                bcrypt_cost(4, &mut notes),
                bcrypt_cost(31, &mut notes),
                notes.len()
            ),
            (4, 31, 0)
        );
        assert_eq!(
            (
                bcrypt_cost(1, &mut notes),
                bcrypt_cost(32, &mut notes),
                notes.len()
            ),
            (10, 10, 2)
        );
    }
}
