//! The lists of kube-apiserver 1.37, which it reads through RangeStream, and the flags under which kubeadm starts
//! the store. Its other calls are in `kubernetes`.

use anyhow::{Context, Result};
use metastore_conformance::build::{
    IntoOp, delete, get, prefix_end, put, range, txn, unchanged_since, watch_prefix,
};
use metastore_conformance::{Session, Setup, check, check_with, expect, fails};
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{
    CompactionRequest, RangeRequest, RangeResponse, WatchCreateRequest, WatchProgressRequest,
};
use tonic::Code;

const PODS: &str = "/registry/pods/";

async fn pods(t: &Session, count: usize) -> Result<()> {
    for number in 0..count {
        t.put(put(format!("{PODS}default/p{number:03}"), "{}"))
            .await?;
    }
    Ok(())
}

/// One list of 1.37: a stream from `from` to the end of the prefix, merged as the apiserver merges it.
async fn streamed(
    t: &Session,
    from: impl Into<bytes::Bytes>,
    limit: i64,
    revision: i64,
) -> Result<RangeResponse> {
    let request = RangeRequest {
        limit,
        revision,
        ..range(from, prefix_end(PODS))
    };
    let mut merged = RangeResponse::default();
    for part in t.range_stream(request).await? {
        let part = part.range_response.context("a part without an answer")?;
        merged.kvs.extend(part.kvs);
        (merged.header, merged.more, merged.count) = (part.header, part.more, part.count);
    }
    Ok(merged)
}

#[test]
fn a_list_is_streamed_page_by_page_at_the_first_pages_revision() -> Result<()> {
    check(async |t| {
        pods(t, 25).await?;
        let first = streamed(t, PODS, 10, 0).await?;
        expect("more, count", (first.more, first.count), (true, 25))?;
        let revision = first.header.unwrap_or_default().revision;
        t.put(put(format!("{PODS}default/p999"), "{}")).await?;
        t.delete(delete(format!("{PODS}default/p012"))).await?;
        let mut next = first.kvs.last().context("a full page")?.key.to_vec();
        let mut seen = first.kvs.len();
        loop {
            next.push(0);
            let page = streamed(t, next, 10, revision).await?;
            // The header of a pinned stream tells the newest revision, not the pinned one.
            expect("header", page.header.unwrap_or_default().revision, 28)?;
            seen += page.kvs.len();
            next = page.kvs.last().context("a page")?.key.to_vec();
            if !page.more {
                break;
            }
        }
        expect("objects", seen, 25)
    })
}

#[test]
fn an_empty_collection_is_streamed_with_a_revision() -> Result<()> {
    check(async |t| {
        t.put(put("/registry/podz", "not a pod")).await?;
        for revision in [0, 1, 2] {
            let list = streamed(t, PODS, 0, revision).await?;
            expect("count", (list.kvs.len(), list.count), (0, 0))?;
            expect("header", list.header.unwrap_or_default().revision, 2)?;
        }
        Ok(())
    })
}

#[test]
fn a_streamed_page_that_was_compacted_or_is_yet_to_come_is_refused() -> Result<()> {
    check(async |t| {
        pods(t, 12).await?;
        t.compact(CompactionRequest {
            revision: 8,
            physical: false,
        })
        .await?;
        for (revision, text) in [
            (7, "etcdserver: mvcc: required revision has been compacted"),
            (
                14,
                "etcdserver: mvcc: required revision is a future revision",
            ),
        ] {
            let request = RangeRequest {
                limit: 5,
                revision,
                ..range(format!("{PODS}default/p003\0"), prefix_end(PODS))
            };
            fails(t.range_stream(request).await, Code::OutOfRange, text)?;
        }
        Ok(())
    })
}

#[test]
fn a_page_of_ten_thousand_is_the_largest_that_is_asked_for() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut number = 0;
        // 100 puts to a transaction, so that the store fills quickly.
        while number < 10_100 {
            let puts: Vec<_> = (number..number + 100)
                .map(|number| put(format!("{PODS}default/p{number:05}"), "{}").op())
                .collect();
            t.txn(txn([], puts, [])).await?;
            number += 100;
        }
        let page = t
            .range(RangeRequest {
                limit: 10_000,
                ..range(PODS, prefix_end(PODS))
            })
            .await?;
        expect(
            "objects, more, count",
            (page.kvs.len(), page.more, page.count),
            (10_000, true, 10_100),
        )?;
        let list = streamed(t, PODS, 0, 0).await?;
        expect(
            "objects, more, count",
            (list.kvs.len(), list.more, list.count),
            (10_100, false, 10_100),
        )
    })
}

#[test]
fn a_create_on_a_lease_that_ran_out_is_refused_and_writes_nothing() -> Result<()> {
    check(async |t| {
        let key = "/registry/events/default/e";
        let write = metastore_proto::etcdserverpb::PutRequest {
            lease: 4711,
            ..put(key, "{}")
        };
        let create = txn([unchanged_since(key, 0)], [write.op()], [get(key).op()]);
        fails(
            t.txn(create).await,
            Code::NotFound,
            "etcdserver: requested lease not found",
        )?;
        expect("count", t.range(get(key)).await?.count, 0)
    })
}

#[test]
fn watches_and_progress_requests_come_in_one_burst() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        const WATCHES: usize = 60;
        pods(t, 3).await?;
        let mut watching = t.with_metadata(&[("hasleader", "true")]).watch();
        for number in 0..WATCHES {
            let request = WatchCreateRequest {
                start_revision: 2,
                prev_kv: true,
                progress_notify: true,
                ..watch_prefix(&format!("/registry/kind{number:02}/"))
            };
            watching.send(RequestUnion::CreateRequest(request)).await?;
            watching
                .send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
                .await?;
        }
        // How many of the requests are answered is the server's matter; that each answer is one of these is not.
        let mut created = 0;
        while created < WATCHES {
            let answer = watching.next_unrecorded().await?;
            let revision = answer.header.unwrap_or_default().revision;
            expect("events", answer.events.len(), 0)?;
            expect("revision", revision, 4)?;
            if answer.created {
                created += 1;
            } else {
                expect("progress", answer.watch_id, -1)?;
            }
        }
        Ok(())
    })
}

#[test]
fn kubeadms_flags_start_a_member() -> Result<()> {
    let setup = Setup::default().flags(&[
        "--snapshot-count=10000",
        "--feature-gates=InitialCorruptCheck=true",
        "--watch-progress-notify-interval=5s",
    ]);
    check_with(&setup, async |t| {
        pods(t, 2).await?;
        expect("count", streamed(t, PODS, 0, 0).await?.count, 2)
    })
}
