//! Reading single rows, many, ranges and pinned views.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use metastore_engine::{Kind, Space};

use super::support::{all, fresh, noise, number, revision, scan, write};

pub(crate) fn a_missing_row_is_none_and_an_empty_value_is_some(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    assert_eq!(engine.get(Space::System, b"a").unwrap(), None);
    write(&*engine, |batch| {
        batch.put(Space::System, b"a", b"");
        batch.put(Space::System, b"", b"the empty key");
    });
    assert_eq!(engine.get(Space::System, b"a").unwrap(), Some(Vec::new()));
    let empty_key = engine.get(Space::System, b"").unwrap();
    assert_eq!(empty_key.as_deref(), Some(&b"the empty key"[..]));
    assert_eq!(engine.get(Space::Meta, b"a").unwrap(), None);
}

pub(crate) fn rows_come_in_the_order_of_their_bytes(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    let mut keys: Vec<Vec<u8>> = (0..3000)
        .map(|seed| noise(seed, 1 + seed as usize % 9))
        .collect();
    for chunk in keys.chunks(100) {
        write(&*engine, |batch| {
            for key in chunk {
                batch.put(Space::Record, key, &noise(1, 200));
            }
        });
    }
    keys.sort();
    keys.dedup();
    let found: Vec<Vec<u8>> = all(&*engine, Space::Record)
        .into_iter()
        .map(|row| row.0)
        .collect();
    assert_eq!(found, keys);
}

pub(crate) fn a_scan_keeps_to_its_bounds_and_stops_when_told(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    write(&*engine, |batch| {
        for key in [b"a", b"b", b"c", b"d"] {
            batch.put(Space::Meta, key, b"");
        }
    });
    let keys = |from: &[u8], to: Option<&[u8]>| -> Vec<u8> {
        let rows = scan(&*engine, Space::Meta, from, to);
        rows.into_iter().flat_map(|row| row.0).collect()
    };
    assert_eq!(keys(b"", None), b"abcd");
    assert_eq!(keys(b"b", None), b"bcd");
    assert_eq!(keys(b"b", Some(b"d")), b"bc");
    assert_eq!(keys(b"aa", Some(b"cc")), b"bc");
    assert_eq!(keys(b"c", Some(b"c")), b"");
    assert_eq!(keys(b"d", Some(b"a")), b"");
    assert_eq!(keys(b"e", None), b"");
    let mut seen = Vec::new();
    let stopped = engine.scan(Space::Meta, b"", None, &mut |key, _| {
        seen.extend_from_slice(key);
        if key == b"b" {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    stopped.unwrap();
    assert_eq!(seen, b"ab");
}

pub(crate) fn get_many_answers_in_the_order_of_its_keys(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    let rows = |from: u64, to: u64| {
        write(&*engine, |batch| {
            for main in (from..to).filter(|main| main % 3 != 0) {
                batch.put(Space::Record, &revision(main, 0), &main.to_le_bytes());
            }
        });
    };
    // One part in files, one in memory.
    rows(0, 1000);
    engine.flush().unwrap();
    rows(1000, 2000);
    let keys: Vec<[u8; 12]> = (0..2000).map(|main| revision(main, 0)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let check = |values: Vec<Option<Vec<u8>>>| {
        assert_eq!(values.len(), 2000);
        for (main, value) in (0u64..).zip(values) {
            assert_eq!(value.is_some(), main % 3 != 0);
            assert!(value.is_none_or(|value| value == main.to_le_bytes()));
        }
    };
    check(engine.get_many(Space::Record, &keys).unwrap());
    check(
        engine
            .view()
            .unwrap()
            .get_many(Space::Record, &keys)
            .unwrap(),
    );
    assert!(engine.get_many(Space::Record, &[]).unwrap().is_empty());
}

pub(crate) fn a_view_does_not_change_while_writes_flushes_and_reclaims_go_on(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    for main in 0..500 {
        write(&*engine, |batch| {
            batch.put(Space::Record, &revision(main, 0), &noise(main, 300));
            batch.put(Space::System, b"applied", &main.to_le_bytes());
        });
    }
    let view = engine.view().unwrap();
    let before = (all(&*view, Space::Record), all(&*view, Space::System));
    for main in 500..1000 {
        write(&*engine, |batch| {
            batch.put(Space::Record, &revision(main, 0), &noise(main, 300));
            batch.delete(Space::Record, &revision(main - 500, 0));
            batch.put(Space::System, b"applied", &main.to_le_bytes());
        });
    }
    engine.flush().unwrap();
    write(&*engine, |batch| {
        batch.delete_range(Space::Record, &[], &revision(900, 0));
    });
    engine.reclaim(&|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(all(&*engine, Space::Record).len(), 100);
    let after = (all(&*view, Space::Record), all(&*view, Space::System));
    assert!(before == after);
    let first = view.get(Space::Record, &revision(0, 0)).unwrap();
    assert_eq!(first, Some(noise(0, 300)));
    assert_eq!(number(view.get(Space::System, b"applied").unwrap()), 499);
}

pub(crate) fn a_view_outlives_its_engine(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    write(&*engine, |batch| batch.put(Space::Meta, b"key", b"value"));
    let view = engine.view().unwrap();
    drop(engine);
    let value = view.get(Space::Meta, b"key").unwrap();
    assert_eq!(value.as_deref(), Some(&b"value"[..]));
}

pub(crate) fn readers_beside_a_writer_see_whole_batches_only(kind: Kind) {
    const BATCHES: u64 = 2000;
    let (_directory, engine) = fresh(kind);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !is_done.load(Ordering::Acquire) {
                    let view = engine.view().unwrap();
                    let applied = number(view.get(Space::System, b"applied").unwrap());
                    assert!(applied >= last, "the state went back");
                    last = applied;
                    // Two rows of each of the last ten batches.
                    let expected = 2 * applied.min(10);
                    let records = all(&*view, Space::Record).len() as u64;
                    let metas = all(&*view, Space::Meta).len() as u64;
                    assert_eq!((records, metas), (expected, expected));
                    // What the engine itself shows is never older than what a view showed.
                    assert!(number(engine.get(Space::System, b"applied").unwrap()) >= applied);
                }
            });
        }
        for main in 1..=BATCHES {
            write(&*engine, |batch| {
                for space in [Space::Record, Space::Meta] {
                    batch.put(space, &revision(main, 0), &noise(main, 100));
                    batch.put(space, &revision(main, 1), &noise(main, 100));
                    batch.delete(space, &revision(main.saturating_sub(10), 0));
                    batch.delete(space, &revision(main.saturating_sub(10), 1));
                }
                batch.put(Space::System, b"applied", &main.to_le_bytes());
            });
            if main % 500 == 0 {
                engine.flush().unwrap();
            }
        }
        is_done.store(true, Ordering::Release);
    });
}
