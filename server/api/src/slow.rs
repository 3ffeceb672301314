//! What is logged of requests that take long, in etcd's words and with its keys
//! (`server/etcdserver/txn/util.go`, `server/etcdserver/api/v3rpc/interceptor.go`).
//!
//! Promises that no value is logged. Must not decide what is slow.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use metastore_proto::etcdserverpb::TxnRequest;

use crate::grpc::{Code, Method};

/// A unary request took longer than `--warning-unary-request-duration`.
#[cold]
pub(crate) fn unary(method: Method, took: Duration, code: Code) {
    tracing::warn!(
        "time spent" = ?took,
        "response type" = format_args!("/{}/{}", method.service(), method.name()),
        "grpc code" = code.name(),
        "request stats"
    );
}

/// A read took longer than `--warning-apply-duration`, the wait for the leader included.
#[cold]
pub(crate) fn read(prefix: &str, request: &dyn fmt::Display, took: Duration, expected: Duration) {
    tracing::warn!(
        ?took,
        expected_duration = ?expected,
        prefix,
        request = %request,
        "apply request took too long"
    );
}

/// A range as the log shows it.
pub(crate) struct RangeShown {
    pub(crate) key: Bytes,
    pub(crate) end: Bytes,
}

impl fmt::Display for RangeShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key:\"{}\" ", self.key.escape_ascii())?;
        match self.end.is_empty() {
            true => Ok(()),
            false => write!(f, "range_end:\"{}\" ", self.end.escape_ascii()),
        }
    }
}

/// A transaction as the log shows it: how much there is of it.
pub(crate) struct TxnShown {
    compares: usize,
    success: usize,
    failure: usize,
}

impl TxnShown {
    pub(crate) fn of(txn: &TxnRequest) -> Self {
        Self {
            compares: txn.compare.len(),
            success: txn.success.len(),
            failure: txn.failure.len(),
        }
    }
}

impl fmt::Display for TxnShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            compares,
            success,
            failure,
        } = self;
        write!(f, "compares:{compares} success:{success} failure:{failure}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_shown_by_its_keys() {
        let shown = |key: &'static str, end: &'static str| {
            let (key, end) = (Bytes::from(key), Bytes::from(end));
            RangeShown { key, end }.to_string()
        };
        assert_eq!(shown("a\n", ""), "key:\"a\\n\" ");
        assert_eq!(shown("a", "\0"), "key:\"a\" range_end:\"\\x00\" ");
    }
}
