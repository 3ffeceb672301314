//! Which commands may take long to apply: those that reach over ranges of keys of unknown size.

use metastore_proto::commandpb::{Command, command::Request};
use metastore_proto::etcdserverpb::{RequestOp, TxnRequest, request_op};

/// Whether the time of a command grows with what is stored.
pub(crate) fn takes_long(command: &Command) -> bool {
    match &command.request {
        Some(Request::DeleteRange(delete)) => !delete.range_end.is_empty(),
        Some(Request::Txn(txn)) => txn_takes_long(txn),
        // A lease may have any number of keys.
        Some(Request::LeaseRevoke(_)) => true,
        _ => false,
    }
}

fn txn_takes_long(txn: &TxnRequest) -> bool {
    txn.compare
        .iter()
        .any(|compare| !compare.range_end.is_empty())
        || txn.success.iter().chain(&txn.failure).any(op_takes_long)
}

fn op_takes_long(op: &RequestOp) -> bool {
    match &op.request {
        Some(request_op::Request::RequestRange(range)) => !range.range_end.is_empty(),
        Some(request_op::Request::RequestDeleteRange(delete)) => !delete.range_end.is_empty(),
        Some(request_op::Request::RequestTxn(txn)) => txn_takes_long(txn),
        Some(request_op::Request::RequestPut(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

    use super::*;

    fn delete(range_end: &'static str) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: "a".into(),
            range_end: range_end.into(),
            prev_kv: false,
        }
    }

    fn command(request: Request) -> Command {
        Command {
            caller: None,
            request: Some(request),
        }
    }

    fn txn(request: request_op::Request) -> TxnRequest {
        let op = RequestOp {
            request: Some(request),
        };
        TxnRequest {
            compare: Vec::new(),
            success: Vec::new(),
            failure: vec![op],
        }
    }

    #[test]
    fn ranges_take_long_wherever_they_are_and_single_keys_do_not() {
        let put = Request::Put(PutRequest::default());
        assert!(!takes_long(&command(put)));
        for (end, expected) in [("", false), ("b", true)] {
            let one = delete(end);
            assert_eq!(
                takes_long(&command(Request::DeleteRange(one.clone()))),
                expected
            );
            let inner = txn(request_op::Request::RequestDeleteRange(one));
            assert_eq!(takes_long(&command(Request::Txn(inner.clone()))), expected);
            let outer = txn(request_op::Request::RequestTxn(inner));
            assert_eq!(takes_long(&command(Request::Txn(outer))), expected);
        }
    }
}
