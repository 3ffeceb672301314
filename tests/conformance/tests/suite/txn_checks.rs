//! KV.Txn: what is refused before anything happens.

use anyhow::Result;
use metastore_conformance::build::{
    IntoOp, all, compare, delete, delete_range, get, put, range, txn, unchanged_since,
};
use metastore_conformance::{Session, Setup, check, check_with, expect, fails};
use metastore_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use metastore_proto::etcdserverpb::{
    CompactionRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use tonic::Code;

const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";
const TOO_MANY: &str = "etcdserver: too many operations in txn request";
const EMPTY: &str = "etcdserver: key is not provided";

async fn refused(t: &Session, request: TxnRequest, code: Code, text: &str) -> Result<()> {
    fails(t.txn(request).await, code, text)?;
    expect(
        "nothing was written",
        t.range(all()).await?.header.unwrap_or_default().revision,
        1,
    )
}

fn nested(success: impl IntoIterator<Item = RequestOp>) -> RequestOp {
    txn([], success, []).op()
}

#[test]
fn the_same_key_may_be_put_only_once() -> Result<()> {
    check(async |t| {
        let put_a = || put("a", "1").op();
        for request in [
            txn([], [put_a(), put_a()], []),
            txn([], [], [put_a(), put_a()]),
            txn([], [put_a(), nested([put_a()])], []),
            txn([], [nested([put_a()]), nested([put_a()])], []),
            txn([], [nested([nested([put_a()])]), put_a()], []),
            txn(
                [],
                [txn([], [put_a()], []).op(), txn([], [], [put_a()]).op()],
                [],
            ),
            txn([], [put_a(), txn([], [], [put_a()]).op()], []),
        ] {
            refused(t, request, Code::InvalidArgument, DUPLICATE).await?;
        }
        Ok(())
    })
}

#[test]
fn the_two_branches_of_a_transaction_may_put_the_same_key() -> Result<()> {
    check(async |t| {
        let put_a = || put("a", "1").op();
        t.txn(txn([], [put_a()], [put_a()])).await?;
        t.txn(txn([], [txn([], [put_a()], [put_a()]).op()], []))
            .await?;
        t.txn(txn([], [nested([put_a()])], [nested([put_a()])]))
            .await?;
        expect("version", t.range(get("a")).await?.kvs[0].version, 3)
    })
}

#[test]
fn a_key_may_not_be_put_and_deleted_at_once() -> Result<()> {
    check(async |t| {
        let put_b = || put("b", "1").op();
        for request in [
            txn([], [put_b(), delete("b").op()], []),
            txn([], [delete("b").op(), put_b()], []),
            txn([], [delete_range("a", "c").op(), put_b()], []),
            txn([], [delete_range("b", "\0").op(), put_b()], []),
            txn([], [delete_range("\0", "\0").op(), put_b()], []),
            txn([], [nested([put_b()]), delete("b").op()], []),
            txn([], [nested([delete("b").op()]), put_b()], []),
            txn(
                [],
                [nested([delete_range("a", "z").op()]), nested([put_b()])],
                [],
            ),
            txn([], [nested([nested([delete("b").op()])]), put_b()], []),
            txn([], [txn([], [], [delete("b").op()]).op(), put_b()], []),
        ] {
            // Nested overlaps are decided in an order of etcd's own; what it says is recorded.
            let _ = t.txn(request).await;
        }
        t.range(all()).await?;
        Ok(())
    })
}

#[test]
fn deletes_beside_a_put_are_allowed() -> Result<()> {
    check(async |t| {
        for request in [
            txn(
                [],
                [put("b", "1").op(), delete("a").op(), delete("c").op()],
                [],
            ),
            txn(
                [],
                [
                    put("b", "1").op(),
                    delete_range("c", "z").op(),
                    delete_range("a", "b").op(),
                ],
                [],
            ),
            txn([], [put("b", "1").op(), delete_range("b\0", "\0").op()], []),
            txn([], [put("b", "1").op()], [delete("b").op()]),
            txn(
                [],
                [txn([], [put("b", "1").op()], [delete("b").op()]).op()],
                [],
            ),
            txn([], [delete_range("z", "a").op(), put("b", "1").op()], []),
        ] {
            let _ = t.txn(request).await;
        }
        t.range(all()).await?;
        Ok(())
    })
}

#[test]
fn the_number_of_operations_is_bounded() -> Result<()> {
    check(async |t| {
        let puts = |count: usize| (0..count).map(|number| put(format!("k{number:03}"), "v").op());
        let compares = |count: usize| (0..count).map(|_| unchanged_since("missing", 0));
        for request in [
            txn([], puts(129), []),
            txn([], [], puts(129)),
            txn(compares(129), [], []),
            txn([], [nested(puts(128))], []),
            txn([], [nested([nested(puts(127))])], []),
            txn([], [put("a", "1").op(), nested(puts(127))], []),
            txn(compares(2), [nested(puts(127))], []),
        ] {
            refused(t, request, Code::InvalidArgument, TOO_MANY).await?;
        }
        for request in [
            txn(compares(128), puts(128), puts(128)),
            txn([], [nested(puts(127))], []),
            txn([], [nested([nested(puts(126))])], []),
            txn([], [nested(puts(126)), put("x", "1").op()], []),
        ] {
            t.txn(request).await?;
        }
        Ok(())
    })
}

#[test]
fn the_bound_on_operations_follows_its_flag() -> Result<()> {
    check_with(&Setup::single().flags(&["--max-txn-ops=3"]), async |t| {
        let puts = |count: usize| (0..count).map(|number| put(format!("k{number}"), "v").op());
        refused(t, txn([], puts(4), []), Code::InvalidArgument, TOO_MANY).await?;
        refused(
            t,
            txn([], [nested(puts(3))], []),
            Code::InvalidArgument,
            TOO_MANY,
        )
        .await?;
        t.txn(txn([], puts(3), [])).await?;
        t.txn(txn([], [nested(puts(2))], [])).await?;
        Ok(())
    })
}

#[test]
fn every_operation_is_checked_like_a_request_of_its_own() -> Result<()> {
    check(async |t| {
        let invalid = Code::InvalidArgument;
        for (op, text) in [
            (put("", "1").op(), EMPTY),
            (get("").op(), EMPTY),
            (delete("").op(), EMPTY),
            (
                PutRequest {
                    ignore_value: true,
                    ..put("a", "1")
                }
                .op(),
                "etcdserver: value is provided",
            ),
            (
                PutRequest {
                    ignore_lease: true,
                    lease: 1,
                    ..put("a", "1")
                }
                .op(),
                "etcdserver: lease is provided",
            ),
            (
                RangeRequest {
                    sort_order: 7,
                    ..get("a")
                }
                .op(),
                "etcdserver: invalid sort option",
            ),
            (
                RangeRequest {
                    sort_target: 7,
                    ..get("a")
                }
                .op(),
                "etcdserver: invalid sort option",
            ),
            (RequestOp { request: None }, "etcdserver: key not found"),
        ] {
            refused(t, txn([], [op.clone()], []), invalid, text).await?;
            refused(t, txn([], [], [op.clone()]), invalid, text).await?;
            refused(
                t,
                txn([], [put("a", "1").op(), nested([op])], []),
                invalid,
                text,
            )
            .await?;
        }
        let empty = compare("", CompareResult::Equal, TargetUnion::Version(0));
        refused(t, txn([empty.clone()], [], []), invalid, EMPTY).await?;
        refused(t, txn([], [txn([empty], [], []).op()], []), invalid, EMPTY).await
    })
}

#[test]
fn a_transaction_with_an_unknown_lease_writes_nothing() -> Result<()> {
    check(async |t| {
        let text = "etcdserver: requested lease not found";
        let leased = || {
            PutRequest {
                lease: 7,
                ..put("b", "1")
            }
            .op()
        };
        refused(
            t,
            txn([], [put("a", "1").op(), leased()], []),
            Code::NotFound,
            text,
        )
        .await?;
        refused(
            t,
            txn([], [put("a", "1").op(), nested([leased()])], []),
            Code::NotFound,
            text,
        )
        .await?;
        t.txn(txn([], [put("a", "1").op()], [leased()])).await?;
        expect(
            "only the branch taken counts",
            t.range(all()).await?.count,
            1,
        )
    })
}

#[test]
fn a_transaction_that_ignores_what_is_not_there_writes_nothing() -> Result<()> {
    check(async |t| {
        let text = "etcdserver: key not found";
        let value = || {
            PutRequest {
                ignore_value: true,
                ..put("b", "")
            }
            .op()
        };
        let lease = || {
            PutRequest {
                ignore_lease: true,
                ..put("b", "1")
            }
            .op()
        };
        refused(
            t,
            txn([], [put("a", "1").op(), value()], []),
            Code::InvalidArgument,
            text,
        )
        .await?;
        refused(
            t,
            txn([], [put("a", "1").op(), lease()], []),
            Code::InvalidArgument,
            text,
        )
        .await?;
        refused(
            t,
            txn([], [put("a", "1").op(), nested([lease()])], []),
            Code::InvalidArgument,
            text,
        )
        .await
    })
}

#[test]
fn a_transaction_that_reads_a_compacted_or_future_revision_writes_nothing() -> Result<()> {
    check(async |t| {
        for number in 0..5 {
            t.put(put("a", number.to_string())).await?;
        }
        t.compact(CompactionRequest {
            revision: 4,
            physical: true,
        })
        .await?;
        let at = |revision| {
            RangeRequest {
                revision,
                ..range("a", "b")
            }
            .op()
        };
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        let future = "etcdserver: mvcc: required revision is a future revision";
        for (revision, text) in [
            (3, compacted),
            (1, compacted),
            (7, future),
            (8, future),
            (i64::MAX, future),
        ] {
            fails(
                t.txn(txn([], [at(revision)], [])).await,
                Code::OutOfRange,
                text,
            )?;
            fails(
                t.txn(txn([], [put("b", "1").op(), at(revision)], [])).await,
                Code::OutOfRange,
                text,
            )?;
            fails(
                t.txn(txn([], [nested([at(revision)]), put("b", "1").op()], []))
                    .await,
                Code::OutOfRange,
                text,
            )?;
        }
        t.txn(txn([], [at(4), at(5), at(6)], [])).await?;
        let _ = t.txn(txn([], [at(-1)], [])).await;
        expect(
            "nothing was written",
            t.range(all()).await?.header.unwrap_or_default().revision,
            6,
        )
    })
}

#[test]
fn a_comparison_at_the_edge_of_a_compaction() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        t.put(put("a", "2")).await?;
        t.compact(CompactionRequest {
            revision: 3,
            physical: true,
        })
        .await?;
        let answer = t
            .txn(txn(
                [unchanged_since("a", 3)],
                [put("a", "3").op()],
                [get("a").op()],
            ))
            .await?;
        expect("succeeded", answer.succeeded, true)?;
        let answer = t
            .txn(txn(
                [unchanged_since("a", 3)],
                [put("a", "3").op()],
                [get("a").op()],
            ))
            .await?;
        expect("succeeded", answer.succeeded, false)
    })
}
