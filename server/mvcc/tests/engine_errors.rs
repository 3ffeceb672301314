//! What happens when the engine cannot write: commits and reads go on up to the bound, nothing is lost.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod recording;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use metastore_engine::Engine;
use metastore_mvcc::{Error, Health, Options, Query, Store, Writer};
use recording::Recording;

const PATIENCE: Duration = Duration::from_secs(30);

struct Broken {
    engine: Arc<Recording>,
    store: Store,
    writer: Writer,
    health: Receiver<Health>,
}

/// A store whose engine fails with `failure` from the first write on.
fn broken(failure: ErrorKind, pending_bytes: usize) -> Broken {
    let engine = Arc::new(Recording::new());
    engine.fail(Some(failure));
    let options = Options {
        pending_bytes,
        persist_delay: Duration::ZERO,
        value_cache_bytes: 0,
        ..Options::default()
    };
    let shared: Arc<dyn Engine> = engine.clone();
    let (store, writer) = Store::open(shared, options).unwrap();
    let (tell, health) = channel();
    store.on_health(Arc::new(move |health| drop(tell.send(health.clone()))));
    Broken {
        engine,
        store,
        writer,
        health,
    }
}

fn put(writer: &mut Writer, number: u32) {
    writer
        .begin()
        .put(format!("k{number}"), vec![b'v'; 1000], 0);
    writer.set_applied(&number.to_be_bytes());
}

#[test]
fn a_full_disk_holds_up_nothing_before_the_bound_and_loses_nothing() {
    let Broken {
        engine,
        store,
        mut writer,
        health,
    } = broken(ErrorKind::StorageFull, 20_000);
    for number in 0..10 {
        put(&mut writer, number);
    }
    let full = health.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(full, Health::NoSpace(_)), "{full:?}");
    assert_eq!(store.health(), full);
    assert!(matches!(store.flush(), Err(Error::Engine(_))));
    // Values come from memory although nothing is cached and nothing written.
    let page = store.range(&Query::range("k", "l")).unwrap();
    assert_eq!((page.kv_count, store.counters().engine_reads), (10, 0));

    // Beyond the bound the writer waits until there is space again.
    let (tell, told) = channel();
    let writing = std::thread::spawn(move || {
        for number in 10..40 {
            put(&mut writer, number);
        }
        tell.send(()).unwrap();
        writer
    });
    while store.counters().back_pressure_waits == 0 {
        std::thread::yield_now();
    }
    assert!(told.try_recv().is_err());
    assert!(store.counters().pending_bytes < 23_000);
    assert!(store.range(&Query::range("k", "l")).unwrap().kv_count < 40);
    engine.fail(None);
    told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(health.recv_timeout(PATIENCE).unwrap(), Health::Good);
    assert_eq!(store.flush().unwrap().unwrap(), 39u32.to_be_bytes());
    let hash = store.hash_kv(0).unwrap();
    drop((writing.join().unwrap(), store));

    let engine: Arc<dyn Engine> = engine;
    let (store, _writer) = Store::open(engine, Options::default()).unwrap();
    assert_eq!(store.range(&Query::range("k", "l")).unwrap().kv_count, 40);
    assert_eq!(store.hash_kv(0).unwrap(), hash);
}

#[test]
fn an_engine_that_failed_for_good_is_told_of_and_blocks_nobody() {
    let Broken {
        store,
        mut writer,
        health,
        ..
    } = broken(ErrorKind::PermissionDenied, 2_000);
    put(&mut writer, 0);
    let failed = health.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(failed, Health::Failed(_)), "{failed:?}");
    for number in 1..10 {
        put(&mut writer, number);
    }
    assert!(matches!(store.flush(), Err(Error::Engine(_))));
    assert_eq!(store.range(&Query::range("k", "l")).unwrap().kv_count, 10);
}

#[test]
fn a_writer_that_waits_for_space_is_woken_by_the_stop() {
    let Broken {
        store, mut writer, ..
    } = broken(ErrorKind::StorageFull, 2_000);
    let writing = std::thread::spawn(move || {
        for number in 0..10 {
            put(&mut writer, number);
        }
    });
    while store.counters().back_pressure_waits == 0 {
        std::thread::yield_now();
    }
    store.stop();
    writing.join().unwrap();
    assert!(matches!(store.flush(), Err(Error::Stopped)));
}
