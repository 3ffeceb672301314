//! The calls of kube-apiserver's etcd3 store and of its etcd client, shape by shape.

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{
    IntoOp, compare, delete, get, prefix_end, put, range, txn, unchanged_since, watch, watch_prefix,
};
use metastore_conformance::{Session, Setup, check, check_with, expect, fails};
use metastore_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::{
    CompactionRequest, PutRequest, RangeRequest, TxnRequest, TxnResponse, WatchCreateRequest,
};
use tonic::Code;

const PODS: &str = "/registry/pods/";

fn list(limit: i64, revision: i64) -> RangeRequest {
    RangeRequest {
        limit,
        revision,
        ..range(PODS, prefix_end(PODS))
    }
}

/// `OptimisticPut` of etcd's kubernetes client.
fn update(key: &str, value: &str, expected: i64, lease: i64) -> TxnRequest {
    let key = key.to_owned();
    let write = PutRequest {
        lease,
        ..put(key.clone(), value.to_owned())
    };
    txn(
        [unchanged_since(key.clone(), expected)],
        [write.op()],
        [get(key).op()],
    )
}

/// `OptimisticDelete`.
fn remove(key: &str, expected: i64) -> TxnRequest {
    let key = key.to_owned();
    txn(
        [unchanged_since(key.clone(), expected)],
        [delete(key.clone()).op()],
        [get(key).op()],
    )
}

fn pod_in_else(answer: &TxnResponse) -> Result<(i64, bool)> {
    ensure!(!answer.succeeded, "the guard should not hold");
    let Some(Response::ResponseRange(page)) =
        answer.responses.first().and_then(|op| op.response.as_ref())
    else {
        anyhow::bail!("no range in the else branch: {answer:?}")
    };
    Ok((
        page.kvs.first().map_or(0, |kv| kv.mod_revision),
        page.kvs.is_empty(),
    ))
}

async fn pods(t: &Session, count: usize) -> Result<()> {
    for number in 0..count {
        let answer = t
            .txn(update(&format!("{PODS}default/p{number:03}"), "{}", 0, 0))
            .await?;
        ensure!(answer.succeeded, "a new pod is created");
    }
    Ok(())
}

#[test]
fn a_create_an_update_and_a_delete_are_guarded_by_mod_revision() -> Result<()> {
    check(async |t| {
        let key = "/registry/pods/default/a";
        expect(
            "created",
            t.txn(update(key, "1", 0, 0)).await?.succeeded,
            true,
        )?;
        expect(
            "exists",
            pod_in_else(&t.txn(update(key, "1", 0, 0)).await?)?,
            (2, false),
        )?;
        expect(
            "updated",
            t.txn(update(key, "2", 2, 0)).await?.succeeded,
            true,
        )?;
        expect(
            "conflict",
            pod_in_else(&t.txn(update(key, "3", 2, 0)).await?)?,
            (3, false),
        )?;
        expect(
            "conflict",
            pod_in_else(&t.txn(remove(key, 2)).await?)?,
            (3, false),
        )?;
        let deleted = t.txn(remove(key, 3)).await?;
        expect("deleted", deleted.succeeded, true)?;
        expect(
            "gone",
            pod_in_else(&t.txn(remove(key, 3)).await?)?,
            (0, true),
        )?;
        expect(
            "created again",
            t.txn(update(key, "4", 0, 0)).await?.succeeded,
            true,
        )
    })
}

#[test]
fn one_object_is_got_with_a_limit_of_one() -> Result<()> {
    check(async |t| {
        pods(t, 2).await?;
        let page = t
            .range(RangeRequest {
                limit: 1,
                ..get("/registry/pods/default/p001")
            })
            .await?;
        expect("count, more", (page.count, page.more), (1, false))?;
        let page = t
            .range(RangeRequest {
                limit: 1,
                ..get("/registry/pods/default/none")
            })
            .await?;
        expect(
            "revision of a miss",
            page.header.unwrap_or_default().revision,
            3,
        )
    })
}

#[test]
fn lists_are_paged_at_the_first_pages_revision() -> Result<()> {
    check(async |t| {
        pods(t, 25).await?;
        t.put(put("/registry/podz", "not a pod")).await?;
        let first = t.range(list(10, 0)).await?;
        expect("more, count", (first.more, first.count), (true, 25))?;
        let revision = first.header.unwrap_or_default().revision;
        t.txn(update("/registry/pods/default/p999", "{}", 0, 0))
            .await?;
        t.txn(remove("/registry/pods/default/p012", 14)).await?;
        let mut last = first.kvs.last().context("a full page")?.key.to_vec();
        let mut left = Vec::new();
        loop {
            last.push(0);
            let request = RangeRequest {
                limit: 10,
                revision,
                ..range(last, prefix_end(PODS))
            };
            let page = t.range(request).await?;
            left.push(page.count);
            expect("header", page.header.unwrap_or_default().revision, 29)?;
            last = page.kvs.last().context("a page")?.key.to_vec();
            if !page.more {
                break;
            }
        }
        expect("count from the continue key", left, vec![15, 5])
    })
}

#[test]
fn a_continue_token_that_was_compacted_is_an_out_of_range_error() -> Result<()> {
    check(async |t| {
        pods(t, 5).await?;
        t.compact(CompactionRequest {
            revision: 6,
            physical: false,
        })
        .await?;
        let text = "etcdserver: mvcc: required revision has been compacted";
        fails(t.range(list(2, 5)).await, Code::OutOfRange, text)?;
        fails(t.range_stream(list(0, 5)).await, Code::OutOfRange, text)?;
        expect("at the compaction", t.range(list(2, 6)).await?.count, 5)
    })
}

#[test]
fn counting_by_count_only_and_by_keys_only() -> Result<()> {
    check(async |t| {
        pods(t, 12).await?;
        let page = t
            .range(RangeRequest {
                count_only: true,
                ..list(0, 0)
            })
            .await?;
        expect("count", page.count, 12)?;
        let page = t
            .range(RangeRequest {
                keys_only: true,
                ..list(0, 0)
            })
            .await?;
        expect("keys", page.kvs.len(), 12)?;
        let page = t
            .range(RangeRequest {
                keys_only: true,
                ..list(5, 0)
            })
            .await?;
        expect(
            "keys, more, count",
            (page.kvs.len(), page.more, page.count),
            (5, true, 12),
        )
    })
}

#[test]
fn a_list_is_streamed_at_one_revision() -> Result<()> {
    check(async |t| {
        pods(t, 60).await?;
        for revision in [0, 30, 61] {
            let parts = t.range_stream(list(0, revision)).await?;
            let (last, before) = parts.split_last().context("at least one part")?;
            ensure!(
                before.iter().all(|part| part
                    .range_response
                    .as_ref()
                    .is_some_and(|part| part.header.is_none())),
                "only the last part has a header"
            );
            let last = last.range_response.clone().unwrap_or_default();
            expect("header", last.header.unwrap_or_default().revision, 61)?;
            expect("more", last.more, false)?;
        }
        Ok(())
    })
}

#[test]
fn the_compactor_races_by_the_version_of_its_key() -> Result<()> {
    check(async |t| {
        pods(t, 5).await?;
        let race = |version: i64, revision: i64| {
            let guard = compare(
                "compact_rev_key",
                CompareResult::Equal,
                TargetUnion::Version(version),
            );
            txn(
                [guard],
                [put("compact_rev_key", revision.to_string()).op()],
                [get("compact_rev_key").op()],
            )
        };
        let won = t.txn(race(0, 0)).await?;
        expect("won", won.succeeded, true)?;
        let lost = t.txn(race(0, 0)).await?;
        expect("lost", lost.succeeded, false)?;
        let revision = lost.header.unwrap_or_default().revision;
        expect("won", t.txn(race(1, revision)).await?.succeeded, true)?;
        t.compact(CompactionRequest {
            revision,
            physical: false,
        })
        .await?;
        let lost = t.txn(race(1, revision)).await?;
        let Some(Response::ResponseRange(page)) = &lost.responses[0].response else {
            anyhow::bail!("a get was asked for")
        };
        expect("version survives the compaction", page.kvs[0].version, 2)?;
        expect("won", t.txn(race(2, 8)).await?.succeeded, true)?;
        t.compact(CompactionRequest {
            revision: 8,
            physical: false,
        })
        .await?;
        Ok(())
    })
}

#[test]
fn the_compactors_key_is_watched() -> Result<()> {
    check(async |t| {
        let mut watching = t.with_metadata(&[("hasleader", "true")]).watch();
        watching.created(watch("compact_rev_key")).await?;
        t.put(put("compact_rev_key", "0")).await?;
        t.put(put("compact_rev_key", "2")).await?;
        t.compact(CompactionRequest {
            revision: 2,
            physical: false,
        })
        .await?;
        let events = watching.events(2).await?;
        expect(
            "versions",
            events
                .iter()
                .map(|(_, event)| event.kv.clone().unwrap_or_default().version)
                .collect(),
            vec![1, 2],
        )
    })
}

#[test]
fn a_list_then_a_watch_from_its_revision_misses_nothing() -> Result<()> {
    check(async |t| {
        pods(t, 5).await?;
        let listed = t
            .range(list(10_000, 0))
            .await?
            .header
            .unwrap_or_default()
            .revision;
        t.txn(update("/registry/pods/default/p000", "changed", 2, 0))
            .await?;
        t.txn(remove("/registry/pods/default/p001", 3)).await?;
        let mut watching = t.with_metadata(&[("hasleader", "true")]).watch();
        let request = WatchCreateRequest {
            start_revision: listed + 1,
            prev_kv: true,
            progress_notify: true,
            ..watch_prefix(PODS)
        };
        watching.created(request).await?;
        t.txn(update("/registry/pods/default/p005", "new", 0, 0))
            .await?;
        let events = watching.events(3).await?;
        let previous: Vec<bool> = events
            .iter()
            .map(|(_, event)| event.prev_kv.is_some())
            .collect();
        expect("prev_kv", previous, vec![true, true, false])?;
        expect("progress", watching.progress().await?, 9)
    })
}

#[test]
fn consistent_reads_from_the_cache_ask_for_progress() -> Result<()> {
    check(async |t| {
        // Several resources share a stream; a get of the newest revision, then progress until that revision.
        let mut watching = t.with_metadata(&[("hasleader", "true")]).watch();
        for resource in ["/registry/pods/", "/registry/nodes/", "/registry/events/"] {
            let request = WatchCreateRequest {
                prev_kv: true,
                progress_notify: true,
                ..watch_prefix(resource)
            };
            watching.created(request).await?;
        }
        for round in 0..5 {
            t.put(put("/registry/other", round.to_string())).await?;
            let newest = t
                .range(RangeRequest {
                    limit: 1,
                    ..get("/registry/pods/")
                })
                .await?;
            let newest = newest.header.unwrap_or_default().revision;
            expect("progress", watching.progress().await?, newest)?;
        }
        Ok(())
    })
}

#[test]
fn a_watch_from_a_compacted_revision_is_told_the_compaction() -> Result<()> {
    check(async |t| {
        pods(t, 5).await?;
        t.compact(CompactionRequest {
            revision: 5,
            physical: false,
        })
        .await?;
        let mut watching = t.with_metadata(&[("hasleader", "true")]).watch();
        let request = WatchCreateRequest {
            start_revision: 3,
            prev_kv: true,
            ..watch_prefix(PODS)
        };
        watching.created(request).await?;
        let answer = watching.next().await?;
        expect(
            "canceled, compact_revision",
            (answer.canceled, answer.compact_revision),
            (true, 5),
        )
    })
}

#[test]
fn events_share_a_lease() -> Result<()> {
    check(async |t| {
        let lease = t.lease_grant(3660, 0).await?.id;
        for number in 0..10 {
            let key = format!("/registry/events/default/e{number}");
            expect(
                "created",
                t.txn(update(&key, "{}", 0, lease)).await?.succeeded,
                true,
            )?;
        }
        let page = t
            .range(range("/registry/events/", prefix_end("/registry/events/")))
            .await?;
        expect(
            "all on the lease",
            page.kvs.iter().all(|kv| kv.lease == lease),
            true,
        )
    })
}

#[test]
fn status_carries_a_version_that_enables_progress_requests() -> Result<()> {
    check(async |t| {
        let status = t.status().await?;
        let numbers: Vec<u32> = status
            .version
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        ensure!(
            numbers.len() == 3 && numbers > vec![3, 5, 13],
            "version {:?}",
            status.version
        );
        ensure!(
            status.db_size > 0 && status.db_size >= status.db_size_in_use,
            "{status:?}"
        );
        Ok(())
    })
}

#[test]
fn the_health_check_reads_a_key_that_is_not_there() -> Result<()> {
    check(async |t| {
        let page = t.range(get("/registry/health")).await?;
        expect("count", page.count, 0)
    })
}

#[test]
fn a_watch_that_requires_a_leader_ends_when_there_is_none() -> Result<()> {
    check_with(&Setup::three(), async |t| {
        let mut watching = t.with_metadata(&[("hasleader", "true")]).watch();
        watching.created(watch("a")).await?;
        let mut patient = t.watch();
        patient.created(watch("a")).await?;
        for index in (0..3).filter(|index| *index != t.index()) {
            t.cluster().await.member(index).kill()?;
        }
        let status = watching.ended().await?;
        expect("code", status.code(), Code::Unavailable)?;
        expect("text", status.message(), "etcdserver: no leader")?;
        let mut refused = t.with_metadata(&[("hasleader", "true")]).watch();
        let status = refused.ended().await?;
        expect("text", status.message(), "etcdserver: no leader")
    })
}

#[test]
fn revisions_go_on_after_a_restart() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        pods(t, 3).await?;
        for _ in 0..2 {
            t.cluster().await.member(0).kill()?;
            t.cluster().await.member(0).start().await?;
            let t = &t.again().await?;
            let page = t.range(list(0, 0)).await?;
            t.put(put("/registry/other", "1")).await?;
            ensure!(page.count == 3, "pods are still there");
        }
        Ok(())
    })
}
