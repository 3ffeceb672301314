//! KV.Range: every field, alone and together.

use anyhow::Result;
use metastore_conformance::build::{all, delete, get, prefix, put, range};
use metastore_conformance::{Session, check, expect, fails};
use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
use tonic::Code;

fn keys(page: &RangeResponse) -> Vec<String> {
    page.kvs
        .iter()
        .map(|kv| kv.key.escape_ascii().to_string())
        .collect()
}

/// Six keys whose create, mod, version and value orders all differ.
async fn fill(t: &Session) -> Result<()> {
    for (key, value) in [
        ("k3", "a"),
        ("k1", "f"),
        ("k5", "c"),
        ("k2", "b"),
        ("k4", "e"),
        ("k1", "d"),
        ("k3", "z"),
    ] {
        t.put(put(key, value)).await?;
    }
    for value in ["1", "2", "3"] {
        t.put(put("k2", value)).await?;
    }
    t.put(put("other", "o")).await?;
    Ok(())
}

#[test]
fn a_range_ends_before_its_end() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        expect(
            "[k2,k4)",
            keys(&t.range(range("k2", "k4")).await?),
            vec!["k2".to_owned(), "k3".to_owned()],
        )?;
        expect(
            "one key",
            keys(&t.range(get("k2")).await?),
            vec!["k2".to_owned()],
        )?;
        expect("a key that is not there", t.range(get("k")).await?.count, 0)?;
        expect(
            "end before start",
            t.range(range("k4", "k2")).await?.count,
            0,
        )?;
        expect("end at start", t.range(range("k2", "k2")).await?.count, 0)?;
        expect(
            "between keys",
            keys(&t.range(range("k11", "k21")).await?),
            vec!["k2".to_owned()],
        )?;
        expect("a prefix", t.range(prefix("k")).await?.count, 5)
    })
}

#[test]
fn a_zero_byte_as_end_means_no_end() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        t.put(put(&b"\xff"[..], "last")).await?;
        expect("all", t.range(all()).await?.count, 7)?;
        expect("from k4", t.range(range("k4", "\0")).await?.count, 4)?;
        expect(
            "from beyond",
            t.range(range(&b"\xff\xff"[..], "\0")).await?.count,
            0,
        )?;
        expect("zero byte as key alone", t.range(get("\0")).await?.count, 0)?;
        // Two zero bytes are a common end, not "no end".
        expect(
            "two zero bytes",
            t.range(range("k4", "\0\0")).await?.count,
            0,
        )
    })
}

#[test]
fn a_limit_cuts_and_says_more_while_count_counts_all() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        for limit in [1, 2, 4, 5, 6, i64::MAX, 0, -1] {
            let page = t
                .range(RangeRequest {
                    limit,
                    ..prefix("k")
                })
                .await?;
            let shown = if limit > 0 { limit.min(5) } else { 5 };
            expect("kvs", page.kvs.len() as i64, shown)?;
            expect("more", page.more, shown < 5)?;
            expect("count", page.count, 5)?;
        }
        Ok(())
    })
}

#[test]
fn count_only_returns_no_pairs() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        for limit in [0, 2] {
            let page = t
                .range(RangeRequest {
                    count_only: true,
                    limit,
                    ..prefix("k")
                })
                .await?;
            expect("kvs", page.kvs.len(), 0)?;
            expect("count", page.count, 5)?;
            expect("more", page.more, false)?;
        }
        t.range(RangeRequest {
            count_only: true,
            keys_only: true,
            ..all()
        })
        .await?;
        t.range(RangeRequest {
            count_only: true,
            min_mod_revision: 5,
            ..all()
        })
        .await?;
        t.range(RangeRequest {
            count_only: true,
            revision: 4,
            ..all()
        })
        .await?;
        t.range(RangeRequest {
            count_only: true,
            sort_order: SortOrder::Descend.into(),
            ..all()
        })
        .await?;
        Ok(())
    })
}

#[test]
fn keys_only_returns_everything_but_values() -> Result<()> {
    check(async |t| {
        t.lease_grant(1000, 7).await?;
        fill(t).await?;
        t.put(PutRequest {
            lease: 7,
            ..put("k9", "leased")
        })
        .await?;
        for (limit, revision) in [(0, 0), (3, 0), (0, 6), (2, 6)] {
            let request = RangeRequest {
                keys_only: true,
                limit,
                revision,
                ..prefix("k")
            };
            let page = t.range(request).await?;
            expect(
                "values",
                page.kvs.iter().filter(|kv| !kv.value.is_empty()).count(),
                0,
            )?;
        }
        let order = |target: SortTarget| RangeRequest {
            keys_only: true,
            sort_target: target.into(),
            sort_order: SortOrder::Descend.into(),
            ..prefix("k")
        };
        for target in [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ] {
            t.range(order(target)).await?;
        }
        Ok(())
    })
}

#[test]
fn every_order_and_target_with_and_without_a_limit() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        for target in [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ] {
            for order in [SortOrder::None, SortOrder::Ascend, SortOrder::Descend] {
                for limit in [0, 1, 3, 5] {
                    for revision in [0, 7] {
                        t.range(RangeRequest {
                            sort_target: target.into(),
                            sort_order: order.into(),
                            limit,
                            revision,
                            ..prefix("k")
                        })
                        .await?;
                    }
                }
            }
        }
        let by_value = RangeRequest {
            sort_target: SortTarget::Value.into(),
            ..prefix("k")
        };
        let page = t.range(by_value).await?;
        expect(
            "a target without an order ascends",
            keys(&page),
            ["k2", "k5", "k1", "k4", "k3"].map(String::from).to_vec(),
        )
    })
}

#[test]
fn a_sorted_and_limited_range_says_more() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        let request = RangeRequest {
            sort_target: SortTarget::Mod.into(),
            sort_order: SortOrder::Descend.into(),
            limit: 1,
            ..prefix("k")
        };
        let page = t.range(request).await?;
        expect("newest", keys(&page), vec!["k2".to_owned()])?;
        expect("more", page.more, true)?;
        expect("count", page.count, 5)
    })
}

#[test]
fn revision_filters_thin_the_page_but_not_the_count() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        type Filter = fn(&mut RangeRequest, i64);
        let filters: [Filter; 4] = [
            |request, revision| request.min_mod_revision = revision,
            |request, revision| request.max_mod_revision = revision,
            |request, revision| request.min_create_revision = revision,
            |request, revision| request.max_create_revision = revision,
        ];
        for filter in filters {
            for revision in [-1, 1, 4, 6, 8, 11, 100] {
                for limit in [0, 2] {
                    let mut request = RangeRequest {
                        limit,
                        ..prefix("k")
                    };
                    filter(&mut request, revision);
                    let page = t.range(request).await?;
                    expect("count", page.count, 5)?;
                }
            }
        }
        let both = RangeRequest {
            min_mod_revision: 6,
            max_create_revision: 4,
            keys_only: true,
            ..prefix("k")
        };
        t.range(both).await?;
        let all_four = RangeRequest {
            min_mod_revision: 4,
            max_mod_revision: 11,
            min_create_revision: 3,
            max_create_revision: 5,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Version.into(),
            limit: 1,
            ..prefix("k")
        };
        t.range(all_four).await?;
        Ok(())
    })
}

#[test]
fn a_range_at_an_old_revision_shows_the_store_as_it_was() -> Result<()> {
    check(async |t| {
        fill(t).await?;
        t.delete(delete("k2")).await?;
        for revision in [-5, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] {
            for limit in [0, 2] {
                t.range(RangeRequest {
                    revision,
                    limit,
                    ..all()
                })
                .await?;
            }
        }
        let page = t
            .range(RangeRequest {
                revision: 5,
                ..get("k2")
            })
            .await?;
        expect("alive then", page.count, 1)?;
        expect(
            "the header is of now",
            page.header.unwrap_or_default().revision,
            13,
        )?;
        expect("gone now", t.range(get("k2")).await?.count, 0)
    })
}

#[test]
fn a_future_revision_is_refused() -> Result<()> {
    check(async |t| {
        let text = "etcdserver: mvcc: required revision is a future revision";
        fails(
            t.range(RangeRequest {
                revision: 2,
                ..all()
            })
            .await,
            Code::OutOfRange,
            text,
        )?;
        t.put(put("a", "1")).await?;
        t.range(RangeRequest {
            revision: 2,
            ..all()
        })
        .await?;
        for revision in [3, i64::MAX] {
            fails(
                t.range(RangeRequest { revision, ..all() }).await,
                Code::OutOfRange,
                text,
            )?;
            let count = RangeRequest {
                revision,
                count_only: true,
                serializable: true,
                ..get("a")
            };
            fails(t.range(count).await, Code::OutOfRange, text)?;
        }
        Ok(())
    })
}

#[test]
fn a_serializable_range_sees_the_clients_own_writes() -> Result<()> {
    check(async |t| {
        for number in 0..20 {
            t.put(put("a", number.to_string())).await?;
            let page = t
                .range(RangeRequest {
                    serializable: true,
                    ..get("a")
                })
                .await?;
            expect("version", page.kvs[0].version, number + 1)?;
        }
        Ok(())
    })
}

#[test]
fn a_range_without_a_key_or_with_an_unknown_order_is_refused() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        fails(
            t.range(get("")).await,
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        )?;
        fails(
            t.range(range("", "\0")).await,
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        )?;
        let text = "etcdserver: invalid sort option";
        for order in [3, -1, 99] {
            fails(
                t.range(RangeRequest {
                    sort_order: order,
                    ..all()
                })
                .await,
                Code::InvalidArgument,
                text,
            )?;
        }
        for target in [5, -1, i32::MAX] {
            fails(
                t.range(RangeRequest {
                    sort_target: target,
                    ..all()
                })
                .await,
                Code::InvalidArgument,
                text,
            )?;
        }
        Ok(())
    })
}

#[test]
fn keys_sort_as_bytes() -> Result<()> {
    check(async |t| {
        let wanted: [&[u8]; 10] = [
            b"\0", b"\0\0", b"\x01", b"A", b"a", b"a\0", b"aa", b"a\xff", b"b", b"\xff",
        ];
        for key in [9, 3, 1, 7, 0, 5, 8, 2, 6, 4] {
            t.put(put(wanted[key], "v")).await?;
        }
        let page = t.range(all()).await?;
        expect(
            "order",
            keys(&page),
            wanted.map(|key| key.escape_ascii().to_string()).to_vec(),
        )?;
        t.range(RangeRequest {
            sort_order: SortOrder::Descend.into(),
            ..all()
        })
        .await?;
        t.range(range("a", "b")).await?;
        t.range(range("a\0", &b"a\xff"[..])).await?;
        Ok(())
    })
}

#[test]
fn pages_of_a_pinned_revision_fit_together() -> Result<()> {
    check(async |t| {
        for number in 0..25 {
            t.put(put(format!("p/{number:02}"), number.to_string()))
                .await?;
        }
        let first = t
            .range(RangeRequest {
                limit: 10,
                ..prefix("p/")
            })
            .await?;
        let revision = first.header.unwrap_or_default().revision;
        t.delete(delete("p/15")).await?;
        t.put(put("p/99", "new")).await?;
        let mut seen = first.kvs.clone();
        let mut more = first.more;
        while more {
            let next = format!("{}\0", String::from_utf8_lossy(&seen[seen.len() - 1].key));
            let page = t
                .range(RangeRequest {
                    limit: 10,
                    revision,
                    ..range(next, "p0")
                })
                .await?;
            expect("left", page.count, 25 - seen.len() as i64)?;
            seen.extend(page.kvs);
            more = page.more;
        }
        expect("keys", seen.len(), 25)
    })
}
