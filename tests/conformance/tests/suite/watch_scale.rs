//! Many watches, many streams, and watchers that follow while members come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{put, watch, watch_prefix};
use metastore_conformance::{Session, Setup, Watching, check, check_with, expect};
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{WatchCancelRequest, WatchCreateRequest};

const WATCHES: i64 = 5000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads events until so many have come, and counts them per watch.
async fn counted(watching: &mut Watching, events: usize) -> Result<BTreeMap<i64, usize>> {
    let mut counts = BTreeMap::new();
    let mut seen = 0;
    while seen < events {
        let answer = watching.next_unrecorded().await?;
        ensure!(!answer.events.is_empty(), "wanted events, got {answer:?}");
        *counts.entry(answer.watch_id).or_default() += answer.events.len();
        seen += answer.events.len();
    }
    Ok(counts)
}

/// Every tenth watch is of the key `shared`, the others each of one of their own.
fn key_of(id: i64) -> String {
    if id % 10 == 0 {
        "shared".to_owned()
    } else {
        format!("own/{id:04}")
    }
}

#[test]
fn thousands_of_watches_on_one_stream() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let t = &t.unrecorded();
        let mut watching = t.watch();
        for id in 0..WATCHES {
            let answer = watching.create(watch(key_of(id))).await?;
            expect("created", (answer.created, answer.watch_id), (true, id))?;
        }
        t.put(put("shared", "1")).await?;
        let counts = counted(&mut watching, 500).await?;
        ensure!(
            counts.len() == 500 && counts.iter().all(|(id, count)| id % 10 == 0 && *count == 1),
            "not each watch of the key once: {counts:?}"
        );
        for id in [1, 2501, 4999] {
            t.put(put(key_of(id), "1")).await?;
            let counts = counted(&mut watching, 1).await?;
            expect("the one watch", counts, BTreeMap::from([(id, 1)]))?;
        }
        for watch_id in (0..WATCHES).step_by(2) {
            let answer = watching.cancel(watch_id).await?;
            expect(
                "canceled",
                (answer.canceled, answer.watch_id),
                (true, watch_id),
            )?;
        }
        // Of the watches of the shared key all are gone.
        t.put(put("shared", "2")).await?;
        t.put(put(key_of(2501), "2")).await?;
        let counts = counted(&mut watching, 1).await?;
        expect("the one watch", counts, BTreeMap::from([(2501, 1)]))?;
        expect("and nothing else", watching.progress().await?, 7)
    })
}

#[test]
fn thousands_of_watches_that_start_in_the_past() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let t = &t.unrecorded();
        for number in 0..50 {
            t.put(put("shared", number.to_string())).await?;
        }
        let mut watching = t.watch();
        for id in 0..2000 {
            let request = WatchCreateRequest {
                start_revision: 2 + id % 50,
                ..watch("shared")
            };
            watching.send(RequestUnion::CreateRequest(request)).await?;
        }
        // Watch `id` gets the puts from its start on: 50 - id % 50 of them.
        let wanted: usize = (0..2000).map(|id| 50 - id % 50).sum();
        let (mut created, mut seen) = (0, BTreeMap::<i64, usize>::new());
        while created < 2000 || seen.values().sum::<usize>() < wanted {
            let answer = watching.next_unrecorded().await?;
            created += usize::from(answer.created);
            *seen.entry(answer.watch_id).or_default() += answer.events.len();
        }
        for (id, count) in seen {
            expect("events of a watch", count, 50 - id as usize % 50)?;
        }
        expect("and nothing else", watching.progress().await?, 51)
    })
}

#[test]
fn hundreds_of_streams() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let t = &t.unrecorded();
        let mut streams = Vec::new();
        for _ in 0..300 {
            let mut stream = t.watch();
            stream.created(watch("a")).await?;
            stream.created(watch_prefix("b")).await?;
            streams.push(stream);
        }
        t.put(put("a", "1")).await?;
        t.put(put("bb", "1")).await?;
        for stream in &mut streams {
            let counts = counted(stream, 2).await?;
            expect("one each", counts, BTreeMap::from([(0, 1), (1, 1)]))?;
        }
        // Half of them go; the others go on.
        streams.truncate(150);
        t.put(put("a", "2")).await?;
        for stream in &mut streams {
            counted(stream, 1).await?;
        }
        Ok(())
    })
}

#[test]
fn canceling_while_events_come_ends_in_silence() -> Result<()> {
    check(async |t| {
        let t = &t.unrecorded();
        let mut watching = t.watch();
        for _ in 0..20 {
            watching.created(watch("a")).await?;
        }
        for number in 0..50 {
            t.put(put("a", number.to_string())).await?;
            if number == 25 {
                for watch_id in 0..19 {
                    let cancel = WatchCancelRequest { watch_id };
                    watching.send(RequestUnion::CancelRequest(cancel)).await?;
                }
            }
        }
        let (mut canceled, mut last) = (BTreeMap::new(), 0);
        while last < 50 || canceled.len() < 19 {
            let answer = watching.next_unrecorded().await?;
            ensure!(
                !canceled.contains_key(&answer.watch_id),
                "after its end: {answer:?}"
            );
            if answer.canceled {
                canceled.insert(answer.watch_id, ());
            } else if answer.watch_id == 19 {
                last += answer.events.len();
            }
        }
        expect("and nothing else", watching.progress().await?, 51)
    })
}

/// Puts `k<number>` one after the other until told to stop; each is one revision. How many there were.
async fn write(t: Session, stop: Arc<AtomicBool>) -> Result<i64> {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        t.put(put(format!("k{}", number % 7), number.to_string()))
            .await?;
        number += 1;
    }
    Ok(number)
}

#[test]
fn progress_is_never_ahead_of_an_event_while_others_write() -> Result<()> {
    check(async |t| {
        let quiet = t.unrecorded();
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(write(quiet.clone(), stop.clone()));
        let mut watching = quiet.watch();
        watching
            .created(WatchCreateRequest {
                start_revision: 1,
                ..watch_prefix("k")
            })
            .await?;
        let (mut last, mut answered) = (1, 0);
        let start = Instant::now();
        while answered < 20 {
            ensure!(start.elapsed() < PATIENCE, "{answered} answers");
            watching.request_progress().await?;
            for _ in 0..10 {
                let answer = watching.next_unrecorded().await?;
                let header = answer.header.context("a header")?.revision;
                for event in &answer.events {
                    let revision = event.kv.as_ref().context("a key-value")?.mod_revision;
                    expect("the revision after", revision, last + 1)?;
                    last = revision;
                }
                if answer.watch_id == -1 {
                    ensure!(
                        header <= last,
                        "progress to {header}, and the last event was of {last}"
                    );
                    answered += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        writing.await??;
        Ok(())
    })
}

/// Follows `k*` from the revision after `last` until it has seen `until`, or its member goes away.
async fn follow(t: &Session, last: &mut i64, until: Option<i64>) -> Result<()> {
    let mut watching = t.watch();
    watching
        .created(WatchCreateRequest {
            start_revision: *last + 1,
            ..watch_prefix("k")
        })
        .await?;
    while until.is_none_or(|until| *last < until) {
        for event in watching.next_unrecorded().await?.events {
            let revision = event.kv.context("a key-value")?.mod_revision;
            expect("the revision after", revision, *last + 1)?;
            *last = revision;
        }
    }
    Ok(())
}

#[test]
fn a_watcher_follows_through_restarts_of_its_member() -> Result<()> {
    check_with(&Setup::three(), async |t| {
        let leader = t.cluster().await.leader().await?;
        let other = (0..3)
            .find(|index| *index != leader && *index != t.index())
            .context("a second follower")?;
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(write(t.unrecorded(), stop.clone()));
        let mut last = 1;
        for round in 0..4 {
            let member = t.at(other).await?.unrecorded();
            let before = last;
            // Until it has seen something, then until its member is gone.
            follow(&member, &mut last, Some(before + 20)).await?;
            let ending = async {
                let mut cluster = t.cluster().await;
                if round % 2 == 0 {
                    cluster.member(other).kill().map(drop)
                } else {
                    cluster.member(other).stop().await.map(drop)
                }
            };
            let (_, ended) = tokio::join!(follow(&member, &mut last, None), ending);
            ended?;
            t.cluster().await.member(other).start().await?;
        }
        stop.store(true, Ordering::Relaxed);
        let written = writing.await??;
        let member = t.at(other).await?.unrecorded();
        follow(&member, &mut last, Some(written + 1)).await
    })
}
