//! What a request's headers say about it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::grpc::deadline;
use crate::status::{self, Refusal};

/// The metadata that etcd's clients send (`api/v3rpc/rpctypes/md.go`), read in one pass.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    /// `grpc-timeout`: how long the client waits, counted from the request's arrival.
    pub timeout: Option<Duration>,
    /// `hasleader: true`: refuse, and end streams, while no leader is known.
    pub requires_leader: bool,
    /// `client-api-version`: the client's own version, `unknown` when it does not say.
    pub client_version: &'a str,
}

impl<'a> Metadata<'a> {
    /// Reads the headers of a gRPC request.
    pub fn read(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let mut metadata = Self {
            timeout: None,
            requires_leader: false,
            client_version: "unknown",
        };
        // There are few headers: looking at each costs less than hashing the three names.
        for (name, value) in headers {
            match name.as_str() {
                "grpc-timeout" => metadata.timeout = Some(deadline::parse(value.as_bytes())?),
                "hasleader" => metadata.requires_leader = value == "true",
                "client-api-version" => metadata.client_version = text(value)?,
                _ => {}
            }
        }
        Ok(metadata)
    }
}

fn text(value: &HeaderValue) -> Result<&str, Refusal> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| status::INVALID_CLIENT_API_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let value = |value| HeaderValue::from_bytes(value).expect("valid");
        let pairs = pairs
            .iter()
            .map(|(name, text)| (http::HeaderName::from_static(name), value(text)));
        pairs.collect()
    }

    #[test]
    fn what_a_client_says_is_read() {
        let headers = headers(&[
            ("te", b"trailers"),
            ("grpc-timeout", b"7S"),
            ("hasleader", b"true"),
            ("client-api-version", b"3.7"),
        ]);
        let metadata = Metadata::read(&headers).expect("valid");
        assert_eq!(metadata.timeout, Some(Duration::from_secs(7)));
        assert_eq!(
            (metadata.requires_leader, metadata.client_version),
            (true, "3.7")
        );
    }

    #[test]
    fn a_client_may_say_nothing() {
        let nothing = HeaderMap::new();
        let metadata = Metadata::read(&nothing).expect("valid");
        assert_eq!(metadata.timeout, None);
        assert_eq!(
            (metadata.requires_leader, metadata.client_version),
            (false, "unknown")
        );
    }

    #[test]
    fn a_version_has_to_be_text() {
        let headers = headers(&[("client-api-version", b"\xff")]);
        assert_eq!(
            Metadata::read(&headers).expect_err("no text"),
            status::INVALID_CLIENT_API_VERSION
        );
    }
}
