//! The hash against etcd's own, taken from etcd 3.7.3 (`etcdctl endpoint hashkv --rev`) for the same history.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::time::Duration;

use metastore_engine::{Kind, open};
use metastore_mvcc::{Error, Options, Store, Writer};

/// The history: one transaction for each revision from 2 on.
fn write(writer: &mut Writer, revision: i64) {
    let long = "x".repeat(300);
    let mut txn = writer.begin();
    match revision {
        2 => drop(txn.put("a", "1", 0)),
        3 => drop(txn.put("b", "2", 77)),
        4 => drop(txn.put("a", "3", 0)),
        5 => drop(txn.delete_range("b", "", false)),
        6 => drop(txn.put("b", "", 0)),
        7 => {
            txn.put("c", "4", 0);
            txn.put("d", "5", 0);
            txn.delete_range("a", "", false).unwrap();
        }
        8 => drop(txn.put("e", long, 0)),
        9 => drop(txn.delete_range("c", "e", false)),
        10 => drop(txn.put("c", "again", 0)),
        11 => drop(txn.put("a", "back", 0)),
        12 => drop(txn.delete_range("a", "", false)),
        13 => drop(txn.put("f", "f", 0)),
        14 => {
            txn.delete_range("e", "g", false).unwrap();
            txn.put("g", "g", 0);
        }
        15 => drop(txn.delete_range("\0", "\0", false)),
        16 => drop(txn.put("z", "z", 0)),
        _ => unreachable!("no such revision"),
    }
    assert_eq!(txn.commit(), revision);
    writer.set_applied(b"");
}

fn check(store: &Store, expected: &[(i64, u32, i64)]) {
    for (revision, hash, compact_revision) in expected {
        let found = store.hash_kv(*revision).unwrap();
        assert_eq!(
            (found.hash_revision, found.hash, found.compact_revision),
            (*revision, *hash, *compact_revision)
        );
    }
}

fn compact(store: &Store, writer: &mut Writer, revision: i64) {
    writer.compact(revision).unwrap();
    writer.set_applied(b"");
    let (tell, told) = std::sync::mpsc::channel();
    store.when_compacted(revision, Box::new(move || tell.send(()).unwrap()));
    told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(matches!(
        store.hash_kv(revision - 1),
        Err(Error::Compacted { .. })
    ));
}

#[test]
fn every_hash_is_etcds_before_and_after_compactions_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let engine = || open(Kind::Memory, directory.path(), Default::default()).unwrap();
    let (store, mut writer) = Store::open(engine(), Options::default()).unwrap();
    check(&store, &[(1, 1084519789, -1)]);
    for revision in 2..=14 {
        write(&mut writer, revision);
    }
    let before = [
        (1, 1084519789, -1),
        (2, 2587454935, -1),
        (3, 1151892986, -1),
        (4, 1479781970, -1),
        (5, 1054477687, -1),
        (6, 4228671339, -1),
        (7, 114785300, -1),
        (8, 4248236266, -1),
        (9, 1570150678, -1),
        (10, 4178469848, -1),
        (11, 2888341019, -1),
        (12, 926917290, -1),
        (13, 703711327, -1),
        (14, 869184234, -1),
    ];
    check(&store, &before);
    compact(&store, &mut writer, 9);
    // At the compaction revision itself etcd answers with what it has hashed while it compacted.
    let compacted_9 = [
        (9, 1570150678, -1),
        (10, 1756656746, 9),
        (11, 2642008657, 9),
        (12, 1549167891, 9),
        (13, 3603558388, 9),
        (14, 316004937, 9),
    ];
    check(&store, &compacted_9);
    compact(&store, &mut writer, 12);
    let compacted_12 = [
        (12, 1549167891, 9),
        (13, 270349537, 12),
        (14, 1978761029, 12),
    ];
    check(&store, &compacted_12);
    write(&mut writer, 15);
    check(&store, &[(14, 1978761029, 12), (15, 3374795242, 12)]);
    write(&mut writer, 16);
    check(
        &store,
        &[
            (13, 270349537, 12),
            (15, 3374795242, 12),
            (16, 2634751856, 12),
        ],
    );
    compact(&store, &mut writer, 15);
    check(&store, &[(15, 1101876996, 12), (16, 3071599686, 15)]);
    compact(&store, &mut writer, 16);
    check(&store, &[(16, 3071599686, 15)]);
    store.flush().unwrap();
    drop((store, writer));
    let (store, _writer) = Store::open(engine(), Options::default()).unwrap();
    check(&store, &[(16, 3071599686, 16)]);
}
