//! Whether the operations of a transaction write a key twice.
//!
//! Follows `checkIntervals` of `server/etcdserver/api/v3rpc/key.go`, order of the checks included: the
//! two branches of a nested transaction exclude each other and may therefore write the same key; what a
//! nested transaction deletes counts for those after it, not for those before it.

use std::collections::{BTreeMap, HashSet};

use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{DeleteRangeRequest, RequestOp};

use crate::status::{self, Refusal};

/// Up to so many puts are compared with each other rather than gathered in a set.
const FEW: usize = 8;

/// Refuses a branch that puts a key twice, or puts a key that it deletes.
pub(super) fn branch(operations: &[RequestOp]) -> Result<(), Refusal> {
    if is_simple(operations) {
        return distinct_puts(operations);
    }
    writes(operations).map(|_| ())
}

fn is_simple(operations: &[RequestOp]) -> bool {
    let plain = |operation: &RequestOp| {
        matches!(
            operation.request,
            Some(Request::RequestRange(_) | Request::RequestPut(_))
        )
    };
    operations.len() <= FEW && operations.iter().all(plain)
}

fn distinct_puts(operations: &[RequestOp]) -> Result<(), Refusal> {
    let mut rest = operations;
    while let [first, others @ ..] = rest {
        rest = others;
        let Some(key) = put_key(first) else { continue };
        if others.iter().any(|other| put_key(other) == Some(key)) {
            return Err(status::DUPLICATE_KEY);
        }
    }
    Ok(())
}

fn put_key(operation: &RequestOp) -> Option<&[u8]> {
    match &operation.request {
        Some(Request::RequestPut(put)) => Some(&put.key),
        _ => None,
    }
}

/// What a branch writes, however deep.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

fn writes(operations: &[RequestOp]) -> Result<Writes<'_>, Refusal> {
    let mut all = Writes::default();
    for operation in operations {
        if let Some(Request::RequestDeleteRange(delete)) = &operation.request {
            all.deletes.add(delete);
        }
    }
    for operation in operations {
        let Some(Request::RequestTxn(nested)) = &operation.request else {
            continue;
        };
        let success = writes(&nested.success)?;
        let failure = writes(&nested.failure)?;
        for &key in &success.puts {
            all.put(key)?;
        }
        for &key in &failure.puts {
            if success.puts.contains(key) {
                continue;
            }
            all.put(key)?;
        }
        all.deletes.merge(success.deletes);
        all.deletes.merge(failure.deletes);
    }
    for operation in operations {
        if let Some(key) = put_key(operation) {
            all.put(key)?;
        }
    }
    Ok(all)
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), Refusal> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(status::DUPLICATE_KEY);
        }
        Ok(())
    }
}

/// The keys that are deleted: single ones, and ranges as disjoint intervals `begin -> end`.
#[derive(Default)]
struct Deletes<'a> {
    keys: HashSet<&'a [u8]>,
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    fn add(&mut self, delete: &'a DeleteRangeRequest) {
        if delete.range_end.is_empty() {
            self.keys.insert(&delete.key);
        } else {
            self.add_range(&delete.key, &delete.range_end);
        }
    }

    /// An end at or before the beginning covers nothing; etcd takes "\0", "to the end", for such a one too.
    fn add_range(&mut self, begin: &'a [u8], end: &'a [u8]) {
        if begin >= end {
            return;
        }
        let (mut begin, mut end) = (begin, end);
        if let Some((&before, &before_end)) = self.ranges.range(..=begin).next_back()
            && before_end >= begin
        {
            begin = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.ranges.range(begin..=end).next() {
            end = end.max(next_end);
            self.ranges.remove(next);
        }
        self.ranges.insert(begin, end);
    }

    fn merge(&mut self, other: Self) {
        self.keys.extend(other.keys);
        for (begin, end) in other.ranges {
            self.add_range(begin, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before = self.ranges.range(..=key).next_back();
        self.keys.contains(key) || before.is_some_and(|(_, &end)| key < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use metastore_proto::etcdserverpb::{PutRequest, TxnRequest};

    fn put(key: &'static str) -> RequestOp {
        let request = PutRequest {
            key: Bytes::from(key),
            ..Default::default()
        };
        RequestOp {
            request: Some(Request::RequestPut(request)),
        }
    }

    fn delete(key: &'static str, end: &'static str) -> RequestOp {
        let request = DeleteRangeRequest {
            key: Bytes::from(key),
            range_end: Bytes::from(end),
            ..Default::default()
        };
        RequestOp {
            request: Some(Request::RequestDeleteRange(request)),
        }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        let request = TxnRequest {
            success,
            failure,
            ..Default::default()
        };
        RequestOp {
            request: Some(Request::RequestTxn(request)),
        }
    }

    fn refused(operations: &[RequestOp]) -> bool {
        branch(operations).is_err()
    }

    #[test]
    fn a_key_is_put_once() {
        assert!(!refused(&[put("a"), put("b")]));
        assert!(refused(&[put("a"), put("b"), put("a")]));
        let many: Vec<_> = (0..20).map(|_| put("a")).collect();
        assert!(refused(&many));
    }

    #[test]
    fn a_key_is_not_both_put_and_deleted() {
        assert!(refused(&[put("a"), delete("a", "")]));
        assert!(!refused(&[put("b"), delete("a", "")]));
        assert!(refused(&[delete("a", "c"), put("b")]));
        assert!(!refused(&[delete("a", "c"), put("c")]));
        assert!(refused(&[
            delete("a", "c"),
            delete("b", "f"),
            delete("e", "k"),
            put("j")
        ]));
    }

    #[test]
    fn deleting_twice_is_fine() {
        assert!(!refused(&[
            delete("a", "c"),
            delete("b", ""),
            delete("a", "c")
        ]));
    }

    #[test]
    fn a_delete_to_the_end_is_not_looked_at() {
        assert!(!refused(&[delete("a", "\0"), put("b")]));
        assert!(!refused(&[delete("c", "a"), put("b")]));
    }

    #[test]
    fn branches_that_exclude_each_other_may_write_the_same() {
        assert!(!refused(&[nested(vec![put("a")], vec![put("a")])]));
        assert!(!refused(&[nested(vec![put("a")], vec![delete("a", "")])]));
        assert!(refused(&[nested(vec![put("a")], vec![put("a")]), put("a")]));
        assert!(refused(&[
            nested(vec![put("a")], vec![]),
            nested(vec![], vec![put("a")])
        ]));
    }

    #[test]
    fn a_nested_delete_counts_for_those_after_it() {
        let (deleting, putting) = (
            nested(vec![delete("a", "c")], vec![]),
            nested(vec![put("b")], vec![]),
        );
        assert!(refused(&[deleting.clone(), putting.clone()]));
        assert!(!refused(&[putting, deleting.clone()]));
        assert!(refused(&[deleting, put("b")]));
    }

    #[test]
    fn an_outer_delete_counts_for_nested_puts() {
        assert!(refused(&[nested(vec![put("b")], vec![]), delete("a", "c")]));
        assert!(refused(&[
            nested(vec![], vec![nested(vec![put("b")], vec![])]),
            delete("b", "")
        ]));
    }
}
