//! KV.DeleteRange.

use anyhow::Result;
use metastore_conformance::build::{all, delete, delete_range, get, prefix_end, put};
use metastore_conformance::{Session, check, expect, fails};
use metastore_proto::etcdserverpb::{DeleteRangeRequest, RangeRequest};
use tonic::Code;

async fn fill(t: &Session) -> Result<()> {
    for key in ["a", "b", "c", "d", "e"] {
        t.put(put(key, key)).await?;
    }
    Ok(())
}

#[test]
fn a_delete_counts_what_it_deleted_at_one_revision() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let answer = t.delete(delete_range("b", "d")).await?;
        expect("deleted", answer.deleted, 2)?;
        expect("revision", answer.header.unwrap_or_default().revision, 7)?;
        expect("prev_kvs that nobody asked for", answer.prev_kvs.len(), 0)?;
        expect("left", t.range(all()).await?.count, 3)?;
        expect(
            "before",
            t.range(RangeRequest {
                revision: 6,
                ..all()
            })
            .await?
            .count,
            5,
        )
    })
}

#[test]
fn deleting_nothing_uses_up_no_revision() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        for request in [
            delete("x"),
            delete_range("x", "z"),
            delete_range("d", "b"),
            delete_range("b", "b"),
        ] {
            let answer = t
                .delete(DeleteRangeRequest {
                    prev_kv: true,
                    ..request
                })
                .await?;
            expect("deleted", answer.deleted, 0)?;
            expect("revision", answer.header.unwrap_or_default().revision, 6)?;
        }
        t.delete(delete("a")).await?;
        let again = t.delete(delete("a")).await?;
        expect(
            "revision after deleting twice",
            again.header.unwrap_or_default().revision,
            7,
        )
    })
}

#[test]
fn prev_kvs_are_the_pairs_in_key_order() -> Result<()> {
    check(async |t| {
        t.lease_grant(1000, 7).await?;
        for key in ["c", "a", "b"] {
            t.put(put(key, "1")).await?;
        }
        t.put(metastore_proto::etcdserverpb::PutRequest {
            lease: 7,
            ..put("b", "2")
        })
        .await?;
        let answer = t
            .delete(DeleteRangeRequest {
                prev_kv: true,
                ..delete_range("a", "c")
            })
            .await?;
        let keys: Vec<_> = answer.prev_kvs.iter().map(|kv| kv.key.to_vec()).collect();
        expect("keys", keys, vec![b"a".to_vec(), b"b".to_vec()])?;
        let one = t
            .delete(DeleteRangeRequest {
                prev_kv: true,
                ..delete("c")
            })
            .await?;
        expect("one", one.prev_kvs.len(), 1)
    })
}

#[test]
fn a_zero_byte_as_end_deletes_all_that_follows() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        t.put(put(&b"\xff"[..], "last")).await?;
        expect(
            "from c",
            t.delete(delete_range("c", "\0")).await?.deleted,
            4,
        )?;
        expect("all", t.delete(delete_range("\0", "\0")).await?.deleted, 2)?;
        expect("left", t.range(all()).await?.count, 0)
    })
}

#[test]
fn a_prefix_is_deleted_alone() -> Result<()> {
    check(async |t| {
        for key in ["a", "a/", "a/1", "a/2", "a0", "b"] {
            t.put(put(key, "v")).await?;
        }
        expect(
            "deleted",
            t.delete(delete_range("a/", prefix_end("a/")))
                .await?
                .deleted,
            3,
        )?;
        t.range(all()).await?;
        Ok(())
    })
}

#[test]
fn a_delete_without_a_key_is_refused() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let text = "etcdserver: key is not provided";
        fails(t.delete(delete("")).await, Code::InvalidArgument, text)?;
        fails(
            t.delete(delete_range("", "\0")).await,
            Code::InvalidArgument,
            text,
        )?;
        expect("nothing happened", t.range(all()).await?.count, 5)
    })
}

#[test]
fn a_deleted_key_has_no_pair_at_the_revision_of_its_death() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        t.delete(delete("a")).await?;
        t.put(put("a", "2")).await?;
        for (revision, count) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
            expect(
                "count",
                t.range(RangeRequest {
                    revision,
                    ..get("a")
                })
                .await?
                .count,
                count,
            )?;
        }
        Ok(())
    })
}
