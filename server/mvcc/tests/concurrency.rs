//! Readers, compactions and a writer at once: what a reader gets is always of one revision.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metastore_engine::{Kind, open};
use metastore_mvcc::{Error, EventLimits, KeyValue, Options, Order, Query, Store, Target};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Keys that exist at every revision; each transaction gives all of them its own number as value.
const KEYS: usize = 300;
/// Transactions.
const TRANSACTIONS: i64 = 600;

fn values(mut kvs: &[u8]) -> Vec<(Vec<u8>, i64)> {
    let mut found = Vec::new();
    while let Some((_, mut rest)) = kvs.split_first() {
        let len = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (kv, rest) = rest.split_at(len);
        let kv = KeyValue::decode(kv).unwrap();
        found.push((
            kv.key.to_vec(),
            String::from_utf8(kv.value.to_vec())
                .unwrap()
                .parse()
                .unwrap(),
        ));
        kvs = rest;
    }
    found
}

/// A transaction also moves one key: at revision r there is `moving-r` and no other.
fn check(kvs: &[u8], count: i64, revision: i64) {
    let found = values(kvs);
    assert_eq!(found.len(), KEYS + 1);
    assert_eq!(count, KEYS as i64 + 1);
    assert!(
        found.iter().all(|(_, value)| *value == revision),
        "of one revision"
    );
    let moving: Vec<_> = found
        .iter()
        .filter(|(key, _)| key.starts_with(b"moving"))
        .collect();
    assert_eq!(moving.len(), 1);
    assert_eq!(moving[0].0, format!("moving-{revision:05}").into_bytes());
}

fn read(store: &Store, random: &mut SmallRng) -> Result<(), Error> {
    let (oldest, newest) = (store.compact_revision().max(2), store.revision());
    let revision = match random.random_range(0..3) {
        0 => 0,
        _ => random.random_range(oldest..=newest),
    };
    let sorted = random.random_bool(0.2);
    let query = Query {
        revision,
        order: if sorted { Order::Descend } else { Order::None },
        target: if sorted { Target::Create } else { Target::Key },
        ..Query::range("a", "z")
    };
    if random.random_bool(0.3) {
        let mut walk = store.walk(query)?;
        let (mut kvs, mut count, mut at) = (Vec::new(), 0, revision);
        while let Some(page) = walk.next(2000)? {
            kvs.extend_from_slice(&page.kvs);
            count = page.count;
            at = if revision == 0 {
                page.revision
            } else {
                revision
            };
        }
        check(&kvs, count, at);
    } else {
        let page = store.range(&query)?;
        check(
            &page.kvs,
            page.count,
            if revision == 0 {
                page.revision
            } else {
                revision
            },
        );
    }
    let counted = store.range(&Query {
        revision,
        count_only: true,
        ..Query::range("a", "z")
    })?;
    assert_eq!(counted.count, KEYS as i64 + 1);
    if revision > oldest + 1 && random.random_bool(0.3) {
        let limits = EventLimits {
            events: 50,
            ..EventLimits::default()
        };
        let events = store.events(revision, &limits)?;
        assert_eq!(events.events[0].revision.main, revision);
        assert_eq!(events.events.len() % (KEYS + 2), 0, "whole revisions");
        let first = store.hash_kv(revision)?;
        assert_eq!(first.hash_revision, revision);
        let again = store.hash_kv(revision)?;
        assert!(first.hash == again.hash || first.compact_revision != again.compact_revision);
    }
    Ok(())
}

fn run(options: Options) {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(Kind::Memory, directory.path(), Default::default()).unwrap();
    let (store, mut writer) = Store::open(engine, options).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (reads, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let write = |writer: &mut metastore_mvcc::Writer, revision: i64| {
        let mut txn = writer.begin();
        for key in 0..KEYS {
            txn.put(format!("key-{key:05}"), revision.to_string(), 0);
        }
        txn.delete_range("moving", "movinh", false).unwrap();
        txn.put(format!("moving-{revision:05}"), revision.to_string(), 0);
        assert_eq!(txn.commit(), revision);
        writer.set_applied(b"");
    };
    write(&mut writer, 2);
    let readers: Vec<_> = (0..3)
        .map(|seed| {
            let (store, stop) = (store.clone(), stop.clone());
            let (reads, refused) = (reads.clone(), refused.clone());
            std::thread::spawn(move || {
                let mut random = SmallRng::seed_from_u64(seed);
                while !stop.load(Ordering::Relaxed) {
                    match read(&store, &mut random) {
                        Ok(()) => reads.fetch_add(1, Ordering::Relaxed),
                        Err(Error::Compacted { .. }) => refused.fetch_add(1, Ordering::Relaxed),
                        Err(error) => panic!("{error}"),
                    };
                }
            })
        })
        .collect();
    for revision in 3..TRANSACTIONS {
        write(&mut writer, revision);
        if revision % 50 == 0 {
            writer.compact(revision - 20).unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(reads.load(Ordering::Relaxed) > 10);
}

#[test]
fn readers_see_one_revision_beside_writes_and_compactions() {
    run(Options {
        recent_bytes: 100_000,
        value_cache_bytes: 10_000,
        persist_delay: Duration::from_millis(1),
        ..Options::default()
    });
}

#[test]
fn readers_that_compaction_does_not_wait_for_are_refused_and_never_misled() {
    run(Options {
        recent_bytes: 0,
        value_cache_bytes: 0,
        persist_delay: Duration::ZERO,
        compaction_pause: Duration::ZERO,
        pin_patience: Duration::ZERO,
        ..Options::default()
    });
}
