//! Segments come and go, syncs are few, and a full disk is told in time.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metastore_raft::wal::{Error, Position, Space};

use crate::scratch::{Log, append, at, copy, directory, item, items, options, segments, vote};

/// Waits for something that happens in the background.
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn one_appender_costs_one_sync_per_entry() {
    let directory = directory();
    let mut options = options(directory.path());
    let heard = Arc::new(Mutex::new(0));
    let hearing = heard.clone();
    options.on_sync = Some(Arc::new(move |_| *hearing.lock().unwrap() += 1));
    let log = Log::open(options).unwrap();
    for index in 0..50 {
        append(&log, vec![item(1, index, 900)]);
        log.save_committed(at(1, index)).unwrap();
    }
    vote(&log, 3);
    let metrics = log.metrics();
    assert_eq!(
        (metrics.syncs, metrics.records, metrics.entries),
        (51, 51, 50)
    );
    assert_eq!(*heard.lock().unwrap(), 51);
    assert!(metrics.bytes >= 50 * 900);
}

/// `--unsafe-no-fsync`.
#[test]
fn without_fsync_nothing_waits_for_the_disk_and_everything_can_be_read_back() {
    let directory = directory();
    let mut options = options(directory.path());
    options.fsync = false;
    let log = Log::open(options.clone()).unwrap();
    for index in 0..50 {
        append(&log, vec![item(1, index, 900)]);
    }
    let metrics = log.metrics();
    assert_eq!((metrics.syncs, metrics.records), (0, 50));
    drop(log);
    let log = Log::open(options).unwrap();
    assert_eq!(log.read(0..50).unwrap().len(), 50);
}

#[test]
fn what_queues_during_a_sync_goes_with_one_more() {
    let directory = directory();
    let mut options = options(directory.path());
    let (entered, in_sync) = channel();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    options.on_sync = Some(Arc::new(move |_| {
        let _ = entered.send(());
        let _ = released.lock().unwrap().recv();
    }));
    let log = Log::open(options).unwrap();
    let (sender, done) = channel();
    for index in 0..100 {
        let sender = sender.clone();
        log.append(
            vec![item(1, index, 10)],
            Box::new(move |result| sender.send((index, result)).unwrap()),
        )
        .unwrap();
        if index == 0 {
            in_sync.recv().unwrap();
        }
    }
    drop(release);
    for index in 0..100 {
        let (told, result) = done.recv().unwrap();
        assert_eq!(told, index);
        result.unwrap();
    }
    assert_eq!(log.metrics().syncs, 2);
}

#[test]
fn purged_segments_are_removed_and_the_rest_stays() {
    let directory = directory();
    let options = options(directory.path());
    let log = Log::open(options.clone()).unwrap();
    for index in 0..100 {
        append(&log, vec![item(1, index, 1000)]);
    }
    let (before, kept) = (segments(&options).len(), log.kept_bytes());
    let point = log.purge_point(40_000).unwrap();
    assert!((30..70).contains(&point));
    log.purge(at(1, point)).unwrap();
    eventually("segments are removed", || {
        segments(&options).len() < before - 2
    });
    assert!((40_000..60_000).contains(&log.kept_bytes()) && log.kept_bytes() < kept);
    assert_eq!(log.read(0..100).unwrap(), items(1, point + 1..100, 1000));
    assert_eq!(log.purge_point(1 << 30), None);
    drop(log);
    let log = Log::open(options).unwrap();
    assert_eq!(log.history().purged, Some(at(1, point)));
    assert_eq!(log.read(0..100).unwrap(), items(1, point + 1..100, 1000));
}

#[test]
fn a_purge_beyond_the_end_leaves_a_log_that_goes_on_there() {
    let directory = directory();
    let options = options(directory.path());
    let log = Log::open(options.clone()).unwrap();
    append(&log, items(1, 0..30, 1000));
    log.purge(at(4, 1000)).unwrap();
    assert!(matches!(
        log.append(items(4, 1002..1003, 10), Box::new(|_| ())),
        Err(Error::Gap { expected: 1001, .. })
    ));
    append(&log, items(4, 1001..1040, 1000));
    drop(log);
    let log = Log::open(options).unwrap();
    assert_eq!(log.history().purged, Some(at(4, 1000)));
    assert_eq!(log.read(0..u64::MAX).unwrap(), items(4, 1001..1040, 1000));
}

#[test]
fn an_entry_longer_than_a_segment_gets_a_segment_of_its_own() {
    let directory = directory();
    let options = options(directory.path());
    let log = Log::open(options.clone()).unwrap();
    for index in 0..6 {
        append(
            &log,
            vec![item(1, index, if index % 2 == 0 { 100_000 } else { 10 })],
        );
    }
    drop(log);
    let read = Log::open(options).unwrap().read(0..6).unwrap();
    assert_eq!(
        read.iter()
            .map(|entry| entry.bytes.len())
            .collect::<Vec<_>>(),
        [100_000, 10, 100_000, 10, 100_000, 10]
    );
}

#[test]
fn a_batch_of_any_size_is_told_once_when_all_of_it_is_durable() {
    let directory = directory();
    let mut options = options(directory.path());
    options.record_bytes = 3000;
    let log = Log::open(options.clone()).unwrap();
    append(&log, items(1, 0..500, 700));
    assert!(log.metrics().records > 100);
    let scratch = crate::scratch::directory();
    let log = Log::open(copy(&options, scratch.path())).unwrap();
    assert_eq!(log.read(0..u64::MAX).unwrap(), items(1, 0..500, 700));
}

#[test]
fn the_committed_position_is_written_without_company_after_a_while() {
    let directory = directory();
    let mut options = options(directory.path());
    options.lazy_delay = Duration::from_millis(20);
    let log = Log::open(options.clone()).unwrap();
    append(&log, items(1, 0..10, 10));
    let syncs = log.metrics().syncs;
    for index in 0..8 {
        log.save_committed(at(1, index)).unwrap();
    }
    eventually("it is written", || log.metrics().syncs > syncs);
    let scratch = crate::scratch::directory();
    let copied = Log::open(copy(&options, scratch.path())).unwrap();
    assert_eq!(copied.history().committed, Some(at(1, 7)));
    assert_eq!(log.metrics().syncs, syncs + 1);
}

#[test]
fn a_full_disk_is_reported_while_there_is_room_and_loses_nothing() {
    let directory = directory();
    let mut options = options(directory.path());
    options.reserve_bytes = u64::MAX / 2;
    let (sender, heard) = channel();
    options.on_space = Some(Arc::new(move |space| {
        let _ = sender.send(space);
    }));
    let log = Log::open(options.clone()).unwrap();
    assert_eq!(heard.recv().unwrap(), Space::Full);
    assert_eq!(log.space(), Space::Full);
    // The rest of the segment is still good.
    append(&log, items(1, 0..3, 1000));
    // More waits for room, and is told that there was none.
    let (sender, done) = channel();
    log.append(
        items(1, 3..30, 1000),
        Box::new(move |result| sender.send(result).unwrap()),
    )
    .unwrap();
    drop(log);
    assert!(matches!(done.recv().unwrap(), Err(Error::Closed)));
    options.reserve_bytes = 0;
    options.on_space = None;
    let log = Log::open(options).unwrap();
    assert_eq!(log.read(0..u64::MAX).unwrap(), items(1, 0..3, 1000));
    assert_eq!(log.history().last, Some(Position { term: 1, index: 2 }));
    append(&log, items(1, 3..30, 1000));
    assert_eq!(log.space(), Space::Enough);
}
