//! Flushing, reopening, reclaiming.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use metastore_engine::{Engine, Kind, Progress, Space};

use super::support::{all, fresh, noise, number, open, revision, write};

fn append(engine: &dyn Engine, mains: std::ops::RangeInclusive<u64>, size: usize) {
    for main in mains {
        write(engine, |batch| {
            batch.put(Space::Record, &revision(main, 0), &noise(main, size));
            batch.put(Space::Meta, &revision(main, 0), &main.to_le_bytes());
            batch.put(Space::System, b"applied", &main.to_le_bytes());
        });
    }
}

/// Checks that the rows are those of the batches up to the one that `System` names.
fn applied(engine: &dyn Engine) -> u64 {
    let applied = number(engine.get(Space::System, b"applied").unwrap());
    for space in [Space::Record, Space::Meta] {
        let keys: Vec<_> = all(engine, space).into_iter().map(|row| row.0).collect();
        let expected: Vec<_> = (1..=applied)
            .map(|main| revision(main, 0).to_vec())
            .collect();
        assert!(
            keys == expected,
            "{space:?} has {} rows, not {applied}",
            keys.len()
        );
    }
    applied
}

pub(crate) fn what_was_flushed_is_there_after_reopening(kind: Kind) {
    let (directory, mut engine) = fresh(kind);
    for round in 1..=5 {
        append(&*engine, (round - 1) * 100 + 1..=round * 100, 3000);
        engine.flush().unwrap();
        drop(engine);
        engine = open(kind, directory.path());
        assert_eq!(applied(&*engine), round * 100);
        let row = engine
            .get(Space::Record, &revision(round * 100 - 7, 0))
            .unwrap();
        assert!(row == Some(noise(round * 100 - 7, 3000)));
    }
}

pub(crate) fn a_drop_without_flush_loses_whole_batches_at_most(kind: Kind) {
    let (directory, engine) = fresh(kind);
    append(&*engine, 1..=50, 300);
    engine.flush().unwrap();
    append(&*engine, 51..=90, 300);
    drop(engine);
    let engine = open(kind, directory.path());
    assert!((50..=90).contains(&applied(&*engine)));
}

pub(crate) fn a_second_flush_without_writes_is_free(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    engine.flush().unwrap();
    append(&*engine, 1..=10, 300);
    engine.flush().unwrap();
    let bytes = engine.disk_bytes();
    engine.flush().unwrap();
    assert_eq!(engine.disk_bytes(), bytes);
    assert!(bytes > 0);
    assert!(engine.memory_bytes() > 0);
}

pub(crate) fn writes_go_on_while_a_flush_runs(kind: Kind) {
    let (directory, engine) = fresh(kind);
    let written = AtomicU64::new(0);
    let durable = std::thread::scope(|scope| {
        let flushes = scope.spawn(|| {
            let mut durable = 0;
            for _ in 0..20 {
                durable = written.load(Ordering::Acquire);
                engine.flush().unwrap();
            }
            durable
        });
        let mut main = 0;
        while !flushes.is_finished() && main < 20_000 {
            main += 1;
            append(&*engine, main..=main, 300);
            written.store(main, Ordering::Release);
        }
        flushes.join().unwrap()
    });
    drop(engine);
    assert!(applied(&*open(kind, directory.path())) >= durable);
}

pub(crate) fn reclaim_gives_disk_space_back(kind: Kind) {
    const ROWS: u64 = 20_000;
    let (directory, engine) = fresh(kind);
    append(&*engine, 1..=ROWS, 1000);
    engine.flush().unwrap();
    let full = engine.disk_bytes();
    assert!(full > ROWS * 1000);
    for chunk in 0..ROWS / 1000 {
        write(&*engine, |batch| {
            for main in chunk * 1000 + 1..=chunk * 1000 + 990 {
                batch.delete(Space::Record, &revision(main, 0));
                batch.delete(Space::Meta, &revision(main, 0));
            }
        });
    }
    let last = Cell::new(None);
    let reclaimed = engine.reclaim(&|progress| {
        last.set(Some(progress));
        ControlFlow::Continue(())
    });
    reclaimed.unwrap();
    let Progress { done, total } = last.get().expect("progress was told");
    assert_eq!(done, total);
    assert_eq!(all(&*engine, Space::Record).len() as u64, ROWS / 100);
    drop(engine);
    let engine = open(kind, directory.path());
    let left = engine.disk_bytes();
    assert!(left < full / 20, "{left} of {full} bytes are left");
    assert_eq!(all(&*engine, Space::Record).len() as u64, ROWS / 100);
    assert_eq!(engine.stalls(), 0);
}

pub(crate) fn reclaim_stops_when_told(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    append(&*engine, 1..=100, 300);
    let calls = Cell::new(0);
    let reclaimed = engine.reclaim(&|_| {
        calls.set(calls.get() + 1);
        ControlFlow::Break(())
    });
    reclaimed.unwrap();
    assert_eq!(calls.get(), 1);
}

pub(crate) fn memory_stays_within_its_bounds(kind: Kind) {
    const ROW: u64 = 300 + 8 + 2 * 12;
    let (_directory, engine) = fresh(kind);
    for thousand in 0..60 {
        append(&*engine, thousand * 1000 + 1..=(thousand + 1) * 1000, 300);
        let memory = engine.memory_bytes();
        match kind {
            Kind::Memory => assert!(memory < (thousand + 1) * 1000 * ROW * 12 / 10 + 100_000),
            Kind::RocksDb => assert!(memory <= 8 << 20, "{memory}"),
        }
        assert!(engine.flush_cost_bytes() > 0);
    }
    engine.flush().unwrap();
    let memory = engine.memory_bytes();
    match kind {
        Kind::Memory => assert!(memory < 60_000 * ROW * 12 / 10),
        Kind::RocksDb => assert!(memory <= 4 << 20, "{memory}"),
    }
}
