//! The store from outside: the plain cases, one at a time.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::sync::Arc;

use metastore_engine::{Kind, open};
use metastore_mvcc::{
    Error, EventKind, EventLimits, KeyValue, Options, Prev, Query, Store, Writer,
};

fn fresh() -> (tempfile::TempDir, Store, Writer) {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(Kind::Memory, directory.path(), Default::default()).unwrap();
    let (store, writer) = Store::open(engine, Options::default()).unwrap();
    (directory, store, writer)
}

/// Splits the elements of a page.
fn elements(mut kvs: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((_tag, rest)) = kvs.split_first() {
        let mut rest = rest;
        let len = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (kv, rest) = rest.split_at(len);
        found.push(kv.to_vec());
        kvs = rest;
    }
    found
}

fn keys(kvs: &[u8]) -> Vec<String> {
    elements(kvs)
        .iter()
        .map(|kv| String::from_utf8(KeyValue::decode(kv).unwrap().key.to_vec()).unwrap())
        .collect()
}

#[test]
fn an_empty_store_is_at_revision_one() {
    let (_directory, store, mut writer) = fresh();
    assert_eq!(store.revision(), 1);
    assert_eq!(store.compact_revision(), -1);
    assert_eq!(writer.begin().commit(), 1);
    let page = store.range(&Query::range("a", "\0")).unwrap();
    assert_eq!((page.count, page.kv_count, page.revision), (0, 0, 1));
}

#[test]
fn a_transaction_has_one_revision_and_sees_its_own_writes() {
    let (_directory, store, mut writer) = fresh();
    let mut txn = writer.begin();
    assert_eq!(txn.put("a", "1", 0).meta, None);
    txn.put("b", "2", 7);
    assert_eq!(store.revision(), 1, "nobody else sees it yet");
    assert_eq!(store.range(&Query::range("a", "\0")).unwrap().count, 0);
    let page = txn.range(&Query::range("a", "\0")).unwrap();
    assert_eq!((page.count, page.revision), (2, 2));
    assert_eq!(txn.meta(b"b").unwrap().lease, 7);
    assert_eq!(txn.commit(), 2);
    let page = store.range(&Query::range("a", "\0")).unwrap();
    assert_eq!(keys(&page.kvs), ["a", "b"]);
    let events = store.events(2, &EventLimits::default()).unwrap();
    assert_eq!(events.next, 3);
    let subs: Vec<_> = events
        .events
        .iter()
        .map(|e| (e.revision.main, e.revision.sub))
        .collect();
    assert_eq!(subs, [(2, 0), (2, 1)]);
}

#[test]
fn a_deleted_key_starts_anew() {
    let (_directory, store, mut writer) = fresh();
    for value in ["1", "2"] {
        writer.begin().put("k", value, 3);
    }
    let mut txn = writer.begin();
    let deleted = txn.delete_range("k", "", true).unwrap();
    assert_eq!(deleted.count, 1);
    assert_eq!(deleted.leased, [(b"k"[..].into(), 3)]);
    assert_eq!(deleted.kvs[0], 0x1a);
    let prev = elements(&deleted.kvs);
    let prev = KeyValue::decode(&prev[0]).unwrap();
    assert_eq!(
        (prev.value, prev.version, prev.mod_revision),
        (&b"2"[..], 2, 3)
    );
    assert_eq!(txn.delete_range("k", "", false).unwrap().count, 0);
    assert_eq!(txn.commit(), 4);
    writer.begin().put("k", "3", 0);
    let page = store.range(&Query::one("k")).unwrap();
    let kv = elements(&page.kvs);
    let kv = KeyValue::decode(&kv[0]).unwrap();
    assert_eq!((kv.create_revision, kv.version, kv.lease), (5, 1, 0));
    let events = store.events(4, &EventLimits::default()).unwrap().events;
    assert_eq!(events[0].kind, EventKind::Delete);
    let gone = KeyValue::decode(&events[0].kv).unwrap();
    assert_eq!(
        (gone.key, gone.mod_revision, gone.version),
        (&b"k"[..], 4, 0)
    );
    assert!(matches!(events[0].prev, Prev::Cached(_)));
    assert_eq!(events[1].prev, Prev::None);
}

#[test]
fn older_revisions_are_read_until_they_are_compacted() {
    let (_directory, store, mut writer) = fresh();
    for value in ["1", "2", "3"] {
        writer.begin().put("k", value, 0);
    }
    let at = |revision| {
        store.range(&Query {
            revision,
            ..Query::one("k")
        })
    };
    let value = |revision| {
        let kv = elements(&at(revision).unwrap().kvs);
        KeyValue::decode(&kv[0]).unwrap().value.to_vec()
    };
    assert_eq!(value(2), b"1");
    assert_eq!(value(3), b"2");
    assert_eq!(at(1).unwrap().count, 0);
    assert!(matches!(at(5), Err(Error::FutureRevision { revision: 4 })));
    assert!(matches!(
        writer.compact(5),
        Err(Error::FutureRevision { .. })
    ));
    writer.compact(3).unwrap();
    writer.set_applied(b"x");
    assert!(matches!(
        at(2),
        Err(Error::Compacted {
            compact_revision: 3
        })
    ));
    assert!(matches!(writer.compact(3), Err(Error::Compacted { .. })));
    let (tell, told) = std::sync::mpsc::channel();
    store.when_compacted(3, Box::new(move || tell.send(()).unwrap()));
    told.recv().unwrap();
    assert_eq!(value(3), b"2");
    assert_eq!(value(0), b"3");
    assert_eq!(store.counters().compacted_revisions, 1);
}

#[test]
fn a_restart_brings_back_what_was_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let engine = || open(Kind::Memory, directory.path(), Default::default()).unwrap();
    let (store, mut writer) = Store::open(engine(), Options::default()).unwrap();
    for number in 0..500 {
        let mut txn = writer.begin();
        txn.put(
            format!("k{:03}", number % 250),
            format!("v{number}"),
            number % 3,
        );
        txn.put_system(b"number", number.to_string().as_bytes());
    }
    writer.set_applied(b"there");
    assert_eq!(store.flush().unwrap().as_deref(), Some(&b"there"[..]));
    let before = store.range(&Query::range("k", "l")).unwrap();
    let sizes = (store.logical_bytes(), store.in_use_bytes());
    let hash = store.hash_kv(0).unwrap();
    drop((store, writer));

    let (store, _writer) = Store::open(engine(), Options::default()).unwrap();
    assert_eq!(store.applied().as_deref(), Some(&b"there"[..]));
    assert_eq!(
        store.read_system(b"number").unwrap().as_deref(),
        Some(&b"499"[..])
    );
    assert_eq!(store.range(&Query::range("k", "l")).unwrap(), before);
    assert_eq!((store.logical_bytes(), store.in_use_bytes()), sizes);
    assert_eq!(store.hash_kv(0).unwrap(), hash);
    let events = store
        .events(
            2,
            &EventLimits {
                events: 10,
                ..EventLimits::default()
            },
        )
        .unwrap();
    assert_eq!((events.events.len(), events.next), (10, 12));
    let mut leased = 0;
    store.leased_keys(&mut |_, lease| leased += i64::from(lease > 0));
    assert_eq!(leased, 167);
}

#[test]
fn a_walk_is_of_one_revision_and_its_pieces_make_the_whole() {
    let (_directory, store, mut writer) = fresh();
    for number in 0..2000 {
        writer
            .begin()
            .put(format!("k{number:04}"), vec![b'x'; 100], 0);
    }
    let whole = store.range(&Query::range("k", "l")).unwrap();
    let mut walk = store.walk(Query::range("k", "l")).unwrap();
    let mut pieces = Vec::new();
    let mut count = 0;
    while let Some(page) = walk.next(10_000).unwrap() {
        assert_eq!((page.count, page.revision), (2000, 2001));
        assert!(page.kvs.len() < 20_000);
        pieces.extend_from_slice(&page.kvs);
        count += page.kv_count;
        writer
            .begin()
            .put(format!("k{:04}", 1999 - count / 2), "changed", 0);
        writer
            .begin()
            .delete_range("k1500", "k1600", false)
            .unwrap();
    }
    assert_eq!(count, 2000);
    assert_eq!(pieces, whole.kvs);
}

#[test]
fn every_commit_is_told_in_order() {
    let (_directory, store, mut writer) = fresh();
    let (tell, told) = std::sync::mpsc::channel();
    store.on_commit(Arc::new(move |revision| tell.send(revision).unwrap()));
    for _ in 0..3 {
        writer.begin().put("k", "v", 0);
    }
    writer.begin().delete_range("nothing", "", false).unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn values_beyond_the_cache_are_read_from_the_engine() {
    let reads_with = |value_cache_bytes| {
        let directory = tempfile::tempdir().unwrap();
        let reopen = || {
            let engine = open(Kind::Memory, directory.path(), Default::default()).unwrap();
            let options = Options {
                value_cache_bytes,
                ..Options::default()
            };
            Store::open(engine, options).unwrap()
        };
        let (store, mut writer) = reopen();
        for number in 0..10 {
            let mut txn = writer.begin();
            txn.put(format!("k{number}"), vec![b'x'; 1000], 0);
            txn.commit();
            writer.set_applied(&[number]);
        }
        store.flush().unwrap();
        drop((store, writer));
        // No value is in memory now; those that are read may stay.
        let (store, _writer) = reopen();
        for _ in 0..3 {
            store.range(&Query::range("a", "\0")).unwrap();
        }
        store.counters().engine_reads
    };
    let (with, without) = (reads_with(1 << 20), reads_with(0));
    assert_eq!(without, 30, "each value is read each time");
    assert!(with < without, "{with} reads with a cache");
}

#[test]
fn operations_and_times_are_counted_and_outlive_a_replacement() {
    let (_directory, store, mut writer) = fresh();
    writer.begin().put("a", "12345", 0);
    let mut txn = writer.begin();
    txn.note_range();
    txn.end_reads();
    txn.put("b", "", 0);
    drop(txn);
    let mut txn = writer.begin();
    txn.delete_range("a", "", false).unwrap();
    txn.range(&Query::range("a", "\0")).unwrap();
    drop(txn);
    store.range(&Query::range("a", "\0")).unwrap();
    let walk = store.walk(Query::range("a", "\0")).unwrap();
    assert_eq!(store.counters().open_reads, 1);
    drop(walk);
    writer.set_applied(b"1");
    store.flush().unwrap();
    store.hash().unwrap();
    let counters = store.counters();
    assert_eq!((counters.puts, counters.put_bytes), (2, 7));
    assert_eq!((counters.deletions, counters.ranges), (1, 4));
    assert_eq!(
        counters.transactions, 1,
        "of two operations, the compare apart"
    );
    assert_eq!((counters.open_reads, counters.last_compaction), (0, 0));

    let directory = tempfile::tempdir().unwrap();
    let engine = open(Kind::Memory, directory.path(), Default::default()).unwrap();
    let (store, mut writer) = store.replace(engine).unwrap();
    writer.begin().put("c", "", 0);
    assert_eq!(store.counters().puts, 3);
    let times = store.times();
    assert_eq!((times.hash.read().count, times.flush.read().count), (1, 1));
    assert_eq!(times.commit.read().count, 1);
}
