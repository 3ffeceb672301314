//! Errors of the operating system as Go words them: `open /path: no such file or directory`.
//!
//! etcd's messages carry them, and people search for them.

use std::io;
use std::path::Path;

/// What Go says when `operation` (`open`, `mkdir`, `bind`) fails on `path`.
pub fn path_error(operation: &str, path: &Path, error: &io::Error) -> String {
    format!("{operation} {}: {}", path.display(), os_error(error))
}

/// The text of `strerror` in lower case, without Rust's error number.
pub fn os_error(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    match (letters.next(), letters.as_str()) {
        // `I/O error` and the like keep their capitals.
        (Some(first), rest) if rest.starts_with(|c: char| c.is_lowercase() || c == ' ') => {
            first.to_lowercase().collect::<String>() + rest
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_told_as_go_tells_it() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(
            path_error("open", Path::new("/nope"), &error),
            "open /nope: no such file or directory"
        );
        assert_eq!(
            os_error(&io::Error::other("unexpected end")),
            "unexpected end"
        );
    }
}
