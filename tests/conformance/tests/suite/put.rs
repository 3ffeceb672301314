//! KV.Put: every field and every refusal.

use anyhow::Result;
use metastore_conformance::build::{all, delete, get, put};
use metastore_conformance::{check, expect, fails};
use metastore_proto::etcdserverpb::PutRequest;
use tonic::Code;

#[test]
fn the_first_put_is_revision_two_and_version_one() -> Result<()> {
    check(async |t| {
        let before = t.range(all()).await?;
        expect(
            "revision of an empty store",
            before.header.unwrap_or_default().revision,
            1,
        )?;
        let put = t.put(put("a", "1")).await?;
        expect("revision", put.header.unwrap_or_default().revision, 2)?;
        expect("prev_kv that nobody asked for", put.prev_kv, None)?;
        let kv = t.range(get("a")).await?.kvs.remove(0);
        expect("create", kv.create_revision, 2)?;
        expect("mod", kv.mod_revision, 2)?;
        expect("version", kv.version, 1)
    })
}

#[test]
fn a_second_put_keeps_the_create_revision_and_counts_the_version_up() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        t.put(put("b", "x")).await?;
        t.put(put("a", "2")).await?;
        let kv = t.range(get("a")).await?.kvs.remove(0);
        expect(
            "create, mod, version",
            (kv.create_revision, kv.mod_revision, kv.version),
            (2, 4, 2),
        )
    })
}

#[test]
fn a_put_after_a_delete_starts_a_new_life() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        t.put(put("a", "2")).await?;
        t.delete(delete("a")).await?;
        t.put(put("a", "3")).await?;
        let kv = t.range(get("a")).await?.kvs.remove(0);
        expect(
            "create, mod, version",
            (kv.create_revision, kv.mod_revision, kv.version),
            (5, 5, 1),
        )
    })
}

#[test]
fn the_same_value_again_is_a_new_revision() -> Result<()> {
    check(async |t| {
        for _ in 0..3 {
            t.put(put("a", "1")).await?;
        }
        let kv = t.range(get("a")).await?.kvs.remove(0);
        expect("version", kv.version, 3)
    })
}

#[test]
fn values_may_be_empty_and_keys_and_values_any_bytes() -> Result<()> {
    check(async |t| {
        t.put(put("a", "")).await?;
        t.put(put(&b"\0"[..], &b"\0\xff"[..])).await?;
        t.put(put(&b"\xff\xff"[..], &b"\x80"[..])).await?;
        t.put(put("\u{1F511}", "\n\"quoted\"")).await?;
        let page = t.range(all()).await?;
        expect("count", page.count, 4)
    })
}

#[test]
fn prev_kv_is_the_pair_before_the_put() -> Result<()> {
    check(async |t| {
        let with_prev = |value: &'static str| PutRequest {
            prev_kv: true,
            ..put("a", value)
        };
        expect(
            "none before the first",
            t.put(with_prev("1")).await?.prev_kv,
            None,
        )?;
        let prev = t.put(with_prev("2")).await?.prev_kv.unwrap_or_default();
        expect("value", prev.value.as_ref(), b"1")?;
        expect("mod", prev.mod_revision, 2)?;
        t.delete(delete("a")).await?;
        expect(
            "none after a delete",
            t.put(with_prev("3")).await?.prev_kv,
            None,
        )
    })
}

#[test]
fn ignore_value_keeps_the_value() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        t.lease_grant(1000, 7).await?;
        t.put(PutRequest {
            ignore_value: true,
            lease: 7,
            prev_kv: true,
            ..put("a", "")
        })
        .await?;
        let kv = t.range(get("a")).await?.kvs.remove(0);
        expect("value", kv.value.as_ref(), b"1")?;
        expect("lease", kv.lease, 7)?;
        expect("version", kv.version, 2)
    })
}

#[test]
fn ignore_value_refuses_a_value_and_a_missing_key() -> Result<()> {
    check(async |t| {
        let request = |key, value| PutRequest {
            ignore_value: true,
            ..put(key, value)
        };
        let missing = "etcdserver: key not found";
        fails(
            t.put(request("a", "")).await,
            Code::InvalidArgument,
            missing,
        )?;
        fails(
            t.put(request("a", "v")).await,
            Code::InvalidArgument,
            "etcdserver: value is provided",
        )?;
        t.put(put("a", "1")).await?;
        fails(
            t.put(request("a", "v")).await,
            Code::InvalidArgument,
            "etcdserver: value is provided",
        )?;
        t.delete(delete("a")).await?;
        fails(
            t.put(request("a", "")).await,
            Code::InvalidArgument,
            missing,
        )?;
        expect(
            "no refusal used up a revision",
            t.range(all()).await?.header.unwrap_or_default().revision,
            3,
        )
    })
}

#[test]
fn ignore_lease_keeps_the_lease() -> Result<()> {
    check(async |t| {
        t.lease_grant(1000, 7).await?;
        t.put(PutRequest {
            lease: 7,
            ..put("a", "1")
        })
        .await?;
        t.put(PutRequest {
            ignore_lease: true,
            ..put("a", "2")
        })
        .await?;
        let kv = t.range(get("a")).await?.kvs.remove(0);
        expect("value", kv.value.as_ref(), b"2")?;
        expect("lease", kv.lease, 7)?;
        t.put(PutRequest {
            ignore_lease: true,
            ignore_value: true,
            ..put("a", "")
        })
        .await?;
        t.put(put("a", "3")).await?;
        let kv = t.range(get("a")).await?.kvs.remove(0);
        expect("a plain put takes the lease away", kv.lease, 0)
    })
}

#[test]
fn ignore_lease_refuses_a_lease_and_a_missing_key() -> Result<()> {
    check(async |t| {
        let request = |lease| PutRequest {
            ignore_lease: true,
            lease,
            ..put("a", "1")
        };
        fails(
            t.put(request(0)).await,
            Code::InvalidArgument,
            "etcdserver: key not found",
        )?;
        fails(
            t.put(request(7)).await,
            Code::InvalidArgument,
            "etcdserver: lease is provided",
        )?;
        t.put(put("a", "1")).await?;
        fails(
            t.put(request(-1)).await,
            Code::InvalidArgument,
            "etcdserver: lease is provided",
        )
    })
}

#[test]
fn a_put_with_an_unknown_lease_is_refused() -> Result<()> {
    check(async |t| {
        let text = "etcdserver: requested lease not found";
        for lease in [7, -7, i64::MAX] {
            fails(
                t.put(PutRequest {
                    lease,
                    ..put("a", "1")
                })
                .await,
                Code::NotFound,
                text,
            )?;
        }
        let request = PutRequest {
            lease: 7,
            ignore_value: true,
            ..put("a", "")
        };
        fails(t.put(request).await, Code::NotFound, text)?;
        expect("nothing was put", t.range(all()).await?.count, 0)
    })
}

#[test]
fn a_put_without_a_key_is_refused() -> Result<()> {
    check(async |t| {
        let text = "etcdserver: key is not provided";
        fails(t.put(put("", "1")).await, Code::InvalidArgument, text)?;
        let request = PutRequest {
            ignore_value: true,
            ignore_lease: true,
            lease: 1,
            ..put("", "1")
        };
        fails(t.put(request).await, Code::InvalidArgument, text)
    })
}
