//! What a request's headers say about it.

use http::HeaderMap;

use crate::grpc::deadline;
use crate::status::{self, Refusal};
use std::time::Duration;

/// The metadata that etcd's clients send (`api/v3rpc/rpctypes/md.go`), read once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Metadata {
    /// `grpc-timeout`: how long the client waits, counted from the request's arrival.
    pub timeout: Option<Duration>,
    /// `hasleader: true`: refuse, and end streams, while no leader is known.
    pub requires_leader: bool,
}

impl Metadata {
    /// Reads the headers of a gRPC request.
    pub fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let timeout = match headers.get("grpc-timeout") {
            None => None,
            Some(value) => Some(deadline::parse(value.as_bytes())?),
        };
        Ok(Self {
            timeout,
            requires_leader: headers
                .get("hasleader")
                .is_some_and(|value| value == "true"),
        })
    }
}

/// The client's own version (`client-api-version`), `unknown` when it does not say.
pub(crate) fn client_version(headers: &HeaderMap) -> Result<&str, Refusal> {
    match headers.get("client-api-version") {
        None => Ok("unknown"),
        Some(value) => {
            std::str::from_utf8(value.as_bytes()).map_err(|_| status::INVALID_CLIENT_API_VERSION)
        }
    }
}
