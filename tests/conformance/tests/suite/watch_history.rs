//! Watch: starting in the past and the future, compaction, progress, fragments, restarts.

use anyhow::{Result, ensure};
use metastore_conformance::build::{IntoOp, delete, put, txn, watch, watch_prefix};
use metastore_conformance::{Session, Setup, Watching, check, check_with, expect, labelled};
use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::etcdserverpb::{CompactionRequest, WatchCreateRequest};

fn from(key: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..watch(key)
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

/// a: put 2, put 4, delete 5, put 6; b: put 3
async fn history(t: &Session) -> Result<()> {
    t.put(put("a", "1")).await?;
    t.put(put("b", "1")).await?;
    t.put(put("a", "2")).await?;
    t.delete(delete("a")).await?;
    t.put(put("a", "3")).await?;
    Ok(())
}

#[test]
fn a_watch_from_the_past_gets_all_that_happened_then_what_happens() -> Result<()> {
    check(async |t| {
        history(t).await?;
        let mut watching = t.watch();
        watching.created(from("a", 1)).await?;
        next(
            &mut watching,
            &["0:put a=1@2", "0:put a=2@4", "0:delete a@5", "0:put a=3@6"],
        )
        .await?;
        t.put(put("a", "4")).await?;
        next(&mut watching, &["0:put a=4@7"]).await?;
        let mut middle = t.watch();
        middle.created(from("a", 5)).await?;
        next(&mut middle, &["0:delete a@5", "0:put a=3@6", "0:put a=4@7"]).await?;
        let mut now = t.watch();
        now.created(from("a", 7)).await?;
        next(&mut now, &["0:put a=4@7"]).await
    })
}

#[test]
fn a_watch_from_the_future_waits_for_it() -> Result<()> {
    check(async |t| {
        history(t).await?;
        let mut watching = t.watch();
        let answer = watching.create(from("a", 9)).await?;
        expect("created", answer.created, true)?;
        for value in ["7", "8", "9", "10"] {
            t.put(put("a", value)).await?;
        }
        next(&mut watching, &["0:put a=9@9", "0:put a=10@10"]).await?;
        let mut next_one = t.watch();
        next_one.created(from("a", 11)).await?;
        t.put(put("a", "11")).await?;
        next(&mut next_one, &["0:put a=11@11"]).await
    })
}

#[test]
fn old_events_pass_the_filters_and_carry_their_prev_kv() -> Result<()> {
    check(async |t| {
        history(t).await?;
        let mut watching = t.watch();
        watching
            .created(WatchCreateRequest {
                prev_kv: true,
                ..from("a", 1)
            })
            .await?;
        let events = watching.events(4).await?;
        let previous: Vec<bool> = events
            .iter()
            .map(|(_, event)| event.prev_kv.is_some())
            .collect();
        expect("prev_kv", previous, vec![false, true, true, false])?;
        let mut filtered = t.watch();
        filtered
            .created(WatchCreateRequest {
                filters: vec![FilterType::Noput.into()],
                ..from("a", 1)
            })
            .await?;
        next(&mut filtered, &["0:delete a@5"]).await?;
        let mut ranged = t.watch();
        ranged
            .created(WatchCreateRequest {
                range_end: "\0".into(),
                ..from("b", 1)
            })
            .await?;
        next(&mut ranged, &["0:put b=1@3"]).await
    })
}

#[test]
fn prev_kv_that_was_compacted_is_left_out() -> Result<()> {
    check(async |t| {
        history(t).await?;
        t.compact(CompactionRequest {
            revision: 4,
            physical: true,
        })
        .await?;
        let mut watching = t.watch();
        watching
            .created(WatchCreateRequest {
                prev_kv: true,
                ..from("a", 4)
            })
            .await?;
        let events = watching.events(3).await?;
        expect("of the put at 4", events[0].1.prev_kv.is_some(), false)?;
        expect("of the delete at 5", events[1].1.prev_kv.is_some(), true)
    })
}

#[test]
fn a_start_below_the_compaction_cancels_and_names_it() -> Result<()> {
    check(async |t| {
        history(t).await?;
        t.compact(CompactionRequest {
            revision: 5,
            physical: true,
        })
        .await?;
        for start in [1, 2, 4] {
            let mut watching = t.watch();
            expect(
                "created first",
                watching.created(from("a", start)).await?,
                0,
            )?;
            let answer = watching.next().await?;
            expect(
                "canceled",
                (answer.canceled, answer.compact_revision),
                (true, 5),
            )?;
        }
        let mut at = t.watch();
        at.created(from("a", 5)).await?;
        next(&mut at, &["0:delete a@5", "0:put a=3@6"]).await
    })
}

#[test]
fn a_compaction_cancels_only_watches_that_need_what_it_takes() -> Result<()> {
    check(async |t| {
        history(t).await?;
        let mut synced = t.watch();
        synced.created(watch("a")).await?;
        let mut future = t.watch();
        future.created(from("a", 8)).await?;
        t.compact(CompactionRequest {
            revision: 6,
            physical: true,
        })
        .await?;
        t.put(put("a", "4")).await?;
        t.compact(CompactionRequest {
            revision: 7,
            physical: true,
        })
        .await?;
        t.put(put("a", "5")).await?;
        next(&mut synced, &["0:put a=4@7", "0:put a=5@8"]).await?;
        next(&mut future, &["0:put a=5@8"]).await
    })
}

#[test]
fn a_canceled_watch_leaves_the_others_of_its_stream_alone() -> Result<()> {
    check(async |t| {
        history(t).await?;
        t.compact(CompactionRequest {
            revision: 5,
            physical: true,
        })
        .await?;
        let mut watching = t.watch();
        watching.created(watch("b")).await?;
        watching.created(from("a", 2)).await?;
        let answer = watching.next().await?;
        expect("canceled", (answer.watch_id, answer.canceled), (1, true))?;
        t.put(put("b", "2")).await?;
        next(&mut watching, &["0:put b=2@7"]).await
    })
}

#[test]
fn requested_progress_comes_from_the_stream_as_a_whole() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        let mut watching = t.watch();
        watching.created(watch("a")).await?;
        watching.created(watch("b")).await?;
        expect("revision", watching.progress().await?, 2)?;
        t.put(put("elsewhere", "1")).await?;
        expect("revision", watching.progress().await?, 3)?;
        t.put(put("a", "2")).await?;
        watching.events(1).await?;
        expect("revision", watching.progress().await?, 4)
    })
}

#[test]
fn progress_of_an_empty_store_is_revision_one() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching.created(watch("a")).await?;
        expect("revision", watching.progress().await?, 1)
    })
}

#[test]
fn progress_of_a_stream_without_watches_is_not_answered() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching.request_progress().await?;
        watching.request_progress().await?;
        // The next answer is that of the watch.
        let answer = watching.create(watch("a")).await?;
        expect("created", answer.created, true)
    })
}

#[test]
fn progress_is_not_told_before_a_future_start() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching.created(from("a", 4)).await?;
        watching.request_progress().await?;
        t.put(put("a", "2")).await?;
        watching.request_progress().await?;
        t.put(put("a", "3")).await?;
        t.put(put("a", "4")).await?;
        // The first answer after the creation is the event.
        next(&mut watching, &["0:put a=4@4"]).await?;
        expect("revision", watching.progress().await?, 4)
    })
}

#[test]
fn progress_is_never_ahead_of_an_event() -> Result<()> {
    check(async |t| {
        for number in 0..300 {
            t.put(put(format!("k{number:03}"), "v")).await?;
        }
        let mut watching = t.watch();
        watching
            .created(WatchCreateRequest {
                start_revision: 1,
                ..watch_prefix("k")
            })
            .await?;
        watching.request_progress().await?;
        let mut last = 0;
        let mut seen = 0;
        while seen < 300 {
            let answer = watching.next_unrecorded().await?;
            let header = answer.header.unwrap_or_default().revision;
            if answer.events.is_empty() {
                expect("progress before the last event", header, last)?;
            }
            for event in &answer.events {
                last = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            }
            seen += answer.events.len();
        }
        expect("events", seen, 300)
    })
}

#[test]
fn progress_is_notified_at_the_interval_set() -> Result<()> {
    let flags = ["--watch-progress-notify-interval=300ms"];
    check_with(&Setup::default().flags(&flags), async |t| {
        t.put(put("a", "1")).await?;
        let mut watching = t.watch();
        watching
            .created(WatchCreateRequest {
                progress_notify: true,
                ..watch("a")
            })
            .await?;
        let answer = watching.next().await?;
        let header = answer.header.unwrap_or_default();
        expect(
            "id, events, revision",
            (answer.watch_id, answer.events.len(), header.revision),
            (0, 0, 2),
        )?;
        let mut without = t.watch();
        without.created(watch("a")).await?;
        watching.next().await?;
        expect("only on request", without.progress().await?, 2)
    })
}

#[test]
fn a_revision_too_large_for_one_answer_is_fragmented_on_request() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        // 7 values of 200 kB with as much of prev_kv are above the limit of a request (1.5 MiB) plus 512 KiB.
        let keys = ["a", "b", "c", "d", "e", "f", "g"];
        let puts = |byte: u8| keys.map(|key| put(key, vec![byte; 200_000]).op());
        t.txn(txn([], puts(b'x'), [])).await?;
        let mut fragmented = t.watch();
        let request = WatchCreateRequest {
            prev_kv: true,
            fragment: true,
            range_end: "\0".into(),
            ..watch("\0")
        };
        fragmented.created(request.clone()).await?;
        let mut whole = t.watch();
        whole
            .created(WatchCreateRequest {
                fragment: false,
                ..request.clone()
            })
            .await?;
        t.txn(txn([], puts(b'y'), [])).await?;
        let mut parts = Vec::new();
        let mut more = true;
        while more {
            let answer = fragmented.next().await?;
            parts.push(answer.events.len());
            more = answer.fragment;
        }
        ensure!(
            parts.len() > 1 && parts.iter().sum::<usize>() == 7,
            "{parts:?}"
        );
        let answer = whole.next().await?;
        expect("whole", (answer.events.len(), answer.fragment), (7, false))?;
        // The same from history.
        let mut late = t.watch();
        late.created(WatchCreateRequest {
            start_revision: 3,
            ..request
        })
        .await?;
        let mut events = 0;
        while events < 7 {
            let answer = late.next_unrecorded().await?;
            events += answer.events.len();
            expect("fragment", answer.fragment, events < 7)?;
        }
        Ok(())
    })
}

#[test]
fn a_small_answer_is_not_fragmented() -> Result<()> {
    check(async |t| {
        let mut watching = t.watch();
        watching
            .created(WatchCreateRequest {
                fragment: true,
                ..watch_prefix("")
            })
            .await?;
        t.txn(txn([], [put("a", "1").op(), put("b", "1").op()], []))
            .await?;
        let answer = watching.next().await?;
        expect("fragment", answer.fragment, false)
    })
}

#[test]
fn a_slow_reader_loses_nothing() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut watching = t.watch();
        watching.created(watch_prefix("k")).await?;
        for number in 0..400 {
            t.put(put(
                format!("k{:02}", number % 50),
                vec![b'0' + (number % 10) as u8; 20_000],
            ))
            .await?;
        }
        let events = watching.events(400).await?;
        let revisions: Vec<i64> = events
            .iter()
            .map(|(_, event)| event.kv.as_ref().map_or(0, |kv| kv.mod_revision))
            .collect();
        expect("revisions", revisions, (2..402).collect())
    })
}

#[test]
fn many_watches_on_one_stream() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut watching = t.watch();
        for _ in 0..500 {
            watching.created(watch("a")).await?;
        }
        t.put(put("a", "1")).await?;
        let events = watching.events(500).await?;
        let mut ids: Vec<i64> = events.iter().map(|(watch, _)| *watch).collect();
        ids.sort_unstable();
        expect("each once", ids, (0..500).collect())
    })
}

#[test]
fn a_watch_goes_on_where_it_was_after_a_restart() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        history(t).await?;
        let mut watching = t.watch();
        watching.created(from("a", 5)).await?;
        watching.events(2).await?;
        t.cluster().await.member(0).stop().await?;
        t.cluster().await.member(0).start().await?;
        let t = &t.again().await?;
        t.put(put("a", "4")).await?;
        let mut watching = t.watch();
        watching.created(from("a", 6)).await?;
        next(&mut watching, &["0:put a=3@6", "0:put a=4@7"]).await?;
        let mut old = t.watch();
        old.created(WatchCreateRequest {
            prev_kv: true,
            ..from("a", 2)
        })
        .await?;
        old.events(5).await?;
        Ok(())
    })
}
