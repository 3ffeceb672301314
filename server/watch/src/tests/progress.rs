//! Progress, asked for and told now and then.

use std::time::Duration;

use tokio::time::advance;

use super::*;

fn idle_watch(start: i64, key: &str) -> Subscription {
    Subscription {
        progress_notify: true,
        ..from(start, on(key))
    }
}

fn with_interval(fixture: &Fixture, interval: Duration) -> Stream {
    fixture.hub.stream(StreamOptions {
        progress_interval: interval,
        ..StreamOptions::default()
    })
}

#[test]
fn a_request_is_answered_for_all_watches_with_the_newest_revision() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    stream.create(on("b")).unwrap();
    stream.request_progress();
    assert_eq!(fixture.brief(&mut stream), ["-1@1"], "never revision 0");
    fixture.put("other", "1");
    stream.request_progress();
    assert_eq!(fixture.brief(&mut stream), ["-1@2"]);
    assert!(fixture.brief(&mut stream).is_empty(), "answered once");
}

#[test]
fn a_stream_without_watches_is_told_nothing_as_in_etcd() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.request_progress();
    assert!(fixture.brief(&mut stream).is_empty());
    stream.create(on("a")).unwrap();
    assert!(fixture.brief(&mut stream).is_empty());
    stream.request_progress();
    stream.cancel(0).unwrap();
    assert!(fixture.brief(&mut stream).is_empty());
}

#[test]
fn events_come_before_the_progress_that_covers_them() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    fixture.put("a", "1");
    fixture.put("b", "1");
    stream.request_progress();
    assert_eq!(fixture.brief(&mut stream), ["0@2: a=1", "-1@3"]);
}

#[test]
fn a_request_waits_until_what_was_committed_before_it_is_matched() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    fixture.store.commit(&[store::put("a", "1")]);
    fixture.store.commit(&[store::put("b", "1")]);
    stream.request_progress();
    assert!(fixture.poll(&mut stream).is_none());
    let woken = fixture.woken();
    fixture.hub.pump();
    assert!(fixture.woken() > woken);
    assert_eq!(fixture.brief(&mut stream), ["0@2: a=1", "-1@3"]);
}

#[test]
fn the_wait_ends_for_a_stream_that_gets_no_events_too() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    fixture.store.commit(&[store::put("b", "1")]);
    stream.request_progress();
    assert!(fixture.poll(&mut stream).is_none());
    let woken = fixture.woken();
    fixture.hub.pump();
    assert_eq!(fixture.woken(), woken + 1);
    assert_eq!(fixture.brief(&mut stream), ["-1@2"]);
}

#[test]
fn requests_that_wait_are_answered_together_but_not_too_early() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    fixture.store.commit(&[store::put("b", "1")]);
    stream.request_progress();
    stream.request_progress();
    assert!(fixture.poll(&mut stream).is_none());
    fixture.hub.pump();
    fixture.store.commit(&[store::put("b", "2")]);
    stream.request_progress();
    assert_eq!(
        fixture.brief(&mut stream),
        ["-1@2"],
        "the first two are answered"
    );
    fixture.hub.pump();
    assert_eq!(fixture.brief(&mut stream), ["-1@3"], "and the third");
    assert!(fixture.brief(&mut stream).is_empty());
}

#[test]
fn a_request_waits_for_watches_that_are_behind() {
    let fixture = Fixture::new();
    let options = StreamOptions {
        response_bytes: 1,
        ..StreamOptions::default()
    };
    let mut stream = fixture.hub.stream(options);
    for value in ["1", "2", "3"] {
        fixture.put("a", value);
    }
    stream.create(from(2, on("a"))).unwrap();
    stream.create(on("b")).unwrap();
    stream.request_progress();
    assert_eq!(
        fixture.brief(&mut stream),
        ["0@2: a=1", "0@3: a=2", "0@4: a=3", "-1@4"]
    );
}

#[test]
fn a_request_is_answered_under_a_steady_load() {
    let fixture = Fixture::new();
    let options = StreamOptions {
        response_bytes: 1,
        ..StreamOptions::default()
    };
    let mut stream = fixture.hub.stream(options);
    stream.create(on("a")).unwrap();
    for value in ["1", "2", "3"] {
        fixture.put("a", value);
    }
    stream.request_progress();
    let mut told = Vec::new();
    while !told.contains(&"-1@4".to_string()) {
        assert!(told.len() < 5, "{told:?}");
        fixture.put("a", "more");
        told.push(fixture.poll(&mut stream).unwrap().brief());
    }
}

#[test]
fn a_request_waits_for_start_revisions_in_the_future() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    stream.create(from(4, on("b"))).unwrap();
    stream.request_progress();
    assert!(fixture.brief(&mut stream).is_empty());
    fixture.put("other", "1");
    fixture.put("other", "2");
    assert!(fixture.brief(&mut stream).is_empty());
    let woken = fixture.woken();
    fixture.put("other", "3");
    assert_eq!(fixture.woken(), woken + 1);
    assert_eq!(fixture.brief(&mut stream), ["-1@4"]);
    // It waits no longer when the watch from the future is cancelled.
    stream.create(from(9, on("b"))).unwrap();
    stream.request_progress();
    assert!(fixture.brief(&mut stream).is_empty());
    stream.cancel(2).unwrap();
    assert_eq!(fixture.brief(&mut stream), ["-1@4"]);
}

#[test]
fn a_compacted_watch_does_not_silence_the_others() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    for value in ["1", "2", "3"] {
        fixture.put("a", value);
    }
    fixture.store.compact(4);
    stream.create(from(2, on("a"))).unwrap();
    stream.create(on("a")).unwrap();
    stream.request_progress();
    assert_eq!(fixture.brief(&mut stream), ["0 compacted 4", "-1@4"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_watch_is_told_its_progress_after_each_interval() {
    let fixture = Fixture::new();
    let second = Duration::from_secs(1);
    let mut stream = with_interval(&fixture, 10 * second);
    stream.create(idle_watch(0, "a")).unwrap();
    stream.create(on("a")).unwrap();
    fixture.put("b", "1");
    assert!(fixture.brief(&mut stream).is_empty());
    let woken = fixture.woken();
    advance(9 * second).await;
    assert_eq!(fixture.woken(), woken);
    assert!(fixture.brief(&mut stream).is_empty());
    // The jitter adds less than a tenth.
    let woken = fixture.woken();
    advance(2 * second).await;
    assert!(fixture.woken() > woken);
    assert_eq!(fixture.brief(&mut stream), ["0@2"]);
    advance(11 * second).await;
    assert_eq!(fixture.brief(&mut stream), ["0@2"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_got_events_is_passed_over_once() {
    let fixture = Fixture::new();
    let interval = Duration::from_secs(10);
    let mut stream = with_interval(&fixture, interval);
    stream.create(idle_watch(0, "a")).unwrap();
    stream.create(idle_watch(0, "b")).unwrap();
    fixture.put("a", "1");
    assert_eq!(fixture.brief(&mut stream), ["0@2: a=1"]);
    advance(interval + interval / 10).await;
    assert_eq!(fixture.brief(&mut stream), ["1@2"]);
    advance(interval + interval / 10).await;
    assert_eq!(fixture.brief(&mut stream), ["0@2", "1@2"]);
}

#[tokio::test(start_paused = true)]
async fn ticks_count_from_the_birth_of_the_stream_and_missed_ones_are_not_made_up_for() {
    let fixture = Fixture::new();
    let interval = Duration::from_secs(10);
    let mut stream = with_interval(&fixture, interval);
    advance(9 * interval / 10).await;
    stream.create(idle_watch(0, "a")).unwrap();
    assert!(fixture.brief(&mut stream).is_empty());
    advance(2 * interval / 10).await;
    assert_eq!(fixture.brief(&mut stream), ["0@1"]);
    advance(5 * interval).await;
    assert_eq!(fixture.brief(&mut stream), ["0@1"]);
    assert!(fixture.brief(&mut stream).is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_watches_that_are_up_to_date_are_told() {
    let fixture = Fixture::new();
    let interval = Duration::from_millis(1);
    let mut stream = with_interval(&fixture, interval);
    fixture.put("a", "1");
    stream.create(idle_watch(5, "a")).unwrap();
    stream.create(idle_watch(1, "a")).unwrap();
    assert!(
        fixture.brief(&mut stream).len() == 1,
        "history of the second"
    );
    advance(Duration::from_millis(50)).await;
    assert!(
        fixture.brief(&mut stream).is_empty(),
        "100 ms is the shortest interval"
    );
    advance(Duration::from_millis(70)).await;
    assert!(
        fixture.brief(&mut stream).is_empty(),
        "one is in the future, one was just told"
    );
    advance(Duration::from_millis(110)).await;
    assert_eq!(fixture.brief(&mut stream), ["1@2"]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_after_the_events_that_it_covers() {
    let fixture = Fixture::new();
    let interval = Duration::from_secs(10);
    let mut stream = with_interval(&fixture, interval);
    stream.create(idle_watch(0, "a")).unwrap();
    stream.create(idle_watch(0, "b")).unwrap();
    assert!(fixture.brief(&mut stream).is_empty());
    advance(2 * interval).await;
    fixture.put("a", "1");
    fixture.put("b", "1");
    // Both are due and both have events: told in either order, never ahead.
    let mut seen = 1;
    for told in fixture.told(&mut stream) {
        match told {
            Told::Events { .. } => seen += 1,
            Told::Progress(_, revision) => {
                assert!(revision <= seen, "{revision} is ahead of {seen}")
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, 3);
}
