//! Watch: creating, cancelling, filters, what events hold.

use anyhow::Result;
use metastore_conformance::build::{IntoOp, delete, delete_range, put, txn, watch, watch_prefix};
use metastore_conformance::{Setup, Watching, check, check_with, expect, labelled};
use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{PutRequest, WatchCreateRequest};

fn everything() -> WatchCreateRequest {
    WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    }
}

async fn next(watching: &mut Watching, wanted: &[&str]) -> Result<()> {
    let events = watching.events(wanted.len()).await?;
    expect(
        "events",
        labelled(&events),
        wanted.iter().map(|text| (*text).to_owned()).collect(),
    )
}

#[test]
fn a_watch_sees_what_happens_after_it_was_created() -> Result<()> {
    check(async |t| {
        t.put(put("a", "before")).await?;
        let mut watching = t.watch();
        let answer = watching.create(watch("a")).await?;
        expect("id", answer.watch_id, 0)?;
        expect("revision", answer.header.unwrap_or_default().revision, 2)?;
        t.put(put("a", "1")).await?;
        let answer = watching.next().await?;
        expect("header", answer.header.unwrap_or_default().revision, 3)?;
        t.put(put("b", "elsewhere")).await?;
        t.delete(delete("a")).await?;
        next(&mut watching, &["0:delete a@5"]).await?;
        t.delete(delete("a")).await?;
        t.put(put("a", "2")).await?;
        next(&mut watching, &["0:put a=2@6"]).await
    })
}

#[test]
fn a_watch_of_a_range_sees_its_keys_only() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching
            .created(WatchCreateRequest {
                key: "b".into(),
                range_end: "d".into(),
                ..Default::default()
            })
            .await?;
        for key in ["a", "b", "c", "d", "b\0", "bz"] {
            t.put(put(key, "1")).await?;
        }
        next(
            &mut watching,
            &[
                "0:put b=1@3",
                "0:put c=1@4",
                "0:put b\\x00=1@6",
                "0:put bz=1@7",
            ],
        )
        .await
    })
}

#[test]
fn a_watch_of_a_prefix_and_one_without_an_end() -> Result<()> {
    check(async |t| {
        let mut first = t.watch();
        first.created(watch_prefix("p/")).await?;
        let mut second = t.watch();
        second
            .created(WatchCreateRequest {
                range_end: "\0".into(),
                ..watch("p/2")
            })
            .await?;
        for key in ["p/1", "o", "p/2", "p0", "z"] {
            t.put(put(key, "1")).await?;
        }
        next(&mut first, &["0:put p/1=1@2", "0:put p/2=1@4"]).await?;
        next(
            &mut second,
            &["0:put p/2=1@4", "0:put p0=1@5", "0:put z=1@6"],
        )
        .await
    })
}

#[test]
fn a_watch_without_a_key_watches_the_zero_byte() -> Result<()> {
    check(async |t| {
        let mut one = t.watch();
        one.created(watch("")).await?;
        let mut all = t.watch();
        all.created(WatchCreateRequest {
            range_end: "\0".into(),
            ..Default::default()
        })
        .await?;
        t.put(put("a", "1")).await?;
        t.put(put("\0", "2")).await?;
        next(&mut one, &["0:put \\x00=2@3"]).await?;
        next(&mut all, &["0:put a=1@2", "0:put \\x00=2@3"]).await
    })
}

#[test]
fn an_empty_range_is_refused_and_the_stream_lives_on() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        for (key, end) in [("b", "a"), ("b", "b"), ("\0\0", "\0")] {
            let answer = watching
                .create(WatchCreateRequest {
                    range_end: end.into(),
                    ..watch(key)
                })
                .await?;
            let _ = answer;
        }
        let mut other = t.watch();
        let answer = other
            .create(WatchCreateRequest {
                range_end: "a".into(),
                ..watch("b")
            })
            .await?;
        expect(
            "created and canceled",
            (answer.created, answer.canceled, answer.watch_id),
            (true, true, -1),
        )?;
        other.created(watch("a")).await?;
        t.put(put("a", "1")).await?;
        next(&mut other, &["0:put a=1@2"]).await
    })
}

#[test]
fn ids_are_given_in_order_or_as_asked() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        let with_id = |watch_id| WatchCreateRequest {
            watch_id,
            ..watch("a")
        };
        expect("first", watching.created(with_id(0)).await?, 0)?;
        expect("second", watching.created(with_id(0)).await?, 1)?;
        expect("asked for", watching.created(with_id(3)).await?, 3)?;
        expect("third", watching.created(with_id(0)).await?, 2)?;
        expect(
            "skips what is taken",
            watching.created(with_id(0)).await?,
            4,
        )?;
        expect("negative", watching.created(with_id(-5)).await?, -5)?;
        expect(
            "large",
            watching.created(with_id(i64::MAX)).await?,
            i64::MAX,
        )?;
        let answer = watching.create(with_id(3)).await?;
        expect(
            "taken",
            (answer.created, answer.canceled, answer.watch_id),
            (true, true, -1),
        )?;
        watching.cancel(3).await?;
        expect("free again", watching.created(with_id(3)).await?, 3)?;
        watching.cancel(0).await?;
        expect(
            "ids are not given twice",
            watching.created(with_id(0)).await?,
            5,
        )
    })
}

#[test]
fn watches_of_one_stream_each_get_their_events() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching.created(watch("a")).await?;
        watching.created(watch("b")).await?;
        watching.created(everything()).await?;
        watching.created(watch("a")).await?;
        t.put(put("a", "1")).await?;
        watching.events(3).await?;
        t.put(put("b", "1")).await?;
        watching.events(2).await?;
        t.put(put("c", "1")).await?;
        watching.events(1).await?;
        expect("nothing else", watching.progress().await?, 4)
    })
}

#[test]
fn a_canceled_watch_says_so_and_falls_silent() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching.created(watch("a")).await?;
        watching.created(watch("b")).await?;
        let answer = watching.cancel(0).await?;
        expect(
            "canceled",
            (answer.canceled, answer.created, answer.watch_id),
            (true, false, 0),
        )?;
        expect("no reason", answer.cancel_reason.as_str(), "")?;
        t.put(put("a", "1")).await?;
        t.put(put("b", "1")).await?;
        next(&mut watching, &["1:put b=1@3"]).await?;
        // An id that is unknown, or canceled already, is passed over in silence.
        watching
            .send(RequestUnion::CancelRequest(
                metastore_proto::etcdserverpb::WatchCancelRequest { watch_id: 0 },
            ))
            .await?;
        watching
            .send(RequestUnion::CancelRequest(
                metastore_proto::etcdserverpb::WatchCancelRequest { watch_id: 99 },
            ))
            .await?;
        expect("still there", watching.progress().await?, 3)
    })
}

#[test]
fn filters_leave_out_puts_or_deletes() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        let filtered = |filters: &[FilterType]| WatchCreateRequest {
            filters: filters.iter().map(|filter| (*filter).into()).collect(),
            ..watch("a")
        };
        watching.created(filtered(&[FilterType::Noput])).await?;
        watching.created(filtered(&[FilterType::Nodelete])).await?;
        watching
            .created(filtered(&[FilterType::Noput, FilterType::Nodelete]))
            .await?;
        watching
            .created(filtered(&[FilterType::Noput, FilterType::Noput]))
            .await?;
        watching
            .created(WatchCreateRequest {
                filters: vec![9, -1],
                ..watch("a")
            })
            .await?;
        t.put(put("a", "1")).await?;
        watching.events(2).await?;
        t.delete(delete("a")).await?;
        watching.events(3).await?;
        expect("nothing else", watching.progress().await?, 3)
    })
}

#[test]
fn prev_kv_comes_with_puts_and_deletes_of_known_keys() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        let mut watching = t.watch();
        watching
            .created(WatchCreateRequest {
                prev_kv: true,
                ..watch_prefix("a")
            })
            .await?;
        watching.created(watch_prefix("a")).await?;
        t.put(put("a", "1")).await?;
        let events = watching.events(2).await?;
        expect(
            "a new key has none",
            events.iter().all(|(_, event)| event.prev_kv.is_none()),
            true,
        )?;
        t.put(PutRequest {
            lease: 7,
            ..put("a", "2")
        })
        .await?;
        let events = watching.events(2).await?;
        for (watch, event) in events {
            expect("prev_kv", event.prev_kv.is_some(), watch == 0)?;
        }
        t.put(put("a2", "x")).await?;
        watching.events(2).await?;
        t.delete(delete_range("a", "b")).await?;
        watching.events(4).await?;
        t.put(put("a", "3")).await?;
        watching.events(2).await?;
        Ok(())
    })
}

#[test]
fn the_events_of_a_transaction_come_in_its_order_under_one_revision() -> Result<()> {
    check(async |t| {
        t.put(put("x", "1")).await?;
        t.put(put("y", "1")).await?;
        let mut watching = t.watch();
        watching.created(everything()).await?;
        let inner = txn([], [put("m", "1").op()], []);
        t.txn(txn(
            [],
            [
                put("z", "1").op(),
                delete_range("x", "z").op(),
                inner.op(),
                put("a", "1").op(),
            ],
            [],
        ))
        .await?;
        let answer = watching.next().await?;
        let events: Vec<_> = answer.events.into_iter().map(|event| (0, event)).collect();
        let wanted = [
            "0:put z=1@4",
            "0:delete x@4",
            "0:delete y@4",
            "0:put m=1@4",
            "0:put a=1@4",
        ];
        expect(
            "events",
            labelled(&events),
            wanted.map(String::from).to_vec(),
        )
    })
}

#[test]
fn a_negative_start_is_refused_as_compacted() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        let answer = watching
            .create(WatchCreateRequest {
                start_revision: -1,
                ..watch("a")
            })
            .await?;
        expect(
            "created and canceled",
            (answer.created, answer.canceled, answer.watch_id),
            (true, true, -1),
        )?;
        expect(
            "reason",
            answer.cancel_reason.as_str(),
            "etcdserver: mvcc: required revision has been compacted",
        )?;
        expect(
            "the stream lives on",
            watching.created(watch("a")).await?,
            0,
        )
    })
}

#[test]
fn a_stream_whose_sending_side_is_closed_goes_on() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching.created(watch("a")).await?;
        watching.close_sending();
        t.put(put("a", "1")).await?;
        next(&mut watching, &["0:put a=1@2"]).await?;
        t.put(put("a", "2")).await?;
        next(&mut watching, &["0:put a=2@3"]).await
    })
}

#[test]
fn empty_requests_on_a_watch_stream_are_passed_over() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching.send_bytes(bytes::Bytes::new()).await?;
        expect("id", watching.created(watch("a")).await?, 0)?;
        watching.send_bytes(bytes::Bytes::new()).await?;
        t.put(put("a", "1")).await?;
        next(&mut watching, &["0:put a=1@2"]).await
    })
}

#[test]
fn bytes_that_are_no_request_end_the_stream() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut watching = t.watch();
        watching.created(watch("a")).await?;
        watching
            .send_bytes(bytes::Bytes::from_static(b"\xff\xff\xff"))
            .await?;
        let status = watching.ended_unrecorded().await?;
        expect("code", status.code(), tonic::Code::Internal)?;
        t.put(put("a", "1")).await?;
        Ok(())
    })
}
