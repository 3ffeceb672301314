//! What a request would add to the store, as etcd estimates it (server/storage/quota.go).

use metastore_proto::commandpb::{Command, command::Request};
use metastore_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op};

/// Bytes that etcd adds to a key and its value (kvOverhead).
const KEY_VALUE_OVERHEAD: usize = 256;
/// Bytes that etcd counts for a lease (leaseOverhead).
const LEASE_OVERHEAD: usize = 64;

/// Bytes that a request would add.
pub(crate) fn cost(request: &Request) -> usize {
    match request {
        Request::Put(put) => put_cost(put),
        Request::Txn(txn) => txn_cost(txn),
        Request::LeaseGrant(_) => LEASE_OVERHEAD,
        _ => 0,
    }
}

/// Whether a full disk refuses a command: what the quota refuses too. Compactions and deletions are how room is made.
pub(crate) fn grows(command: &Command) -> bool {
    command
        .request
        .as_ref()
        .is_some_and(|request| cost(request) > 0)
}

/// Bytes that a put would add.
fn put_cost(put: &PutRequest) -> usize {
    KEY_VALUE_OVERHEAD + put.key.len() + put.value.len()
}

/// Bytes that the dearer branch of a transaction would add.
fn txn_cost(txn: &TxnRequest) -> usize {
    let branch = |ops: &[RequestOp]| {
        ops.iter()
            .map(|op| match &op.request {
                Some(request_op::Request::RequestPut(put)) => put_cost(put),
                _ => 0,
            })
            .sum::<usize>()
    };
    branch(&txn.success).max(branch(&txn.failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: usize) -> PutRequest {
        PutRequest {
            key: "k".into(),
            value: vec![0; bytes].into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_transaction_costs_its_dearer_branch() {
        let op = |bytes| RequestOp {
            request: Some(request_op::Request::RequestPut(put(bytes))),
        };
        let txn = TxnRequest {
            success: vec![op(1)],
            failure: vec![op(10), op(10)],
            ..Default::default()
        };
        assert_eq!(txn_cost(&txn), 2 * (256 + 1 + 10));
        assert_eq!(put_cost(&put(1)), 258);
    }
}
