//! KV.Compact: what it refuses, what it forgets, what it keeps, and hashes all along.

use anyhow::Result;
use metastore_conformance::build::{IntoOp, all, delete, get, put, txn};
use metastore_conformance::{Session, Setup, check, check_with, expect, fails};
use metastore_proto::etcdserverpb::{CompactionRequest, HashKvRequest, PutRequest, RangeRequest};
use tonic::Code;

use crate::metrics::load::eventually;
use crate::metrics::page::Page;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

fn compact(revision: i64) -> CompactionRequest {
    CompactionRequest {
        revision,
        physical: false,
    }
}

fn physical(revision: i64) -> CompactionRequest {
    CompactionRequest {
        revision,
        physical: true,
    }
}

async fn history(t: &Session) -> Result<()> {
    for round in 0..3 {
        for key in ["a", "b", "c"] {
            t.put(put(key, round.to_string())).await?;
        }
    }
    t.delete(delete("b")).await?;
    t.put(put("d", "x")).await?;
    Ok(())
}

#[test]
fn compacting_answers_with_the_current_revision() -> Result<()> {
    check(async |t| {
        history(t).await?;
        expect(
            "revision",
            t.compact(compact(5))
                .await?
                .header
                .unwrap_or_default()
                .revision,
            12,
        )?;
        expect(
            "revision",
            t.compact(physical(8))
                .await?
                .header
                .unwrap_or_default()
                .revision,
            12,
        )?;
        expect(
            "no revision was used up",
            t.range(all()).await?.header.unwrap_or_default().revision,
            12,
        )
    })
}

#[test]
fn compacting_twice_or_into_the_future_is_refused() -> Result<()> {
    check(async |t| {
        fails(t.compact(compact(2)).await, Code::OutOfRange, FUTURE)?;
        history(t).await?;
        t.compact(compact(6)).await?;
        for revision in [6, 5, 1, 0, -1, i64::MIN] {
            fails(
                t.compact(compact(revision)).await,
                Code::OutOfRange,
                COMPACTED,
            )?;
            fails(
                t.compact(physical(revision)).await,
                Code::OutOfRange,
                COMPACTED,
            )?;
        }
        for revision in [13, i64::MAX] {
            fails(t.compact(compact(revision)).await, Code::OutOfRange, FUTURE)?;
        }
        t.compact(compact(12)).await?;
        Ok(())
    })
}

#[test]
fn compacting_an_empty_store_at_zero_or_one() -> Result<()> {
    check(async |t| {
        for revision in [-1, 0, 1, 1, 2] {
            // What each of these says is etcd's to define; the transcripts must agree.
            let _ = t.compact(compact(revision)).await;
        }
        Ok(())
    })
}

#[test]
fn reads_below_the_compaction_are_refused_at_it_they_are_not() -> Result<()> {
    check(async |t| {
        history(t).await?;
        t.compact(physical(7)).await?;
        for revision in 1..7 {
            fails(
                t.range(RangeRequest { revision, ..all() }).await,
                Code::OutOfRange,
                COMPACTED,
            )?;
            let count = RangeRequest {
                revision,
                count_only: true,
                ..get("a")
            };
            fails(t.range(count).await, Code::OutOfRange, COMPACTED)?;
        }
        for revision in 7..=12 {
            t.range(RangeRequest { revision, ..all() }).await?;
        }
        Ok(())
    })
}

#[test]
fn a_compaction_keeps_the_newest_pair_of_each_key_and_no_dead_one() -> Result<()> {
    check(async |t| {
        history(t).await?;
        t.compact(physical(12)).await?;
        let page = t.range(all()).await?;
        expect("keys", page.count, 3)?;
        let a = t.range(get("a")).await?.kvs.remove(0);
        expect(
            "create, mod, version",
            (a.create_revision, a.mod_revision, a.version),
            (2, 8, 3),
        )?;
        t.put(put("b", "again")).await?;
        let b = t.range(get("b")).await?.kvs.remove(0);
        expect("create, version", (b.create_revision, b.version), (13, 1))
    })
}

#[test]
fn hash_kv_of_every_revision_before_and_after_compactions() -> Result<()> {
    check(async |t| {
        t.hash_kv(HashKvRequest { revision: 0 }).await?;
        t.hash_kv(HashKvRequest { revision: 1 }).await?;
        history(t).await?;
        for revision in 0..=12 {
            t.hash_kv(HashKvRequest { revision }).await?;
        }
        for compaction in [4, 9, 11, 12] {
            t.compact(physical(compaction)).await?;
            for revision in compaction..=12 {
                t.hash_kv(HashKvRequest { revision }).await?;
            }
            // Not just below: etcd remembers the hashes of its last ten compactions and answers even there.
            fails(
                t.hash_kv(HashKvRequest { revision: 2 }).await,
                Code::OutOfRange,
                COMPACTED,
            )?;
        }
        fails(
            t.hash_kv(HashKvRequest { revision: 13 }).await,
            Code::OutOfRange,
            FUTURE,
        )?;
        Ok(())
    })
}

#[test]
fn hash_kv_of_a_negative_revision_is_that_of_nothing() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let negative = [-1, -2, -13, i64::MIN + 1, i64::MIN];
        for revision in negative {
            t.hash_kv(HashKvRequest { revision }).await?;
        }
        history(t).await?;
        for revision in negative {
            let answer = t.hash_kv(HashKvRequest { revision }).await?;
            expect("hash revision", answer.hash_revision, revision)?;
        }
        t.compact(physical(6)).await?;
        for revision in negative {
            let answer = t.hash_kv(HashKvRequest { revision }).await?;
            expect("compact revision", answer.compact_revision, 6)?;
        }
        Ok(())
    })
}

/// How many compactions have come to their end.
async fn compactions_done(t: &Session) -> Result<f64> {
    let done = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds";
    Ok(Page::get(t).await?.value(done, ""))
}

/// The compaction takes seconds, since it goes by single revisions and rests after each.
#[test]
fn hash_kv_during_a_compaction_is_that_after_it() -> Result<()> {
    let slow = [
        "--compaction-batch-limit=1",
        "--compaction-sleep-interval=50ms",
    ];
    check_with(&Setup::default().flags(&slow), async |t| {
        for round in 0..40 {
            for key in ["a", "b", "c"] {
                t.put(put(key, round.to_string())).await?;
            }
            if round % 7 == 3 {
                t.delete(delete("b")).await?;
            }
        }
        let revision = t.range(all()).await?.header.unwrap_or_default().revision;
        // Not at the newest revision itself: etcd answers there with what it remembers of the compaction once done.
        for (compaction, before) in [(50, 0.0), (90, 1.0), (revision - 1, 2.0)] {
            t.compact(compact(compaction)).await?;
            let during = t.hash_kv(HashKvRequest { revision }).await?;
            expect("compactions done", compactions_done(t).await?, before)?;
            eventually("the compaction should end", async || {
                Ok(compactions_done(t).await? > before)
            })
            .await?;
            let after = t.hash_kv(HashKvRequest { revision }).await?;
            expect("hash", after.hash, during.hash)?;
            expect("compact revision", during.compact_revision, compaction)?;
        }
        Ok(())
    })
}

#[test]
fn hash_kv_covers_leases_and_long_values() -> Result<()> {
    check(async |t| {
        t.lease_grant(1000, 7).await?;
        t.put(PutRequest {
            lease: 7,
            ..put("a", "1")
        })
        .await?;
        t.put(put("b", vec![b'x'; 100_000])).await?;
        t.put(put("c", "")).await?;
        t.put(put(&b"\0\xff"[..], &b"\0"[..])).await?;
        t.txn(txn(
            [],
            [put("d", "1").op(), put("e", "2").op(), delete("a").op()],
            [],
        ))
        .await?;
        t.txn(txn(
            [],
            [put("f", "1").op(), txn([], [put("g", "2").op()], []).op()],
            [],
        ))
        .await?;
        for revision in 0..=7 {
            t.hash_kv(HashKvRequest { revision }).await?;
        }
        t.compact(physical(6)).await?;
        t.hash_kv(HashKvRequest { revision: 0 }).await?;
        t.hash_kv(HashKvRequest { revision: 6 }).await?;
        Ok(())
    })
}

#[test]
fn a_deleted_key_is_forgotten_by_the_compaction_that_passes_its_death() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        t.delete(delete("a")).await?;
        t.put(put("b", "1")).await?;
        t.compact(physical(3)).await?;
        expect(
            "at its death",
            t.range(RangeRequest {
                revision: 3,
                ..get("a")
            })
            .await?
            .count,
            0,
        )?;
        t.hash_kv(HashKvRequest { revision: 3 }).await?;
        t.put(put("a", "2")).await?;
        t.compact(physical(4)).await?;
        t.hash_kv(HashKvRequest { revision: 0 }).await?;
        expect("version", t.range(get("a")).await?.kvs[0].version, 1)
    })
}
