//! Creating and cancelling watches.

use super::*;
use crate::{Cancelled, CreateError, Created};

#[test]
fn the_created_answer_has_the_given_id_and_the_newest_revision() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    let created = |watch_id, revision| Ok(Created { watch_id, revision });
    assert_eq!(stream.create(on("a")), created(0, 1));
    fixture.put("a", "1");
    assert_eq!(stream.create(on("a")), created(1, 2));
    let chosen = Subscription {
        id: Some(7),
        ..on("b")
    };
    assert_eq!(stream.create(chosen.clone()), created(7, 2));
    assert_eq!(stream.create(chosen), Err(CreateError::DuplicateId));
    assert_eq!(stream.watches(), 3);
}

#[test]
fn impossible_watches_are_refused_with_the_texts_of_etcd() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    let text = |result: Result<Created, CreateError>| result.unwrap_err().to_string();
    let error = text(stream.create(from(-1, on("a"))));
    assert_eq!(
        error,
        "etcdserver: mvcc: required revision has been compacted"
    );
    let error = text(stream.create(range("b", "a")));
    assert_eq!(error, "mvcc: watcher range is empty");
    let error = text(stream.create(range("b", "b")));
    assert_eq!(error, "mvcc: watcher range is empty");
    let chosen = |id, watch| Subscription {
        id: Some(id),
        ..watch
    };
    stream.create(chosen(3, on("a"))).unwrap();
    let error = text(stream.create(chosen(3, on("b"))));
    assert_eq!(
        error,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    // The order of the checks is etcd's.
    let error = stream.create(from(-1, range("b", "a"))).unwrap_err();
    assert_eq!(error, CreateError::Compacted);
    let error = stream.create(chosen(3, range("b", "a"))).unwrap_err();
    assert_eq!(error, CreateError::EmptyRange);
    assert_eq!(stream.watches(), 1);
    assert_eq!(fixture.hub.counts().watchers, 1);
}

#[test]
fn a_watch_from_now_gets_what_is_committed_after_it_was_created() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    fixture.put("a", "1");
    stream.create(on("a")).unwrap();
    assert!(fixture.brief(&mut stream).is_empty());
    fixture.put("a", "2");
    assert_eq!(fixture.brief(&mut stream), ["0@3: a=2"]);
}

#[test]
fn a_watch_from_now_does_not_get_what_was_committed_but_not_yet_matched() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    fixture.store.commit(&[store::put("a", "1")]);
    stream.create(on("a")).unwrap();
    fixture.store.commit(&[store::put("a", "2")]);
    fixture.hub.pump();
    assert_eq!(fixture.brief(&mut stream), ["0@3: a=1 a=2", "1@3: a=2"]);
}

#[test]
fn a_watch_from_the_past_gets_history_first_and_then_the_present() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    fixture.put("a", "1");
    fixture.put("b", "2");
    fixture.put("a", "3");
    stream.create(from(2, on("a"))).unwrap();
    assert_eq!(fixture.brief(&mut stream), ["0@4: a=1 a=3"]);
    fixture.put("a", "4");
    assert_eq!(fixture.brief(&mut stream), ["0@5: a=4"]);
}

#[test]
fn a_watch_from_the_newest_revision_gets_it() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    let revision = fixture.put("a", "1");
    stream.create(from(revision, on("a"))).unwrap();
    stream.create(from(revision + 1, on("a"))).unwrap();
    assert_eq!(fixture.brief(&mut stream), ["0@2: a=1"]);
    fixture.put("a", "2");
    assert_eq!(fixture.brief(&mut stream), ["0@3: a=2", "1@3: a=2"]);
}

#[test]
fn a_watch_from_the_future_gets_nothing_before_its_revision() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(from(4, on("a"))).unwrap();
    fixture.put("a", "1");
    fixture.put("a", "2");
    assert!(fixture.brief(&mut stream).is_empty());
    fixture.put("a", "3");
    assert_eq!(fixture.brief(&mut stream), ["0@4: a=3"]);
}

#[test]
fn a_future_watch_is_not_late_when_several_commits_come_at_once() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(from(4, on("a"))).unwrap();
    stream.create(on("a")).unwrap();
    for value in ["1", "2", "3", "4"] {
        fixture.store.commit(&[store::put("a", value)]);
    }
    fixture.hub.pump();
    assert_eq!(
        fixture.brief(&mut stream),
        ["0@5: a=3 a=4", "1@5: a=1 a=2 a=3 a=4"]
    );
}

#[test]
fn a_watch_from_a_compacted_revision_is_created_and_then_ended() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    for value in ["1", "2", "3", "4"] {
        fixture.put("a", value);
    }
    fixture.store.compact(4);
    assert_eq!(stream.create(from(3, on("a"))).unwrap().revision, 5);
    assert_eq!(stream.create(from(4, on("a"))).unwrap().watch_id, 1);
    assert_eq!(
        fixture.brief(&mut stream),
        ["0 compacted 4", "1@5: a=3 a=4"]
    );
    // As in etcd the id stays taken until the client lets it go.
    let again = Subscription {
        id: Some(1),
        ..on("a")
    };
    assert_eq!(stream.create(again.clone()), Err(CreateError::DuplicateId));
    assert_eq!(fixture.hub.counts().watchers, 2);
    assert!(stream.cancel(0).is_some());
    assert!(stream.cancel(1).is_some());
    assert_eq!(stream.create(again).unwrap().watch_id, 1);
}

#[test]
fn a_compaction_does_not_touch_watches_that_are_not_behind() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    stream.create(from(9, on("a"))).unwrap();
    fixture.put("a", "1");
    fixture.put("b", "1");
    fixture.store.compact(3);
    assert_eq!(fixture.brief(&mut stream), ["0@2: a=1"]);
}

#[test]
fn a_cancelled_watch_tells_nothing_more_and_unknown_ids_are_passed_over() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    stream.create(on("a")).unwrap();
    fixture.put("a", "1");
    let cancelled = stream.cancel(0);
    assert_eq!(
        cancelled,
        Some(Cancelled {
            watch_id: 0,
            revision: 2
        })
    );
    assert_eq!(stream.cancel(0), None);
    assert_eq!(stream.cancel(42), None);
    assert_eq!(fixture.brief(&mut stream), ["1@2: a=1"]);
}

#[test]
fn a_watch_cancelled_while_its_events_are_being_handed_out_tells_nothing_more() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    for _ in 0..3 {
        stream.create(on("a")).unwrap();
    }
    fixture.put("a", "1");
    assert_eq!(fixture.poll(&mut stream).unwrap().brief(), "0@2: a=1");
    stream.cancel(1).unwrap();
    // Another watch takes the place of the cancelled one; what was for that is not for it.
    stream.create(on("b")).unwrap();
    assert_eq!(fixture.brief(&mut stream), ["2@2: a=1"]);
    assert_eq!(fixture.hub.counts().pending_events, 0);
}

#[test]
fn a_compaction_notice_is_not_told_after_the_client_cancelled() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    fixture.put("a", "1");
    fixture.put("a", "2");
    fixture.store.compact(3);
    stream.create(from(2, on("a"))).unwrap();
    stream.create(from(2, on("b"))).unwrap();
    assert_eq!(fixture.poll(&mut stream).unwrap().brief(), "0 compacted 3");
    stream.cancel(1).unwrap();
    assert!(fixture.brief(&mut stream).is_empty());
}

#[test]
fn dropping_a_stream_removes_everything_of_it() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    let mut other = fixture.stream();
    other.create(on("a")).unwrap();
    for _ in 0..10 {
        stream.create(on("a")).unwrap();
        stream.create(range("a", "c")).unwrap();
        stream.create(everything()).unwrap();
    }
    fixture.put("a", "1");
    assert_eq!(fixture.told(&mut stream).len(), 30);
    let counts = fixture.hub.counts();
    assert_eq!(
        (counts.streams, counts.watchers, counts.events),
        (2, 31, 30)
    );
    drop(stream);
    let counts = fixture.hub.counts();
    assert_eq!((counts.streams, counts.watchers, counts.events), (1, 1, 30));
    assert_eq!(fixture.brief(&mut other), ["0@2: a=1"]);
    drop(other);
    let counts = fixture.hub.counts();
    assert_eq!((counts.streams, counts.watchers, counts.events), (0, 0, 31));
    let reads = fixture.store.reads.load(Ordering::Relaxed);
    fixture.put("a", "2");
    let later = fixture.store.reads.load(Ordering::Relaxed);
    assert_eq!(reads, later, "nothing is read when nobody watches");
}

#[test]
fn a_new_stream_after_a_time_without_any_sees_only_what_comes() {
    let fixture = Fixture::new();
    drop(fixture.stream());
    for value in ["1", "2", "3"] {
        fixture.store.commit(&[store::put("a", value)]);
    }
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    stream.create(from(3, on("a"))).unwrap();
    assert_eq!(fixture.brief(&mut stream), ["1@4: a=2 a=3"]);
    fixture.put("a", "4");
    assert_eq!(fixture.brief(&mut stream), ["0@5: a=4", "1@5: a=4"]);
}
