//! Short ways to write requests.

use bytes::Bytes;
pub use metastore_harness::requests::{get, put};
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, request_op,
};

/// A read of `[key, end)`.
pub fn range(key: impl Into<Bytes>, end: impl Into<Bytes>) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

/// A read of every key with this prefix.
pub fn prefix(prefix: &str) -> RangeRequest {
    range(prefix.to_owned(), prefix_end(prefix))
}

/// A read of every key.
pub fn all() -> RangeRequest {
    range("\0", "\0")
}

/// A delete of one key.
pub fn delete(key: impl Into<Bytes>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

/// A delete of `[key, end)`.
pub fn delete_range(key: impl Into<Bytes>, end: impl Into<Bytes>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

/// A watch of one key, from now on.
pub fn watch(key: impl Into<Bytes>) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        ..Default::default()
    }
}

/// A watch of every key with this prefix.
pub fn watch_prefix(prefix: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix),
        ..Default::default()
    }
}

/// The smallest key after all keys with this prefix.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

/// Something a transaction can do.
pub trait IntoOp {
    /// As an operation of a transaction.
    fn op(self) -> RequestOp;
}

macro_rules! into_op {
    ($($request:ty => $variant:ident),*) => {
        $(impl IntoOp for $request {
            fn op(self) -> RequestOp {
                RequestOp { request: Some(request_op::Request::$variant(self)) }
            }
        })*
    };
}
into_op!(PutRequest => RequestPut, RangeRequest => RequestRange, DeleteRangeRequest => RequestDeleteRange, TxnRequest => RequestTxn);

/// A transaction.
pub fn txn(
    compare: impl IntoIterator<Item = Compare>,
    success: impl IntoIterator<Item = RequestOp>,
    failure: impl IntoIterator<Item = RequestOp>,
) -> TxnRequest {
    TxnRequest {
        compare: compare.into_iter().collect(),
        success: success.into_iter().collect(),
        failure: failure.into_iter().collect(),
    }
}

/// A comparison of one key; the target follows from the union's member.
pub fn compare(key: impl Into<Bytes>, result: CompareResult, union: TargetUnion) -> Compare {
    let target = match union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

/// "The key's mod revision is this" (0: the key does not exist), Kubernetes' usual guard.
pub fn unchanged_since(key: impl Into<Bytes>, mod_revision: i64) -> Compare {
    compare(
        key,
        CompareResult::Equal,
        TargetUnion::ModRevision(mod_revision),
    )
}
