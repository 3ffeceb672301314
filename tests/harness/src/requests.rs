//! Short ways to write the commonest requests.

use bytes::Bytes;
use metastore_proto::etcdserverpb::{PutRequest, RangeRequest};

/// A put of one key, without extras.
pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

/// A linearizable read of one key.
pub fn get(key: impl Into<Bytes>) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}
