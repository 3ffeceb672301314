//! What a watch gets, and in how many pieces.

use super::store::{delete, put};
use super::*;
use crate::inbox::MARKS;

#[test]
fn a_key_goes_to_its_own_watches_and_to_the_ranges_around_it() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("b")).unwrap();
    stream.create(range("a", "c")).unwrap();
    stream.create(range("b", "\0")).unwrap();
    stream.create(everything()).unwrap();
    stream.create(range("c", "d")).unwrap();
    fixture.put("b", "1");
    let mut told = fixture.brief(&mut stream);
    told.sort();
    assert_eq!(told, ["0@2: b=1", "1@2: b=1", "2@2: b=1", "3@2: b=1"]);
}

#[test]
fn streams_are_woken_by_their_own_keys_only() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    assert!(fixture.poll(&mut stream).is_none());
    let woken = fixture.woken();
    fixture.put("b", "1");
    assert_eq!(fixture.woken(), woken);
    fixture.put("a", "1");
    assert_eq!(fixture.woken(), woken + 1);
    fixture.put("a", "2");
    assert_eq!(fixture.woken(), woken + 1, "it is awake already");
    assert_eq!(fixture.brief(&mut stream), ["0@4: a=1 a=2"]);
}

#[test]
fn revisions_that_are_ready_together_come_in_one_response() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(range("a", "c")).unwrap();
    stream.create(on("b")).unwrap();
    fixture.put("a", "1");
    fixture.commit(&[put("a", "2"), put("b", "2"), delete("c")]);
    fixture.commit(&[delete("a")]);
    assert_eq!(
        fixture.brief(&mut stream),
        ["0@4: a=1 a=2 b=2 a-", "1@4: b=2"]
    );
}

#[test]
fn a_response_stops_at_its_size_but_never_inside_a_revision() {
    let fixture = Fixture::new();
    let options = StreamOptions {
        response_bytes: 1000,
        ..StreamOptions::default()
    };
    let mut stream = fixture.hub.stream(options);
    stream.create(everything()).unwrap();
    let large = "x".repeat(400);
    for _ in 0..4 {
        fixture.commit(&[put("a", &large), put("b", &large), put("c", &large)]);
    }
    fixture.put("a", "1");
    let told = fixture.told(&mut stream);
    let counts: Vec<_> = told
        .iter()
        .map(|told| match told {
            Told::Events {
                events, revision, ..
            } => (*revision, events.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [(2, 3), (3, 3), (4, 3), (5, 3), (6, 1)]);
}

#[test]
fn filters_leave_out_their_kind_and_a_response_with_nothing_is_not_sent() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    let filtered = |filters| Subscription {
        filters,
        ..everything()
    };
    stream.create(filtered(NO_PUT)).unwrap();
    stream.create(filtered(NO_DELETE)).unwrap();
    let both = Filters {
        no_put: true,
        no_delete: true,
    };
    stream.create(filtered(both)).unwrap();
    fixture.put("a", "1");
    assert_eq!(fixture.brief(&mut stream), ["1@2: a=1"]);
    fixture.commit(&[delete("a"), put("b", "2")]);
    assert_eq!(fixture.brief(&mut stream), ["0@3: a-", "1@3: b=2"]);
}

#[test]
fn the_key_value_before_comes_to_those_who_want_it() {
    for hidden in [false, true] {
        let fixture = Fixture::new();
        fixture.store.hide_prevs.store(hidden, Ordering::Relaxed);
        let mut stream = fixture.stream();
        stream.create(with_prev(on("a"))).unwrap();
        stream.create(on("a")).unwrap();
        stream.create(with_prev(on("a"))).unwrap();
        fixture.put("a", "1");
        fixture.put("a", "2");
        fixture.commit(&[delete("a")]);
        fixture.put("a", "4");
        assert_eq!(
            fixture.brief(&mut stream),
            [
                "0@5: a=1 a=2(1) a-(2) a=4",
                "1@5: a=1 a=2 a- a=4",
                "2@5: a=1 a=2(1) a-(2) a=4",
            ]
        );
        let reads = fixture.store.value_reads.load(Ordering::Relaxed);
        assert_eq!(reads, if hidden { 2 } else { 0 }, "looked up once for all");
    }
}

#[test]
fn the_key_value_before_is_left_out_where_it_is_compacted() {
    for hidden in [false, true] {
        let fixture = Fixture::new();
        fixture.store.hide_prevs.store(hidden, Ordering::Relaxed);
        let mut stream = fixture.stream();
        stream.create(with_prev(on("a"))).unwrap();
        for value in ["1", "2", "3", "4"] {
            fixture.put("a", value);
        }
        // etcd reads the key at the revision before the event: 3 is compacted then, 4 is not.
        fixture.store.compact(4);
        assert_eq!(fixture.brief(&mut stream), ["0@5: a=1 a=2 a=3 a=4(3)"]);
        let mut late = fixture.stream();
        late.create(with_prev(from(4, on("a")))).unwrap();
        assert_eq!(fixture.brief(&mut late), ["0@5: a=3 a=4(3)"]);
    }
}

#[test]
fn a_large_revision_is_cut_only_for_those_who_allow_it() {
    let fixture = Fixture::new();
    let options = StreamOptions {
        fragment_bytes: 1000,
        ..StreamOptions::default()
    };
    let mut stream = fixture.hub.stream(options);
    let fragmenting = Subscription {
        fragment: true,
        ..everything()
    };
    stream.create(fragmenting.clone()).unwrap();
    stream.create(everything()).unwrap();
    let value = "x".repeat(300);
    fixture.commit(&["a", "b", "c", "d", "e"].map(|key| put(key, &value)));
    let pieces: Vec<_> = fixture
        .told(&mut stream)
        .into_iter()
        .map(|told| match told {
            Told::Events {
                watch,
                revision,
                events,
                fragment,
            } => (watch, revision, events.len(), fragment),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        pieces,
        [
            (0, 2, 2, true),
            (0, 2, 2, true),
            (0, 2, 1, false),
            (1, 2, 5, false)
        ]
    );
    // One event is never cut, and what is small enough is not either.
    fixture.put("a", &"x".repeat(3000));
    stream.cancel(1).unwrap();
    fixture.put("a", "1");
    let fragments = fixture
        .told(&mut stream)
        .into_iter()
        .map(|told| match told {
            Told::Events {
                events, fragment, ..
            } => (events.len(), fragment),
            other => panic!("{other:?}"),
        });
    assert_eq!(fragments.collect::<Vec<_>>(), [(1, true), (1, false)]);
}

#[test]
fn a_watch_cancelled_between_two_fragments_sends_no_more() {
    let fixture = Fixture::new();
    let options = StreamOptions {
        fragment_bytes: 300,
        ..StreamOptions::default()
    };
    let mut stream = fixture.hub.stream(options);
    let fragmenting = Subscription {
        fragment: true,
        ..everything()
    };
    stream.create(fragmenting).unwrap();
    let value = "x".repeat(300);
    fixture.commit(&["a", "b", "c"].map(|key| put(key, &value)));
    assert!(matches!(
        fixture.poll(&mut stream),
        Some(Told::Events { fragment: true, .. })
    ));
    stream.cancel(0).unwrap();
    assert!(fixture.told(&mut stream).is_empty());
}

#[test]
fn a_watch_whose_client_does_not_read_is_counted_as_slow() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    assert!(fixture.told(&mut stream).is_empty());
    for number in 0..=MARKS {
        assert_eq!(fixture.hub.counts().slow_watchers, 0, "after {number}");
        fixture.put("a", "1");
        fixture.hub.pump();
    }
    assert_eq!(fixture.hub.counts().slow_watchers, 1);
    while fixture.poll(&mut stream).is_some() {}
    assert_eq!(fixture.hub.counts().slow_watchers, 0);
}

#[test]
fn what_the_counts_say() {
    let fixture = Fixture::new();
    let mut stream = fixture.stream();
    stream.create(on("a")).unwrap();
    stream.create(on("a")).unwrap();
    fixture.put("a", "1");
    fixture.put("a", "2");
    assert!(fixture.poll(&mut stream).is_some());
    let counts = fixture.hub.counts();
    assert_eq!((counts.events, counts.pending_events), (2, 2));
    assert!(fixture.poll(&mut stream).is_some());
    let counts = fixture.hub.counts();
    assert_eq!((counts.events, counts.pending_events), (4, 0));
    stream.create(from(2, on("a"))).unwrap();
    assert_eq!(fixture.hub.counts().slow_watchers, 1);
    assert!(fixture.poll(&mut stream).is_some());
    assert!(fixture.poll(&mut stream).is_none());
    assert_eq!(fixture.hub.counts().slow_watchers, 0);
    assert_eq!(fixture.hub.counts().watchers, 3);
}
