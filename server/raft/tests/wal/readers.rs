//! Reading while the log is written, truncated and purged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use crate::scratch::{Log, append, at, directory, item, items, options};

#[test]
fn readers_see_every_entry_whole_and_in_order_while_the_log_grows() {
    const COUNT: u64 = 6000;
    let directory = directory();
    let log = Log::open(options(directory.path())).unwrap();
    let (appended, purged) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 1..4u64 {
            let (log, appended, purged) = (&log, &appended, &purged);
            scope.spawn(move || {
                let mut turn = reader;
                while appended.load(SeqCst) < COUNT {
                    let end = appended.load(SeqCst);
                    turn = turn
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(reader);
                    let start = purged.load(SeqCst).max(end.saturating_sub(turn >> 54));
                    let read = log.read(start..end).unwrap();
                    // What was purged meanwhile is missing at the beginning, nothing else is.
                    let first = read.first().map_or(end, |entry| entry.at.index);
                    assert!(first == start || first <= purged.load(SeqCst));
                    for (index, entry) in (first..end).zip(&read) {
                        assert_eq!(*entry, item(1, index, (index % 700) as usize));
                    }
                    assert_eq!(read.len() as u64, end - first);
                }
            });
        }
        for index in 0..COUNT {
            log.append(
                vec![item(1, index, (index % 700) as usize)],
                Box::new(|result| result.unwrap()),
            )
            .unwrap();
            appended.store(index + 1, SeqCst);
            if index % 500 == 499 {
                purged.store(index - 399, SeqCst);
                log.purge(at(1, index - 400)).unwrap();
            }
        }
    });
}

#[test]
fn a_reader_never_sees_truncated_and_new_entries_mixed() {
    let directory = directory();
    let mut options = options(directory.path());
    options.cache_bytes = 1;
    let log = Log::open(options).unwrap();
    append(&log, items(1, 0..50, 100));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !ended.load(SeqCst) {
                let read = log.read(0..1000).unwrap();
                assert!((50..=100).contains(&read.len()));
                // After the common beginning, all are of one term.
                let terms: Vec<u64> = read[50..].iter().map(|entry| entry.at.term).collect();
                assert!(terms.windows(2).all(|pair| pair[0] == pair[1]), "{terms:?}");
                for (index, entry) in (0..).zip(&read) {
                    assert_eq!(*entry, item(entry.at.term, index, 100));
                }
            }
        });
        for term in 2..300 {
            for part in 0..5 {
                let first = 50 + part * 10;
                log.append(
                    items(term, first..first + 10, 100),
                    Box::new(|result| result.unwrap()),
                )
                .unwrap();
            }
            if term % 3 == 0 {
                append(&log, Vec::new());
            }
            log.truncate_after(Some(at(1, 49))).unwrap();
        }
        ended.store(true, SeqCst);
        reader.join().unwrap();
    });
}
