//! KV.RangeStream: its merged answer is Range's.

use anyhow::Result;
use metastore_conformance::build::{all, delete, get, prefix, put, range};
use metastore_conformance::{Session, check, expect, fails};
use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::{CompactionRequest, RangeRequest};
use tonic::Code;

async fn fill(t: &Session, count: usize) -> Result<()> {
    for number in 0..count {
        t.put(put(format!("k/{number:03}"), format!("value {number}")))
            .await?;
    }
    Ok(())
}

async fn same_as_range(t: &Session, request: RangeRequest) -> Result<()> {
    let whole = t.range(request.clone()).await?;
    let parts = t.range_stream(request).await?;
    let parts: Vec<_> = parts
        .into_iter()
        .filter_map(|part| part.range_response)
        .collect();
    let last = parts.last().cloned().unwrap_or_default();
    expect(
        "pairs",
        parts
            .into_iter()
            .flat_map(|part| part.kvs)
            .collect::<Vec<_>>(),
        whole.kvs,
    )?;
    expect("count", last.count, whole.count)?;
    expect("more", last.more, whole.more)?;
    expect(
        "revision",
        last.header.unwrap_or_default().revision,
        whole.header.unwrap_or_default().revision,
    )
}

#[test]
fn a_stream_holds_what_a_range_holds() -> Result<()> {
    check(async |t| {
        same_as_range(t, all()).await?;
        fill(t, 75).await?;
        t.delete(delete("k/070")).await?;
        for limit in [0, 1, 9, 10, 11, 30, 73, 74, 75, 100] {
            same_as_range(
                t,
                RangeRequest {
                    limit,
                    ..prefix("k/")
                },
            )
            .await?;
        }
        for revision in [1, 5, 40, 76, 77] {
            same_as_range(
                t,
                RangeRequest {
                    revision,
                    limit: 20,
                    ..prefix("k/")
                },
            )
            .await?;
        }
        same_as_range(t, get("k/001")).await?;
        same_as_range(t, get("missing")).await?;
        same_as_range(t, range("z", "a")).await?;
        same_as_range(
            t,
            RangeRequest {
                keys_only: true,
                ..all()
            },
        )
        .await?;
        same_as_range(
            t,
            RangeRequest {
                serializable: true,
                ..all()
            },
        )
        .await
    })
}

#[test]
fn a_stream_that_only_counts_is_one_part() -> Result<()> {
    check(async |t| {
        fill(t, 30).await?;
        for limit in [0, 5] {
            let parts = t
                .range_stream(RangeRequest {
                    count_only: true,
                    limit,
                    ..all()
                })
                .await?;
            expect("parts", parts.len(), 1)?;
            let part = parts[0].range_response.clone().unwrap_or_default();
            expect("count", part.count, 30)?;
            expect("more", part.more, false)?;
        }
        Ok(())
    })
}

#[test]
fn a_key_in_key_order_is_streamed_other_orders_are_not() -> Result<()> {
    check(async |t| {
        fill(t, 3).await?;
        same_as_range(
            t,
            RangeRequest {
                sort_order: SortOrder::Ascend.into(),
                ..all()
            },
        )
        .await?;
        // An order of NONE streams whatever the target says.
        t.range_stream(RangeRequest {
            sort_target: SortTarget::Mod.into(),
            ..all()
        })
        .await?;
        let order = "RangeStream does not support custom sort orders";
        let request = RangeRequest {
            sort_order: SortOrder::Descend.into(),
            ..all()
        };
        fails(t.range_stream(request).await, Code::Unimplemented, order)?;
        let request = RangeRequest {
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Value.into(),
            ..all()
        };
        fails(t.range_stream(request).await, Code::Unimplemented, order)
    })
}

#[test]
fn revision_filters_are_not_streamed() -> Result<()> {
    check(async |t| {
        fill(t, 3).await?;
        let text = "RangeStream does not support revision filters";
        for request in [
            RangeRequest {
                min_mod_revision: 1,
                ..all()
            },
            RangeRequest {
                max_mod_revision: 1,
                ..all()
            },
            RangeRequest {
                min_create_revision: 1,
                ..all()
            },
            RangeRequest {
                max_create_revision: 1,
                ..all()
            },
            RangeRequest {
                max_create_revision: -1,
                ..all()
            },
        ] {
            fails(t.range_stream(request).await, Code::Unimplemented, text)?;
        }
        Ok(())
    })
}

#[test]
fn a_stream_refuses_what_a_range_refuses() -> Result<()> {
    check(async |t| {
        fill(t, 5).await?;
        t.compact(CompactionRequest {
            revision: 4,
            physical: true,
        })
        .await?;
        fails(
            t.range_stream(get("")).await,
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        )?;
        let text = "etcdserver: invalid sort option";
        fails(
            t.range_stream(RangeRequest {
                sort_order: 9,
                ..all()
            })
            .await,
            Code::InvalidArgument,
            text,
        )?;
        fails(
            t.range_stream(RangeRequest {
                sort_target: 9,
                ..all()
            })
            .await,
            Code::InvalidArgument,
            text,
        )?;
        let text = "etcdserver: mvcc: required revision has been compacted";
        fails(
            t.range_stream(RangeRequest {
                revision: 3,
                ..all()
            })
            .await,
            Code::OutOfRange,
            text,
        )?;
        let text = "etcdserver: mvcc: required revision is a future revision";
        fails(
            t.range_stream(RangeRequest {
                revision: 7,
                ..all()
            })
            .await,
            Code::OutOfRange,
            text,
        )?;
        fails(
            t.range_stream(RangeRequest {
                revision: 7,
                count_only: true,
                ..all()
            })
            .await,
            Code::OutOfRange,
            text,
        )
    })
}

#[test]
fn a_large_answer_is_streamed_in_parts() -> Result<()> {
    check(async |t| {
        for number in 0..30_u8 {
            t.put(put(
                format!("big/{number:02}"),
                vec![b'a' + number % 26; 300_000],
            ))
            .await?;
        }
        same_as_range(t, prefix("big/")).await?;
        let parts = t.range_stream(prefix("big/")).await?;
        expect("more than one part", parts.len() > 1, true)?;
        same_as_range(
            t,
            RangeRequest {
                limit: 3,
                ..prefix("big/")
            },
        )
        .await
    })
}
