//! Checks of a transaction, nested ones included.

use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{RequestOp, TxnRequest};

use super::{intervals, kv};
use crate::status::{self, Refusal};

/// Refuses a transaction that is malformed, too large, or writes a key twice (`checkTxnRequest`,
/// `checkIntervals`).
///
/// `max_ops` bounds the longest of compares, success and failure, summed along the path of nesting.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    shape(request, max_ops)?;
    intervals::branch(&request.success)?;
    intervals::branch(&request.failure)
}

fn shape(request: &TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = max_ops.checked_sub(longest) else {
        return Err(status::TOO_MANY_OPS);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(status::EMPTY_KEY);
    }
    let operations = request.success.iter().chain(&request.failure);
    operations
        .into_iter()
        .try_for_each(|each| operation(each, left))
}

fn operation(operation: &RequestOp, max_ops: usize) -> Result<(), Refusal> {
    match &operation.request {
        Some(Request::RequestRange(range)) => kv::range(range),
        Some(Request::RequestPut(put)) => kv::put(put),
        Some(Request::RequestDeleteRange(delete)) => kv::delete_range(delete),
        Some(Request::RequestTxn(nested)) => shape(nested, max_ops),
        None => Err(status::KEY_NOT_FOUND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use metastore_proto::etcdserverpb::{Compare, RangeRequest};

    fn range() -> RequestOp {
        let request = RangeRequest {
            key: Bytes::from_static(b"k"),
            ..Default::default()
        };
        RequestOp {
            request: Some(Request::RequestRange(request)),
        }
    }

    fn nested(success: Vec<RequestOp>) -> RequestOp {
        let request = TxnRequest {
            success,
            ..Default::default()
        };
        RequestOp {
            request: Some(Request::RequestTxn(request)),
        }
    }

    fn of(success: Vec<RequestOp>) -> TxnRequest {
        TxnRequest {
            success,
            ..Default::default()
        }
    }

    #[test]
    fn an_empty_transaction_is_fine() {
        assert_eq!(txn(&TxnRequest::default(), 128), Ok(()));
    }

    #[test]
    fn each_list_may_have_as_many_operations_as_allowed() {
        let full = TxnRequest {
            success: vec![range(); 128],
            failure: vec![range(); 128],
            ..Default::default()
        };
        assert_eq!(txn(&full, 128), Ok(()));
        assert_eq!(txn(&of(vec![range(); 129]), 128), Err(status::TOO_MANY_OPS));
        let compare = Compare {
            key: Bytes::from_static(b"k"),
            ..Default::default()
        };
        let compares = TxnRequest {
            compare: vec![compare; 129],
            ..Default::default()
        };
        assert_eq!(txn(&compares, 128), Err(status::TOO_MANY_OPS));
    }

    #[test]
    fn a_nested_transaction_has_what_the_outer_one_leaves() {
        assert_eq!(txn(&of(vec![nested(vec![range(); 127])]), 128), Ok(()));
        assert_eq!(
            txn(&of(vec![nested(vec![range(); 128])]), 128),
            Err(status::TOO_MANY_OPS)
        );
    }

    #[test]
    fn keys_and_operations_must_be_given() {
        let compare = TxnRequest {
            compare: vec![Compare::default()],
            ..Default::default()
        };
        assert_eq!(txn(&compare, 128), Err(status::EMPTY_KEY));
        assert_eq!(
            txn(&of(vec![RequestOp { request: None }]), 128),
            Err(status::KEY_NOT_FOUND)
        );
    }
}
