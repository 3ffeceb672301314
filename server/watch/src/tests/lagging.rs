//! Watches that are behind, and clients that do not read.

use std::sync::Weak;

use super::*;
use crate::history::Commit;
use crate::inbox::MARKS;

fn tiny_ring() -> Fixture {
    Fixture::with_options(Options {
        ring_bytes: 1,
        ..Options::default()
    })
}

/// The values of all events told of a watch.
fn values(told: &[Told], wanted: i64) -> Vec<String> {
    let events = told.iter().flat_map(|told| match told {
        Told::Events { watch, events, .. } if *watch == wanted => events.clone(),
        _ => Vec::new(),
    });
    events
        .map(|event| String::from_utf8(event.kv.value.to_vec()).unwrap())
        .collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn a_client_that_does_not_read_gets_everything_later() {
    for fixture in [Fixture::new(), tiny_ring()] {
        let mut stream = fixture.stream();
        stream.create(range("a", "b")).unwrap();
        stream.create(on("b")).unwrap();
        let count = MARKS * 3;
        for number in 0..count {
            fixture.put("a", &number.to_string());
            fixture.put("other", "");
        }
        fixture.put("b", "1");
        let told = fixture.told(&mut stream);
        assert_eq!(values(&told, 0), numbers(0..count));
        assert_eq!(values(&told, 1), ["1"]);
        fixture.put("a", "last");
        assert_eq!(values(&fixture.told(&mut stream), 0), ["last"]);
        assert_eq!(fixture.hub.counts().slow_watchers, 0);
    }
}

#[test]
fn reading_and_writing_in_turns_loses_nothing_when_the_ring_is_tiny() {
    let fixture = tiny_ring();
    let mut stream = fixture.stream();
    for _ in 0..3 {
        stream.create(on("a")).unwrap();
    }
    let mut told = Vec::new();
    for number in 0..500 {
        fixture.put("a", &number.to_string());
        if number % 3 == 0 {
            told.extend(fixture.poll(&mut stream));
        }
    }
    told.extend(fixture.told(&mut stream));
    for watch in 0..3 {
        assert_eq!(values(&told, watch), numbers(0..500));
    }
}

#[test]
fn a_stream_that_is_not_read_keeps_no_commits() {
    let fixture = Fixture::with_options(Options {
        ring_bytes: 4000,
        ..Options::default()
    });
    let mut stream = fixture.stream();
    for key in ["a", "b", "c"] {
        stream.create(on(key)).unwrap();
        stream.create(on(key)).unwrap();
    }
    let commits: Vec<Weak<Commit>> = ["a", "b", "c"]
        .map(|key| {
            let revision = fixture.put(key, "1");
            let ring = fixture.hub.core().ring();
            Arc::downgrade(ring.get(revision).unwrap())
        })
        .into();
    // The first topic is handed out half, so its payload is kept; nothing else is.
    assert_eq!(fixture.poll(&mut stream).unwrap().brief(), "0@4: a=1");
    for _ in 0..100 {
        fixture.put("other", "");
    }
    let kept = |commits: &[Weak<Commit>]| {
        commits
            .iter()
            .filter(|commit| commit.strong_count() > 0)
            .count()
    };
    assert_eq!(kept(&commits), 1);
    assert_eq!(fixture.poll(&mut stream).unwrap().brief(), "1@4: a=1");
    assert_eq!(kept(&commits), 0);
    // The rest comes from the store.
    let told = fixture.told(&mut stream);
    for (watch, value) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)] {
        assert_eq!(values(&told, watch).len(), value, "watch {watch}");
    }
}

#[test]
fn lagging_watches_that_are_near_each_other_share_what_is_read() {
    let fixture = tiny_ring();
    for number in 0..100 {
        fixture.put("a", &number.to_string());
    }
    let mut stream = fixture.stream();
    for number in 0..50 {
        stream.create(from(2 + number, on("a"))).unwrap();
    }
    let reads = fixture.store.reads.load(Ordering::Relaxed);
    let told = fixture.told(&mut stream);
    for watch in 0..50 {
        assert_eq!(values(&told, watch as i64), numbers(watch..100));
    }
    assert_eq!(fixture.store.reads.load(Ordering::Relaxed), reads + 1);
}

#[test]
fn a_watch_far_behind_does_not_hold_up_the_live_ones() {
    let fixture = Fixture::new();
    let options = StreamOptions {
        response_bytes: 1,
        ..StreamOptions::default()
    };
    let mut stream = fixture.hub.stream(options);
    for number in 0..50 {
        fixture.put("a", &number.to_string());
    }
    stream.create(on("a")).unwrap();
    stream.create(from(2, on("a"))).unwrap();
    fixture.put("a", "now");
    let told = fixture.told(&mut stream);
    let at = told
        .iter()
        .position(|told| told.brief() == "0@52: a=now")
        .unwrap();
    assert!(at < 3, "the live watch was told at place {at}");
    assert_eq!(told.len(), 52);
}

#[test]
fn a_compaction_ends_a_watch_that_still_needs_what_is_compacted() {
    let fixture = tiny_ring();
    let options = StreamOptions {
        response_bytes: 1,
        ..StreamOptions::default()
    };
    let mut stream = fixture.hub.stream(options);
    for number in 0..10 {
        fixture.put("a", &number.to_string());
    }
    stream.create(from(2, on("a"))).unwrap();
    stream.create(from(9, on("a"))).unwrap();
    assert_eq!(fixture.poll(&mut stream).unwrap().brief(), "0@2: a=0");
    fixture.store.compact(8);
    let mut told = fixture.brief(&mut stream);
    told.sort();
    assert_eq!(
        told,
        ["0 compacted 8", "1@10: a=8", "1@11: a=9", "1@9: a=7"]
    );
}

#[test]
fn live_watches_that_were_not_read_for_too_long_are_ended_by_a_compaction() {
    let fixture = tiny_ring();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    let newest = 2 * MARKS as i64;
    stream.create(from(newest, on("a"))).unwrap();
    for number in 2..=newest {
        fixture.put("a", &number.to_string());
    }
    fixture.store.compact(newest - 3);
    let told = fixture.brief(&mut stream);
    assert_eq!(told[0], format!("0 compacted {}", newest - 3));
    assert_eq!(told[1..], [format!("1@{newest}: a={newest}")]);
    fixture.put("a", "more");
    assert_eq!(
        fixture.brief(&mut stream),
        [format!("1@{}: a=more", newest + 1)]
    );
}

#[test]
fn commits_that_were_compacted_before_they_were_matched_end_those_who_need_them() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    stream.create(from(6, on("a"))).unwrap();
    for number in 2..=8 {
        fixture
            .store
            .commit(&[store::put("a", &number.to_string())]);
    }
    fixture.store.compact(5);
    fixture.hub.pump();
    assert_eq!(
        fixture.brief(&mut stream),
        ["0 compacted 5", "1@8: a=6 a=7 a=8"]
    );
}

#[test]
fn a_failing_store_ends_the_watches_that_need_it_and_no_others() {
    let fixture = tiny_ring();
    for number in 0..10 {
        fixture.put("a", &number.to_string());
    }
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    stream.create(from(2, on("a"))).unwrap();
    fixture.store.broken.store(true, Ordering::Relaxed);
    assert_eq!(
        fixture.brief(&mut stream),
        ["1 cancelled: the disk is gone"]
    );
    assert_eq!(stream.watches(), 1);
    assert_eq!(stream.cancel(1), None);
    fixture.store.broken.store(false, Ordering::Relaxed);
    fixture.put("a", "1");
    assert_eq!(fixture.brief(&mut stream), ["0@12: a=1"]);
}

#[test]
fn a_previous_value_that_cannot_be_read_ends_the_watch_that_wants_it() {
    let fixture = Fixture::new();
    fixture.store.hide_prevs.store(true, Ordering::Relaxed);
    let mut stream = fixture.stream();
    stream.create(with_prev(on("a"))).unwrap();
    stream.create(on("a")).unwrap();
    fixture.put("a", "1");
    fixture.put("a", "2");
    fixture.store.broken.store(true, Ordering::Relaxed);
    let told = fixture.brief(&mut stream);
    assert_eq!(told, ["1@3: a=1 a=2", "0 cancelled: the disk is gone"]);
}

#[test]
fn commits_that_could_not_be_matched_are_looked_through_later() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    assert!(fixture.poll(&mut stream).is_none());
    fixture.store.broken.store(true, Ordering::Relaxed);
    let woken = fixture.woken();
    fixture.put("a", "1");
    fixture.put("b", "2");
    fixture.store.broken.store(false, Ordering::Relaxed);
    assert!(fixture.woken() > woken);
    fixture.put("a", "3");
    assert_eq!(fixture.brief(&mut stream), ["0@4: a=1 a=3"]);
    fixture.put("a", "4");
    assert_eq!(fixture.brief(&mut stream), ["0@5: a=4"]);
}

#[tokio::test]
async fn a_stream_that_is_not_polled_does_not_keep_others_from_reading_history() {
    let fixture = Fixture::with_options(Options {
        ring_bytes: 1,
        history_readers: 1,
    });
    fixture.store.slow.store(true, Ordering::Relaxed);
    for number in 0..10 {
        fixture.put("a", &number.to_string());
    }
    let mut asleep: Vec<Stream> = (0..5).map(|_| fixture.stream()).collect();
    for stream in &mut asleep {
        stream.create(from(2, on("a"))).unwrap();
        let _ = fixture.poll(stream);
    }
    let mut stream = fixture.stream();
    stream.create(from(2, on("a"))).unwrap();
    assert_eq!(values(&[Told::of(stream.next().await)], 0), numbers(0..10));
    for stream in &mut asleep {
        assert_eq!(values(&[Told::of(stream.next().await)], 0), numbers(0..10));
    }
}

#[tokio::test]
async fn a_dropped_future_of_next_loses_nothing() {
    let fixture = Fixture::with_options(Options {
        ring_bytes: 1,
        ..Options::default()
    });
    fixture.store.slow.store(true, Ordering::Relaxed);
    for number in 0..200 {
        fixture.put("a", &number.to_string());
    }
    let options = StreamOptions {
        response_bytes: 300,
        ..StreamOptions::default()
    };
    let mut stream = fixture.hub.stream(options);
    stream.create(from(2, on("a"))).unwrap();
    let mut told = Vec::new();
    while values(&told, 0).len() < 200 {
        tokio::select! {
            biased;
            notice = stream.next() => told.push(Told::of(notice)),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(values(&told, 0), numbers(0..200));
}
