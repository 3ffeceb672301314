//! KV.Txn: comparisons, branches, nesting, and what operations see of each other.

use anyhow::Result;
use metastore_conformance::build::{
    IntoOp, all, compare, delete, delete_range, get, put, range, txn, unchanged_since, watch,
};
use metastore_conformance::{Session, check, expect};
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest,
    WatchCreateRequest,
};

const RESULTS: [CompareResult; 4] = [
    CompareResult::Equal,
    CompareResult::Greater,
    CompareResult::Less,
    CompareResult::NotEqual,
];

async fn fill(t: &Session) -> Result<()> {
    t.lease_grant(1000, 7).await?;
    t.put(put("a", "1")).await?;
    t.put(put("b", "1")).await?;
    t.put(PutRequest {
        lease: 7,
        ..put("a", "2")
    })
    .await?;
    t.put(put("c", "3")).await?;
    Ok(())
}

#[test]
fn every_comparison_of_every_target_below_at_and_above() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        // a: create 2, mod 4, version 2, value "2", lease 7
        let mut unions = Vec::new();
        for offset in [-1, 0, 1] {
            unions.push(TargetUnion::Version(2 + offset));
            unions.push(TargetUnion::CreateRevision(2 + offset));
            unions.push(TargetUnion::ModRevision(4 + offset));
            unions.push(TargetUnion::Lease(7 + offset));
            unions.push(TargetUnion::Value(((2 + offset).to_string()).into()));
        }
        for union in unions {
            for result in RESULTS {
                for key in ["a", "missing"] {
                    t.txn(txn([compare(key, result, union.clone())], [], []))
                        .await?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_missing_key_compares_as_zero_except_by_value() -> Result<()> {
    check(async |t| {
        for union in [
            TargetUnion::Version(0),
            TargetUnion::CreateRevision(0),
            TargetUnion::ModRevision(0),
            TargetUnion::Lease(0),
        ] {
            let answer = t
                .txn(txn([compare("x", CompareResult::Equal, union)], [], []))
                .await?;
            expect("succeeded", answer.succeeded, true)?;
        }
        for result in RESULTS {
            for value in ["", "v"] {
                let answer = t
                    .txn(txn(
                        [compare("x", result, TargetUnion::Value(value.into()))],
                        [],
                        [],
                    ))
                    .await?;
                expect(
                    "no comparison of a missing value holds",
                    answer.succeeded,
                    false,
                )?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_comparison_over_a_range_holds_for_every_key() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        for end in ["b", "c", "d", "\0"] {
            for result in RESULTS {
                for union in [
                    TargetUnion::Version(1),
                    TargetUnion::CreateRevision(3),
                    TargetUnion::ModRevision(4),
                    TargetUnion::Value("1".into()),
                    TargetUnion::Lease(0),
                ] {
                    let compare = Compare {
                        range_end: end.into(),
                        ..compare("a", result, union)
                    };
                    t.txn(txn([compare], [], [])).await?;
                }
            }
        }
        for result in RESULTS {
            for union in [TargetUnion::Version(0), TargetUnion::Value("".into())] {
                let compare = Compare {
                    range_end: "z".into(),
                    ..compare("x", result, union)
                };
                t.txn(txn([compare], [], [])).await?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_comparison_without_its_value_compares_with_zero() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let targets = [
            CompareTarget::Version,
            CompareTarget::Create,
            CompareTarget::Mod,
            CompareTarget::Value,
            CompareTarget::Lease,
        ];
        for target in targets {
            for result in RESULTS {
                for union in [
                    None,
                    Some(TargetUnion::Version(2)),
                    Some(TargetUnion::Value("2".into())),
                ] {
                    for key in ["a", "missing"] {
                        let compare = Compare {
                            result: result.into(),
                            target: target.into(),
                            key: key.into(),
                            target_union: union.clone(),
                            ..Default::default()
                        };
                        t.txn(txn([compare], [], [])).await?;
                    }
                }
            }
        }
        Ok(())
    })
}

#[test]
fn an_unknown_comparison_target_or_result_holds() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        for (result, target) in [(9, 0), (0, 9), (-1, -1), (9, 3)] {
            for key in ["a", "missing"] {
                let compare = Compare {
                    result,
                    target,
                    key: key.into(),
                    ..Default::default()
                };
                t.txn(txn([compare], [put("s", "1").op()], [put("f", "1").op()]))
                    .await?;
            }
        }
        Ok(())
    })
}

#[test]
fn all_comparisons_must_hold() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let yes = || unchanged_since("a", 4);
        let no = || unchanged_since("a", 5);
        for (compares, wanted) in [
            (vec![], true),
            (vec![yes()], true),
            (vec![no()], false),
            (vec![yes(), yes()], true),
            (vec![yes(), no()], false),
            (vec![no(), yes()], false),
        ] {
            let answer = t
                .txn(txn(
                    compares,
                    [get("a").op()],
                    [get("b").op(), get("c").op()],
                ))
                .await?;
            expect("succeeded", answer.succeeded, wanted)?;
            expect(
                "responses",
                answer.responses.len(),
                if wanted { 1 } else { 2 },
            )?;
        }
        Ok(())
    })
}

#[test]
fn the_writes_of_a_transaction_share_one_revision() -> Result<()> {
    check(async |t| {
        let request = txn(
            [],
            [put("a", "1").op(), put("b", "1").op(), delete("x").op()],
            [],
        );
        let answer = t.txn(request).await?;
        expect("revision", answer.header.unwrap_or_default().revision, 2)?;
        let page = t.range(all()).await?;
        expect(
            "same revision",
            page.kvs.iter().all(|kv| kv.mod_revision == 2),
            true,
        )?;
        t.txn(txn([], [put("c", "1").op()], [])).await?;
        expect(
            "next",
            t.range(all()).await?.header.unwrap_or_default().revision,
            3,
        )
    })
}

#[test]
fn a_transaction_that_changes_nothing_uses_up_no_revision() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        for request in [
            txn([], [], []),
            txn([], [get("a").op()], []),
            txn([], [delete("x").op()], []),
            txn([unchanged_since("a", 9)], [put("a", "2").op()], []),
            txn([], [txn([], [], []).op()], []),
            txn(
                [],
                [
                    get("a").op(),
                    delete_range("x", "z").op(),
                    txn([], [get("b").op()], []).op(),
                ],
                [],
            ),
        ] {
            expect(
                "revision",
                t.txn(request).await?.header.unwrap_or_default().revision,
                2,
            )?;
        }
        Ok(())
    })
}

#[test]
fn reads_in_a_transaction_see_the_writes_before_them() -> Result<()> {
    check(async |t| {
        t.put(put("a", "old")).await?;
        let request = txn(
            [],
            [
                get("a").op(),
                put("a", "new").op(),
                get("a").op(),
                put("b", "1").op(),
                all().op(),
                delete("c").op(),
                RangeRequest {
                    revision: 2,
                    ..all()
                }
                .op(),
                RangeRequest {
                    count_only: true,
                    ..all()
                }
                .op(),
                RangeRequest {
                    limit: 1,
                    keys_only: true,
                    ..all()
                }
                .op(),
            ],
            [],
        );
        let answer = t.txn(request).await?;
        let Some(Response::ResponseRange(after)) = &answer.responses[2].response else {
            anyhow::bail!("a range was asked for")
        };
        expect("value", after.kvs[0].value.as_ref(), b"new")?;
        expect("mod", after.kvs[0].mod_revision, 3)?;
        expect("version", after.kvs[0].version, 2)
    })
}

#[test]
fn reads_in_a_transaction_do_not_see_what_it_deleted() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let request = txn(
            [],
            [
                DeleteRangeRequest {
                    prev_kv: true,
                    ..delete_range("a", "c")
                }
                .op(),
                all().op(),
                get("a").op(),
                put("z", "1").op(),
                all().op(),
                RangeRequest {
                    sort_order: SortOrder::Descend.into(),
                    sort_target: SortTarget::Mod.into(),
                    ..all()
                }
                .op(),
                RangeRequest {
                    min_create_revision: 4,
                    ..all()
                }
                .op(),
                delete("c").op(),
                all().op(),
            ],
            [],
        );
        t.txn(request).await?;
        t.range(all()).await?;
        Ok(())
    })
}

#[test]
fn prev_kvs_within_a_transaction_are_those_of_the_moment() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let with_prev = |key: &'static str| PutRequest {
            prev_kv: true,
            ..put(key, "n")
        };
        let request = txn(
            [],
            [
                with_prev("a").op(),
                with_prev("new").op(),
                PutRequest {
                    ignore_value: true,
                    lease: 7,
                    ..put("b", "")
                }
                .op(),
                PutRequest {
                    ignore_lease: true,
                    ..put("c", "x")
                }
                .op(),
                all().op(),
            ],
            [],
        );
        t.txn(request).await?;
        t.range(all()).await?;
        Ok(())
    })
}

#[test]
fn two_deletes_of_the_same_keys_are_allowed() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let request = txn(
            [],
            [
                DeleteRangeRequest {
                    prev_kv: true,
                    ..delete("a")
                }
                .op(),
                DeleteRangeRequest {
                    prev_kv: true,
                    ..delete_range("a", "c")
                }
                .op(),
                DeleteRangeRequest {
                    prev_kv: true,
                    ..delete_range("\0", "\0")
                }
                .op(),
            ],
            [],
        );
        t.txn(request).await?;
        expect("left", t.range(all()).await?.count, 0)
    })
}

#[test]
fn nested_transactions_compare_before_anything_is_written() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        let inner = txn(
            [unchanged_since("a", 2)],
            [put("inner", "then").op()],
            [put("inner", "else").op()],
        );
        let request = txn([], [put("a", "2").op(), inner.op(), get("inner").op()], []);
        t.txn(request).await?;
        expect(
            "the inner comparison saw the old key",
            t.range(get("inner")).await?.kvs[0].value.as_ref(),
            b"then",
        )
    })
}

#[test]
fn a_key_put_by_one_nested_transaction_can_be_deleted_by_the_next() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        let mut watching = t.watch();
        let request = WatchCreateRequest {
            prev_kv: true,
            range_end: "\0".into(),
            ..watch("a")
        };
        watching.created(request.clone()).await?;
        let twice = || {
            let first = txn([], [put("a", "2").op(), put("new", "1").op()], []);
            let second = txn(
                [],
                [DeleteRangeRequest {
                    prev_kv: true,
                    ..delete_range("a", "o")
                }
                .op()],
                [],
            );
            txn([], [first.op(), second.op(), all().op()], [])
        };
        t.txn(twice()).await?;
        expect("left", t.range(all()).await?.count, 0)?;
        let answer = watching.next().await?;
        expect("events", answer.events.len(), 4)?;
        let previous: Vec<i64> = answer
            .events
            .iter()
            .map(|event| event.prev_kv.as_ref().map_or(0, |kv| kv.mod_revision))
            .collect();
        expect(
            "prev_kv is of the revision before, not of the moment",
            previous,
            vec![2, 0, 2, 0],
        )?;
        let mut late = t.watch();
        late.created(WatchCreateRequest {
            start_revision: 3,
            ..request
        })
        .await?;
        late.next().await?;
        t.txn(twice()).await?;
        watching.next().await?;
        t.range(RangeRequest {
            revision: 3,
            ..all()
        })
        .await?;
        t.hash_kv(HashKvRequest { revision: 0 }).await?;
        t.compact(CompactionRequest {
            revision: 4,
            physical: true,
        })
        .await?;
        t.hash_kv(HashKvRequest { revision: 0 }).await?;
        Ok(())
    })
}

#[test]
fn nested_transactions_take_their_own_branches() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let leaf = |key: &'static str, revision| {
            txn(
                [unchanged_since(key, revision)],
                [get(key).op(), put(key, "t").op()],
                [get(key).op()],
            )
        };
        let middle = txn(
            [unchanged_since("c", 5)],
            [leaf("a", 4).op(), put("m", "1").op(), leaf("b", 99).op()],
            [put("m", "2").op()],
        );
        let other = txn(
            [unchanged_since("c", 99)],
            [put("o", "1").op()],
            [txn([], [all().op()], []).op()],
        );
        let request = txn(
            [unchanged_since("missing", 0)],
            [middle.op(), other.op(), txn([], [], []).op(), all().op()],
            [put("never", "1").op()],
        );
        let answer = t.txn(request).await?;
        expect("responses", answer.responses.len(), 4)?;
        t.range(all()).await?;
        Ok(())
    })
}

#[test]
fn a_read_only_transaction_may_read_at_a_revision() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let at = |revision| RangeRequest { revision, ..all() }.op();
        t.txn(txn([], [at(0), at(1), at(2), at(3), at(4), at(5)], []))
            .await?;
        t.txn(txn(
            [],
            [RangeRequest {
                serializable: true,
                ..all()
            }
            .op()],
            [],
        ))
        .await?;
        t.txn(txn(
            [],
            [
                RangeRequest {
                    serializable: true,
                    ..all()
                }
                .op(),
                get("a").op(),
            ],
            [],
        ))
        .await?;
        for revision in [6, i64::MAX] {
            let _ = t.txn(txn([], [at(revision)], [])).await;
            let _ = t.txn(txn([], [put("w", "1").op(), at(revision)], [])).await;
        }
        t.txn(txn([], [at(-1)], [])).await?;
        t.txn(txn([], [at(-1), put("v", "1").op(), at(-1), at(5)], []))
            .await?;
        expect("nothing was written", t.range(get("w")).await?.count, 0)
    })
}

#[test]
fn pages_in_a_transaction_count_and_cut_like_outside() -> Result<()> {
    check(async |t| {
        for number in 0..7 {
            t.put(put(format!("k{number}"), "v")).await?;
        }
        let mut ops = Vec::new();
        for limit in [0, 1, 3, 7, 8, -1] {
            ops.push(
                RangeRequest {
                    limit,
                    ..range("k", "l")
                }
                .op(),
            );
            ops.push(
                RangeRequest {
                    limit,
                    count_only: true,
                    ..range("k", "l")
                }
                .op(),
            );
            ops.push(
                RangeRequest {
                    limit,
                    max_mod_revision: 5,
                    ..range("k", "l")
                }
                .op(),
            );
            ops.push(
                RangeRequest {
                    limit,
                    keys_only: true,
                    sort_order: SortOrder::Descend.into(),
                    ..range("k", "l")
                }
                .op(),
            );
        }
        t.txn(txn([], ops.clone(), [])).await?;
        ops.push(put("k9", "written").op());
        ops.push(
            RangeRequest {
                limit: 3,
                ..range("k", "l")
            }
            .op(),
        );
        t.txn(txn([], ops, [])).await?;
        Ok(())
    })
}
