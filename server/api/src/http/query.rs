//! The part of a URL behind the question mark.

/// The decoded values given for `name`, in order. A pair that cannot be decoded is left out, as in Go.
pub(super) fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'));
    pairs.filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key)? == name).then(|| decode(value))?
    })
}

fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, others @ ..] = rest {
        rest = others;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (digits, others) = rest.split_at_checked(2)?;
                rest = others;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            byte => *byte,
        });
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(query: &str, name: &str) -> Vec<String> {
        values(query, name).collect()
    }

    #[test]
    fn a_name_may_be_given_often_and_without_a_value() {
        assert_eq!(all("exclude=A&verbose&exclude=B", "exclude"), ["A", "B"]);
        assert_eq!(all("exclude=A&verbose", "verbose"), [""]);
        assert!(all("", "verbose").is_empty());
    }

    #[test]
    fn values_are_decoded() {
        assert_eq!(all("exclude=a%20b+c", "exclude"), ["a b c"]);
        assert!(all("exclude=%zz&exclude=%2", "exclude").is_empty());
    }
}
